"""Files in and out of a sandbox, all done by commands inside it, so that no path can climb out."""

import asyncio
import os
import posixpath
import tarfile
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox.processes import ExecResult

_KINDS: dict[str, Literal["file", "folder", "link"]] = {"f": "file", "d": "folder", "l": "link"}
_FIND = r"%y\t%s\t%m\t%U\t%G\t%u\t%g\t%T@\t%l\t%p\0"
_MISSING, _FOLDER = 66, 67
_READ = f'[ -e "$1" ] || exit {_MISSING}; [ -d "$1" ] && exit {_FOLDER}; exec cat -- "$1"'
# A folder made on the way belongs to the same user as the file.
_FOLDERS = 'p=$1; n=; while [ ! -e "$p" ]; do n=$p; p=$(dirname "$p"); done; mkdir -p "$1" && '
_OWN = '{ [ -z "$n$3" ] || [ -z "$2" ] || chown -R -- "$2" "${n:-$3}"; }'
_WRITE = (
    f'[ -d "$4" ] && exit {_FOLDER}; {_FOLDERS}cat > "$4" && {{ [ -z "$5" ] || chmod -- "$5" "$4"; }} && '
    '{ [ -z "$2" ] || chown -- "$2" "$4"; } && ' + _OWN
)


@dataclass(frozen=True)
class FileStat:
    """One file inside a sandbox; `modified` is in seconds since 1970, `target` where a link points."""

    path: str
    kind: Literal["file", "folder", "link", "other"]
    size: int
    mode: int
    uid: int
    gid: int
    owner: str
    group: str
    modified: float
    target: str = ""


def _stats(found: bytes) -> list[FileStat]:
    stats = []
    for line in found.decode(errors="surrogateescape").split("\0")[:-1]:
        kind, size, mode, uid, gid, owner, group, modified, target, path = line.split("\t", 9)
        stats.append(
            FileStat(path, _KINDS.get(kind, "other"), int(size), int(mode, 8), int(uid), int(gid), owner, group,
                     float(modified), target)
        )  # fmt: skip
    return stats


def _safe(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Keep modes; leave out devices and links that point out of the folder."""
    mode = member.mode
    try:
        kept = tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None
    return kept.replace(mode=mode & 0o777 | (0o700 if member.isdir() else 0o400), deep=False)


def _rooted(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class SandboxFiles:
    """The file half of `Sandbox`."""

    workdir: str

    @abstractmethod
    async def _run_inside(self, command: Sequence[str], stdin: int, *, output: int | None = None) -> ExecResult: ...

    def _inside(self, path: str) -> str:
        if "\0" in path or not path:
            raise SandboxError(f"{path!r} is not a path; give one inside the sandbox, like /app/data.csv")
        return posixpath.normpath(posixpath.join("/", self.workdir, path))

    async def shell(
        self, script: str, *words: str, stdin: IO[bytes] | None = None, path: str, output: IO[bytes] | None = None
    ) -> bytes:
        """Run a script of `sh` inside as root; its exit code becomes the error that fits `path`."""
        given = os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin.fileno()
        try:
            done = await self._run_inside(
                ["/bin/sh", "-c", script, "sh", *words], given, output=output.fileno() if output else None
            )
        finally:
            if stdin is None:
                os.close(given)
        if done.return_code == _MISSING:
            raise FileNotFoundError(f"{path} is not in the sandbox")
        if done.return_code == _FOLDER:
            raise IsADirectoryError(f"{path} is a folder in the sandbox")
        if done.return_code:
            told = done.stderr.decode(errors="replace").strip()[-500:] or f"exit code {done.return_code}"
            raise SandboxError(f"{path} in the sandbox: {told}")
        return done.stdout

    async def read_file(self, path: str) -> bytes:
        """Give a file's bytes.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a folder.
        """
        inside = self._inside(path)
        return await self.shell(_READ, inside, path=path)

    async def write_file(
        self, path: str, content: bytes | Path, mode: int | None = None, user: str | None = None
    ) -> None:
        """Write a file, and the folders above it.

        Args:
            path: where, inside.
            content: the bytes, or a file of the host, whose mode is kept.
            mode: the permission bits, like 0o755.
            user: whose file it is, with the folders made on the way; root's when not given.
        """
        inside = self._inside(path)
        if mode is None and isinstance(content, Path):
            mode = content.stat().st_mode & 0o7777
        bits = "" if mode is None else f"{mode:o}"
        with content.open("rb") if isinstance(content, Path) else tempfile.TemporaryFile() as file:
            if isinstance(content, bytes):
                file.write(content)
                file.seek(0)
            folder = posixpath.dirname(inside)
            await self.shell(_WRITE, folder, _owner(user), "", inside, bits, stdin=file, path=path)

    async def put(self, source: Path, path: str) -> None:
        """Copy a host file or folder in as root's: modes, links and empty folders are kept.

        Args:
            source: the file, which becomes `path` (or goes into it when it ends in `/` or is a folder); or the folder,
                whose content goes into the folder `path`.
            path: where, inside.
        """
        if not source.exists():
            raise FileNotFoundError(f"{source} does not exist")
        inside = self._inside(path)
        if source.is_file():
            found = None if path.endswith("/") else await self.stat(path)
            into = path.endswith("/") or (found is not None and found.kind == "folder")
            await self.write_file(posixpath.join(inside, source.name) if into else inside, source)
            return
        with tempfile.TemporaryFile() as file:
            await asyncio.to_thread(_pack, source, file)
            script = 'mkdir -p -- "$1" && exec tar -x -p --no-same-owner --no-overwrite-dir -f - -C "$1"'
            await self.shell(script, inside, stdin=file, path=path)

    async def get(self, path: str, target: Path) -> None:
        """Copy a file or a folder's content out to the host: modes and empty folders are kept.

        Links that point out of the folder and special files stay behind: what an agent made can't lead out of `target`.

        Raises:
            FileNotFoundError: there is no such path inside.
        """
        inside = self._inside(path)
        found = await self.stat(path)
        if found is None:
            raise FileNotFoundError(f"{path} is not in the sandbox")
        if found.kind == "folder":
            with tempfile.TemporaryFile() as file:
                # 1 tells that a file changed meanwhile, as logs do.
                script = 'tar -c -f - -C "$1" .; c=$?; [ $c -le 1 ] || exit $c'
                await self.shell(script, inside, path=path, output=file)
                await asyncio.to_thread(_unpack, file, target)
            return
        place = target / posixpath.basename(inside) if target.is_dir() else target
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            await self.shell(_READ, inside, path=path, output=file)
        place.chmod(found.mode & 0o777 | 0o400)

    async def stat(self, path: str) -> FileStat | None:
        """Tell about a file or folder, a link's target if it has one; None when there is none."""
        inside = self._inside(path)
        how = 'if [ -e "$1" ]; then h=-H; elif [ -L "$1" ]; then h=-P; else exit 0; fi; '
        script = how + 'exec find $h "$1" -maxdepth 0 -printf "$2"'
        found = _stats(await self.shell(script, inside, _FIND, path=path))
        return found[0] if found else None

    async def list_dir(self, path: str, depth: int = 1) -> list[FileStat]:
        """List what a folder holds, by name; with `depth`, so many levels of it.

        Raises:
            FileNotFoundError: there is none.
            NotADirectoryError: it is not a folder.
        """
        inside = self._inside(path)
        found = await self.stat(path)
        if found is None:
            raise FileNotFoundError(f"{path} is not in the sandbox")
        if found.kind != "folder":
            raise NotADirectoryError(f"{path} is not a folder in the sandbox")
        script = 'find -H "$1" -mindepth 1 -maxdepth "$2" -printf "$3" 2>/dev/null; exit 0'
        listed = _stats(await self.shell(script, inside, str(depth), _FIND, path=path))
        return sorted(listed, key=lambda stat: stat.path)

    async def make_dir(self, path: str, mode: int | None = None, user: str | None = None) -> None:
        """Make a folder, and those above it; one that is there stays as it is."""
        inside = self._inside(path)
        script = _FOLDERS + '{ [ -z "$n" ] || [ -z "$4" ] || chmod -- "$4" "$1"; } && ' + _OWN
        await self.shell(script, inside, _owner(user), "", "" if mode is None else f"{mode:o}", path=path)

    async def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it.

        Raises:
            FileNotFoundError: there is none.
        """
        inside = self._inside(path)
        if inside == "/":
            raise SandboxError("/ can't be removed; name what to remove, or stop the sandbox")
        script = f'[ -e "$1" ] || [ -L "$1" ] || exit {_MISSING}; exec rm -rf -- "$1"'
        await self.shell(script, inside, path=path)


def _owner(user: str | None) -> str:
    if user in (None, "", "root"):
        return ""
    return f"{user}:{user}" if str(user).isdigit() else f"{user}:"


def _pack(source: Path, file: IO[bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.add(source, arcname=".", filter=_rooted)
    file.flush()
    file.seek(0)


def _unpack(file: IO[bytes], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        tar.extractall(target, filter=_safe)  # noqa: S202 - the filter keeps members inside
