"""Commands inside: streams, input, signals, time limits, and what outlives an exec."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox import Image, Sandbox

pytestmark = pytest.mark.local


async def test_output_comes_by_chunk_while_the_command_runs(sandbox):
    chunks = []
    done = await sandbox.exec(
        "echo one; sleep 0.3; echo two >&2; sleep 0.3; printf '\\377\\0'",
        on_output=lambda name, data: chunks.append((name, data, time.monotonic())),
    )
    assert [(name, data) for name, data, _when in chunks] == [
        ("stdout", b"one\n"),
        ("stderr", b"two\n"),
        ("stdout", b"\xff\0"),
    ]
    assert chunks[2][2] - chunks[0][2] > 0.4
    assert (done.stdout, done.stderr, done.return_code) == (b"one\n\xff\0", b"two\n", 0)


async def test_megabytes_go_in_and_out_unchanged(sandbox):
    data = bytes(range(256)) * 8192
    done = await sandbox.exec("tee /dev/stderr", stdin=data)
    assert done.stdout == data
    assert done.stderr == data


async def test_a_callback_that_raises_ends_the_command(sandbox):
    def refuse(name, data):
        raise ValueError("enough")

    started = time.monotonic()
    with pytest.raises(ValueError, match="enough"):
        await sandbox.exec("echo x; sleep 30", on_output=refuse)
    assert time.monotonic() - started < 10


async def test_a_background_process_neither_holds_the_exec_nor_dies_of_its_end(sandbox):
    started = time.monotonic()
    done = await sandbox.exec("(for i in $(seq 200); do echo $i; sleep 0.02; done; touch /finished) & echo ready")
    assert done.stdout.startswith(b"ready\n") or b"ready" in done.stdout
    assert time.monotonic() - started < 3
    for _ in range(100):
        if (await sandbox.exec("test -e /finished")).return_code == 0:
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("the background process died when its exec ended")


async def test_time_is_up_for_the_whole_group(sandbox):
    done = await sandbox.exec("sleep 300 & sleep 301", timeout_sec=0.3)
    assert (done.timed_out, done.return_code) == (True, 124)
    assert (await sandbox.exec("pgrep -x sleep -a | grep -c 30[01]")).stdout == b"0\n"


async def test_cancelling_an_exec_ends_its_command(sandbox):
    task = asyncio.ensure_future(sandbox.exec("sleep 302"))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await sandbox.exec("pgrep -f 'sleep 30[2]'")).return_code == 1


async def test_how_a_command_ends_is_told_as_a_shell_does(sandbox):
    assert (await sandbox.exec("kill -9 $$")).return_code == 137
    assert (await sandbox.exec("nonesuch-command")).return_code == 127
    assert (await sandbox.exec(["/bin/false"])).return_code == 1
    assert (await sandbox.exec("pwd", cwd="/usr/lib")).stdout == b"/usr/lib\n"
    with pytest.raises(SandboxError, match="hand it in as a file"):
        await sandbox.exec("echo " + "x" * 200_000)


async def test_the_callers_umask_stays_outside(sandbox):
    before = os.umask(0o077)
    try:
        assert (await sandbox.exec("umask")).stdout == b"0022\n"
        process = await sandbox.spawn("umask")
        assert await process.stdout.read() == b"0022\n"
    finally:
        os.umask(before)


async def test_a_spawned_process_talks_and_takes_signals(sandbox):
    process = await sandbox.spawn("trap 'echo caught; exit 7' TERM; echo $$; while read -r l; do echo got $l; done")
    assert int(await process.stdout.readline()) == process.pid
    process.write(b"hello\n")
    await process.drain()
    assert await process.stdout.readline() == b"got hello\n"
    assert process.return_code is None
    await process.signal(signal.SIGTERM)
    assert await process.stdout.readline() == b"caught\n"
    assert await process.wait() == 7
    await process.signal(signal.SIGKILL)

    process = await sandbox.spawn(["cat"], env={"A": "b"}, cwd="/usr")
    process.write(b"\0\xff")
    process.close_stdin()
    assert await process.stdout.read() == b"\0\xff"
    assert await process.wait() == 0

    process = await sandbox.spawn("sleep 303 & sleep 304")
    await process.signal(signal.SIGKILL)
    assert await process.wait() == 137
    assert (await sandbox.exec("pgrep -f 'sleep 30[34]'")).return_code == 1
    with pytest.raises(SandboxError, match="did not start"):
        await sandbox.spawn("true", cwd="/nowhere")


async def test_stop_twice_and_use_after_it(tmp_path: Path):
    sandbox = await Sandbox.start(Image(), name="odd/name with: letters", parent=tmp_path)
    process = await sandbox.spawn("sleep 305")
    await sandbox.stop()
    await sandbox.stop()
    assert await process.wait() == 137
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SandboxError, match="does not run"):
        await sandbox.exec("true")


async def test_mounts_are_writable_and_variables_are_there(tmp_path: Path):
    sandbox = await Sandbox.start(
        Image(env={"A": "image", "B": "image"}), name="m", mounts=[(tmp_path, "/logs/out")], env={"B": "start"}
    )
    try:
        done = await sandbox.exec('echo "$A $B $C $HOME" > /logs/out/told', env={"C": "exec"})
        assert done.return_code == 0, done.stderr
    finally:
        await sandbox.stop()
    assert (tmp_path / "told").read_text() == "image start exec /root\n"
