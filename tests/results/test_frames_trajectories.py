"""Trajectories of any ATIF version, whole or step by step, as a frame or as Parquet."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from harbor.models.trajectories import Trajectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harbor_nb
from harbor_nb.results.frames import _trajectories

ROOT = Path(__file__).resolve().parents[2]
CALL = {"tool_call_id": "c1", "function_name": "bash", "arguments": {"cmd": 'echo "}{][\\" \n'}}
PICTURE = {"media_type": "image/png", "path": "a.png"}
STEPS = [
    {"step_id": 1, "source": "user", "message": 'quote " back\\slash {[ \\" ünï \U0001f600'},
    {
        "step_id": 2,
        "source": "agent",
        "timestamp": "2026-01-01T00:00:00.5Z",
        "message": [{"type": "text", "text": "see"}, {"type": "image", "source": PICTURE}],
        "reasoning_content": "why",
        "tool_calls": [CALL, {**CALL, "tool_call_id": "c2", "function_name": "read"}],
        "observation": {"results": [{"source_call_id": "c1", "content": "one"}, {"source_call_id": "c2"}]},
        "metrics": {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 3, "cost_usd": 0.01},
    },
    {"step_id": 3, "source": "agent", "message": "", "model_name": "other", "is_copied_context": True},
]  # fmt: skip


def document(version="ATIF-v1.8", **more):
    agent = {"name": "a", "version": "1", "model_name": "m"}
    return {"schema_version": version, "session_id": "s", "agent": agent, "steps": STEPS, **more}


def make(tmp_path, content, name="agent/trajectory.json"):
    trial = tmp_path / "jobs/job/t__1"
    path = trial / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (trial / "config.json").write_text('{"trial_name": "t__1", "task": {"path": "t"}}')
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / "jobs"


def check(frame):
    assert frame["step_id"].tolist() == [1, 2, 3]
    assert frame["source"].tolist() == ["user", "agent", "agent"]
    assert frame["model"].fillna("-").tolist() == ["-", "m", "other"]
    assert frame["text"].tolist() == [STEPS[0]["message"], "see\n[image: a.png]", ""]
    assert frame["tools"].fillna("-").tolist() == ["-", "bash, read", "-"]
    assert frame["n_tool_calls"].tolist() == [0, 2, 0]
    assert json.loads(frame["tool_calls"][1]) == STEPS[1]["tool_calls"]
    assert frame["observation"][1] == "one"
    assert frame["time"][1] == pd.Timestamp("2026-01-01T00:00:00.5Z")
    assert frame.loc[1, ["tokens_in", "tokens_cached", "tokens_out", "cost_usd"]].tolist() == [10, 4, 3, 0.01]
    assert frame["tokens_in"].isna().tolist() == [True, False, True]
    assert frame["copied"].fillna(False).tolist() == [False, False, True]
    assert frame["reasoning"][1] == "why"


@pytest.mark.parametrize("minor", range(9))
@pytest.mark.parametrize("streamed", [False, True])
def test_any_version(tmp_path, monkeypatch, minor, streamed):
    content = document(f"ATIF-v1.{minor}")
    Trajectory.model_validate(content)  # Harbor reads it too
    if streamed:
        monkeypatch.setattr(_trajectories, "_WHOLE", 0)
        monkeypatch.setattr(_trajectories, "_CHUNK", 7)
    frame = harbor_nb.trajectory_steps(make(tmp_path, content))
    check(frame)
    assert (frame["schema_version"] == f"ATIF-v1.{minor}").all()
    assert (frame["trajectory_id"] == "s").all()


def test_subagents_continuations_and_task_steps(tmp_path, monkeypatch):
    jobs = make(tmp_path, document(subagent_trajectories=[document(trajectory_id="sub")]))
    make(tmp_path, document(), "agent/trajectory.cont-1.json")
    make(tmp_path, document(), "user-agent/trajectory.json")
    make(tmp_path, document(), "steps/one/agent/trajectory.json")
    frame = harbor_nb.trajectory_steps(jobs)
    assert len(frame) == 15
    assert frame.groupby(["file", "trajectory"]).size().to_dict() == {
        ("agent/trajectory.cont-1.json", 0): 3,
        ("agent/trajectory.json", 0): 3,
        ("agent/trajectory.json", 1): 3,
        ("steps/one/agent/trajectory.json", 0): 3,
        ("user-agent/trajectory.json", 0): 3,
    }
    assert frame["task_step"].dropna().unique().tolist() == ["one"]
    monkeypatch.setattr(_trajectories, "_WHOLE", 0)
    pd.testing.assert_frame_equal(harbor_nb.trajectory_steps(jobs), frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(alphabet='a"\\{}[]:, é', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k"{]\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.lists(JSON, max_size=4), head=JSON, chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_step_by_step_is_the_same_as_whole(tmp_path, monkeypatch, extra, head, chunk, indent):
    steps = [{"step_id": number, "message": "m", "extra": value} for number, value in enumerate(extra)]
    content = {"notes": head, "schema_version": "v", "extra": head, "steps": steps, "final_metrics": {"extra": head}}
    path = tmp_path / "t.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=bool(chunk % 2)), encoding="utf-8")
    monkeypatch.setattr(_trajectories, "_CHUNK", chunk)
    with path.open("rb") as file:
        found = [json.loads(data) for key, data in _trajectories._elements(file) if key == b"steps"]
    assert found == steps


@pytest.mark.parametrize("streamed", [False, True])
def test_broken_trajectories_are_named(tmp_path, monkeypatch, streamed):
    if streamed:
        monkeypatch.setattr(_trajectories, "_WHOLE", 0)
    whole = json.dumps(document())
    jobs = make(tmp_path, whole)
    make(tmp_path, whole[: len(whole) // 2], "agent/trajectory.cut.json")
    make(tmp_path, "\0\xff", "agent/trajectory.noise.json")
    make(tmp_path, '{"steps": [{"step_id": "x"}]}', "agent/trajectory.type.json")
    make(
        tmp_path,
        '{"steps": [{"step_id": NaN, "metrics": {"cost_usd": Infinity, "prompt_tokens": 1e400}}]}',
        "agent/trajectory.odd.json",
    )
    frame = harbor_nb.trajectory_steps(jobs)
    check(frame[frame["file"] == "agent/trajectory.json"].reset_index(drop=True))
    odd = frame[frame["file"] == "agent/trajectory.odd.json"]
    assert len(odd) == 1
    assert odd[["step_id", "cost_usd", "tokens_in"]].isna().all().all()
    lost = {line.split(": ")[0].rpartition("/")[2] for line in frame.attrs["unreadable"]}
    assert lost >= {"trajectory.cut.json", "trajectory.type.json"}
    told = harbor_nb.unreadable(jobs, trajectories=True)
    assert {f"agent/{name}" for name in lost} <= set(told["file"])


def test_only_what_is_asked_for_is_decoded(tmp_path):
    jobs = make(tmp_path, document())
    frame = harbor_nb.trajectory_steps(jobs, columns=["trial", "tokens_out"])
    assert frame.columns.tolist() == ["trial", "tokens_out"]
    assert set(_trajectories._kinds(("tokens_out",))[0].__struct_fields__) == {"metrics"}


PEAK = """
import re, sys
import harbor_nb, pyarrow.dataset
harbor_nb.trials(sys.argv[1]); harbor_nb.to_parquet
def peak():  # ru_maxrss would hold the parent's, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
print(len(harbor_nb.trajectory_steps(sys.argv[1], columns=["step_id"])))
harbor_nb.to_parquet(sys.argv[1], sys.argv[2])
print((peak() - before) / 1024)
"""


def large(tmp_path, megabytes):
    jobs = make(tmp_path, "")
    text = json.dumps({"step_id": 7, "source": "agent", "message": "x" * 2**20, "tool_calls": [CALL]})
    with (jobs / "job/t__1/agent/trajectory.json").open("w") as file:
        file.write('{"schema_version": "ATIF-v1.6", "agent": {"name": "a"}, "steps": [' + text)
        for _ in range(megabytes - 1):
            file.write(",\n" + text)
        file.write("]}")
    return jobs


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("megabytes", [150, pytest.param(1024, marks=pytest.mark.deep)])
def test_a_huge_trajectory_in_flat_memory(tmp_path, megabytes):
    jobs = large(tmp_path, megabytes)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(jobs), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "HARBOR_NB_CACHE": "off"},
    )
    assert done.returncode == 0, done.stderr
    count, grown_mb = done.stdout.split()
    assert int(count) == megabytes
    assert float(grown_mb) < 300


def test_parquet_is_partitioned_by_job(tmp_path):
    jobs = make(tmp_path, document())
    other = tmp_path / "jobs/an odd = name & ünï/t__1/agent"
    other.mkdir(parents=True)
    (other / "trajectory.json").write_text(json.dumps(document()))
    out = harbor_nb.to_parquet(jobs, tmp_path / "out", columns=["trial", "step_id", "text"])
    harbor_nb.to_parquet(jobs, out, columns=["trial", "step_id", "text"])  # again: replaced, not doubled
    frame = pd.read_parquet(out)
    assert len(frame) == 6
    assert set(frame["job"].astype(str)) == {"job", "an odd = name & ünï"}
    assert [path.name for path in out.glob("job=job/*")] == ["part-0.parquet"]
    back = pd.read_parquet(harbor_nb.to_parquet(jobs, tmp_path / "trials", frame="trials"))
    assert sorted(back["trial"]) == sorted(harbor_nb.trials(jobs)["trial"])


@pytest.mark.deep
def test_the_query_of_the_docs(tmp_path, monkeypatch):
    pytest.importorskip("duckdb")
    make(tmp_path, document())
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/frames.md").read_text()
    code = page.partition("## More than fits in memory")[2].partition("```python\n")[2].partition("```")[0]
    *before, query = code.strip().splitlines()
    names: dict[str, object] = {}
    exec("\n".join(before), names)
    assert sorted(eval(query, names).fetchall(), key=str) == [("job", "agent", 2, 3), ("job", "user", 1, None)]
    assert (tmp_path / "steps/job=job").is_dir()
