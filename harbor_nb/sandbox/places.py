"""Where sandboxes and layers lie on the host, and how dead ones are swept up."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from harbor_nb.errors import SandboxError

_PREFIX = "harbor_nb-sandbox-"
_UNLOCKED = "harbor_nb-new-"
_LOCK = "lock"


def cache_folder() -> Path:
    """Give the folder of layers; made on demand."""
    from platformdirs import user_cache_path

    wanted = user_cache_path("harbor_nb") / "sandbox"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SandboxError(f"no folder for images: {error}; set XDG_CACHE_HOME to one that can be written") from None
    return usable(wanted, lambda: Path(tempfile.gettempdir()))


def run_folder() -> Path:
    """Give the folder in which running sandboxes keep what they write."""
    return usable(Path(tempfile.gettempdir()), lambda: Path("/var/tmp"))  # noqa: S108 - mkdtemp is used below it


@cache
def _takes_overlays(folder: Path) -> bool:
    from harbor_nb.sandbox.tiers import holds_uppers

    return holds_uppers(folder)


def usable(first: Path, second: Callable[[], Path]) -> Path:
    """Give the first folder whose file system can hold an overlay's writes; in a container most can't."""
    if _takes_overlays(first):
        return first
    for folder in (second(), Path("/var/tmp"), Path(os.environ.get("XDG_RUNTIME_DIR", "/dev/shm")), Path("/dev/shm")):  # noqa: S108
        if folder.is_dir() and os.access(folder, os.W_OK) and _takes_overlays(folder):
            own = folder / f"harbor_nb-{os.geteuid()}"
            own.mkdir(mode=0o700, exist_ok=True)
            if own.is_symlink() or own.stat().st_uid != os.geteuid():
                raise SandboxError(f"{own} belongs to someone else; remove it")
            return own
    return first


class Held:
    """A folder that is swept up once the process which made it is gone."""

    def __init__(self, parent: Path, name: str) -> None:
        short = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name[:40])
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

    def mend(function: Callable[..., object], name: str, _error: BaseException) -> None:
        with contextlib.suppress(OSError):
            for place in (Path(name).parent, Path(name)):
                if not place.is_symlink() and place.is_dir():
                    place.chmod(0o700)
            if function in (os.scandir, os.open, os.listdir):
                shutil.rmtree(name, ignore_errors=True)
            else:
                function(name)

    if path.exists():
        shutil.rmtree(path, onexc=mend)


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


def sweep(folder: Path, enter: Callable[[], list[str] | None]) -> list[Path]:
    """Remove what sandboxes of processes that were killed left behind; give what was removed."""
    swept = list(_dead(folder))
    for path in swept:
        remove_tree(path, enter())
    return swept
