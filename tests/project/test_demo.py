"""`make demo` on this machine, and bad input told in one line."""

from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.demo import run_demo
from harbor_nb.errors import BadInputError, JobExistsError


@pytest.mark.local
def test_demo_ends_with_a_table_a_chart_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trials = run_demo(tmp_path / "demo", environments=["local"])
    certain = trials[~trials["task"].str.endswith("flaky-network")]
    assert certain.groupby("agent")["reward"].mean().to_dict() == {"nop": 0.0, "oracle": 1.0}
    assert (trials["environment"] == "local").all()
    assert "Reward per task" in capsys.readouterr().out
    assert (tmp_path / "demo/chart.png").read_bytes()[:4] == b"\x89PNG"
    report = (tmp_path / "demo/report.html").read_text()
    assert "<svg" in report
    assert "<script" not in report


@pytest.mark.local
def test_a_second_launch_of_the_same_name_is_refused_and_tells_how_to_attach(tmp_path: Path):
    task = harbor_nb.sample_tasks() / "hello-world"
    job = harbor_nb.launch(task, job_name="once", jobs_dir=tmp_path)
    with pytest.raises(JobExistsError, match="attach"):
        harbor_nb.launch(task, job_name="once", jobs_dir=tmp_path)
    assert job.wait(60, progress=False).state == "finished"
    assert harbor_nb.attach(tmp_path / "once").trials()["reward"].tolist() == [1.0]
    assert harbor_nb.events(job)["event"].iloc[-1] == "job_end"


@pytest.mark.local
def test_cancel_and_a_killed_runner_are_told_truly(tmp_path: Path):
    import psutil

    from harbor_nb.running.owner import OwnerRecord

    task = tmp_path / "sleeper"
    for name, text in {
        "task.toml": 'schema_version = "1.4"\n[task]\nname = "test/sleeper"\n',
        "instruction.md": "sleep",
        "environment/Dockerfile": "FROM scratch\nWORKDIR /app\n",
        "solution/solve.sh": "#!/bin/bash\nsleep 300\n",
        "tests/test.sh": "#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n",
    }.items():
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(text)
    cancelled = harbor_nb.launch(task, job_name="cancelled", jobs_dir=tmp_path / "jobs")
    lost = harbor_nb.launch(task, job_name="lost", jobs_dir=tmp_path / "jobs")
    for job in (cancelled, lost):
        _until(
            lambda job=job: "agent_start" in harbor_nb.events(job)["event"].tolist() if job.state == "running" else 0
        )
    assert cancelled.cancel().state == "cancelled"
    record = OwnerRecord.read(lost.path)
    runner = psutil.Process(record.pid)
    children = runner.children(recursive=True)
    assert children
    runner.kill()
    _until(lambda: lost.state == "lost")
    _gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def _until(condition, seconds=40):
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"tasks": "no/such/task"}, "no such task"),
        ({"tasks": "."}, "not a task folder"),
        ({"tasks": []}, "the task list is empty"),
        ({"agent": "orcale"}, "did you mean 'oracle'"),
        ({"environment": "dockr"}, "did you mean 'docker'"),
        ({"n_concurent_trials": 3}, "did you mean 'n_concurrent_trials'"),
        ({"jobs_dir": "/proc/nothing"}, "can't write to"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch, arguments: dict, told: str):
    monkeypatch.chdir(tmp_path)
    given = {"tasks": harbor_nb.sample_tasks() / "hello-world", **arguments}
    with pytest.raises(BadInputError, match=told) as raised:
        harbor_nb.launch(given.pop("tasks"), **given)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.local
def test_nothing_of_the_host_is_visible_in_the_sandbox(tmp_path: Path, monkeypatch):
    import asyncio

    from harbor_nb.sandbox import Image, Sandbox

    monkeypatch.setenv("CANARY_KEY", "canary-in-the-environment")
    canary = tmp_path / "canary.txt"
    canary.write_text("canary-on-the-disk")
    written = Path("/etc/written-by-the-sandbox")

    async def look() -> str:
        sandbox = await Sandbox.start(Image(), name="leak")
        try:
            background = await sandbox.exec("sleep 1000 & echo started")
            alive = await sandbox.exec("ls /proc | grep -c '^[0-9]'; grep -l 'sleep' /proc/[0-9]*/cmdline | head -1")
            looked = await sandbox.exec(
                f"env; cat /proc/*/environ; cat {canary}; ls /root /home /tmp /run; "
                f"cut -d: -f2 /etc/shadow | sort -u | sed 's/^/shadow /'; echo x > {written}"
            )
            return str((background.stdout, alive.stdout, looked.stdout, looked.return_code))
        finally:
            await sandbox.stop()

    seen = asyncio.run(look())
    assert "started" in seen
    assert "cmdline" in seen
    assert "canary" not in seen
    assert "docker.sock" not in seen
    assert "shadow *\\n" in seen  # accounts, and no password of the host
    assert not written.exists()
