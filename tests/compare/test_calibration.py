"""Which tasks are valid where, run for real on local; and what compare does with those that are not."""

import pandas as pd
import pytest

import harbor_nb
from harbor_nb.running.calibration import Calibration

_BROKEN = {
    "oracle-fails": (
        "exit 1",
        "test -f /tmp/done && echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt",
    ),
    "nothing-passes": ("true", "echo 1 > /logs/verifier/reward.txt"),
}


def make(folder, name, solution, test):
    sample = harbor_nb.sample_tasks() / "hello-world"
    for file in sample.rglob("*"):
        if file.is_file():
            target = folder / name / file.relative_to(sample)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    (folder / name / "solution/solve.sh").write_text(f"#!/bin/bash\n{solution}\n")
    (folder / name / "tests/test.sh").write_text(f"#!/bin/bash\n{test}\n")
    config = folder / name / "task.toml"
    config.write_text(config.read_text().replace("hello-world", name))


@pytest.mark.local
def test_calibrate_runs_oracle_and_nop(tmp_path):
    for name, (solution, test) in _BROKEN.items():
        make(tmp_path / "tasks", name, solution, test)
    make(tmp_path / "tasks", "good", "touch /tmp/done", _BROKEN["oracle-fails"][1])
    found = harbor_nb.calibrate(tmp_path / "tasks", "local", jobs_dir=tmp_path / "jobs")
    table = found.table.assign(task=found.table["task"].str.split("/").str[-1]).set_index("task")
    assert table["valid"].to_dict() == {"good": True, "nothing-passes": False, "oracle-fails": False}
    assert table.loc["oracle-fails", "reason"] == "the oracle scores 0"
    assert table.loc["nothing-passes", "reason"] == "doing nothing scores full marks"
    assert "1 of 3 tasks and environments are valid" in repr(found)


@pytest.fixture
def calibration(trial):
    rows = [
        trial(task, side, float(agent == "oracle" and (task, side) != ("t0", "daytona")), agent=agent)
        for task in ("t0", "t1", "t2") for side in ("docker", "daytona") for agent in ("oracle", "nop")
    ]  # fmt: skip
    return Calibration(pd.DataFrame(rows))


def test_compare_leaves_out_what_is_not_valid(frame, calibration):
    data = frame({"docker": [1, 1, 0, 1], "daytona": [0, 1, 0, 1]})
    found = harbor_nb.compare(data, calibration=calibration)
    assert set(found.pairs["task"]) == {"t1", "t2", "t3"}
    assert "Tasks left out: 1 (not valid on daytona: the oracle scores 0)." in found.headline
    assert "1 of the compared tasks were not calibrated on every environment." in found.notes
    assert len(harbor_nb.compare(data).pairs) == 4


def test_a_task_without_an_oracle_reward_is_not_valid(trial):
    rows = [
        trial("t", "docker", exception="DaytonaError", fault="infrastructure", agent="oracle"),
        trial("u", "docker", 1.0, agent="oracle"),
    ]
    table = Calibration(pd.DataFrame(rows)).table.set_index("task")
    assert table.loc["t", "reason"] == "oracle has no reward (infrastructure), nop has no reward (not run)"
    assert table.loc["u", "reason"] == "nop has no reward (not run)"
