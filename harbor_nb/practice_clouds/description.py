"""What a practice run should be like: which faults, of which vendor, drawn from which seed."""

import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harbor_nb.errors import BadInputError

VENDORS = ("daytona", "e2b", "modal", "runloop")


@dataclass(frozen=True)
class Faults:
    """The faults of one vendor; each field is one that `Practice` takes."""

    start_delay: float = 0  # seconds more that each sandbox takes to start
    fail_start: float = 0  # share of the sandboxes that do not start
    rate_limit: int | None = None  # sandboxes that may be asked for in a minute
    drop_connection: float = 0  # share of the calls whose connection is cut
    expire_after: float | None = None  # seconds after which a sandbox is ended
    wrong_key: bool = False  # the key is refused
    quota: int | None = None  # sandboxes that may run at once
    build_failure: bool = False  # no image can be built


_SHARES = ("fail_start", "drop_connection")


def _faults(vendor: str, given: object) -> Faults:
    if isinstance(given, Faults):
        return given
    if not isinstance(given, Mapping):
        raise BadInputError(f'{vendor}={given!r}: give a dict of faults, for example {vendor}={{"start_delay": 20}}')
    fields = {field.name: field for field in dataclasses.fields(Faults)}
    for name, value in given.items():
        if name not in fields:
            near = difflib.get_close_matches(str(name), list(fields), 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(fields)}"
            raise BadInputError(f"unknown fault {name!r} for {vendor}; {hint}")
        is_flag = isinstance(fields[name].default, bool)
        if is_flag != isinstance(value, bool) or not isinstance(value, bool | int | float):
            raise BadInputError(f"{vendor}: {name} is {'True or False' if is_flag else 'a number'}, not {value!r}")
        if value < 0 or (name in _SHARES and value > 1):
            raise BadInputError(
                f"{vendor}: {name} is {'between 0 and 1' if name in _SHARES else '0 or more'}, not {value!r}"
            )
        if name in ("rate_limit", "quota") and not isinstance(value, int):
            raise BadInputError(f"{vendor}: {name} counts sandboxes; give a whole number, not {value!r}")
    return Faults(**given)


class Practice:
    """A description of practice clouds, to give to `plan(..., practice=...)`: loopback stand-ins, no account needed.

    Args:
        seed: the number that random faults are drawn from; the same seed gives the same faults.
        **vendors: for `daytona`, `e2b`, `modal` or `runloop` a dict of faults: `start_delay` (seconds),
            `fail_start` (share, 0 to 1), `rate_limit` (sandboxes asked for in a minute), `drop_connection` (share of
            calls, 0 to 1), `expire_after` (seconds), `wrong_key` (bool), `quota` (sandboxes at once),
            `build_failure` (bool).

    Raises:
        BadInputError: a vendor or a fault that does not exist, or a value that can't be.

    Example:
        >>> Practice(daytona={"quota": 2}, seed=7)
        Practice(daytona={'quota': 2}, seed=7)
    """

    def __init__(self, *, seed: int = 0, **vendors: Any) -> None:
        for vendor in vendors:
            if vendor not in VENDORS:
                raise BadInputError(f"there is no practice cloud of {vendor!r}; choose from {', '.join(VENDORS)}")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise BadInputError(f"seed is a whole number, not {seed!r}")
        self.seed = seed
        self._vendors = {vendor: _faults(vendor, given) for vendor, given in vendors.items()}

    def faults(self, vendor: str) -> Faults:
        """Give the faults of a vendor; none when it was not named."""
        return self._vendors.get(vendor, Faults())

    def _given(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for vendor, faults in self._vendors.items():
            values, usual = dataclasses.asdict(faults), dataclasses.asdict(Faults())
            yield (
                vendor,
                {key: value for key, value in values.items() if value is not usual[key] and value != usual[key]},
            )

    def to_json(self) -> str:
        """Write it as JSON, to hand to another process."""
        return json.dumps(dict(self._given()) | {"seed": self.seed})

    @classmethod
    def of(cls, value: "bool | Practice | str | None") -> "Practice | None":
        """Read what `plan` takes, or what `to_json` wrote.

        Raises:
            BadInputError: it is something else.
        """
        if value is None or value is False:
            return None
        if value is True:
            return cls()
        if isinstance(value, str):
            try:
                return cls(**json.loads(value))
            except (ValueError, TypeError):
                raise BadInputError("practice is True or harbor_nb.Practice(...), not a text") from None
        if not isinstance(value, cls):
            raise BadInputError(f"practice is True or harbor_nb.Practice(...), not {value!r}")
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Practice) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        parts = [f"{vendor}={given}" for vendor, given in self._given()]
        return f"Practice({', '.join([*parts, f'seed={self.seed}'])})"
