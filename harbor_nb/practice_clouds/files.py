"""Files of a sandbox, always looked at from inside it, so that no path climbs out."""

import asyncio
import shutil
import tarfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harbor_nb.errors import BadInputError
from harbor_nb.sandbox import Sandbox

MOST_BYTES = 512 * 2**20  # of one upload, and of what an archive unpacks to
_STAT = "%F\t%s\t%a\t%U\t%G\t%Y\t%N\t%n"


@dataclass(frozen=True)
class Entry:
    """One path: `kind` is file, directory, link or other."""

    path: str
    kind: str
    size: int
    mode: int
    owner: str
    group: str
    modified: float
    target: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return Path(self.path).name


def _entry(line: str) -> Entry:
    kind, size, mode, owner, group, modified, quoted, path = line.split("\t", 7)
    short = {"regular file": "file", "regular empty file": "file", "directory": "directory", "symbolic link": "link"}
    target = quoted.rpartition(" -> ")[2].strip("'") if kind == "symbolic link" else None
    return Entry(path, short.get(kind, "other"), int(size), int(mode, 8), owner, group, float(modified), target)


@dataclass
class Files:
    """What a vendor's file calls do."""

    sandbox: Sandbox

    async def _run(self, *words: str) -> bytes:
        done = await self.sandbox.exec(["env", "LC_ALL=C", *words], cwd="/", user="root")
        if done.return_code:
            said = done.stderr.decode(errors="replace").strip()
            for text, error in (
                ("No such file", FileNotFoundError), ("Not a directory", NotADirectoryError),
                ("Is a directory", IsADirectoryError), ("Permission denied", PermissionError),
            ):  # fmt: skip
                if text in said:
                    raise error(said)
            raise OSError(said)
        return done.stdout

    async def read(self, path: str) -> bytes:
        """Read a file whole.

        Raises:
            FileNotFoundError, IsADirectoryError: as the name says.
        """
        return await self._run("cat", "--", path)

    async def write(self, path: str, source: BinaryIO | bytes, mode: int = 0o644) -> None:
        """Write a file; the folders above it are made."""
        staged = self.sandbox.folder / "root/tmp" / f".practice-{uuid.uuid4().hex}"
        await asyncio.to_thread(_copy, source, staged)
        await self._run(
            "sh", "-c", 'mkdir -p -- "$(dirname -- "$2")" && [ ! -d "$2" ] || { echo "Is a directory" >&2; exit 1; }; '
            'cat -- "$1" > "$2" && rm -f -- "$1" && chmod "$3" -- "$2"', "sh", f"/tmp/{staged.name}", path, f"{mode:o}",  # noqa: S108 - the sandbox's own
        )  # fmt: skip

    async def stat(self, path: str, follow: bool = False) -> Entry:
        """Look at one path.

        Raises:
            FileNotFoundError: nothing is there.
        """
        said = await self._run("stat", *(["-L"] if follow else []), "-c", _STAT, "--", path)
        return _entry(said.decode(errors="replace").rstrip("\n"))

    async def list(self, path: str, depth: int = 1) -> list[Entry]:
        """List what is in a folder, down to a depth, in order.

        Raises:
            FileNotFoundError, NotADirectoryError: as the name says.
        """
        found = await self.stat(path, follow=True)
        if found.kind != "directory":
            raise NotADirectoryError(f"{path}: Not a directory")
        said = await self._run(
            "find", f"{path.rstrip('/') or ''}/", "-mindepth", "1", "-maxdepth", str(depth),
            "-exec", "stat", "-c", _STAT, "--", "{}", "+",
        )  # fmt: skip
        return sorted(
            (_entry(line) for line in said.decode(errors="replace").splitlines()), key=lambda entry: entry.path
        )

    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""
        await self._run("mkdir", "-p", "--", path)

    async def remove(self, path: str, recursive: bool = True) -> None:
        """Remove a path."""
        await self._run("rm", *(["-r"] if recursive else []), "--", path)

    async def move(self, source: str, target: str) -> None:
        """Rename a path."""
        await self._run("mv", "-T", "--", source, target)


def _copy(source: BinaryIO | bytes, target: Path) -> None:
    with target.open("wb") as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            source.seek(0)
            shutil.copyfileobj(source, file)


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar that a client sent; what climbs out or is too large is refused.

    Raises:
        BadInputError: it is no tar, it climbs out, or it is too large.
    """
    try:
        with tarfile.open(archive) as tar:
            total = 0
            for member in tar:
                total += member.size
                if total > MOST_BYTES:
                    raise BadInputError("the archive unpacks to more than a practice cloud takes (512 MiB)")
            tar.extractall(target, filter="tar")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadInputError(f"not an archive that can be unpacked: {type(error).__name__}") from None
