"""What a task may not reach, and what may not outlive it."""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.local


async def test_nothing_of_the_host_is_visible(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CANARY", "canary-in-the-environment")
    (tmp_path / "canary").write_text("canary-in-tmp")
    done = await sandbox.exec(
        f"cat {tmp_path}/canary; env; ls -A /root /home /run; cat /proc/*/environ | tr '\\0' '\\n'"
    )
    assert b"canary" not in done.stdout
    assert b"HARBOR_NB_CANARY" not in done.stdout
    pids = await sandbox.exec("ls -d /proc/[0-9]* | wc -l; test -e /run/docker.sock -o -e /var/run/docker.sock")
    assert int(pids.stdout.split()[0]) < 10
    assert pids.return_code == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's sandbox has no capability on the host anyway")
async def test_root_inside_may_neither_mount_nor_make_device_nodes(sandbox):
    done = await sandbox.exec("mkdir -p /m; mount -t tmpfs none /m || mknod /d b 254 0 || echo refused")
    assert b"refused" in done.stdout
    assert (await sandbox.exec("touch /f && chown 12:13 /f && stat -c %u:%g /f")).stdout == b"12:13\n"


async def test_values_of_the_environment_are_not_in_the_process_list(sandbox):
    done = await sandbox.exec("echo $KEY; tr '\\0' ' ' < /proc/$PPID/cmdline", env={"KEY": "s3cret-value"})
    assert done.stdout.startswith(b"s3cret-value\n")
    assert done.stdout.count(b"s3cret-value") == 1


async def test_writes_stay_inside_and_output_is_binary_safe(sandbox):
    done = await sandbox.exec("echo x > /usr/bin/harbor-nb-canary; head -c 300 /dev/zero; printf '\\377'; exit 3")
    assert (done.stdout, done.return_code) == (bytes(300) + b"\xff", 3)
    assert not Path("/usr/bin/harbor-nb-canary").exists()


async def test_background_processes_survive_an_exec_and_die_with_the_sandbox(sandbox):
    await sandbox.exec("sleep 4242 & echo $! > /pid")
    assert (await sandbox.exec("kill -0 $(cat /pid)")).return_code == 0
    assert (await sandbox.exec("sleep 60", timeout_sec=0.2)).timed_out
    await sandbox.stop()
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert b"sleep\x004242\x00" not in lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize(("user", "told"), [("nobody", b"65534:65534"), (1234, b"1234:1234"), ("root", b"0:0")])
async def test_a_command_runs_as_the_user_asked_for(sandbox, user, told):
    assert (await sandbox.exec("echo $(id -u):$(id -g)", user=user)).stdout.strip() == told
