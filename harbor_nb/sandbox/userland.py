"""What of the host stands in for a base image: its programs, and a copy of /etc without what is private."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from harbor_nb.sandbox import layers, users

FORMAT = 5
# Folders of the host that a sandbox sees read-only under its own writes; /etc is a copy, the rest starts empty.
OVERLAID = (
    "usr",
    "opt",
    "var/lib/dpkg",
    "var/lib/rpm",
    "var/cache/debconf",
    "var/lib/pam",
    "var/lib/ucf",
    "var/lib/python",
)
_EMPTY = (
    "root home run tmp mnt media srv proc dev sys usr etc opt var/tmp var/log var/mail var/spool var/local var/opt "
    "var/backups var/lib/misc var/lib/apt/lists/partial var/lib/apt/mirrors/partial var/cache/apt/archives/partial "
    "var/lib/systemd var/lib/dpkg var/lib/rpm var/cache/debconf var/lib/pam var/lib/ucf var/lib/python"
).split()
_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}
_PRIVATE = frozenset(
    "shadow shadow- gshadow gshadow- passwd- group- subuid subuid- subgid subgid- ssh ssl/private sudoers sudoers.d "
    "docker kubernetes krb5.keytab wireguard NetworkManager netplan letsencrypt environment apt/auth.conf "
    "apt/auth.conf.d fstab hosts "
    "hostname resolv.conf mtab machine-id motd issue .pwd.lock cloud cni containers crontab cron.d".split()
)
_CREDENTIAL = re.compile(rb"://[^/\s:@]*:[^/\s@]+@")
ETC = Path("/etc")
OWNERS = "/var/log/harbor_nb.owners"
_FIRST_PERSON, _NOBODY = 1000, 65534


def _public(path: Path, name: str) -> bool:
    mode = path.lstat().st_mode
    if name in _PRIVATE or stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
        return False
    if stat.S_ISLNK(mode):
        return True
    return bool(mode & (0o001 if stat.S_ISDIR(mode) else 0o004)) and os.access(path, os.R_OK)


def _etc_entries() -> list[tuple[str, os.stat_result]]:
    """List what of /etc is public."""
    entries, todo = [], [ETC]
    while todo:
        for path in sorted(todo.pop().iterdir()):
            name = path.relative_to(ETC).as_posix()
            if not _public(path, name):
                continue
            found = path.lstat()
            entries.append((name, found))
            if stat.S_ISDIR(found.st_mode):
                todo.append(path)
    return entries


@cache
def overlaid() -> tuple[str, ...]:
    """Name the host's folders that are seen inside."""
    own = tuple(name for name in ("bin", "sbin", "lib", "lib32", "lib64") if not Path("/", name).is_symlink())
    return tuple(name for name in OVERLAID + own if Path("/", name).is_dir())


@cache
def identity() -> str:
    """Give a digest of the host's userland, so that an image made over another one is not used."""
    facts: list[object] = [FORMAT, platform.machine(), os.geteuid()]
    for place in ("/etc/os-release", "/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/usr/bin", "/usr/local/bin"):
        path = Path(place)
        if path.exists():
            found = path.stat()
            facts.append([place, found.st_mtime_ns, found.st_size])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _accounts(name: str) -> str:
    """Give the system's accounts or groups; people's stay on the host, as in a base image."""
    lines = (ETC / name).read_text(errors="replace").splitlines() if (ETC / name).exists() else []
    kept = [
        line for line in lines if line.count(":") >= 3 and not _FIRST_PERSON <= int(line.split(":")[2] or 0) < _NOBODY
    ]
    if name == "group":
        kept = [":".join([*line.split(":")[:3], ""]) for line in kept]
    return "".join(f"{line}\n" for line in kept)


def _write_etc(etc: Path, entries: list[tuple[str, os.stat_result]]) -> None:
    for name, found in entries:
        source, target = ETC / name, etc / name
        if stat.S_ISLNK(found.st_mode):
            target.symlink_to(source.readlink())
        elif stat.S_ISDIR(found.st_mode):
            target.mkdir()
            target.chmod(stat.S_IMODE(found.st_mode) | 0o700)
        elif stat.S_ISREG(found.st_mode):
            content = source.read_bytes()
            if not _CREDENTIAL.search(content):
                target.write_bytes(content)
                shutil.copystat(source, target)
    made = {name: _accounts(name) for name in ("passwd", "group")}
    names = [line.split(":")[0] for line in made["passwd"].splitlines()]
    groups = [line.split(":")[0] for line in made["group"].splitlines()]
    made["shadow"] = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in names)
    made["gshadow"] = "".join(f"{name}:*::\n" for name in groups)
    made |= {"subuid": "", "subgid": "", "hostname": "sandbox\n", "machine-id": "", "fstab": "", "environment": ""}
    made["hosts"] = "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    for name, text in made.items():
        path = etc / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o640 if "shadow" in name else 0o644)
    (etc / "mtab").symlink_to("../proc/self/mounts")
    if users.mode() == "single-user" and (etc / "apt/apt.conf.d").is_dir():
        (etc / "apt/apt.conf.d/90harbor-nb").write_text('APT::Sandbox::User "root";\n')


def _write_root(root: Path) -> None:
    for name in _EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)
    for place, folders, _files in os.walk(root):
        for name in folders:
            # Whatever the caller's umask is.
            (Path(place) / name).chmod(0o755)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())


def base_layer() -> Path:
    """Give the lowest layer, made anew when the host's /etc has changed: the empty folders, and the copy of /etc."""
    key, entries = _base()

    def write(folder: Path) -> None:
        root = folder / "root"
        root.mkdir()
        root.chmod(0o755)
        _write_root(root)
        _write_etc(root / "etc", entries)

    return _layer(key, write)


def own_layer() -> Path:
    """Give the layer in which the host's folders are the caller's: without it nobody but root can write into them."""

    def write(folder: Path) -> None:
        for name in overlaid():
            _own(Path("/", name), folder / name.replace("/", "+"), files=name.startswith("var/"))
        if users.mode() == "single-user":
            _record_owners(folder / "usr")

    return _layer(f"own-{identity()}-{users.mode()}", write)


def _record_owners(usr: Path) -> None:
    """Put scripts in the place of chown and chgrp that note what was asked for, since it can't be done."""
    kept = usr / "lib/harbor_nb"
    kept.mkdir()
    for name in ("chown", "chgrp"):
        if Path("/usr/bin", name).is_file():
            shutil.copy(Path("/usr/bin", name), kept / name)
            script = f'#!/bin/sh\necho "{name} $*" >> {OWNERS}\nexec /usr/lib/harbor_nb/{name} "$@"\n'
            (usr / "bin" / name).write_text(script)
            (usr / "bin" / name).chmod(0o755)


def _layer(key: str, write: Callable[[Path], None]) -> Path:
    folder = layers.find(key)
    if folder is None:
        folder = layers.folder_of(key)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
        partial.chmod(0o755)
        write(partial)
        layers.describe(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _own(source: Path, target: Path, *, files: bool) -> None:
    """Make a tree's folders anew; and its files too, but for dpkg's lists, which are many and are only replaced."""
    target.mkdir()
    with contextlib.suppress(PermissionError), os.scandir(source) as found:
        for entry in found:
            place = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                _own(Path(entry.path), place, files=files and entry.name != "info")
            elif files and entry.is_file(follow_symlinks=False):
                # A lock file that can't be read is as good empty.
                place.write_bytes(Path(entry.path).read_bytes() if os.access(entry.path, os.R_OK) else b"")
    target.chmod(source.stat().st_mode & 0o777 | 0o700)


@cache
def _base() -> tuple[str, list[tuple[str, os.stat_result]]]:
    entries = _etc_entries()
    digest = hashlib.sha256(f"{FORMAT} {os.geteuid()} {platform.machine()} {users.mode()}".encode())
    for name, found in entries:
        digest.update(f"\0{name}\0{found.st_mode}\0{found.st_size}\0{found.st_mtime_ns}".encode())
    for name in ("passwd", "group"):
        digest.update(_accounts(name).encode())
    return f"base-{digest.hexdigest()[:24]}", entries
