"""The same Dockerfile as root, as an ordinary user with a range of ids, and as one without."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harbor_nb.sandbox import users

pytestmark = pytest.mark.local

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SAID = ["hello from a package", "by su", "app", "/home/app", "not-root"]


def told(command: list[str], env: dict[str, str]) -> dict:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_real(found: dict) -> None:
    assert found["looked"][:5] == SAID
    assert found["looked"][5:8] == ["app /home/app/home", "app owned.tar", "app said"]
    assert found["looked"][8:10] == ["UNKNOWN /unpacked/theirs", "UNKNOWN /by-hand/theirs"]


def check_all(found: dict) -> None:
    assert found["errors"] == ""
    assert found["looked"][10:12] == ["data", "Status: install ok installed"]
    assert (found["killed"], found["left"], found["removed"], found["mounted"]) == (True, "", True, "mine\n")


@pytest.fixture
def account(request) -> Iterator[str]:
    """A real ordinary user, with or without a range in /etc/subuid."""
    if os.geteuid() != 0:
        pytest.skip("only root can make accounts; the account that runs this is tested by the test below")
    if request.param == "ranges" and shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed (Debian's package uidmap)")
    name = f"nb{os.getpid()}{request.param[:1]}"
    count = "65536" if request.param == "ranges" else "0"
    options = ["-K", f"SUB_UID_COUNT={count}", "-K", f"SUB_GID_COUNT={count}"]
    subprocess.run(["useradd", "-M", *options, name], check=True, capture_output=True)
    if request.param == "ranges" and name not in Path("/etc/subuid").read_text():
        subprocess.run(
            ["usermod", "--add-subuids", "700000-765535", "--add-subgids", "700000-765535", name], check=True
        )
    yield name
    subprocess.run(["userdel", name], check=True, capture_output=True)


def as_user(name: str, home: Path, *command: str) -> list[str]:
    """Give a command that runs as the user, and sees this Python and project even where they lie in root's home."""
    needed = sorted({Path(sys.base_prefix), Path(sys.prefix), ROOT}, key=lambda path: len(path.parts))
    lines = []
    for number, path in enumerate(needed):
        (home / f"{number}").mkdir()
        lines.append(f"mount --bind {path} {home}/{number}")
    hidden = {
        parent
        for path in needed
        for parent in path.parents
        if not parent.stat().st_mode & 0o001 and parent != Path("/")
    }
    lines += [f"mount -t tmpfs -o mode=755 none {path}" for path in hidden]
    lines += [f"mkdir -p {path} && mount --bind {home}/{number} {path}" for number, path in enumerate(needed)]
    become = f'exec setpriv --reuid {name} --regid {name} --init-groups "$@"'
    return ["unshare", "-m", "sh", "-e", "-c", "\n".join([*lines, become]), "sh", *command]


@pytest.fixture
def home(account: str) -> Iterator[Path]:
    """A home and a folder for temporary files that are the user's own."""
    # An ordinary user's first layer is many folders, which some disks are slow to remove.
    quick = Path("/dev/shm") if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 6) else None
    place = Path(tempfile.mkdtemp(prefix="nb-home-", dir=quick))
    place.chmod(0o755)
    for folder in ("home", "tmp"):
        (place / folder).mkdir(mode=0o700)
        shutil.chown(place / folder, account)
    yield place
    assert list((place / "tmp").iterdir()) == []
    shutil.rmtree(place)


@pytest.mark.parametrize("account", ["ranges", "single-user"], indirect=True)
def test_an_ordinary_user_installs_packages_and_has_users(account: str, home: Path):
    env = {"HOME": f"{home}/home", "TMPDIR": f"{home}/tmp", "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    script = str(HERE / "install_and_own.py")
    found = told(as_user(account, home, sys.executable, script), env)
    check_all(found)
    assert found["own"]
    if account.endswith("r"):
        assert found["users"] == "ranges"
        check_real(found)
        return
    assert found["users"] == "single-user"
    assert found["looked"][:5] == ["hello from a package", "by su", "root", "/home/app", "root"]
    assert "chown -R app:app /data" in found["recorded"]
    assert "chown hello-daemon:mail /usr/share/harbor-nb-hello/data" in found["recorded"]
    assert "COPY --chown=app:app foreign.tar owned.tar" in found["recorded"]


@pytest.mark.parametrize("account", ["single-user"], indirect=True)
def test_the_sample_tasks_score_right_for_an_ordinary_user(account: str, home: Path):
    env = {"HOME": f"{home}/home", "TMPDIR": f"{home}/tmp", "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    tasks = ["hello-world", "auth-token-race-condition"]
    found = told(
        as_user(account, home, sys.executable, str(HERE / "try_tier.py"), *tasks), env | {"HARBOR_TELEMETRY": "off"}
    )
    scores = {(task, agent): reward for task, agent, reward, _message in found["scores"]}
    assert scores == {(task, agent): float(agent == "oracle") for task in tasks for agent in ("oracle", "nop")}, found
    assert found["users"] == "single-user"
    assert "owners and USER are recorded, not set" in found["log"]


def test_the_account_that_runs_this_does_too(tmp_path: Path):
    found = told(
        [sys.executable, str(HERE / "install_and_own.py")], {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    )
    check_all(found)
    assert found["users"] == users.mode()
    if users.mode() != "single-user":
        check_real(found)
