"""Docker jobs: ended at once with the same results, cancelled and killed with nothing left."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import harbor_nb
from harbor_nb.running import leavings
from harbor_nb.running.owner import OwnerRecord
from tests.running.conftest import make_task, until

docker = [pytest.mark.docker, pytest.mark.timeout(400)]


def test_the_installed_harbor_is_as_the_fast_stop_was_written_for():
    from harbor_nb.running import docker as ours

    assert ours.looks_as_known()


@pytest.mark.parametrize("change", ["no method", "other class", "other stop"])
def test_where_harbor_looks_different_the_stock_part_is_used(change, monkeypatch):
    from harbor.environments import factory
    from harbor.models.environment_type import EnvironmentType

    from harbor_nb.running import docker as ours

    entry = factory._ENVIRONMENT_REGISTRY[EnvironmentType.DOCKER]
    if change == "no method":
        monkeypatch.delattr(ours.DockerEnvironment, "_run_docker_compose_command")
    elif change == "other class":
        other = entry._replace(class_name="NewDockerEnvironment")
        monkeypatch.setitem(factory._ENVIRONMENT_REGISTRY, EnvironmentType.DOCKER, other)
    else:
        monkeypatch.setattr(ours.DockerEnvironment, "stop", lambda self, delete: None)
    before = factory._ENVIRONMENT_REGISTRY[EnvironmentType.DOCKER]
    assert not ours.use_fast_stop()
    assert factory._ENVIRONMENT_REGISTRY[EnvironmentType.DOCKER] == before


def test_only_a_teardown_that_deletes_all_is_hastened(monkeypatch):
    from harbor.environments.docker.docker import DockerEnvironment

    from harbor_nb._sync import run_sync
    from harbor_nb.running.docker import FastStopDockerEnvironment

    seen = []

    async def stock(self, command, *args, **kwargs):
        seen.append(command)

    monkeypatch.setattr(DockerEnvironment, "_run_docker_compose_command", stock)
    one = object.__new__(FastStopDockerEnvironment)
    for command in (["down", "--rmi", "local", "--volumes"], ["down"], ["stop", "main"], ["up", "--wait"]):
        run_sync(FastStopDockerEnvironment._run_docker_compose_command(one, command))
    assert seen == [
        ["down", "--rmi", "local", "--volumes", "--timeout", "0"],
        ["down"],
        ["stop", "main"],
        ["up", "--wait"],
    ]


def make_kinds(folder: Path) -> None:
    """One task of each kind whose result a hasty stop could change."""
    head = 'schema_version = "1.4"\n[agent]\ntimeout_sec = 60.0\n[verifier]\ntimeout_sec = 60.0\n'
    make_task(folder, "plain", "echo said; mkdir -p /logs/artifacts; date +%Y > /logs/artifacts/year")
    compose = """services:
  main:
    depends_on:
      helper: {condition: service_started}
  helper:
    image: python:3.13-slim
    command: ["python3", "-m", "http.server", "8000", "--directory", "/etc"]
"""
    ask = """python3 - <<'END' | grep 200 || exit 1
import time, urllib.request
for _ in range(50):
    try:
        print(urllib.request.urlopen("http://helper:8000/passwd").status)
        break
    except OSError:
        time.sleep(.1)
END"""
    make_task(folder, "second-service", ask, **{"environment/docker-compose.yaml": compose})
    dollars = """[ "$A" = 'a$b$$c' ] || exit 1; mkdir -p /logs/artifacts; echo "$A" > /logs/artifacts/a"""
    make_task(folder, "dollars", dollars, **{"task.toml": head + "[environment.env]\nA = 'a$b$$c'\n"})
    check = """[environment.healthcheck]
command = 'echo x >> /app/checked; [ $(wc -l < /app/checked) = 3 ]'
interval_sec = 0.2
start_interval_sec = 0.2
retries = 10
"""
    make_task(folder, "healthcheck", "[ $(wc -l < /app/checked) = 3 ] || exit 1", **{"task.toml": head + check})
    apart = 'schema_version = "1.4"\nartifacts = ["/app/done"]\n[verifier]\nenvironment_mode = "separate"\n'
    image = "FROM python:3.13-slim\nCOPY test.sh /tests/test.sh\nWORKDIR /app\n"
    make_task(folder, "separate", **{"task.toml": apart, "tests/Dockerfile": image})


def outcome(job):
    told = {}
    for path in job.path.glob("*/result.json"):
        result = json.loads(path.read_text())
        steps = [(s["step_name"], (s["verifier_result"] or {}).get("rewards")) for s in result["step_results"] or []]
        files = {
            str(file.relative_to(path.parent)): file.read_bytes()
            for file in path.parent.rglob("*")
            if file.is_file() and file.parts[len(path.parent.parts)] in ("artifacts", "agent", "verifier", "steps")
            and file.name != "manifest.json"
        }  # fmt: skip
        told[result["task_name"]] = (result["verifier_result"], result["exception_info"], steps, files)
    return told


@pytest.mark.deep
@pytest.mark.docker
@pytest.mark.timeout(900)
def test_a_fast_stop_changes_no_reward_log_or_artifact(tmp_path):
    make_kinds(tmp_path / "kinds")
    tasks = [tmp_path / "kinds", harbor_nb.sample_tasks() / "two-steps"]
    jobs = [
        harbor_nb.plan(tasks, environments="docker", name=f"fast-{fast}", fast_stop=fast).launch().wait(400)[0]
        for fast in (True, False)
    ]
    fast, stock = map(outcome, jobs)
    assert [job.state for job in jobs] == ["finished", "finished"]
    assert fast == stock
    assert len(fast) == 6
    for name, (verified, raised, _, files) in fast.items():
        assert raised is None, (name, raised)
        assert verified["rewards"]["reward"] == 1.0, (name, verified, files)
    assert fast["dollars"][3]["artifacts/logs/artifacts/a"] == b"a$b$$c\n"
    assert [job.trials()["fast_stop"].unique().tolist() for job in jobs] == [[True], [False]]
    for job in jobs:
        assert json.loads((job.path / "lock.json").read_text())["trials"][0]["environment"]["type"] == "docker"
        assert "FastStop" not in "".join(path.read_text() for path in job.path.glob("**/*.json"))
    seconds = [job.trials()["total_sec"].sum() for job in jobs]
    print(f"fast stop {seconds[0]:.0f} s, stock {seconds[1]:.0f} s")


def things(job):
    return leavings.docker_things(job.path)


@pytest.mark.docker
@pytest.mark.timeout(240)
def test_cancel_on_docker_with_four_trials_running_leaves_nothing(tmp_path):
    make_task(tmp_path, "slow", solution="sleep 60")
    (job,) = harbor_nb.plan(tmp_path / "slow", environments="docker", name="c", attempts=5).launch()
    until(lambda: job.counts["agent"] == 4, 120)
    record = OwnerRecord.read(job.path)
    assert {kind for kind, _, _ in things(job)} == {"container", "network"}
    session = [p for p in psutil.process_iter() if os.getsid(p.pid) == record.pid]
    began = time.monotonic()
    job.cancel()
    assert time.monotonic() - began <= 15
    assert job.state == "cancelled"
    assert things(job) == []
    assert not [p for p in session if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert job.trials()["status"].tolist() == ["cancelled"] * 4
    assert not Path(record.temporary).exists()


@pytest.mark.deep
@pytest.mark.docker
@pytest.mark.timeout(240)
def test_what_a_killed_runner_left_on_docker_is_named_and_cleared_by_resume(tmp_path):
    task = make_task(tmp_path, "gate", solution="sleep 15")
    (job,) = harbor_nb.plan(task, environments="docker", name="k", attempts=2).launch()
    until(lambda: job.counts["agent"] == 2, 120)
    record = OwnerRecord.read(job.path)
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: job.state == "lost")
    left = things(job)
    assert sorted(kind for kind, _, _ in left) == ["container"] * 2 + ["network"] * 2
    other = subprocess.run(
        ["docker", "run", "-d", "--network=none", "python:3.13-slim", "sleep", "60"], capture_output=True, text=True
    )
    job.resume()
    for _, name, _ in left:
        assert name in repr(job)
    assert not set(left) & set(things(job))
    running = subprocess.run(["docker", "ps", "-q", "--no-trunc"], capture_output=True, text=True).stdout
    subprocess.run(["docker", "rm", "-f", other.stdout.strip()], capture_output=True)
    assert other.stdout.strip() in running  # what is not the job's stays
    job.wait(120, progress=False)
    assert job.trials()["reward"].tolist() == [1.0, 1.0]
    assert things(job) == []
