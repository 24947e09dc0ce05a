"""The cache may be cold, warm, stale, damaged, shared or gone: the frames are the same."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather

import harbor_nb
from harbor_nb.results import _cache, _loading

COUNT = 60
LOCAL = "harbor_nb.local:LocalEnvironment"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path, reward, age_sec=3600.0, **changes):
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "task_name": "t",
                "config": {
                    "environment": {"import_path": "harbor_nb.local:LocalEnvironment"},
                    "agent": {"name": "nop"},
                },
                "verifier_result": {"rewards": {"reward": reward}},
                "started_at": "2026-03-27T06:43:38Z",
                **changes,
            }
        )
    )
    os.utime(path, (time.time() - age_sec,) * 2)


@pytest.fixture
def job(tmp_path, cache):
    folder = tmp_path / "jobs/job"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"job_name": "job"}')
    for index in range(COUNT):
        write(folder / f"t__{index:03d}/result.json", float(index % 2))
    return folder


def opened(monkeypatch):
    """Count the results that are opened."""
    seen = []
    entry = _loading._entry
    monkeypatch.setattr(_loading, "_entry", lambda folder, name: seen.append(name) or entry(folder, name))
    return seen


def test_the_second_time_opens_nothing(job, monkeypatch):
    seen = opened(monkeypatch)
    first = harbor_nb.trials(job)
    assert len(seen) == COUNT
    pd.testing.assert_frame_equal(harbor_nb.trials(job), first)
    pd.testing.assert_frame_equal(harbor_nb.trials(job, ["reward", "trial"]), first[["reward", "trial"]])
    for name in ("rewards", "phases", "task_steps", "unreadable"):
        getattr(harbor_nb, name)(job)
    assert len(seen) == COUNT


def test_only_what_changed_is_read(job, monkeypatch):
    harbor_nb.trials(job)
    seen = opened(monkeypatch)
    write(job / "t__005/result.json", 0.5)
    write(job / "t__0055/result.json", 0.25)
    (job / "t__009/result.json").unlink()
    (job / "t__009").rmdir()
    frame = harbor_nb.trials(job).set_index("trial")
    assert len(seen) == 2
    assert len(frame) == COUNT
    assert frame.index.is_monotonic_increasing
    assert frame.loc["t__005", "reward"] == 0.5
    assert frame.loc["t__0055", "reward"] == 0.25
    assert "t__009" not in frame.index
    assert sorted(frame["attempt"]) == list(range(1, COUNT + 1))


def test_a_change_of_equal_size_and_time_is_seen_while_the_file_is_young(job):
    path = job / "t__001/result.json"
    write(path, 1.0, age_sec=0)
    stamp = path.stat()
    assert harbor_nb.trials(job).set_index("trial").loc["t__001", "reward"] == 1.0
    write(path, 0.0)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert harbor_nb.trials(job).set_index("trial").loc["t__001", "reward"] == 0.0


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "foreign", "folder", "gone"])
def test_a_damaged_cache_is_none(job, cache, damage):
    first = harbor_nb.trials(job)
    (file,) = cache.rglob("*.arrow")
    data = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "gone":
        foreign = pa.BufferOutputStream()
        feather.write_feather(pa.table({"trial": [1, 2]}), foreign)
        changed = {"empty": b"", "cut": data[: len(data) // 2], "noise": os.urandom(len(data))}
        changed["foreign"] = foreign.getvalue().to_pybytes()
        file.write_bytes(changed[damage])
    pd.testing.assert_frame_equal(harbor_nb.trials(job), first)
    pd.testing.assert_frame_equal(harbor_nb.trials(job), first)


def test_no_cache_where_it_cant_be_written(job, tmp_path, monkeypatch):
    first = harbor_nb.trials(job)
    (tmp_path / "file").write_text("")
    for setting in ("off", str(tmp_path / "file"), "/proc/nowhere"):
        monkeypatch.setenv("HARBOR_NB_CACHE", setting)
        pd.testing.assert_frame_equal(harbor_nb.trials(job), first)


def test_it_is_bounded_and_the_least_recent_goes(job, cache, tmp_path, monkeypatch):
    harbor_nb.trials(job)
    (first,) = cache.rglob("*.arrow")
    os.utime(first, (time.time() - 100,) * 2)
    monkeypatch.setattr(_cache, "MOST_BYTES", int(first.stat().st_size * 1.5))
    other = tmp_path / "jobs/other"
    job.rename(other)
    harbor_nb.trials(other)
    (left,) = cache.rglob("*.arrow")
    assert left != first


def test_another_version_is_not_read(job, monkeypatch):
    harbor_nb.trials(job)
    monkeypatch.setattr(_cache, "VERSION", _cache.VERSION + 1)
    seen = opened(monkeypatch)
    harbor_nb.trials(job)
    assert len(seen) == COUNT


def test_several_processes_at_once(job, cache):
    code = "import sys, harbor_nb\nfor _ in range(5): print(harbor_nb.trials(sys.argv[1])['reward'].sum())"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(job)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in running:
        out, _ = process.communicate()
        assert out.split() == [str(COUNT / 2)] * 5
    assert len(list(cache.rglob("*.arrow"))) == 1
    assert not list(cache.rglob("*.draft"))


def test_it_holds_no_secret(job, cache, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-verysecretvalue")
    raised = {"exception_type": "RuntimeError", "exception_message": "401 for sk-verysecretvalue"}
    steps = [{"step_name": "one", "exception_info": raised}]
    write(job / "t__001/result.json", 1.0, exception_info=raised, step_results=steps)
    frame = harbor_nb.trials(job).set_index("trial")
    assert "SOME_API_KEY" in frame.loc["t__001", "message"]
    harbor_nb.task_steps(job)
    (file,) = cache.rglob("*.arrow")
    assert b"verysecret" not in file.read_bytes()
    assert oct(file.parent.stat().st_mode)[-3:] == "700"


def test_what_needs_no_result_opens_none(job, monkeypatch):
    monkeypatch.setattr(_loading, "_entry", None)
    frame = harbor_nb.trials(job, columns=["job", "trial", "path", "practice"])
    assert len(frame) == COUNT
    assert Path(frame["path"].iloc[0]).is_dir()
    assert not frame["practice"].any()


def test_a_link_is_told_also_from_the_cache(job, tmp_path):
    first = harbor_nb.trials(job)
    (tmp_path / "elsewhere").mkdir()
    (job / "linked").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        frame = harbor_nb.trials(job)
        assert frame["status"].tolist() == [*first["status"], "unreadable"]
        assert frame["trial"].tolist() == [*first["trial"], "linked"]
