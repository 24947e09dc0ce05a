"""A torn or foreign file becomes a row that says so, never a crash and never a silent gap."""

import json
import os
import pickle
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

import harbor_nb
from harbor_nb.errors import BadInputError

ALL = ("jobs", "trials", "rewards", "phases", "task_steps", "trajectory_steps", "artifacts", "events", "unreadable")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CACHE", str(tmp_path / "cache"))


def result(index, **changes):
    return {
        "id": f"id-{index}",
        "task_name": f"task-{index}",
        "task_checksum": "c",
        "config": {"environment": {"type": "docker"}, "agent": {"name": "oracle"}},
        "agent_info": {"name": "oracle", "version": "1.0"},
        "verifier_result": {"rewards": {"reward": 1.0}},
        "started_at": "2026-03-27T06:43:38.511734Z",
        "finished_at": "2026-03-27T06:44:38.511734Z",
        **changes,
    }


def make(jobs, count, job="job"):
    folder = jobs / job
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"job_name": job}))
    old = time.time() - 3600
    for index in range(count):
        trial = folder / f"task-{index}__{index:05d}"
        trial.mkdir()
        path = trial / "result.json"
        path.write_text(json.dumps(result(index)))
        os.utime(path, (old, old))
        config = {"trial_name": trial.name, "task": {"path": f"tasks/task-{index}"}, "agent": {"name": "oracle"}}
        (trial / "config.json").write_text(json.dumps(config))
    return folder


AS_ANOTHER_USER = """
import codecs, os, pickle, sys
os.environ["HARBOR_NB_CACHE"] = sys.argv[2]
import harbor_nb, pandas, pyarrow.compute
harbor_nb.trials, harbor_nb.unreadable, harbor_nb.jobs
codecs.lookup("utf-16-be")  # json guesses it from binary noise; Python's own files may be closed to the other user
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.chdir("/")
frames = [getattr(harbor_nb, name)(sys.argv[1]) for name in ("trials", "unreadable", "jobs")]
pickle.dump(frames, sys.stdout.buffer)
"""


def read_as_another_user(jobs, cache="off"):
    """Read trials, unreadable and jobs as one to whom permissions apply: to root they do not."""
    done = subprocess.run([sys.executable, "-c", AS_ANOTHER_USER, jobs, cache], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=pytest.mark.deep)])
def test_five_broken_results_are_five_rows(open_to_all, count):
    """Truncated, empty, binary, not permitted, a folder (and a pipe, for one more): the others are right."""
    job = make(open_to_all / "jobs", count)
    names = sorted(path.name for path in job.iterdir() if path.is_dir())
    cache = open_to_all / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    whole, *_ = read_as_another_user(job, cache)
    assert (whole["status"] == "scored").all()
    assert list(cache.rglob("*.arrow"))  # remembered while they were whole

    def file(place):
        return job / names[place] / "result.json"

    file(3).write_bytes(file(3).read_bytes()[:100])
    file(7).write_bytes(b"")
    file(11).write_bytes(bytes(range(256)))
    file(13).touch(mode=0o600)  # unchanged, it would rightly be taken from the cache
    file(13).chmod(0)
    file(15).unlink()
    file(15).mkdir()
    file(19).unlink()
    os.mkfifo(file(19))
    frame, unreadable, _ = read_as_another_user(job, cache)
    frame = frame.set_index("trial")
    broken = [names[place] for place in (3, 7, 11, 13, 15, 19)]
    assert frame.index.tolist() == names
    assert frame.index[frame["status"] == "unreadable"].tolist() == broken
    right = whole.set_index("trial").drop(broken)
    pd.testing.assert_frame_equal(frame.drop(broken), right)
    assert (right["reward"] == 1.0).all()
    assert frame.loc[broken, "reward"].isna().all()
    assert frame.loc[broken, "task"].notna().all()  # from the trial's config.json
    reasons = unreadable.set_index("trial")["reason"]
    assert reasons.index.tolist() == broken
    expected = ["truncated", "empty", "malformed", "permission denied", "a folder", "not a plain file"]
    for name, reason in zip(broken, expected, strict=True):
        assert reason in reasons[name]
        assert reason in frame.loc[name, "message"]


def test_what_is_not_permitted_is_told(open_to_all):
    job = make(open_to_all / "jobs", 3)
    shut = make(open_to_all / "jobs", 2, "shut")
    (job / "task-1__00001/result.json").chmod(0)
    (job / "task-2__00002").chmod(0)
    shut.chmod(0)
    try:
        trials, unreadable, jobs = read_as_another_user(open_to_all / "jobs")
    finally:
        shut.chmod(0o755)
        (job / "task-2__00002").chmod(0o755)
    assert trials["status"].tolist() == ["scored", "unreadable", "unreadable"]
    assert unreadable["reason"].tolist() == ["permission denied"] * 3
    assert jobs["state"].tolist()[1] == "unreadable"


def test_links_are_told_and_not_followed(tmp_path):
    outside = make(tmp_path / "outside", 2)
    job = make(tmp_path / "jobs", 3)
    (job / "linked").symlink_to(outside / "task-0__00000")
    (tmp_path / "jobs/linked-job").symlink_to(outside)
    file = job / "task-1__00001/result.json"
    file.unlink()
    file.symlink_to(outside / "task-1__00001/result.json")
    frame = harbor_nb.trials(tmp_path / "jobs").set_index("trial")
    assert frame.loc["linked", "status"] == frame.loc["task-1__00001", "status"] == "unreadable"
    assert len(frame) == 4
    reasons = harbor_nb.unreadable(tmp_path / "jobs")["reason"]
    assert len(reasons) == 3
    assert reasons.str.contains("symbolic link").all()
    (tmp_path / "mine").symlink_to(outside)
    assert len(harbor_nb.trials(tmp_path / "mine")) == 2  # what a person names is followed


def test_an_agents_links_are_not_followed(tmp_path):
    job = make(tmp_path / "jobs", 1)
    trial = job / "task-0__00000"
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "trajectory.json").write_text('{"steps": [{"step_id": 1, "message": "TOP"}]}')
    (trial / "agent").symlink_to(secret)
    (trial / "artifacts").mkdir()
    (trial / "artifacts/leak").symlink_to(secret)
    (trial / "artifacts/file").symlink_to(secret / "trajectory.json")
    (trial / "artifacts/manifest.json").symlink_to(secret / "trajectory.json")
    assert harbor_nb.trajectory_steps(job).empty
    found = harbor_nb.artifacts(job)
    assert sorted(found["name"]) == ["file", "leak"]
    assert (found["status"] == "link").all()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are no Unicode")
def test_odd_names(tmp_path):
    jobs = tmp_path / "jobs with [brackets] ünï"
    job = make(jobs, 1, "a job, with 'quotes' and * star")
    for name in (b"caf\xe9__1", "日本語__2".encode(), b"new\nline__3", b"-dash__4", b"$HOME `x`__5", b"a" * 250):
        trial = job / os.fsdecode(name)
        trial.mkdir()
        (trial / "result.json").write_text(json.dumps(result(1)))
    for given in (jobs, job, str(job), [job]):
        frame = harbor_nb.trials(given)
        assert len(frame) == 7
        assert (frame["status"] == "scored").all()
    assert "caf\\udce9__1" in set(frame["trial"])
    for name in ALL:
        getattr(harbor_nb, name)(jobs)


@pytest.mark.parametrize(
    ("changes", "column", "expected"),
    [
        ({"verifier_result": {"rewards": {"reward": float("nan")}}}, "reward", None),
        ({"verifier_result": {"rewards": {"reward": float("inf")}}}, "reward", None),
        ({"verifier_result": {"rewards": {"reward": None}}}, "reward", None),
        ({"verifier_result": {"rewards": {"reward": "0.5"}}}, "reward", 0.5),
        ({"verifier_result": {"rewards": {"reward": 10**30}}}, "reward", 1e30),
        ({"verifier_result": {"rewards": {}}}, "reward", None),
        ({"verifier_result": {"rewards": {"speed": 3}}}, "reward", 3.0),
        ({"verifier_result": {"rewards": {"a": 1, "b": 0}}}, "reward", None),
        ({"agent_result": {"n_input_tokens": 10**30}}, "tokens_in", None),
        ({"agent_result": {"n_input_tokens": 2**40}}, "tokens_in", 2**40),
        ({"agent_result": {"n_input_tokens": None}}, "tokens_in", None),
        ({"agent_result": {"cost_usd": 0.0}}, "cost_usd", 0.0),
        ({"agent_info": {"name": "a\ud800", "version": None}}, "agent", "a\\ud800"),
        ({"started_at": "yesterday"}, "started_at", None),
        ({"started_at": "2026-03-27T06:43:38"}, "started_at", pd.Timestamp("2026-03-27T06:43:38Z")),
        ({"started_at": "2026-03-27T06:43:38+02:00"}, "started_at", pd.Timestamp("2026-03-27T04:43:38Z")),
        ({"started_at": "0001-01-01T00:00:00Z"}, "started_at", pd.Timestamp("0001-01-01T00:00:00Z")),
        ({"agent_info": {"version": "\x1b[2J\x1b[31mworking…\r\n" * 60 + "tool 1.2.3"}}, "agent_version", "1.2.3"),
    ],
)  # fmt: skip
def test_odd_values(tmp_path, changes, column, expected):
    job = make(tmp_path / "jobs", 1)
    (job / "task-0__00000/result.json").write_text(json.dumps(result(0, **changes)))
    (value,) = harbor_nb.trials(job)[column]
    assert pd.isna(value) if expected is None else value == expected
    for name in ALL:
        getattr(harbor_nb, name)(job)


def test_deep_json_is_told(tmp_path):
    job = make(tmp_path / "jobs", 2)
    deep = "[" * 200_000 + "]" * 200_000
    (job / "task-0__00000/result.json").write_text(json.dumps(result(0))[:-1] + f', "extra": {deep}}}')
    assert harbor_nb.trials(job)["status"].tolist() == ["unreadable", "scored"]
    assert "deep" in harbor_nb.unreadable(job)["reason"].item()


def test_many_reward_names(tmp_path):
    job = make(tmp_path / "jobs", 2)
    rewards = {f"part-{index}": float(index) for index in range(1000)}
    (job / "task-0__00000/result.json").write_text(json.dumps(result(0, verifier_result={"rewards": rewards})))
    frame = harbor_nb.trials(job)
    assert frame.shape[1] < 400
    assert harbor_nb.trials(job, ["reward_part-999"])["reward_part-999"].tolist()[0] == 999.0
    assert len(harbor_nb.rewards(job)) == 1001


def test_a_file_in_the_writing_is_read_again(tmp_path):
    job = make(tmp_path / "jobs", 1)
    path = job / "task-0__00000/result.json"
    whole = path.read_text()
    path.write_text(whole[:200])
    opened = threading.Event()

    def finish():
        opened.wait()
        path.write_text(whole)

    writer = threading.Thread(target=finish)
    writer.start()
    opened.set()
    frame = harbor_nb.trials(job)
    writer.join()
    assert frame["status"].item() in {"scored", "unreadable"}
    assert harbor_nb.trials(job)["status"].item() == "scored"  # never remembered as broken


def test_bad_input_is_one_line(tmp_path):
    make(tmp_path / "jobs", 1)
    (tmp_path / "file").write_text("x")
    for given in (tmp_path / "absent", str(tmp_path / "none-*"), tmp_path / "file", 5, [tmp_path / "absent"]):
        with pytest.raises(BadInputError) as caught:
            harbor_nb.trials(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInputError, match="No column 'rewrd'"):
        harbor_nb.trials(tmp_path / "jobs", columns=["rewrd"])
    with pytest.raises(BadInputError, match="No frame"):
        harbor_nb.to_parquet(tmp_path / "jobs", tmp_path / "out", frame="trial")


def test_broken_job_files(tmp_path):
    job = make(tmp_path / "jobs", 2)
    (job / "result.json").write_text("{")
    (job / "harbor_nb.json").write_text("[]")
    (job / "harbor_nb.events.jsonl").write_text('{"t": "2026-01-01T00:00:00Z", "event": "job_start"}\nnope\n{"half')
    assert harbor_nb.jobs(job)["n_trials"].item() == 2
    assert harbor_nb.events(job)["event"].tolist() == ["job_start"]
    told = harbor_nb.unreadable(job)
    assert told["file"].tolist() == ["result.json", "harbor_nb.json", "harbor_nb.events.jsonl"]
    assert "line 2" in told["reason"].iloc[2]


def test_empty_folders_have_every_column(tmp_path):
    (tmp_path / "jobs").mkdir()
    for name in ALL:
        frame = getattr(harbor_nb, name)(tmp_path / "jobs")
        assert frame.empty
        assert len(frame.columns) > 4
    assert harbor_nb.trials(tmp_path / "jobs")["started_at"].dtype == "datetime64[us, UTC]"
