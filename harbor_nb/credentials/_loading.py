"""Load `.env` into this process, and say for each name which value is in force and why."""

import contextlib
import os
from collections import ChainMap, UserList
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harbor_nb._display import Shown, clean, render
from harbor_nb._redaction import redactor
from harbor_nb.credentials._known import known, name_doubts, value_doubts
from harbor_nb.credentials._reading import Entry, EnvFile, expand, file_notes, find_env, read_env
from harbor_nb.errors import CredentialsError

if TYPE_CHECKING:
    import pandas as pd

PRECEDENCE = (
    "load_env(): shell > .env.local > .env",
    "load_env(override=True): .env.local > .env > shell",
    "harbor run: --env-file > shell > .env.local of its folder; .env is not read",
    "the Daytona SDK: shell > .env.local > .env of its folder; DAYTONA_API_URL from the shell alone",
)
_LONGEST_BYTES = 100_000  # Linux starts no program while one variable is longer than 131,072


@dataclass(frozen=True)
class Row:
    """One name; its value is nowhere in it."""

    name: str
    source: str
    length: int
    used_by: str
    harbor_run: str
    warnings: tuple[str, ...] = ()


_ours: dict[str, tuple[Entry, str | None]] = {}  # what an earlier `load_env` put in force, and what was there before


class Credentials(Shown, UserList[Row]):
    """The names in force: where each value came from, how long it is, what uses it, what looks wrong; never a value.

    Attributes:
        notes: what concerns a whole file: its mode, git, lines that were left out.
        precedence: who wins, in harbor_nb, in plain Harbor and in the Daytona SDK.
    """

    precedence = PRECEDENCE

    def __init__(self, rows: Iterable[Row] = (), notes: Iterable[str] = ()) -> None:
        super().__init__(rows)
        self.notes = tuple(map(clean, notes))

    @property
    def frame(self) -> "pd.DataFrame":
        """One row a name: name, source, length (characters), used_by, harbor_run, warnings."""
        import pandas as pd

        rows = [asdict(row) | {"warnings": "; ".join(row.warnings)} for row in self]
        return pd.DataFrame(rows, columns=[column.name for column in fields(Row)])

    def __str__(self) -> str:
        cells = [("name", "source", "length", "used by", "warnings")]
        cells += [(row.name, row.source, str(row.length), row.used_by, "; ".join(row.warnings)) for row in self]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        return clean("\n".join([*(lines if self else ["no credentials are set"]), *self.notes]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render("credentials", rows=self.data, notes=self.notes, precedence=self.precedence)


@cache
def _at_start() -> dict[str, str]:
    """Give the environment that this process was started with; what was set later is not the shell's."""
    import psutil

    try:
        return dict(psutil.Process().environ())
    except (psutil.Error, OSError):
        return dict(os.environ)


def load_env(path: str | os.PathLike[str] | None = None, override: bool = False) -> Credentials:
    """Load `.env` into this process, and the `.env.local` beside it; jobs launched from here get the values.

    Who wins: shell > `.env.local` > `.env`; with `override`, `.env.local` > `.env` > shell. What an earlier call
    set is not the shell's: calling again after a key was changed, or taken out of the file, brings that into force.

    Args:
        path: a file, or a folder that holds `.env`; by default the nearest `.env` from the notebook's folder upward.
        override: let the files win over the shell.

    Returns:
        One row a name, never a value; without a file, the known names that the shell sets.

    Raises:
        CredentialsError: the file that was named is missing, or a file can't be read.

    Example:
        >>> load_env().frame.columns.tolist()
        ['name', 'source', 'length', 'used_by', 'harbor_run', 'warnings']
    """
    files = _files(path)
    notes = [note for file in files for note in (*file.notes, *file_notes(file.path))]
    if not files:
        notes.append(f"no .env was found from {Path.cwd()} upward; type harbor_nb.env_example() for one to fill in")
    entries = {name: entry for file in reversed(files) for name, entry in file.entries.items()}  # the first file wins
    wanted, values = _without_ours(entries, files, notes), dict[str, str]()
    rows, with_harbor = list[Row](), stored_names(Path.cwd() / ".env.local")
    for name, entry in entries.items():
        seen = ChainMap(values, wanted) if override else ChainMap(wanted, values)
        value, expanded = expand(entry.value, seen)
        if len(os.fsencode(value)) > _LONGEST_BYTES:
            told = f"{name} is longer than {_LONGEST_BYTES:,} bytes, so it was left out"
            notes.append(f"{entry.path.name}, line {entry.line}: {told}")
            continue
        values[name] = value
        redactor.remember_loaded(name, value)
        replaced = [
            f"{other.path.name} has another value, which {entry.path.name} replaces"
            for other in files
            if other.entries.get(name, entry).value != entry.value
        ]
        source, doubts = _choose(name, replace(entry, value=value), wanted, override)
        rows.append(_row(name, wanted[name], source, [*entry.doubts, *expanded, *replaced, *doubts], with_harbor))
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    for name in sorted(known().keys() & wanted.keys() - entries.keys()):
        redactor.remember_loaded(name, wanted[name])
        source = str(_ours[name][0].path) if name in _ours else _whose(name, wanted[name])
        rows.append(_row(name, wanted[name], source, [], with_harbor))
    return Credentials(rows, notes)


def _files(path: str | os.PathLike[str] | None) -> list[EnvFile]:
    """Read what is to be loaded, the file that wins first."""
    named = Path(path).expanduser().absolute() if path is not None else find_env()
    if named is None:
        return []
    if path is not None and named.is_dir() and named.name != ".env":
        named /= ".env"
    wanted = [named.with_name(".env.local"), named] if named.name == ".env" else [named]
    there = [file for file in wanted if file.exists()]
    return [read_env(file) for file in there or [named]]


def _without_ours(entries: Mapping[str, Entry], files: list[EnvFile], notes: list[str]) -> dict[str, str]:
    """Give the environment as it was before we set what these files hold, or held when they were loaded before."""
    environment, places = dict(os.environ), {file.path for file in files}
    for name, (one, before) in list(_ours.items()):
        if environment.get(name) != one.value:
            del _ours[name]  # set anew since, by the user
        elif name in entries or one.path in places:
            del environment[name], _ours[name]
            if before is not None:
                environment[name] = before
            if name not in entries:
                notes.append(f"{name} is no longer in {one.path.name}, so it was taken out of this session")
    return environment


def _choose(name: str, entry: Entry, wanted: dict[str, str], override: bool) -> tuple[str, list[str]]:
    """Put a file's value in force, or leave the one that is there; give the source of what holds, and doubts."""
    theirs, file = wanted.get(name), entry.path.name
    whose = _whose(name, theirs)
    if theirs is not None and not override and (theirs != entry.value or whose == "shell"):
        editor = " (an editor may have injected an older file)" if "VSCODE_PID" in os.environ else ""
        turn = "to turn that round: load_env(override=True)"
        shadowed = f"{file} has another value, but the {whose}'s wins{editor}; {turn}"
        return whose, [shadowed] if theirs != entry.value else []
    _ours[name] = entry, theirs if theirs != entry.value else _at_start().get(name)
    wanted[name] = entry.value
    doubts = [f"replaces the {whose}'s value"] if theirs not in (None, entry.value) else []
    if name == "DAYTONA_API_URL":
        doubts.append("decides where the Daytona key is sent; the SDK itself takes it from no file")
    return file, doubts


def _whose(name: str, value: str | None) -> str:
    return "shell" if _at_start().get(name) == value else "session"


def _row(name: str, value: str, source: str, doubts: list[str], local: Container[str]) -> Row:
    used_by = known()[name].used_by if name in known() else ""
    harbor_run = "shell" if name in _at_start() else ".env.local" if name in local else "not set"
    warnings = tuple(clean(doubt) for doubt in (*name_doubts(name), *value_doubts(name, value), *doubts))
    return Row(name, source, len(value), used_by, harbor_run, warnings)


def stored_names(path: Path | None = None) -> dict[str, str]:
    """Give the names that a file, or the nearest `.env` and `.env.local`, set, loaded or not, with its file's name."""
    with contextlib.suppress(CredentialsError):
        files = reversed(_files(path))
        return {name: file.path.name for file in files for name, entry in file.entries.items() if entry.value}
    return {}
