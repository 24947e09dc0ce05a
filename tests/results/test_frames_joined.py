"""The frames of one folder fit together: ids join them, types hold, labels come from where they should."""

import json
import os
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import harbor_nb
from harbor_nb import known_failures
from harbor_nb.results import reading
from harbor_nb.results._columns import TABLES

ROOT = Path(__file__).resolve().parents[2]
OF_TRIALS = ("rewards", "phases", "task_steps", "trajectory_steps", "artifacts")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CACHE", str(tmp_path / "cache"))


def span(first, last):
    return {"started_at": f"2026-01-01T00:00:{first:02d}Z", "finished_at": f"2026-01-01T00:00:{last:02d}Z"}


def make(jobs, job="job", count=3, **changes):
    """A job whose trials have something in every frame."""
    folder = jobs / job
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"job_name": job}))
    (folder / "result.json").write_text(json.dumps({"id": f"id-of-{job}", "n_total_trials": count, "stats": {}}))
    event = {"t": "2026-01-01T00:00:00Z", "event": "trial_start", "trial": "task-0__0"}
    (folder / "harbor_nb.events.jsonl").write_text(json.dumps(event) + "\n")
    for index in range(count):
        trial = folder / f"task-{index}__{index}"
        (trial / "agent").mkdir(parents=True)
        (trial / "artifacts").mkdir()
        (trial / "artifacts/out.txt").write_text("x")
        step = {"step_id": 1, "source": "agent", "message": "hi", "metrics": {"completion_tokens": 2}}
        (trial / "agent/trajectory.json").write_text(json.dumps({"schema_version": "ATIF-v1.6", "steps": [step]}))
        outcome = {"verifier_result": {"rewards": {"reward": 1.0, "speed": 0.5}}, "verifier": span(5, 6)}
        result = {
            "id": f"trial-{job}-{index}", "task_name": f"task-{index}", "config": {"agent": {"name": "oracle"}},
            **outcome, **span(1, 9), "environment_setup": span(1, 2), "step_results": [{"step_name": "one", **outcome}],
            **changes,
        }  # fmt: skip
        (trial / "result.json").write_text(json.dumps(result))
        os.utime(trial / "result.json", (time.time() - 3600,) * 2)
    return folder


def test_every_frame_joins_on_its_ids(tmp_path):
    make(tmp_path / "jobs", "one")
    make(tmp_path / "jobs", "two")
    jobs, trials = harbor_nb.jobs(tmp_path / "jobs"), harbor_nb.trials(tmp_path / "jobs")
    assert trials["trial_id"].is_unique
    assert trials["path"].is_unique
    assert not trials.duplicated(["job", "trial"]).any()
    for keys in (["job_path"], ["job"]):
        joined = trials.merge(jobs, on=keys, validate="many_to_one", suffixes=("", "_job"))
        assert len(joined) == 6
        assert joined["job_id"].str.removeprefix("id-of-").equals(joined["job"])
    for name in OF_TRIALS:
        frame = getattr(harbor_nb, name)(tmp_path / "jobs")
        assert set(frame["job"]) == {"one", "two"}, name
        for keys in (["job", "trial"], ["trial_id"], ["path"]):
            if set(keys) <= set(frame) and not (name == "artifacts" and keys == ["path"]):
                joined = frame.merge(trials, on=keys, validate="many_to_one", suffixes=("", "_trial"))
                assert len(joined) == len(frame) > 0, (name, keys)
                assert joined["task"].notna().all()
    events = harbor_nb.events(tmp_path / "jobs")
    assert len(events.merge(trials, on=["job", "trial"], validate="many_to_one")) == 2


def test_types_hold_whatever_is_in_the_frame(tmp_path):
    make(tmp_path / "jobs")
    make(tmp_path / "bare", "bare", 1, step_results=None, verifier_result=None, started_at=None, finished_at=None)
    (tmp_path / "none").mkdir()
    for name, table in TABLES.items():
        declared = {column.name: column.dtype for column in table}
        for folder in ("jobs", "bare", "none"):
            frame = getattr(harbor_nb, name)(tmp_path / folder)
            dtypes = {column: str(dtype) for column, dtype in frame.dtypes.items()}
            assert declared.items() <= dtypes.items(), (name, folder)
            assert set(dtypes) - set(declared) <= {"reward_speed"}


def test_a_frame_can_be_changed(tmp_path):
    make(tmp_path / "jobs")
    frame = harbor_nb.trials(tmp_path / "jobs")
    mask = frame["task"] == "task-1"
    frame.loc[mask, "started_at"] += pd.Timedelta(days=3)
    frame.loc[mask, ["started_at", "finished_at"]] += pd.Timedelta(days=3)
    assert frame["started_at"].tolist()[1] == pd.Timestamp("2026-01-07T00:00:01Z")
    for column, value in (("reward", 0.5), ("tokens_in", 3), ("passed", False), ("task", "x"), ("agent_sec", 1.0)):
        frame.loc[mask, column] = value
        assert frame[column].tolist()[1] == value
    assert harbor_nb.trials(tmp_path / "jobs")["reward"].tolist() == [1.0] * 3


@pytest.mark.parametrize("column", [column.name for column in TABLES["trials"]])
def test_a_column_alone_is_the_same(tmp_path, column):
    make(tmp_path / "jobs", exception_info={"exception_type": "RuntimeError", "exception_message": "no"})
    whole = harbor_nb.trials(tmp_path / "jobs")
    pd.testing.assert_frame_equal(harbor_nb.trials(tmp_path / "jobs", columns=[column]), whole[[column]])


def test_what_lies_in_the_shipped_folder_is_recorded(tmp_path, monkeypatch):
    make(tmp_path / "shipped")
    make(tmp_path / "shipped-not")
    (tmp_path / "link").symlink_to(tmp_path / "shipped")
    monkeypatch.setattr(reading, "sample_jobs", lambda: tmp_path / "link")
    reading._shipped.cache_clear()
    try:
        for frame in (harbor_nb.trials, harbor_nb.jobs):
            assert frame(tmp_path / "shipped")["recorded"].all()
            assert frame(tmp_path / "link")["recorded"].all()
            assert not frame(tmp_path / "shipped-not")["recorded"].any()
            assert not frame(tmp_path / "shipped")[["practice", "fast_stop"]].any().any()
    finally:
        reading._shipped.cache_clear()


def test_a_registered_failure_shows_in_remembered_trials(tmp_path, monkeypatch):
    for name in ("_added", "_found"):
        monkeypatch.setattr(known_failures, name, type(getattr(known_failures, name))())
    rows = list(known_failures.rows())
    raised = {"exception_type": "RuntimeError", "exception_message": "the reactor of trial 12345678 is out of cheese"}
    make(tmp_path / "jobs", count=40, exception_info=raised)
    first = harbor_nb.trials(tmp_path / "jobs")
    assert "no-cheese" not in set(first["failure"])
    assert first["message"].unique().tolist() == ["the reactor of trial <n> is out of cheese"]
    try:
        known_failures.register_failure("no-cheese", cause="c", fix="f", fault="user", message="out of cheese")
        again = harbor_nb.trials(tmp_path / "jobs", columns=["failure", "fault"])
        assert set(again["failure"]) == {"no-cheese"}
        assert set(again["fault"]) == {"user"}
    finally:
        known_failures.rows()[:] = rows


def test_a_secret_loaded_later_is_taken_out_of_what_was_remembered(tmp_path, monkeypatch):
    raised = {"exception_type": "RuntimeError", "exception_message": "refused hunter2hunter2 again"}
    make(tmp_path / "jobs", count=40, exception_info=raised)
    assert harbor_nb.trials(tmp_path / "jobs")["message"].str.contains("hunter2").all()
    monkeypatch.setenv("LATE_PASSWORD", "hunter2hunter2")
    assert set(harbor_nb.trials(tmp_path / "jobs")["message"]) == {"refused <LATE_PASSWORD> again"}


def test_the_cache_may_go_while_it_is_read(tmp_path):
    job = make(tmp_path / "jobs", count=40)
    expected = harbor_nb.trials(job)
    done = threading.Event()

    def remove():
        while not done.is_set():
            for path in (tmp_path / "cache").rglob("*.arrow"):
                path.unlink(missing_ok=True)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(20):
            pd.testing.assert_frame_equal(harbor_nb.trials(job), expected)
    finally:
        done.set()
        remover.join()


def test_job_files_that_say_little(tmp_path):
    job = make(tmp_path / "jobs")
    (job / "result.json").write_text("{}")
    (job / "task-0__0/artifacts/manifest.json").write_text('[{"source": "/x"}, {}]')
    (job / "harbor_nb.events.jsonl").write_text('{}\n[]\n\n{"t": "noon", "n": 1e999}\n')
    assert harbor_nb.jobs(job)["n_trials"].item() == 3
    assert len(harbor_nb.artifacts(job)) == 3
    assert harbor_nb.events(job)["time"].isna().all()
    assert harbor_nb.unreadable(job)["reason"].str.startswith("line ").all()
