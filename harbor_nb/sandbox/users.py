"""Who a command can be inside: as root anyone; else by a range of ids, or one user that stands for all."""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Literal

from harbor_nb.errors import SandboxError

Mode = Literal["root", "ranges", "single-user"]
# Docker's default capabilities but for device nodes and raw sockets: root inside may not mount the host's disk.
_CAPABILITIES = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot audit_write setfcap"
)
_SYS_ADMIN, _SETUID = 21, 7
_RANGE = 65536
EXPLAINED = {
    "root": "users are real",
    "ranges": "users are real, from this account's range in /etc/subuid",
    "single-user": "one user stands for all: owners and USER are recorded, not set (no range in /etc/subuid)",
}


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> number & 1)


@cache
def needs_namespace() -> bool:
    """Tell whether a sandbox needs a user namespace: always, but for a root that may mount."""
    return os.geteuid() != 0 or not _has_capability(_SYS_ADMIN)


@cache
def mode() -> Mode:
    """Tell which users a sandbox can have here, found by trying."""
    if not needs_namespace():
        return "root"
    try:
        return "ranges" if mapped() else "single-user"
    except (OSError, SandboxError, subprocess.SubprocessError):
        return "single-user"


def _range(name: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError, KeyError, ValueError):
        account = pwd.getpwuid(os.geteuid()).pw_name
        for line in Path(name).read_text().splitlines():
            who, start, count = line.split(":")
            if who in (account, str(os.geteuid())) and int(count) >= _RANGE:
                return int(start), int(count)
    return None


def write_maps(pid: int) -> None:
    """Give a new user namespace its ids: root's own range, or the caller's from /etc/subuid.

    Raises:
        SandboxError: the system does not allow it.
    """
    if os.geteuid() == 0:
        count = min(_RANGE, *(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines()))
        for name in ("gid_map", "uid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 0 {count}\n")
        return
    for program, name, own in (("newuidmap", "/etc/subuid", os.geteuid()), ("newgidmap", "/etc/subgid", os.getegid())):
        found, path = _range(name), shutil.which(program)
        if found is None or path is None:
            raise SandboxError(f"no range of ids for this account: {program} or its line in {name} is missing")
        words = [path, str(pid), "0", str(own), "1", "1", str(found[0]), str(min(found[1], _RANGE))]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SandboxError(f"{program} failed: {done.stderr.strip()}")


@cache
def mapped() -> list[str]:
    """Give a command prefix that enters a user namespace with all ids and the host's files, kept as long as we live."""
    if not needs_namespace():
        return []
    if os.geteuid() != 0 and (_range("/etc/subuid") is None or _range("/etc/subgid") is None):
        raise SandboxError("this account has no range in /etc/subuid and /etc/subgid")
    if os.geteuid() == 0 and not _has_capability(_SETUID):
        raise SandboxError("this root may not set ids")
    keeper = subprocess.Popen(
        ["unshare", "--user", "/bin/sh", "-c", "echo ready; read -r _ended"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, start_new_session=True,
    )  # fmt: skip
    assert keeper.stdout is not None
    if keeper.stdout.readline() != b"ready\n":
        raise SandboxError("unshare --user failed")
    try:
        write_maps(keeper.pid)
    except BaseException:
        keeper.kill()
        keeper.wait()
        raise
    _keepers.append(keeper)
    return [nsenter(), "-t", str(keeper.pid), "-U", "--preserve-credentials", "--"]


_keepers: list["subprocess.Popen[bytes]"] = []


@cache
def nsenter() -> str:
    """Give the path of `nsenter`."""
    return shutil.which("nsenter") or "/usr/bin/nsenter"


def bwrap_arguments(users: Mode) -> list[str]:
    """Give bwrap's arguments for the user namespace."""
    return [] if users == "root" else ["--unshare-user", "--uid", "0", "--gid", "0"]


def enter(users: Mode, pid: int, *, network: bool) -> list[str]:
    """Give the command prefix that enters a sandbox."""
    words = [nsenter(), "-t", str(pid), "-m", "-p", "-i", "-u", "-r"]
    if not network:
        words.append("-n")
    if users != "root":
        words += ["-U", "--preserve-credentials"]
    if users == "single-user":
        words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_pretend.py")), *words]
    return words


def become(users: Mode, user: str | int | None, variables: dict[str, str]) -> list[str]:
    """Give the command prefix, run inside, that becomes a user; sets HOME as Docker does when it is not set."""
    bounded = ["setpriv", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in _CAPABILITIES.split())])]
    name, _, group = str("" if user is None else user).partition(":")
    home = "" if "HOME" in variables else "1"
    if name in ("", "root", "0") and not group:
        variables.setdefault("HOME", "/root")
        return [*bounded, "--"] if users == "root" else []
    # The user's own group and home are known only inside; a number without an account is its own group.
    script = (
        'u=$1; g=$2; s=$3; shift 3; l=$(getent passwd "$u"); how=--clear-groups; '
        'case "$l$u" in [!0-9]*) [ -n "$l" ] || { echo "unable to find user $u" >&2; exit 126; };; esac; '
        'if [ -n "$l" ]; then IFS=: read -r n _ u k _ h _ <<X\n$l\nX\n'
        '[ -n "$g" ] || how="--init-groups"; else k=$u; h=/; fi; '
        '[ -z "$s" ] || export HOME="$h"; '
    )
    if users == "single-user":
        end = 'exec "$@"'
    else:
        hold = " ".join(bounded) if users == "root" else "setpriv"
        end = f'exec {hold} --reuid="$u" --regid="${{g:-$k}}" $how -- "$@"'
    return ["/bin/sh", "-c", script + end, "sh", name or "root", group, home]


def kill(pid: int, target: int) -> None:
    """End a process, or with a minus a process group, in which other users of a sandbox may be."""
    command = [
        nsenter(),
        "-t",
        str(pid),
        "-U",
        "--preserve-credentials",
        "--",
        "/bin/sh",
        "-c",
        f"kill -s KILL -- {target}",
    ]
    subprocess.run(command, capture_output=True, check=False, env={})
