"""CPU and memory limits: which hold is said, and they hold."""

import asyncio
import os
from pathlib import Path

import pytest

from harbor_nb.sandbox import Image, Limits, Sandbox, limits

pytestmark = pytest.mark.local

HOG = "python3 -c 'data = bytearray(400 << 20); data[::4096] = bytes(len(data[::4096])); print(\"lived\")'"


@pytest.fixture
def no_groups(monkeypatch):
    """A machine whose control groups can't be written, which is what most ordinary users have."""
    monkeypatch.setattr(limits, "_parents", lambda controller, root: iter(()))


async def start(**asked) -> Sandbox:
    return await Sandbox.start(Image(), name="limits", limits=Limits(**asked))


async def test_no_limit_is_none(tmp_path: Path):
    sandbox = await start()
    try:
        assert sandbox.limits == []
    finally:
        await sandbox.stop()


async def test_the_limits_that_this_machine_can_set_hold(tmp_path: Path):
    sandbox = await start(cpus=1, memory_mb=200)
    folder = sandbox.folder
    try:
        assert len(sandbox.limits) == 2
        assert "200 MB of memory by" in sandbox.limits[1]
        groups = [Path(line) for line in (folder / "cgroups").read_text().split()]
        assert (await sandbox.exec(HOG)).return_code == 137
        assert (await sandbox.exec("echo goes on")).stdout == b"goes on\n"
    finally:
        await sandbox.stop()
    assert not any(group.exists() for group in groups)


async def test_watching_ends_the_largest_process_of_all(no_groups):
    sandbox = await start(memory_mb=200)
    try:
        assert sandbox.limits == ["200 MB of memory by watching every 0.2 s"]
        done = await sandbox.exec(f"sleep 60 & {HOG.replace('print', 'import time; time.sleep(20); print')}")
        assert (done.return_code, done.stdout) == (137, b"")
        assert (await sandbox.exec("pgrep -x sleep | wc -l")).stdout.strip() == b"2"
        # In the background, whose parent is gone, too.
        await sandbox.exec(f"({HOG.replace('print', 'import time; time.sleep(20); print')}) > /dev/null 2>&1 &")
        for _ in range(60):
            await asyncio.sleep(0.1)
            if (await sandbox.exec("pgrep -x python3")).return_code == 1:
                break
        else:
            pytest.fail("a process in the background kept more memory than allowed")
    finally:
        await sandbox.stop()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor is all there is")
async def test_processors_by_affinity(no_groups):
    sandbox = await start(cpus=1)
    try:
        assert sandbox.limits == ["1 CPU by affinity"]
        assert (await sandbox.exec("nproc", env={"PATH": "/nowhere:/usr/bin"})).stdout == b"1\n"
        process = await sandbox.spawn("nproc")
        assert await process.stdout.read() == b"1\n"
    finally:
        await sandbox.stop()
    all_of_them = await start(cpus=64)
    try:
        count = len(os.sched_getaffinity(0))
        assert all_of_them.limits == [f"{count} CPUs by affinity"]
        assert (await all_of_them.exec("nproc")).stdout == f"{count}\n".encode()
    finally:
        await all_of_them.stop()


def test_delegated_groups_of_version_2_are_written_as_the_kernel_wants(tmp_path: Path, monkeypatch):
    """A folder that looks as a delegated group does; the kernel's own is tested where this machine has one."""
    parent = tmp_path / "user.slice/app.slice"
    (parent / "own.scope").mkdir(parents=True)
    for place in (parent, parent / "own.scope"):
        (place / "cgroup.procs").write_text("")
    (parent / "cgroup.subtree_control").write_text("cpu memory pids")
    (parent / "own.scope/cgroup.subtree_control").write_text("")
    real = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, *given, **named: (
            "0::/user.slice/app.slice/own.scope\n" if str(path) == "/proc/self/cgroup" else real(path, *given, **named)
        ),
    )
    real_mkdir = Path.mkdir

    def mkdir(path, *given, **named):
        real_mkdir(path, *given, **named)
        for name in ("cgroup.procs", "memory.swap.max"):
            (path / name).write_text("")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    held = limits.hold(Limits(1.5, 512), "harbor_nb-x", tmp_path)
    group = parent / "harbor_nb-x"
    assert held.groups == [group]
    assert (group / "cpu.max").read_text() == "150000 100000"
    assert (group / "memory.max").read_text() == str(512 << 20)
    assert (group / "memory.swap.max").read_text() == "0"
    assert held.told == ["1.5 CPUs by control group", "512 MB of memory by control group"]
    assert f'echo 0 > "{group}/cgroup.procs"' in held.prefix[2]
