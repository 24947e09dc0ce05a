"""Load `.env` into this process, and say for each name which value is in force and why."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harbor_nb._display import Shown, clean, render
from harbor_nb._redaction import redactor
from harbor_nb.credentials._known import known, name_doubts, value_doubts
from harbor_nb.credentials._reading import EnvFile, expand, find_env, read_env
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


@dataclass
class _Ours:
    """What an earlier `load_env` set; values stay out of its repr."""

    value: str
    before: str | None
    path: Path

    def __repr__(self) -> str:
        return f"_Ours({self.path.name})"


_ours: dict[str, _Ours] = {}


class Credentials(Shown, Sequence[Row]):
    """The names in force: where each value came from, how long it is, what uses it, what looks wrong; never a value.

    Attributes:
        notes: what concerns a whole file: its mode, git, lines that were left out.
        precedence: who wins, in harbor_nb, in plain Harbor and in the Daytona SDK.
    """

    def __init__(self, rows: Sequence[Row], notes: Sequence[str]) -> None:
        self._rows, self.notes, self.precedence = tuple(rows), tuple(clean(note) for note in notes), PRECEDENCE

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]  # a slice of rows is not asked for
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @property
    def frame(self) -> "pd.DataFrame":
        """One row a name: name, source, length (characters), used_by, harbor_run, warnings."""
        import pandas as pd

        columns = ["name", "source", "length", "used_by", "harbor_run", "warnings"]
        rows = [[getattr(row, column) for column in columns[:-1]] + ["; ".join(row.warnings)] for row in self]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        cells = [("name", "source", "length", "used by", "warnings")]
        cells += [(r.name, r.source, str(r.length), r.used_by, "; ".join(r.warnings)) for r in self]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]).rstrip() for row in cells]
        return clean("\n".join([*(lines if self._rows else ["no credentials are set"]), *self.notes]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render("credentials", rows=self._rows, notes=self.notes, precedence=self.precedence)


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
    notes = [note for file in files for note in file.notes]
    if not files:
        notes.append(f"no .env was found from {Path.cwd()} upward; type harbor_nb.env_example() for one to fill in")
    merge = _Merge(files, override)
    rows = [merge.take(name) for name in merge.values]
    _apply(merge.base)
    local = _names(Path.cwd() / ".env.local")
    rows += [_elsewhere(name) for name in sorted(known().keys() - merge.values.keys()) if name in merge.base]
    return Credentials([_told(row, local) for row in rows], [*notes, *merge.notes])


def _files(path: str | os.PathLike[str] | None) -> list[EnvFile]:
    """Read what is to be loaded, the file that wins first."""
    named = Path(path).expanduser().absolute() if path is not None else find_env()
    if named is None:
        return []
    if path is not None and named.is_dir() and named.name != ".env":
        named /= ".env"
    beside = named.with_name(".env.local")
    wanted = [named]
    if named.name == ".env" and beside.exists():
        wanted = [beside, *([named] if named.exists() else [])]
    return [read_env(file) for file in wanted]


class _Merge:
    """The environment as it will be: the shell's, less what we set before from these files, plus what they hold."""

    def __init__(self, files: list[EnvFile], override: bool) -> None:
        self.files, self.override, self.notes = files, override, list[str]()
        self.homes = {name: file for file in reversed(files) for name in file.raw}  # the first file has the last word
        self.base = dict(os.environ)
        places = {file.path for file in files}
        mine = {name: one for name, one in _ours.items() if self.base.get(name) == one.value}
        for name, one in mine.items():
            if name in self.homes or one.path in places:
                self.base.pop(name)
                if one.before is not None:
                    self.base[name] = one.before
            if name not in self.homes and one.path in places:
                self.notes.append(f"{name} is no longer in {one.path.name}, so it was taken out of this session")
                _ours.pop(name)
        self.values: dict[str, str] = {}
        self.doubts: dict[str, list[str]] = {}
        for name, file in self.homes.items():
            seen = self.base | self.values if override else self.values | self.base
            value, told = expand(name, file.raw[name], seen)
            if len(os.fsencode(value)) <= _LONGEST_BYTES:
                self.values[name], self.doubts[name] = value, [*file.doubts[name], *told]
            else:
                where = f"{file.path.name}, line {file.lines[name]}"
                self.notes.append(f"{where}: {name} is longer than {_LONGEST_BYTES:,} bytes, so it was left out")

    def take(self, name: str) -> Row:
        """Put one value in force, or leave the shell's, and say which."""
        value, file, shell = self.values[name], self.homes[name], self.base.get(name)
        doubts = self.doubts[name]
        redactor.remember_loaded(name, value)
        doubts += [
            f"{other.path.name} has another value, which {file.path.name} replaces"
            for other in self.files
            if other.raw.get(name, file.raw[name]) != file.raw[name]
        ]
        if shell is not None and shell != value and not self.override:
            whose = _whose(name, shell)
            editor = " (an editor may have injected an older file)" if "VSCODE_PID" in os.environ else ""
            doubts.append(
                f"{file.path.name} has another value, but the {whose}'s wins{editor}; "
                "to turn that round: load_env(override=True)"
            )
            _ours.pop(name, None)
            return _row(name, shell, whose, doubts)
        if shell is not None and shell != value:
            doubts.append(f"replaces the {_whose(name, shell)}'s value")
        if shell == value and _whose(name, value) == "shell" and not self.override:
            _ours.pop(name, None)
            return _row(name, value, "shell", doubts)
        _ours[name] = _Ours(value, shell if shell != value else _at_start().get(name), file.path)
        self.base[name] = value
        if name == "DAYTONA_API_URL":
            doubts.append("decides where the Daytona key is sent; the SDK itself takes it from no file")
        return _row(name, value, file.path.name, doubts)


def _apply(wanted: dict[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _whose(name: str, value: str) -> str:
    return "shell" if _at_start().get(name) == value else "session"


def _elsewhere(name: str) -> Row:
    """Tell of a known name that the files at hand do not set."""
    value = os.environ[name]
    one = _ours.get(name)
    source = str(one.path) if one is not None and one.value == value else _whose(name, value)
    redactor.remember_loaded(name, value)
    return _row(name, value, source, [])


def _row(name: str, value: str, source: str, doubts: list[str]) -> Row:
    entry = known().get(name)
    warnings = tuple(clean(doubt) for doubt in (*name_doubts(name), *value_doubts(name, value), *doubts))
    return Row(name, source, len(value), entry.used_by if entry else "", "", warnings)


def _told(row: Row, local: set[str]) -> Row:
    at = "shell" if row.name in _at_start() else ".env.local" if row.name in local else "not set"
    return replace(row, harbor_run=at)


def stored_names() -> dict[str, str]:
    """Give the names that the nearest `.env` and `.env.local` hold, loaded or not, each with its file's name."""
    try:
        return {name: file.path.name for file in reversed(_files(None)) for name, value in file.raw.items() if value}
    except CredentialsError:
        return {}


def _names(path: Path) -> set[str]:
    try:
        return set(read_env(path).raw)
    except CredentialsError:
        return set()
