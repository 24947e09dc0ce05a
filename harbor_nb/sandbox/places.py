"""Where sandboxes and layers lie on the host, and how dead ones are swept up."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox.tiers import holds_uppers

_PREFIX = "harbor_nb-sandbox-"
_UNLOCKED = "harbor_nb-new-"
_LOCK = "lock"
GROUPS = "cgroups"


def cache_folder() -> Path:
    """Give the folder of layers; made on demand."""
    from platformdirs import user_cache_path

    wanted = user_cache_path("harbor_nb") / "sandbox"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SandboxError(f"no folder for images: {error}; set XDG_CACHE_HOME to one that can be written") from None
    return _usable(wanted)


def run_folder() -> Path:
    """Give the folder in which running sandboxes keep what they write."""
    return _usable(Path(tempfile.gettempdir()))


@cache
def _takes_overlays(folder: Path) -> bool:
    return holds_uppers(folder)


def _usable(wanted: Path) -> Path:
    """Give the folder, or one like it whose file system can hold an overlay's writes; in a container most can't."""
    if _takes_overlays(wanted):
        return wanted
    others = (tempfile.gettempdir(), "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "/dev/shm"), "/dev/shm")  # noqa: S108 - own folders in it
    for folder in map(Path, others):
        if folder.is_dir() and os.access(folder, os.W_OK) and _takes_overlays(folder):
            own = folder / f"harbor_nb-{os.geteuid()}"
            own.mkdir(mode=0o700, exist_ok=True)
            if own.is_symlink() or own.stat().st_uid != os.geteuid():
                raise SandboxError(f"{own} belongs to someone else; remove it")
            return own
    return wanted


class Held:
    """A folder that is swept up once the process which made it is gone."""

    def __init__(self, parent: Path, name: str) -> None:
        short = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name[:60])
        made = Path(tempfile.mkdtemp(prefix=f"{_UNLOCKED}{short}-", dir=parent))
        self._file = (made / _LOCK).open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        # Only now may a sweep find it.
        self.path = made.rename(made.with_name(made.name.replace(_UNLOCKED, _PREFIX, 1)))

    def remove(self, enter: list[str] | None = None) -> None:
        """Remove it; `enter` is a command prefix under which others' files can be removed."""
        remove_tree(self.path, enter)
        self._file.close()


def remove_tree(path: Path, enter: list[str] | None = None) -> None:
    """Remove a tree, even one with folders that forbid it; `enter` as in `Held.remove`."""
    if enter:
        subprocess.run([*enter, "rm", "-rf", "--", str(path)], capture_output=True, check=False)

    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError:
        with contextlib.suppress(OSError):
            path.chmod(0o700)
        for place, folders, _files in os.walk(path):
            for name in folders:
                with contextlib.suppress(OSError):
                    # Before the walk goes into it.
                    (Path(place) / name).chmod(0o700, follow_symlinks=False)
        shutil.rmtree(path, ignore_errors=True)


def _dead(folder: Path) -> Iterator[Path]:
    for path in folder.glob(f"{_PREFIX}*"):
        try:
            if path.stat().st_uid != os.geteuid():
                continue
            with (path / _LOCK).open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        yield path


def remove_groups(groups: list[Path]) -> None:
    """Remove control groups; the last process is in its group a moment longer than it lives."""
    for _try in range(40):
        for group in groups:
            with contextlib.suppress(OSError):
                group.rmdir()
        if not any(group.exists() for group in groups):
            return
        time.sleep(0.05)


def sweep(folder: Path, enter: Callable[[], list[str] | None]) -> list[Path]:
    """Remove what sandboxes of processes that were killed left behind; give what was removed."""
    swept = list(_dead(folder))
    for path in swept:
        with contextlib.suppress(OSError):
            remove_groups([Path(line) for line in (path / GROUPS).read_text().splitlines()])
        remove_tree(path, enter())
    return swept
