"""Over every job folder of strangers, the frames say what Harbor's own models say."""

import os
from pathlib import Path

import pandas as pd
import pytest
from harbor.models.job.result import JobResult
from harbor.models.trial.result import TrialResult

import harbor_nb
from harbor_nb.results.reading import find_jobs

pytestmark = pytest.mark.real_jobs


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CACHE", str(tmp_path / "cache"))


def utc(moment):
    stamp = pd.Timestamp(moment)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def same(ours, theirs):
    if theirs is None:
        assert pd.isna(ours)
    else:
        assert ours == theirs


def test_every_trial_folder_is_one_row(real_jobs):
    folders = {str(p.parent) for name in ("config.json", "result.json") for p in real_jobs.rglob(name)}
    jobs = {found.path for found in find_jobs(real_jobs)}
    frame = harbor_nb.trials(real_jobs)
    assert set(frame["path"]) == folders - jobs
    assert frame["path"].is_unique
    assert set(frame["job_path"]) == jobs == set(harbor_nb.jobs(real_jobs)["job_path"])


def test_harbor_agrees_on_every_figure(real_jobs):
    frame = harbor_nb.trials(real_jobs).set_index("path")
    phases = harbor_nb.phases(real_jobs).set_index(["path", "phase"])
    seen = 0
    for path, row in frame.iterrows():
        file = Path(path) / "result.json"
        if not file.exists():
            assert row["status"] == "cancelled"
            continue
        seen += 1
        theirs = TrialResult.model_validate_json(file.read_text())
        rewards = (theirs.verifier_result.rewards if theirs.verifier_result else None) or {}
        same(row["reward"], rewards.get("reward"))
        raised = theirs.exception_info
        same(row["exception"], raised and raised.exception_type)
        for name, total in zip(
            ["tokens_in", "tokens_cached", "tokens_out", "cost_usd"], theirs.compute_token_cost_totals(), strict=True
        ):
            same(row[name], total)
        assert row["started_at"] == utc(theirs.started_at)
        assert row["finished_at"] == utc(theirs.finished_at)
        assert row["total_sec"] == pytest.approx((theirs.finished_at - theirs.started_at).total_seconds())
        for ours, name in [
            ("environment_setup", "environment_setup"),
            ("agent_setup", "agent_setup"),
            ("agent", "agent_execution"),
            ("verifier", "verifier"),
        ]:
            span = getattr(theirs, name)
            if span is None or span.finished_at is None:
                assert pd.isna(row[f"{ours}_sec"])
                continue
            spent = (span.finished_at - span.started_at).total_seconds()
            assert row[f"{ours}_sec"] == pytest.approx(spent)
            assert phases.loc[(path, ours), "seconds"] == pytest.approx(spent)
            assert phases.loc[(path, ours), "started_at"] == utc(span.started_at)
        assert row["trial_id"] == str(theirs.id)
        assert row["task"] == theirs.task_name
        same(row["source"], theirs.source)
        assert row["task_checksum"] == theirs.task_checksum
        assert row["environment"] == theirs.config.environment.type.value
        assert row["agent"] == theirs.agent_info.name
        same(row["model"], theirs.agent_info.model_info and theirs.agent_info.model_info.name)
    assert seen == 95


def test_harbor_agrees_on_the_jobs(real_jobs):
    frame = harbor_nb.jobs(real_jobs).set_index("job_path")
    for path, row in frame.iterrows():
        file = Path(path) / "result.json"
        if not file.exists():
            continue
        theirs = JobResult.model_validate_json(file.read_text())
        assert row["n_total"] == theirs.n_total_trials
        assert row["n_completed"] == theirs.stats.n_completed_trials
        assert row["n_errored"] == theirs.stats.n_errored_trials
        assert row["total_sec"] == pytest.approx((theirs.finished_at - theirs.started_at).total_seconds())


def test_a_jobs_clock_is_found_from_its_trials(real_jobs):
    job = real_jobs / "DESU-CLUB__beam-benchmark/jobs/2026-03-26__23-35-42"
    started = harbor_nb.jobs(job)["started_at"].item()
    assert started == pd.Timestamp("2026-03-27 06:35:42.947374", tz="UTC")  # the file says 23:35:42, of no zone
    first = harbor_nb.trials(job)["started_at"].min()
    assert pd.Timedelta(0) <= first - started < pd.Timedelta("30s")


def test_a_timed_out_agent_keeps_its_reward(real_jobs):
    frame = harbor_nb.trials(real_jobs)
    timed_out = frame[frame["exception"] == "AgentTimeoutError"]
    assert len(timed_out) == 3
    assert (timed_out["reward"] == 1.0).all()
    assert (timed_out["status"] == "scored").all()
    assert timed_out["passed"].all()


def test_messages_of_equal_failures_read_alike(real_jobs):
    frame = harbor_nb.trials(real_jobs)
    broken = frame[frame["exception"] == "NonZeroAgentExitCodeError"]
    assert len(broken) == 3
    assert not broken["message"].str.contains("\n").any()
    assert (broken["phase"] == "agent").all()  # one job's files tell the exception's time on another clock


def test_trajectories_of_two_versions(real_jobs):
    steps = harbor_nb.trajectory_steps(real_jobs)
    assert set(steps["schema_version"]) == {"ATIF-v1.2", "ATIF-v1.6"}
    assert "unreadable" not in steps.attrs
    for (path, file), own in steps.groupby(["path", "file"]):
        import json

        raw = json.loads((Path(path) / file).read_text())["steps"]
        assert len(own) == len(raw)
        assert own["step_id"].tolist() == [step["step_id"] for step in raw]
        assert own["text"].tolist() == [step["message"] for step in raw]
        assert own["source"].tolist() == [step["source"] for step in raw]
        for ours, step in zip(own["tokens_out"], raw, strict=True):
            same(ours, (step.get("metrics") or {}).get("completion_tokens"))
        for ours, step in zip(own["n_tool_calls"], raw, strict=True):
            assert ours == len(step.get("tool_calls") or [])
        for ours, step in zip(own["tool_calls"], raw, strict=True):
            if step.get("tool_calls"):
                assert json.loads(ours) == step["tool_calls"]


def test_nothing_is_written_into_the_job_folders(real_jobs):
    before = {path: path.stat().st_mtime_ns for path in real_jobs.rglob("*")}
    for name in ("jobs", "trials", "rewards", "phases", "task_steps", "artifacts", "events", "unreadable"):
        getattr(harbor_nb, name)(real_jobs)
    assert before == {path: path.stat().st_mtime_ns for path in real_jobs.rglob("*")}
    assert os.environ["HARBOR_NB_CACHE"]
