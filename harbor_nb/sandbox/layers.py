"""The store of layers: kept by content, made once, never removed while in use."""

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox import places, users

LARGEST_BYTES = 20_000_000_000
OLDEST_SEC = 30 * 86_400
_FRESH_SEC = 600  # a layer this young may be about to be used
_POLL_SEC = 0.03
_META = "layer.json"


@contextlib.asynccontextmanager
async def building(key: str) -> AsyncIterator[None]:
    """Hold a layer's build lock: one process makes it, the others wait without holding a thread."""
    path = places.cache_folder() / f"{key}.build"
    while (file := _lock(path)) is None:  # noqa: ASYNC110 - the other holder is another process
        await asyncio.sleep(_POLL_SEC)
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(path: Path) -> IO[str] | None:
    file = path.open("w")
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file that we had opened.
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
    file.close()
    return None


def folder_of(key: str) -> Path:
    """Give a layer's folder."""
    return places.cache_folder() / key


def find(key: str) -> Path | None:
    """Give a layer that is there, and note that it was used."""
    folder = folder_of(key)
    try:
        os.utime(folder / _META)
    except OSError:
        return None
    return folder


def keep(key: str, parts: dict[str, Path], enter: list[str]) -> Path:
    """Move what a build wrote into the store; the file system must be the same."""
    folder = folder_of(key)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    partial.chmod(0o755)
    for name, path in parts.items():
        if enter:
            # A folder that belongs to another of the caller's ids moves only under all of them.
            words = [*enter, "mv", "--", str(path), str(partial / name)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SandboxError(f"can't keep a layer: {done.stderr.strip()}")
        else:
            path.rename(partial / name)
    describe(partial)
    if folder.exists():
        # Running sandboxes go on with the old one, which is pruned later.
        folder.rename(folder.with_name(f"old-{key}-{partial.name[-8:]}"))
    partial.rename(folder)
    return folder


def describe(folder: Path) -> None:
    """Write the note that makes a folder a layer, with its size."""
    (folder / _META).write_text(json.dumps({"bytes": _size(folder)}))


def _size(folder: Path) -> int:
    total = 0
    for place, _folders, files in os.walk(folder, onerror=None):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 - as many as there are files
    return total


def hold(layer: Path) -> IO[str]:
    """Hold a layer as in use, for as long as the file is open."""
    try:
        file = (layer / _META).open()
    except FileNotFoundError:
        raise SandboxError("the image is gone from the cache; build it again") from None
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def prune(
    largest_bytes: int = LARGEST_BYTES, oldest_sec: float = OLDEST_SEC, fresh_sec: float = _FRESH_SEC
) -> list[str]:
    """Remove layers that are old, and the longest unused ones above a total size; never one in use.

    Args:
        largest_bytes: what all layers together may take.
        oldest_sec: seconds since its last use after which a layer goes.
        fresh_sec: seconds since its last use in which a layer stays in any case.

    Returns:
        The names of what was removed.
    """
    folder, now = places.cache_folder(), time.time()
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError, ValueError):
            if path.name.startswith("partial-"):
                if now - path.stat().st_mtime > 86_400:
                    found.append((path.stat().st_mtime, 0, path))
            elif path.is_dir() and (path / _META).exists():
                used = (path / _META).stat().st_mtime
                used = used - oldest_sec if path.name.startswith("old-") else used
                found.append((used, int(json.loads((path / _META).read_text())["bytes"]), path))
    total = sum(size for _used, size, _path in found)
    removed = []
    for used, size, path in sorted(found):
        if now - used < fresh_sec or (total <= largest_bytes and now - used < oldest_sec):
            continue
        if _remove(path):
            total -= size
            removed.append(path.name)
    return removed


def _remove(path: Path) -> bool:
    meta = path / _META
    with contextlib.ExitStack() as stack:
        if meta.exists():
            file = stack.enter_context(meta.open())
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            # Out of the way at once, so that nobody finds half of it.
            path = path.rename(path.with_name(f"partial-{path.name}"))
        places.remove_tree(path, users.mapped() if users.mode() == "ranges" else None)
    return True
