"""CPU and memory limits: by control groups where they can be written, else by affinity and by watching."""

import asyncio
import contextlib
import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_PERIOD_USEC = 100_000
_WATCH_SEC = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")
_turn = itertools.count()


@dataclass(frozen=True)
class Limits:
    """What a sandbox may use at most; None is no limit."""

    cpus: float | None = None
    memory_mb: int | None = None


@dataclass
class Held:
    """Which limits hold and by what; `prefix` is the command prefix under which they do."""

    told: list[str] = field(default_factory=list)
    prefix: list[str] = field(default_factory=list)
    groups: list[Path] = field(default_factory=list)
    watched_bytes: int = 0


def hold(limits: Limits | None, name: str, root: Path = _CGROUPS) -> Held:
    """Set limits as well as this machine lets us.

    Args:
        limits: what is asked for.
        name: the control group's name.
        root: where control groups are mounted.

    Returns:
        What holds.
    """
    held = Held()
    if limits is None or (limits.cpus is None and limits.memory_mb is None):
        return held
    cpus, memory = limits.cpus, limits.memory_mb
    if cpus is not None:
        quota = math.ceil(cpus * _PERIOD_USEC)
        files = {True: {"cpu.max": f"{quota} {_PERIOD_USEC}"}, False: {"cpu.cfs_quota_us": str(quota)}}
        if _group(held, name, "cpu", files, root):
            held.told.append(f"{_processors(cpus)} by control group")
        else:
            _affinity(held, cpus)
    if memory is not None:
        size = str(memory << 20)
        files = {True: {"memory.max": size, "memory.swap.max": "0"}, False: {"memory.limit_in_bytes": size}}
        if _group(held, name, "memory", files, root):
            held.told.append(f"{memory} MB of memory by control group")
        else:
            held.watched_bytes = memory << 20
            held.told.append(f"{memory} MB of memory by watching every {_WATCH_SEC:g} s")
    if held.groups:
        # Each command joins the groups itself, so that nothing it starts is outside.
        join = "".join(f'echo 0 > "{group}/cgroup.procs" && ' for group in held.groups)
        held.prefix = ["/bin/sh", "-c", f'{join}exec "$@"', "sh", *held.prefix]
    return held


def _processors(count: float) -> str:
    return f"{count:g} CPU{'' if count == 1 else 's'}"


def _affinity(held: Held, cpus: float) -> None:
    ours = sorted(os.sched_getaffinity(0))
    count = max(1, math.ceil(cpus))
    if count < len(ours):
        # Neighbours begin at different processors.
        start = next(_turn) * count
        chosen = sorted({ours[(start + index) % len(ours)] for index in range(count)})
        held.prefix = [shutil.which("taskset") or "/usr/bin/taskset", "-c", ",".join(map(str, chosen))]
    held.told.append(f"{_processors(min(count, len(ours)))} by affinity")


def _parents(controller: str, root: Path) -> Iterable[tuple[Path, bool]]:
    """Give the groups below which ours may be made, with whether they are of version 2."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _number, controllers, path = line.split(":", 2)
            if not controllers:
                for mounted in (root, root / "unified"):
                    own = mounted / path.lstrip("/")
                    for place in (own, own.parent, mounted):
                        told = place / "cgroup.subtree_control"
                        if place.is_relative_to(mounted) and told.exists() and controller in told.read_text().split():
                            yield place, True
            elif controller in controllers.split(","):
                own = root / controller / path.lstrip("/")
                yield from ((place, False) for place in (own, root / controller) if (place / "cgroup.procs").exists())


def _group(held: Held, name: str, controller: str, files: dict[bool, dict[str, str]], root: Path) -> bool:
    for parent, second in _parents(controller, root):
        group = parent / name
        fresh = not group.exists()
        try:
            group.mkdir(exist_ok=True)
            for file, value in files[second].items():
                if file != "memory.swap.max" or (group / file).exists():
                    (group / file).write_text(value)
            if not os.access(group / "cgroup.procs", os.W_OK) or not os.access(parent / "cgroup.procs", os.W_OK):
                raise PermissionError
        except OSError:
            if fresh:
                with contextlib.suppress(OSError):
                    group.rmdir()
            continue
        if group not in held.groups:
            held.groups.append(group)
        return True
    return False


def members(roots: Iterable[int]) -> dict[int, int]:
    """Give the processes below some, with the bytes of memory that each has."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                told = Path(entry.path, "stat").read_text()
                parents.setdefault(int(told.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: dict[int, int] = {}
    todo = list(roots)
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError, IndexError, ValueError):
            found[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        todo += parents.get(pid, [])
    return found


async def watch(largest_bytes: int, roots: Callable[[], Iterable[int]], kill: Callable[[int], None]) -> None:
    """End the largest process as often as all together have more memory than allowed."""
    while True:
        found = await asyncio.to_thread(members, list(roots()))
        if sum(found.values()) > largest_bytes:
            kill(max(found, key=lambda pid: found[pid]))
        await asyncio.sleep(_WATCH_SEC)
