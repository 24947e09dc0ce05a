"""Jobs that run, ended badly or came from elsewhere: what each trial's status says."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

import harbor_nb
from harbor_nb.results.reading import find_jobs

AGENTS = {"oracle": {"name": "oracle"}, "mine": {"import_path": "my.agents:Mine", "model_name": "openai/gpt-5"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CACHE", str(tmp_path / "cache"))


def config(task, agent):
    environment = {"import_path": "harbor_nb.local:LocalEnvironment"}
    return {"task": {"path": f"tasks/{task}", "source": "set"}, "agent": AGENTS[agent], "environment": environment}


def trial(job, task, agent="oracle", result=None, number=1):
    folder = job / f"{task}__{agent}{number}"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"trial_name": folder.name, **config(task, agent)}))
    if result is not None:
        whole = {"task_name": task, "source": "set", "config": config(task, agent), **result}
        (folder / "result.json").write_text(json.dumps(whole))


def owner(job, state, age_sec=1, **more):
    beat = datetime.now(UTC) - timedelta(seconds=age_sec)
    record = {"schema": 1, "state": state, "heartbeat_at": beat.isoformat(), "harbor_version": "0.24.0", **more}
    (job / "harbor_nb.json").write_text(json.dumps(record))


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "jobs/job"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"job_name": "job"}')
    trial(folder, "a", result={"verifier_result": {"rewards": {"reward": 1}}})
    trial(folder, "b", result={"exception_info": {"exception_type": "CancelledError", "exception_message": ""}})
    trial(folder, "c", result={"exception_info": {"exception_type": "RuntimeError", "exception_message": "no"}})
    trial(folder, "d", "mine")
    planned = [config(task, agent) for task in "abcd" for agent in AGENTS]
    lock = {"harbor": {"version": "0.24.0"}, "trials": planned}
    (folder / "lock.json").write_text(json.dumps(lock))
    return folder


def test_a_running_job(job):
    owner(job, "running")
    frame = harbor_nb.trials(job)
    status = frame["status"].value_counts().to_dict()
    assert status == {"scored": 1, "cancelled": 1, "unscored": 1, "running": 1, "pending": 4}
    running = frame[frame["status"] == "running"].iloc[0]
    assert (running["task"], running["agent"], running["model"]) == ("d", "Mine", "gpt-5")
    assert (running["provider"], running["environment"], running["source"]) == ("openai", "local", "set")
    assert pd.isna(running["message"])
    pending = frame[frame["status"] == "pending"]
    assert sorted(zip(pending["task"], pending["agent"], strict=True)) == [
        ("a", "Mine"),
        ("b", "Mine"),
        ("c", "Mine"),
        ("d", "oracle"),
    ]
    assert pending[["trial", "path", "reward", "message", "started_at", "attempt"]].isna().all().all()
    assert harbor_nb.jobs(job)["state"].item() == "running"
    summary = harbor_nb.summary(job, by=[])
    assert (summary["n"].item(), summary["unfinished"].item(), summary["missing"].item()) == (3, 5, 2)


@pytest.mark.parametrize(("state", "age"), [("running", 3600), ("cancelled", 1), ("finished", 1), ("failed", 1)])
def test_a_job_that_does_not_live(job, state, age):
    owner(job, state, age)
    frame = harbor_nb.trials(job)
    assert len(frame) == 4
    assert frame.set_index("task").loc["d", "status"] == "cancelled"
    assert "no result.json" in frame.set_index("task").loc["d", "message"]
    assert harbor_nb.jobs(job)["state"].item() == ("dead" if state == "running" else state)


def test_a_strangers_job(job):
    path = job / "result.json"
    path.write_text(json.dumps({"id": "1", "started_at": "2026-01-01T00:00:00", "n_total_trials": 8, "stats": {}}))
    assert harbor_nb.jobs(job)["state"].item() == "running"
    assert (harbor_nb.trials(job)["status"] == "pending").sum() == 4
    os.utime(path, (time.time() - 86400,) * 2)
    assert harbor_nb.jobs(job)["state"].item() == "dead"
    assert (harbor_nb.trials(job)["status"] == "cancelled").sum() == 2


def test_labels(job):
    owner(job, "finished", practice=True, recorded=True, fast_stop=True)
    for frame in (harbor_nb.trials(job), harbor_nb.jobs(job)):
        assert frame[["practice", "recorded", "fast_stop"]].all().all()


def test_a_steps_failure_shows_in_its_trial(job):
    raised = {
        "exception_type": "VerifierTimeoutError",
        "exception_message": "too slow",
        "occurred_at": "2026-01-01T00:00:09Z",
    }
    used = {"n_input_tokens": 10, "n_output_tokens": 1, "cost_usd": 0.5}
    steps = [
        {"step_name": "one", "agent_result": used, "verifier_result": {"rewards": {"reward": 1}}},
        {"step_name": "two", "agent_result": used, "exception_info": raised,
         "agent_execution": {"started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:04Z"}},
    ]  # fmt: skip
    trial(job, "steps", result={"step_results": steps, "verifier_result": {"rewards": {"reward": 0.5}}})
    row = harbor_nb.trials(job).set_index("task").loc["steps"]
    assert (row["exception"], row["status"], row["reward"], row["passed"]) == (
        "VerifierTimeoutError",
        "scored",
        0.5,
        False,
    )
    assert (row["tokens_in"], row["tokens_out"], row["cost_usd"], row["n_steps"]) == (20, 2, 1.0, 2)
    assert pd.isna(row["tokens_cached"])
    frame = harbor_nb.task_steps(job)
    assert frame["step"].tolist() == ["one", "two"]
    assert frame["step_index"].tolist() == [1, 2]
    assert frame["reward"].tolist()[0] == 1.0
    assert frame["exception"].isna().tolist() == [True, False]
    assert frame["agent_sec"].tolist()[1] == 4.0
    assert frame["message"].tolist()[1] == "too slow"


def test_attempts_are_counted_in_the_order_they_began(job):
    for number, second in ((2, 30), (3, 10), (4, 20)):
        trial(job, "again", result={"started_at": f"2026-01-01T00:00:{second}Z"}, number=number)
    frame = harbor_nb.trials(job).set_index("trial")
    assert frame.loc[["again__oracle3", "again__oracle4", "again__oracle2"], "attempt"].tolist() == [1, 2, 3]


def test_what_may_be_given(job, tmp_path):
    class Handle:
        def __fspath__(self):
            return str(job)

    count = len(harbor_nb.trials(job))
    for given in (
        Handle(),
        [Handle()],
        (job,),
        str(job),
        tmp_path,
        tmp_path / "jobs",
        f"{tmp_path}/j*/jo*",
        [job, job.parent],
    ):
        assert len(harbor_nb.trials(given)) == count
        assert [found.path for found in find_jobs(given)] == [str(job)]
    one = harbor_nb.trials(job / "a__oracle1")
    assert one["task"].tolist() == ["a"]


def test_artifacts_and_events(job):
    folder = job / "a__oracle1/artifacts"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs/plot.png").write_bytes(b"12345")
    entries = [
        {"source": "/logs", "destination": "artifacts/logs", "type": "directory", "status": "ok"},
        {"source": "/gone", "destination": "artifacts/gone", "type": "file", "status": "failed", "service": "db"},
    ]
    (folder / "manifest.json").write_text(json.dumps(entries))
    frame = harbor_nb.artifacts(job).set_index("name")
    assert frame.loc["logs/plot.png", ["status", "source", "size_bytes"]].tolist() == ["ok", "/logs", 5]
    assert frame.loc["gone", ["status", "service"]].tolist() == ["failed", "db"]
    lines = [
        {"t": "2026-01-01T00:00:00+00:00", "event": "job_start", "trial": None},
        {"t": "2026-01-01T00:00:01+00:00", "event": "trial_end", "trial": "a__oracle1", "reward": 1.0, "n": 3},
    ]
    (job / "harbor_nb.events.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    events = harbor_nb.events(job)
    assert events["event"].tolist() == ["job_start", "trial_end"]
    assert events["reward"].tolist()[1] == 1.0
    assert events["extra"].tolist()[1] == '{"n": 3}'
    assert events["time"].iloc[1] == pd.Timestamp("2026-01-01T00:00:01Z")
