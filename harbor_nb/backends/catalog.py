"""The environment types: what each is for, and whether it can run a job here."""

import contextlib
import os
import re
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harbor_nb.backends.keys import Groups, alternatives, missing
from harbor_nb.credentials._known import read_table

if TYPE_CHECKING:
    import pandas as pd

    from harbor_nb.backends.findings import Readiness

FIRST_CLASS = ("local", "docker", "daytona", "e2b", "modal", "runloop")
_FRESH_SEC = 10
_COLUMNS = "name title runs needs_key credentials missing sdk sdk_version ready reason fix use_case docs".split()


class EnvironmentRecord(NamedTuple):
    """One environment type, as in environments.csv."""

    name: str
    title: str
    runs: str
    use_case: str = ""
    needs: str = ""
    sdk: str = ""
    docs: str = ""
    place: str = ""

    @property
    def credentials(self) -> Groups:
        """Alternatives, each a group of names needed together."""
        return alternatives(self.needs)

    @property
    def needs_key(self) -> bool:
        """Whether a key or login of yours is needed; every cloud wants one, also where its name is not known here."""
        return bool(self.needs) or self.runs == "cloud"

    @property
    def choices(self) -> str:
        """The alternatives as a person reads them."""
        return self.needs.replace("|", "or")

    @property
    def address(self) -> list[str]:
        """The variable that moves the API elsewhere, and where it is without."""
        return self.place.split()

    def missing(self) -> tuple[str, ...]:
        """Give the names that are not set."""
        return missing(self.credentials)


@cache
def record(name: str) -> EnvironmentRecord:
    """Give an environment's record; one that a newer Harbor brings has its name and little else."""
    row = read_table("harbor_nb.backends", "environments.csv").get(name)
    return EnvironmentRecord(*row.values()) if row else EnvironmentRecord(name, name.replace("-", " ").title(), "cloud")


RECORDS = {name: record(name) for name in FIRST_CLASS}


def sdk_version(distribution: str) -> str | None:
    """Give the installed version of an SDK without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def distributions(extra: str) -> tuple[str, ...]:
    """Give the packages behind one of Harbor's extras, the vendor's own first; none of no extra."""
    lines = [line for line in requires("harbor") or () if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", line)]
    names = [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines]
    return tuple(sorted((n for n in names if n != "harbor"), key=lambda n: n == "dockerfile-parse"))


_seen: dict[str, Any] = {}
_WATCHED = ("~/.modal.toml", "~/.docker/config.json", "~/.kube/config", sysconfig.get_path("purelib"))


def _mark() -> tuple[Any, ...]:
    """What readiness depends on, cheap to look at: the environment, and files whose coming and going decides."""
    engine = os.environ.get("DOCKER_HOST", "/var/run/docker.sock").removeprefix("unix://")
    times = []
    for path in (*_WATCHED, engine):
        with contextlib.suppress(OSError):
            times.append((path, Path(path).expanduser().stat().st_mtime_ns))
    return hash(frozenset(os.environ.items())), Path.cwd(), *times


def environments() -> "pd.DataFrame":
    """List the environment types that the installed Harbor knows, and whether each can run a job here and now.

    Keys are looked for, not tried: `check(name, live=True)` tries them. An answer is kept for up to 10 seconds while
    environment variables, settings files, Docker's socket and installed packages stay the same; `check(name)` always
    looks anew.

    Returns:
        One row an environment: name, title, runs (local or cloud), needs_key (a key or login of yours), credentials
        (alternatives), missing, sdk, sdk_version, ready (nothing certain stands in the way), reason (why not, or
        what is in doubt: of most environments Harbor looks at little or nothing beforehand), fix, use_case, docs.

    Example:
        >>> environments()["name"].tolist()[:2]
        ['local', 'docker']
    """
    mark = _mark()
    if _seen.get("mark") != mark or time.monotonic() - _seen["at"] > _FRESH_SEC:
        _seen.update(mark=mark, frame=_frame(), at=time.monotonic())
    kept: pd.DataFrame = _seen["frame"]
    return kept.copy()


def _frame() -> "pd.DataFrame":
    from harbor_nb.backends.preflight import preflights
    from harbor_nb.backends.readiness import check

    with ThreadPoolExecutor() as pool:
        others = pool.submit(preflights)
        first = pool.map(check, FIRST_CLASS)
        import pandas as pd  # while the others are asked

        found = [*first, *others.result().values()]
    return pd.DataFrame([_row(record(one.name), one) for one in found], columns=_COLUMNS)


def _row(one: EnvironmentRecord, readiness: "Readiness") -> dict[str, Any]:
    sdk = one.sdk or next(iter(distributions(one.name)), "")
    return one._asdict() | {
        "needs_key": one.needs_key,
        "credentials": one.choices,
        "missing": "" if readiness.ready else " + ".join(one.missing()),
        "sdk": sdk,
        "sdk_version": sdk_version(sdk) if sdk else None,
        "ready": readiness.ready,
        "reason": readiness.reason,
        "fix": readiness.fix,
    }
