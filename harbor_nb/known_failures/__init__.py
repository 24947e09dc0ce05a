"""The failures that are known: a table of patterns, and the matching; no files but the table are read."""

import hashlib
import re
import tomllib
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from importlib.resources import files
from itertools import islice
from typing import Any

from harbor_nb._display import clean
from harbor_nb.errors import BadInputError

FAULTS = ("infrastructure", "agent", "task", "user")
PHASES = ("environment_setup", "agent_setup", "agent", "verifier")
_LISTS = ("phase", "environment", "exit_code", "options")
_LONGEST = 8000  # characters of a message that are looked at: its head and its tail
_WORD = re.compile(r"[^\s\d/\\]*+[\d/\\]\S*+(?: (?:s|secs?|seconds?|minutes?|hours?|ms)\b)?")  # what may differ has one
_added: list["KnownFailure"] = []
_found: dict[tuple[object, ...], "KnownFailure | None"] = {}
_EXIT = re.compile(r"(?:exit(?:ed)?(?: with)?(?: code| status)?|return ?code)[ :=(]*(\d{1,3})\b", re.IGNORECASE)


@dataclass(frozen=True)
class KnownFailure:
    """One row of the table: where it is seen, why it happens, whose fault it is and what mends it."""

    name: str
    cause: str
    fix: str
    fault: str
    exception: str = ""
    message: str = ""
    phase: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    exit_code: tuple[int, ...] = ()
    output: bool = False
    options: tuple[tuple[str, str], ...] = ()
    retry: bool = False
    reward_counts: bool = True
    about_here: bool = False
    _patterns: tuple[re.Pattern[str] | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        patterns = (self.exception and f"(?:{self.exception})\\Z", self.message)
        compiled = tuple(re.compile(pattern, re.IGNORECASE * index) if pattern else None
                         for index, pattern in enumerate(patterns))  # fmt: skip
        object.__setattr__(self, "_patterns", compiled)

    def detail(self, message: str) -> str | None:
        """Return what the message tells beyond the failure's name: the instruction, the command, the module."""
        found = islice(self._patterns[1].finditer(_told(message)), 50) if self._patterns[1] else ()
        told = [(key, value) for each in found for key, value in each.groupdict().items() if value]
        best = next((value for key, value in told if key == "detail"), told[0][1] if told else "")
        return clean(" ".join(best.split()), 200) or None

    def _fits(self, message: str, phase: str | None, environment: str | None, code: int | None) -> bool:
        return (
            (not self.phase or phase in self.phase or (phase == "any" and bool(self.message)))
            and (not self.environment or environment is None or environment in self.environment)
            and (not self.exit_code or code in self.exit_code)
            and (self._patterns[1] is None or bool(self._patterns[1].search(message)))
        )


def _row(values: dict[str, Any]) -> KnownFailure:
    known = {item.name for item in fields(KnownFailure) if item.init}
    if unknown := set(values) - known:
        raise BadInputError(f"unknown field {min(unknown)!r} of a failure; choose of {', '.join(sorted(known))}")
    made: dict[str, Any] = {key: _as_tuple(value) if key in _LISTS else value for key, value in values.items()}
    for key, allowed in (("fault", FAULTS), ("phase", PHASES)):
        if wrong := set(_as_tuple(made.get(key, ()))) - set(allowed):
            raise BadInputError(f"{key} {min(wrong)!r} is not known; choose one of {', '.join(allowed)}")
    try:
        return KnownFailure(**made)
    except re.error as error:
        raise BadInputError(f"the pattern of {values.get('name')!r} is not a regular expression: {error}") from None


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        return (value,)
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


@cache
def _source() -> str:
    return files(__package__).joinpath("failures.toml").read_text("utf-8")


@cache
def _table() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads(_source())


@cache
def _patterns(kind: str) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(row["pattern"], re.DOTALL), row.get("word", r"\1")) for row in _table()[kind]]


@cache
def rows() -> list[KnownFailure]:
    """Return the table, what `register_failure` added first."""
    return [_row(values) for values in _table()["failure"]]


def fingerprint() -> bytes:
    """Return what stands for the table and its additions; what was matched under another one is to be matched anew."""
    return hashlib.sha256(f"{_source()}{_added}".encode()).digest()


def _told(message: str) -> str:
    for pattern, kept in _patterns("called"):
        message = pattern.sub(kept, message, count=1)
    return message if len(message) <= _LONGEST else f"{message[: _LONGEST // 2]}\n{message[-_LONGEST // 2 :]}"


@lru_cache(65536)
def _plain(message: str) -> str:
    return _WORD.sub(lambda found: _generic(found[0]), " ".join(clean(_told(message)).split()))


@lru_cache(16384)
def _generic(word: str) -> str:
    for pattern, stands_for in _patterns("variable"):
        word = pattern.sub(stands_for, word)
    return word


def normalise(message: str) -> str:
    """Return a message on one line without what differs from trial to trial: paths, ids, trial names, durations.

    Args:
        message: As Harbor stored it.

    Returns:
        At most 300 characters, the head and the tail of a longer one; two spellings of one failure come out alike.

    Example:
        >>> normalise("Agent execution timed out after 600.0 seconds in jobs/a/hello__AbCdEf1")
        'Agent execution timed out after <n> seconds in jobs/a/<trial>'
    """
    text = _plain(message)
    return text if len(text) <= 300 else f"{text[:120]} … {text[-177:]}"


@lru_cache(4096)
def _of_type(exception: str, output: bool) -> list[KnownFailure]:
    """Return the rows that an exception of this type may be."""
    return [row for row in rows() if row.output is output and (not (only := row._patterns[0]) or only.match(exception))]


def match(
    exception: str | None,
    message: str | None,
    *,
    phase: str | None = None,
    environment: str | None = None,
    exit_code: int | None = None,
    output: bool = False,
) -> KnownFailure | None:
    """Return the known failure behind an exception, or None; each distinct one is looked up once.

    Args:
        exception: The exception's type as Harbor stored it, without its module.
        message: Its message; with `output` what the verifier or the agent printed.
        phase: `environment_setup`, `agent_setup`, `agent` or `verifier`, where it is known.
        environment: Such as `docker` or `daytona`, where it is known.
        exit_code: Of the program that failed; read from the message when not given.
        output: Look among the rows that are read from printed output.

    Example:
        >>> match("DaytonaError", "API key or JWT token is required", environment="daytona").name
        'key-missing'
    """
    raw = message or ""
    key = (exception or "", _plain(raw), phase, environment, exit_code, output)
    if key not in _found:
        if len(_found) > 16_384:
            _found.clear()
        raw = _told(raw)
        if exit_code is None and (told := _EXIT.search(raw)):
            exit_code = int(told[1])
        fitting = _of_type(key[0], output)
        tried = [phase] if phase else [None, "any"]  # of an unknown phase: what fits every phase, then what fits one
        found = (row for where in tried for row in fitting if row._fits(raw, where, environment, exit_code))
        _found[key] = next(found, None)
    return _found[key]


@lru_cache(4096)
def fault_of(exception: str | None) -> str:
    """Return whose doing an exception is, as far as its type alone tells: a fault, or `unknown`."""
    named = (row for row in _of_type(exception or "", False) if row.exception and not row.exception.startswith("(?!"))
    return next((row.fault for row in named if row._fits("", "any", None, None)), "unknown")


def register_failure(
    name: str, *, cause: str, fix: str, fault: str, exception: str = "", message: str = "", **where: object
) -> KnownFailure:
    r"""Add a failure of your own; it is asked before those that harbor_nb knows.

    Args:
        name: What tables call it, such as `proxy-refused`.
        cause: Why it happens, one sentence.
        fix: The next line of Python; `job` stands for the job.
        fault: `infrastructure`, `agent`, `task` or `user`.
        exception: A regular expression of the whole exception type; empty for any.
        message: A regular expression found in the message, case ignored; a group `detail` is quoted.
        **where: phase, environment, exit_code (one or several), output, retry, reward_counts, about_here, options.

    Returns:
        The row.

    Raises:
        BadInputError: A field or a pattern that can't be used; a failure with neither exception, message nor exit code.

    Example:
        >>> row = register_failure("proxy-refused", message=r"407 Proxy Authentication", fault="infrastructure",
        ...                        cause="The proxy wants a password", fix="job.repair().launch()")
        >>> match("ConnectError", "407 Proxy Authentication Required").name
        'proxy-refused'
    """
    if not (exception or message or where.get("exit_code")):
        raise BadInputError("give exception, message or exit_code; without any of them it would fit every failure")
    row = _row({"name": name, "cause": cause, "fix": fix, "fault": fault, "exception": exception, "message": message,
                **where})  # fmt: skip
    rows()[:] = [row, *(known for known in rows() if known != row)]
    _added[:] = [row, *(known for known in _added if known != row)]
    _found.clear()
    _of_type.cache_clear()
    fault_of.cache_clear()
    return row
