"""Find and decode `.env` files; a line that does not parse is told by its number, never by its text."""

import contextlib
import io
import os
import re
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import parse_stream
from dotenv.variables import Variable, parse_variables

from harbor_nb.errors import CredentialsError

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_BYTES = 1 << 20
_MOST_NAMES = 10_000  # the C library's setenv takes longer with each
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass
class Entry:
    """What a file sets one name to; its repr shows no value."""

    value: str = field(repr=False)
    path: Path
    line: int
    doubts: list[str]


@dataclass
class EnvFile:
    """What one file holds."""

    path: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_env() -> Path | None:
    """Give the nearest folder's `.env`, there or beside a `.env.local`; another user's file has to be named."""
    folder = Path.cwd()
    for path in (place / name for place in (folder, *folder.parents) for name in (".env", ".env.local")):
        with contextlib.suppress(OSError):
            if os.name == "posix" and path.stat().st_uid not in (os.getuid(), 0):
                trust = f"if you trust it, name it: load_env({str(path)!r})"
                raise CredentialsError(f"{path} belongs to another user; {trust}")
            if path.exists():
                return path.with_name(".env")
    return None


def read_bytes(path: Path) -> bytes:
    """Read a `.env` file.

    Raises:
        CredentialsError: it is missing, no plain file, not readable, or too large.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise CredentialsError(f"{path} is a folder; name the file itself, or move the folder away")
        if not stat.S_ISREG(found.st_mode):
            raise CredentialsError(f"{path} is not a plain file (a pipe or a device); copy its text to a file")
        if found.st_size > _MOST_BYTES:
            raise CredentialsError(f"{path} is larger than 1 MB, so it is no .env file; name another")
        return path.read_bytes()
    except FileNotFoundError:
        raise CredentialsError(f"{path} does not exist; type harbor_nb.env_example() for one to fill in") from None
    except OSError as error:
        raise CredentialsError(f"can't read {path}: {error.strerror}; check its owner and mode") from None


def read_env(path: Path) -> EnvFile:
    """Decode one file with python-dotenv's parser.

    Raises:
        CredentialsError: it can't be read, or is not text.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CredentialsError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    found = EnvFile(path)
    for binding in parse_stream(io.StringIO(text, newline=None)):
        if binding.key is None and not binding.error:
            continue  # a comment, or nothing
        source, name, value = binding.original.string, binding.key or "", binding.value or ""
        first = binding.original.line + source[: len(source) - len(source.lstrip())].count("\n")
        last = first + source.strip().count("\n")
        where = f"line {first}" if first == last else f"lines {first} to {last}"
        wrong = {
            "can't be understood": binding.error,
            "the name before '=' is no variable name": not _NAME.fullmatch(name),
            f"{name} has no '='": binding.value is None,
            f"{name} holds a NUL character": "\0" in value,
        }
        if any(wrong.values()):
            what = next(what for what, holds in wrong.items() if holds)
            found.notes.append(f"{path.name}, {where}: {what}, so it was left out")
            continue
        doubts = []
        if name in found.entries:
            doubts.append(f"set twice in {path.name} (lines {found.entries[name].line} and {first}); the last holds")
        if re.search(r"\n\s*(?:export\s+)?[A-Za-z_]\w*=", value):
            doubts.append(f"{where} of {path.name} hold another NAME= inside; is a quote not closed?")
        found.entries[name] = Entry(value, path, first, doubts)
    if len(found.entries) > _MOST_NAMES:
        raise CredentialsError(f"{path} sets more than {_MOST_NAMES:,} names, so it is no .env file; name another")
    return found


def expand(value: str, known_values: Mapping[str, str]) -> tuple[str, list[str]]:
    """Put variables in, `${NAME}` and `${NAME:-default}`, as python-dotenv does, and say that it was done."""
    atoms = list(parse_variables(value))
    doubts = []
    for atom in atoms:
        if isinstance(atom, Variable):
            lacks = f"is not set, so {'its default' if atom.default else 'nothing'}"
            doubts.append(f"${{{atom.name}}} {'' if atom.name in known_values else lacks + ' '}was put in")
    return "".join(atom.resolve(known_values) for atom in atoms), doubts


def file_notes(path: Path) -> list[str]:
    """Tell who else can see a file: others on this machine, or git."""
    notes = []
    if os.name == "posix" and path.stat().st_mode & 0o077:
        notes.append(f"others on this machine can read {path.name}; type: chmod 600 {path.name}")
    if (tracked := git_sees(path)) is not None:
        notes.append(
            f"{path.name} is committed to git; take it out with: git rm --cached {path.name}, and make new keys"
            if tracked
            else f"{path.name} is not ignored by git; add the line {path.name} to .gitignore"
        )
    return notes


def git_sees(path: Path) -> bool | None:
    """Tell whether git holds the file (True) or could take it (False); None if it ignores it or is not there."""
    look = ["git", "--no-optional-locks", "status", "--porcelain", "--ignored", "--untracked-files=normal", "--"]
    try:
        done = subprocess.run(
            [*look, path.name], cwd=path.parent, capture_output=True, timeout=5, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode or done.stdout.startswith(b"!!"):
        return None
    return not done.stdout.startswith(b"??")
