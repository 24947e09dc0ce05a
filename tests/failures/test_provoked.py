"""Failures provoked for real on `local` and docker: each is named right, and its fix, typed as it stands, mends it."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.running.configs import environment_of
from harbor_nb.running.owner import OwnerRecord

PLACES = [
    pytest.param("local", marks=pytest.mark.local),
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.deep]),
]


def deep(*values):
    """A case that takes its turn in `make deep`."""
    return pytest.param(*values, marks=pytest.mark.deep)


SLEEPY = "#!/bin/bash\nsleep {0}\necho 'Hello, world!' > /app/hello.txt\n"


@pytest.fixture(autouse=True)
def no_runner_is_left():
    yield
    for file in Path.cwd().glob("jobs/*/harbor_nb.json"):
        record = OwnerRecord.read(file.parent)
        if record and record.pid and record.alive():
            os.kill(record.pid, signal.SIGTERM)
            until(lambda record=record: not record.alive(), 60)


def until(told, seconds=60):
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def run(path, environment, **fields):
    made = harbor_nb.plan(path, environments=environment, name="job", exact_name=True, **fields)
    return made.launch(force=True)[0].wait(100, progress=False)


def named(job, name, phase="?", fault=None):
    """The one group of the diagnosis, which is called `name`."""
    told = harbor_nb.diagnose(job)
    assert [group["failure"] for group in told.groups] == [name], str(told)
    (group,) = told.groups
    assert phase in ("?", group["phase"])
    assert fault in (None, group["fault"])
    return group


def follow(job, group):
    """Type the fix as it stands; what it starts must pass."""
    started = eval(group["fix"].removeprefix("import os; "), {"job": job, "harbor_nb": harbor_nb})
    again = started.wait(100, progress=False)
    frame = again.trials()
    assert frame["reward"].tolist() == [1.0], frame[["status", "exception", "message"]].to_dict("records")
    assert harbor_nb.diagnose(again).ok
    return again


def restored(path, task):
    """The task as it was shipped: what a person does who mends it."""

    def mend():
        task(to=path.name + "-good")
        for file in ("environment/Dockerfile", "tests/test.sh", "solution/solve.sh", "task.toml"):
            (path / file).write_text((path.parent.parent / (path.name + "-good") / file).read_text())

    return mend


@pytest.mark.parametrize("environment", PLACES)
@pytest.mark.parametrize(
    ("changes", "name", "phase", "detail"),
    [
        ({"dockerfile": "FROM python:3.13-slim\nWORKDIR /app\nRUN echo hi && exit 3\n"}, "build-failed",
         "environment_setup", "RUN echo hi && exit 3"),
        deep({"dockerfile": "FROM python:3.13-slim\nCOPY nothing /x\n"}, "build-failed", "environment_setup", None),
        ({"test": "#!/bin/bash\ntrue\n"}, "reward-missing", "verifier", None),
        deep({"test": "#!/bin/bash\n: > /logs/verifier/reward.txt\n"}, "reward-empty", "verifier", None),
        deep({"test": "#!/bin/bash\necho much > /logs/verifier/reward.txt\n"}, "reward-unreadable", "verifier", None),
        ({"test": "#!/bin/bash\nno-such-tool && echo 1 > /logs/verifier/reward.txt\n"}, "command-missing", "verifier",
         "no-such-tool"),
    ],
    ids=["broken Dockerfile", "nothing to copy", "no reward file", "empty reward", "bad reward", "tool missing"],
)  # fmt: skip
def test_a_broken_task(environment, changes, name, phase, detail, task):
    path = task(to="tasks/hello", **changes)
    job = run(path, environment)
    group = named(job, name, phase, "task")
    if detail:
        assert detail in group["detail"]
    restored(path, task)()
    follow(job, group)


@pytest.mark.deep
@pytest.mark.parametrize("environment", PLACES)
@pytest.mark.parametrize(
    ("name", "phase", "changes", "limits"),
    [
        ("agent-timeout", "agent", {"solve": SLEEPY.format(2.5)}, {"agent": 2}),
        deep("verifier-timeout", "verifier",
         {"test": lambda text: text.replace("#!/bin/bash", "#!/bin/bash\nsleep 2.5")}, {"verifier": 2}),
        deep("build-timeout", "environment_setup",
         {"dockerfile": "FROM python:3.13-slim\nWORKDIR /app\nRUN sleep 4 # {0}\n"}, {"environment": 2}),
    ],
)  # fmt: skip
def test_a_timeout(environment, name, phase, changes, limits, task):
    changes = {
        key: text.replace("{0}", str(time.time())) if isinstance(text, str) else text for key, text in changes.items()
    }
    path = task(to="tasks/hello", **changes)
    for part, seconds in limits.items():
        toml = (path / "task.toml").read_text()
        field = "build_timeout_sec" if part == "environment" else "timeout_sec"
        head, _, tail = toml.partition(f"[{part}]\n{field} = ")
        factor = 2 if environment == "docker" and part == "environment" else 1
        (path / "task.toml").write_text(f"{head}[{part}]\n{field} = {seconds * factor}.0\n{tail.partition(chr(10))[2]}")
    job = run(path, environment)
    group = named(job, name, phase)
    assert "seconds" in group["detail"]
    follow(job, group)


@pytest.mark.docker
def test_a_workdir_that_the_image_lacks(task):
    path = task(to="tasks/hello")
    toml = path / "task.toml"
    toml.write_text(toml.read_text().replace("[environment]", '[environment]\nworkdir = "/nowhere"'))
    job = run(path, "docker")
    group = named(job, "tests-never-began", "verifier", "task")
    restored(path, task)()
    follow(job, group)


AGENT = """
import os
from pathlib import Path
from harbor.agents.base import BaseAgent

class Agent(BaseAgent):
    @staticmethod
    def name(): return "crashing"
    def version(self): return "1"
    async def setup(self, environment):
        if Path({flag!r}).read_text() == "setup":
            raise RuntimeError("Agent install failed: no such package")
    async def run(self, instruction, environment, context):
        if Path({flag!r}).read_text() == "run":
            raise KeyError("plan")
        await environment.exec("echo 'Hello, world!' > /app/hello.txt")
"""


@pytest.mark.parametrize("environment", PLACES)
@pytest.mark.parametrize(
    ("when", "name", "phase", "fault"),
    [deep("setup", "agent-install-failed", "agent_setup", "infrastructure"), ("run", "agent-crash", "agent", "agent")],
)
def test_an_agent_that_crashes(environment, when, name, phase, fault, task, tmp_path, monkeypatch):
    flag, module = tmp_path / "flag", f"crashing_{when}_{environment}"
    flag.write_text(when)
    (tmp_path / f"{module}.py").write_text(AGENT.format(flag=str(flag)))
    monkeypatch.syspath_prepend(str(tmp_path))
    job = run(task(), environment, agents=f"{module}:Agent")
    group = named(job, name, phase, fault)
    flag.write_text("")
    if name == "agent-crash":
        assert group["message"] == "KeyError: 'plan'"
    follow(job, group)


@pytest.mark.deep
@pytest.mark.parametrize("environment", PLACES)
def test_cancelled_in_the_middle(environment, task):
    made = harbor_nb.plan(task(solve=SLEEPY.format(4)), environments=environment, name="job", exact_name=True)
    job = made.launch()[0]
    until(lambda: job.counts["agent"], 60)
    job.cancel()
    follow(job, named(job, "cancelled", fault="user"))


@pytest.mark.deep
@pytest.mark.parametrize("environment", PLACES)
def test_a_runner_that_was_killed(environment, task):
    made = harbor_nb.plan(task(solve=SLEEPY.format(4)), environments=environment, name="job", exact_name=True)
    job = made.launch()[0]
    until(lambda: job.counts["agent"], 60)
    os.kill(OwnerRecord.read(job.path).pid, signal.SIGKILL)
    until(lambda: job.state == "lost")
    follow(job, named(job, "runner-lost", fault="infrastructure"))


@pytest.mark.local
def test_a_trial_that_hangs_is_told_while_it_runs(task):
    job = harbor_nb.plan(task(solve=SLEEPY.format(60)), name="job", exact_name=True).launch()[0]
    until(lambda: job.counts["agent"], 60)
    told = harbor_nb.diagnose(job)
    (row,) = told.running
    assert (row["phase"], row["timeout_sec"], row["sandbox"], row["hung"]) == ("agent", 120.0, "running", False)
    job.cancel()


@pytest.mark.local
@pytest.mark.deep
def test_a_trial_that_hangs_in_a_practice_cloud_is_told_while_it_runs(task):
    path = task(solve="#!/bin/bash\necho 'thinking of it'\nsleep 60\n")
    faults = harbor_nb.Practice(e2b={"start_delay": 4})
    made = harbor_nb.plan(path, environments="e2b", name="job", exact_name=True, practice=faults)
    job = made.launch()[0]
    until(lambda: job.counts["running"], 60)
    (row,) = harbor_nb.diagnose(job).running
    assert (row["phase"], row["timeout_sec"], row["sandbox"], row["hung"]) == (
        "environment_setup", 300.0, "not there yet", False)  # fmt: skip
    until(lambda: job.counts["agent"], 60)
    until(lambda: harbor_nb.diagnose(job).running[0]["sandbox"] == "running")
    (row,) = harbor_nb.diagnose(job).running
    assert (row["phase"], row["timeout_sec"], row["hung"]) == ("agent", 120.0, False)
    assert "sandbox running" in row["text"]
    assert row["last_line"]
    left = harbor_nb.sandboxes("e2b", practice=job)
    assert harbor_nb.terminate(left, force=True, practice=job)["result"].tolist() == ["terminated"]
    job.wait(100, progress=False)
    group = named(job, "sandbox-lost", "agent", "infrastructure")
    (path / "solution/solve.sh").write_text(SLEEPY.format(0))
    assert follow(job, group).trials()["practice"].all()


@pytest.mark.local
def test_docker_that_is_not_there_or_does_not_run(task, tmp_path, monkeypatch):
    real, path = os.environ["PATH"], task()
    monkeypatch.setenv("PATH", str(tmp_path))
    group = named(run(path, "docker"), "docker-not-found", "environment_setup", "infrastructure")
    assert group["now"].startswith("docker is not ready")
    job = harbor_nb.attach("jobs/job")
    monkeypatch.setenv("PATH", real)
    follow(job, group | {"fix": 'job.repair(environment="local").launch()'})
    assert group["fix"] == 'job.repair(environment="local").launch()'


@pytest.mark.docker
def test_no_daemon(task, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    job = run(task(), "docker")
    group = named(job, "docker-not-running", "environment_setup", "infrastructure")
    monkeypatch.delenv("DOCKER_HOST")  # Docker was started
    assert follow(job, group).trials()["environment"].tolist() == ["docker"]


class Registry(BaseHTTPRequestHandler):
    code, body = 404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'

    def do_GET(self):
        self.send_response(200 if self.path == "/v2/" else self.code)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def registry():
    server = HTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.deep
@pytest.mark.docker
def test_an_image_that_is_not_there(task, registry):
    path = task(to="tasks/hello", dockerfile=f"FROM {registry}/team/image:1\nWORKDIR /app\n")
    job = run(path, "docker")
    group = named(job, "image-not-found", "environment_setup", "task")
    assert group["detail"] == f"{registry}/team/image:1"
    restored(path, task)()
    follow(job, group)


@pytest.mark.local
def test_a_task_that_names_only_an_image_is_not_for_local(task):
    toml = '[environment]\ndocker_image = "python:3.13-slim"'
    path = task(to="tasks/hello", toml=lambda text: text.replace("[environment]", toml))
    (path / "environment/Dockerfile").unlink()
    job = run(path, "local")
    group = named(job, "unsupported-image", fault="user")
    assert group["now"] is None  # nothing was missing
    assert 'environment="docker"' in group["fix"] or not harbor_nb.check("docker").ready
    (path / "environment/Dockerfile").write_text("FROM python:3.13-slim\nWORKDIR /app\n")
    follow(job, group | {"fix": group["options"][0][1]})


@pytest.mark.docker
@pytest.mark.deep
def test_the_image_alone_is_enough_for_docker(task):
    toml = '[environment]\ndocker_image = "python:3.13-slim"'
    solve = "#!/bin/bash\nmkdir -p /app && echo 'Hello, world!' > /app/hello.txt\n"
    path = task(to="tasks/hello", solve=solve, toml=lambda text: text.replace("[environment]", toml))
    (path / "environment/Dockerfile").unlink()
    job = run(path, "local")
    again = follow(job, named(job, "unsupported-image", fault="user"))
    assert again.trials()["environment"].tolist() == ["docker"]


@pytest.mark.parametrize("environment", PLACES)
def test_more_memory_than_the_task_allows(environment, task):
    large = "import time; x = bytearray(300_000_000); time.sleep(1)"
    solve = f"#!/bin/bash\npython3 -c '{large}' && echo 'Hello, world!' > /app/hello.txt\n"
    path = task(to="tasks/hello", solve=solve, toml=lambda text: text.replace("memory_mb = 512", "memory_mb = 64"))
    group = named(run(path, environment), "out-of-memory", fault="agent")
    assert "Killed" in group["lines"][-1]
    again = follow(harbor_nb.attach("jobs/job"), group)
    assert environment_of(json.loads((again.path / "config.json").read_text())) == environment


@pytest.mark.docker
@pytest.mark.deep
def test_a_container_that_is_removed_under_the_agent(task):
    made = harbor_nb.plan(task(solve=SLEEPY.format(6)), environments="docker", name="job", exact_name=True)
    job = made.launch()[0]
    until(lambda: job.counts["agent"], 60)
    (trial,) = [path for path in job.path.iterdir() if path.is_dir()]
    label = f"label=com.docker.compose.project={trial.name.lower()}__env"
    found = subprocess.run(["docker", "ps", "-q", "--filter", label], capture_output=True, text=True, check=True)
    assert found.stdout.split()
    subprocess.run(["docker", "rm", "-f", *found.stdout.split()], capture_output=True, check=True)
    job.wait(100, progress=False)
    follow(job, named(job, "container-lost", fault="infrastructure"))


@pytest.fixture
def own_disk():
    """A folder on a disk of its own of 300 MB, for Docker's data; the test may make it larger."""
    place = Path(tempfile.mkdtemp(prefix="hnb-"))  # a socket's path may have 107 characters
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


@pytest.fixture
def own_daemon(monkeypatch, own_disk):
    """A second Docker daemon that a test may stop: its own socket, disk and image, no bridge."""
    place = own_disk
    socket = f"unix://{place}/d.sock"
    # in a network of its own: a daemon without a bridge takes docker0 away from the engine that others use
    command = ["unshare", "--net", "dockerd", "--host", socket, "--data-root", f"{place}/data", "--exec-root",
               f"{place}/exec", "--pidfile", f"{place}/pid", "--bridge=none", "--iptables=false",
               "--ip6tables=false"]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []

    def start():
        with (place / "log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        until(lambda: subprocess.run(["docker", "-H", socket, "info"], capture_output=True).returncode == 0)
        return started[-1]

    def stop():
        started[-1].terminate()
        started[-1].wait(60)

    start()
    saved = subprocess.Popen(["docker", "save", "python:3.13-slim"], stdout=subprocess.PIPE)
    subprocess.run(["docker", "-H", socket, "load"], stdin=saved.stdout, capture_output=True, check=True)
    saved.wait()
    monkeypatch.setenv("DOCKER_HOST", socket)
    yield start, stop
    if started[-1].poll() is None:
        stop()


@pytest.mark.docker
@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a Docker daemon")
def test_a_daemon_that_stops_in_the_middle_of_a_job(task, own_daemon):
    start, stop = own_daemon
    made = harbor_nb.plan(task(solve=SLEEPY.format(8)), environments="docker", name="job", exact_name=True)
    job = made.launch()[0]
    until(lambda: job.counts["agent"], 100)
    stop()
    job.wait(200, progress=False)
    group = named(job, "docker-not-running", fault="infrastructure")
    start()
    follow(job, group)


@pytest.mark.docker
@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a Docker daemon")
@pytest.mark.parametrize("where", ["build", "agent"])
def test_a_disk_that_docker_fills(where, task, own_disk, own_daemon):
    solve = "#!/bin/bash\nhead -c 300M /dev/zero > /big && echo 'Hello, world!' > /app/hello.txt\n"
    build = "FROM python:3.13-slim\nWORKDIR /app\nCOPY big /big\n"
    path = task(to="tasks/hello", **({"dockerfile": build} if where == "build" else {"solve": solve}))
    with (path / "environment/big").open("wb") as big:
        big.truncate(300 << 20 if where == "build" else 0)
    job = run(path, "docker")
    group = named(job, "disk-full", {"build": "environment_setup"}.get(where, "?"), "infrastructure")
    subprocess.run(["mount", "-o", "remount,size=2g", str(own_disk)], check=True)  # room was made
    follow(job, group)


@pytest.mark.local
@pytest.mark.deep
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk(task, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(small)], check=True)
    try:
        solve = (
            "#!/bin/bash\nhead -c 200M /dev/zero > /logs/agent/big\nsleep 1\necho 'Hello, world!' > /app/hello.txt\n"
        )
        path = task(to="tasks/hello", solve=solve)
        job = run(path, "local", jobs_dir=str(small / "jobs"))
        group = named(job, "disk-full", fault="infrastructure")
        restored(path, task)()
        for file in small.glob("jobs/*/*/agent/big"):
            file.unlink()
        follow(job, group)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
