"""What clients upload: into a sandbox, and archives unpacked; with a limit."""

import tarfile
from pathlib import Path
from typing import BinaryIO

from harbor_nb.errors import BadInputError
from harbor_nb.sandbox import FileStat, Sandbox

MOST_BYTES = 512 * 2**20  # of one upload, and of what an archive unpacks to


async def store(sandbox: Sandbox, path: str, upload: BinaryIO, user: str | None = None) -> None:
    """Write an upload, which may be large and lie in a file without a name, into a sandbox."""
    upload.flush()
    await sandbox.write_file(path, Path(f"/proc/self/fd/{upload.fileno()}"), mode=0o644, user=user)


async def look(sandbox: Sandbox, path: str) -> FileStat:
    """Look at one path.

    Raises:
        FileNotFoundError: nothing is there.
    """
    found = await sandbox.stat(path)
    if found is None:
        raise FileNotFoundError(f"{path}: no such file or directory")
    return found


async def move(sandbox: Sandbox, source: str, target: str) -> None:
    """Rename a path.

    Raises:
        FileNotFoundError: nothing is there.
    """
    await look(sandbox, source)
    done = await sandbox.exec(["mv", "-T", "--", source, target], user="root")
    if done.return_code:
        raise BadInputError(done.stderr.decode(errors="replace").strip())


def letters(mode: int) -> str:
    """Give permission bits as `ls` shows them."""
    return "".join(letter if mode >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx"))


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
