"""What a sandbox sees: overlays of the host's folders and the image's layers, and the folders bound into it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from harbor_nb.sandbox import layers, users
from harbor_nb.sandbox.userland import base_layer, overlaid, own_layer


class Mount(NamedTuple):
    """A host folder or file bound at a path inside."""

    source: Path
    target: str
    read_only: bool = False


def slug(name: str) -> str:
    """Name the folder of a layer that belongs to a path: `root` for /, `var+lib+dpkg` for /var/lib/dpkg."""
    return name.replace("/", "+") or "root"


def overlay_arguments(folder: Path, mode: users.Mode, image: Sequence[Path]) -> tuple[list[str], list[IO[str]]]:
    """Give bwrap's arguments for a root file system whose writes go to a folder.

    Args:
        folder: where the writes go.
        mode: which users the sandbox has.
        image: the image's layers, lowest first.

    Returns:
        The arguments, and the files that hold the layers as in use while they are open.
    """
    base = base_layer()
    own = [] if mode == "root" else [own_layer()]
    held = [layers.hold(layer) for layer in (base, *own, *image)]
    arguments = []
    for name in ("", *overlaid()):
        host = [Path("/", name), *(layer / slug(name) for layer in own)] if name else [base / "root"]
        lower = [*host, *(path for layer in image if (path := layer / slug(name)).is_dir())]
        arguments += _overlay(folder, name, lower, keep_owner=mode == "root")
    return arguments, held


def _overlay(folder: Path, name: str, lower: list[Path], *, keep_owner: bool) -> list[str]:
    upper, work = folder / slug(name), folder / f"{slug(name)}.work"
    work.mkdir()
    upper.mkdir()
    # What the top folder looks like is told by the topmost layer, which is the new one.
    found = lower[-1].stat()
    upper.chmod(found.st_mode & 0o7777)
    if keep_owner:
        os.chown(upper, found.st_uid, found.st_gid)
    sources = [word for path in lower for word in ("--overlay-src", str(path))]
    return [*sources, "--overlay", str(upper), str(work), f"/{name}"]


def other_arguments(folder: Path, mode: users.Mode, mounts: list[Mount], *, proc: bool, network: bool) -> list[str]:
    """Give bwrap's arguments for all but the overlays: namespaces, /proc, /dev, the network and bound folders."""
    arguments = ["--proc", "/proc"] if proc else ["--dir", "/proc"]
    arguments += ["--dev", "/dev", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    arguments += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    if not network:
        arguments.append("--unshare-net")
    elif Path("/etc/resolv.conf").exists():
        etc = folder / "root/etc"
        etc.mkdir(exist_ok=True)
        etc.chmod(0o755)
        shutil.copyfile("/etc/resolv.conf", etc / "resolv.conf")
        (etc / "resolv.conf").chmod(0o644)
    arguments += users.bwrap_arguments(mode)
    for mount in mounts:
        # Folders on the way would be closed to all but root.
        for parent in reversed(Path(mount.target).parents[:-1]):
            arguments += ["--perms", "0755", "--dir", str(parent)]
        arguments += ["--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target]
    return arguments
