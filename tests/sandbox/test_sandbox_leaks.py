"""What a task may not reach, and what may not outlive it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harbor_nb.sandbox import Image, Sandbox, build_image, places, userland

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
    await sandbox.exec(f"sleep {os.getpid()}.4242 & echo $! > /pid")
    assert (await sandbox.exec("kill -0 $(cat /pid)")).return_code == 0
    assert (await sandbox.exec("sleep 60", timeout_sec=0.2)).timed_out
    await sandbox.stop()
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert f"sleep\0{os.getpid()}.4242\0".encode() not in lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize(("user", "told"), [("nobody", b"65534:65534"), (1234, b"1234:1234"), ("root", b"0:0")])
async def test_a_command_runs_as_the_user_asked_for(sandbox, user, told):
    assert (await sandbox.exec("echo $(id -u):$(id -g)", user=user)).stdout.strip() == told


CHILD = """
import asyncio, sys
from pathlib import Path
from harbor_nb.sandbox import Image, Limits, Sandbox
async def main():
    sandbox = await Sandbox.start(Image(), name="killed", mounts=[(Path(sys.argv[1]), "/mnt/x")], limits=Limits(1, 500))
    await sandbox.exec("setsid sleep " + sys.argv[2] + " > /dev/null 2>&1 & nohup sleep 5151 > /dev/null 2>&1 &")
    running = await sandbox.spawn("sleep 5152")
    asyncio.ensure_future(sandbox.exec("sleep 5153"))
    await asyncio.sleep(0.3)
    print(sandbox.folder, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


BECOME = """
import os, sys
from pathlib import Path
from harbor_nb.sandbox import places
os.chdir(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
places.remove_tree(Path("a"))
"""


def of_sandbox(folder: str, command: str) -> list[psutil.Process]:
    """Give the processes whose mounts lie in a sandbox's folder, or that still enter it to run a command."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = folder in Path(f"/proc/{process.pid}/mountinfo").read_text()
            if inside or command in " ".join(process.cmdline()):
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def test_a_parent_killed_leaves_no_process_and_no_mount_and_the_next_sweep_removes_its_folder(tmp_path: Path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "mounted").mkdir()
    env = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    slept = f"{os.getpid()}.5150"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path / "mounted", slept], env=env, stdout=subprocess.PIPE, text=True
    )
    folder = Path(child.stdout.readline().strip())
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path)
    groups = [Path(line) for line in (folder / "cgroups").read_text().split()]
    assert len(of_sandbox(str(folder), f"sleep {slept}")) >= 5
    assert places.sweep(folder.parent, lambda: None) == []
    child.send_signal(signal.SIGKILL)
    child.wait()
    until = time.monotonic() + 10
    while of_sandbox(str(folder), f"sleep {slept}") and time.monotonic() < until:
        time.sleep(0.05)
    assert of_sandbox(str(folder), f"sleep {slept}") == []
    assert str(folder) not in Path("/proc/mounts").read_text()
    assert folder.exists()
    assert places.sweep(folder.parent, lambda: None) == [folder]
    assert not folder.exists()
    assert not any(group.exists() for group in groups)


def test_a_sweep_comes_with_the_next_start(tmp_path: Path):
    env = os.environ | {"TMPDIR": str(tmp_path)}
    code = "import os\n" + CHILD.replace("await asyncio.sleep(600)", "os.kill(os.getpid(), 9)")
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, tmp_path, "5155"], env=env, capture_output=True)
    assert len(list(tmp_path.glob("harbor_nb-sandbox-*"))) <= 1
    places.sweep(tmp_path, lambda: None)
    assert list(tmp_path.glob("harbor_nb-sandbox-*")) == []


async def test_a_crashed_init_is_told_and_leaves_nothing(sandbox):
    await sandbox.exec(f"nohup sleep {os.getpid()}.5154 > /dev/null 2>&1 &")
    os.kill(sandbox._pid, signal.SIGKILL)
    await sandbox._init.wait()
    with pytest.raises(Exception, match="does not run"):
        await sandbox.exec("true")
    folder = sandbox.folder
    await sandbox.stop()
    assert not folder.exists()
    assert of_sandbox(str(folder), f"sleep {os.getpid()}.5154") == []


def test_many_sandboxes_leave_no_descriptor_thread_or_process(tmp_path: Path):
    import asyncio

    async def one() -> None:
        sandbox = await Sandbox.start(Image(), name="many", parent=tmp_path)
        await sandbox.exec("sleep 100 > /dev/null 2>&1 & echo")
        await sandbox.exec("sleep 100 &")
        await sandbox.spawn("cat")
        await sandbox.stop()

    asyncio.run(one())
    before = len(list(Path("/proc/self/fd").iterdir()))
    # In the mode with ranges one process keeps them, as long as we live.
    children = {child.pid for child in psutil.Process().children()}

    async def twenty() -> None:
        for _ in range(5):
            await asyncio.gather(*(one() for _ in range(4)))

    asyncio.run(twenty())
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert {child.pid for child in psutil.Process().children()} <= children
    assert list(tmp_path.iterdir()) == []


async def test_host_paths_and_names_are_not_told(sandbox):
    line = (await sandbox.exec("tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/environ")).stdout.decode()
    assert line.startswith("bwrap --args ")
    assert str(sandbox.folder) not in line
    assert (await sandbox.exec("hostname; cat /etc/hostname")).stdout == b"sandbox\nsandbox\n"
    accounts = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    people = [words[0] for words in accounts if 1000 <= int(words[2]) < 65534]
    inside = (await sandbox.exec("cut -d: -f1 /etc/passwd")).stdout.decode().split()
    assert not set(people) & set(inside)


async def test_private_files_of_etc_are_not_there(tmp_path: Path, monkeypatch):
    """A copy of the host's /etc with secrets in it, as the base layer is made of it."""
    etc = tmp_path / "etc"
    for name, mode in (
        ("ssh/ssh_host_key", 0o600), ("ssl/private/key.pem", 0o640), ("app/secret.conf", 0o640), ("open.conf", 0o644),
        ("pip.conf", 0o644), ("docker/daemon.json", 0o644), ("environment", 0o644), ("apt/auth.conf.d/x.conf", 0o644),
        ("closed/inner", 0o644), ("ssl/certs/ca.pem", 0o644),
    ):  # fmt: skip
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).write_text(
            f"canary {name}" + (" https://me:canary@example.org/simple" if name == "pip.conf" else "")
        )
        (etc / name).chmod(mode)
    (etc / "closed").chmod(0o700)
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\n")
    (etc / "group").write_text("root:x:0:\nadm:x:4:alice\nalice:x:1000:\n")
    (etc / "shadow").write_text("root:$6$canary:1::::::\n")
    monkeypatch.setattr(userland, "ETC", etc)
    target = tmp_path / "target"
    target.mkdir()
    userland._write_etc(target, userland._etc_entries())
    kept = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert {"open.conf", "ssl/certs/ca.pem", "passwd", "shadow", "hosts"} <= kept
    told = "".join((target / name).read_text() for name in kept)
    assert "canary open.conf" in told
    for word in (
        "$6$",
        "me:canary",
        "alice",
        "ssh_host",
        "secret.conf",
        "daemon.json",
        "key.pem",
        "inner",
        "auth.conf",
    ):
        assert word not in told + " ".join(kept), word


async def test_what_is_built_holds_nothing_of_the_host(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CANARY", "canary-in-the-environment")
    canary = Path(f"/var/tmp/harbor-nb-canary-{os.getpid()}")
    canary.write_text("canary-file")
    try:
        look = f"RUN env > /env; cat {canary} > /file 2>/dev/null; ls -A ~ /home > /homes; true"
        image = await build_image(tmp_path, f"FROM x\n{look}")
        sandbox = await Sandbox.start(image, name="x")
        try:
            done = await sandbox.exec("cat /env /file /homes")
        finally:
            await sandbox.stop()
    finally:
        canary.unlink()
    assert b"canary" not in done.stdout.lower().replace(b"harbor-nb-canary", b"")
    assert b"HARBOR_NB_CANARY" not in done.stdout


def test_a_tree_that_forbids_its_removal_is_removed(tmp_path: Path):
    place = tmp_path / "a/b/c"
    place.mkdir(parents=True)
    (place / "file").write_text("x")
    for path in (place, place.parent, tmp_path / "a"):
        path.chmod(0o000)
    if os.geteuid() == 0:
        # Root may remove all; so another account tries.
        for path in (tmp_path, tmp_path / "a", place.parent, place, place / "file"):
            os.chown(path, 65534, 65534)
        become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        tried = subprocess.run([*become, "rm", "-r", "a"], cwd=tmp_path, capture_output=True)
        assert tried.returncode != 0
        subprocess.run([sys.executable, "-c", BECOME, tmp_path], check=True)
    else:
        places.remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()
