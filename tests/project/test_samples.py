"""The sample tasks score right on `local` and on docker alike, trial by trial."""

import os
from pathlib import Path

import pandas as pd
import pytest

import harbor_nb

TASKS = {"hello-world", "auth-token-race-condition", "two-steps", "report-artifact", "flaky-network"}


def run_samples(folder: Path, environment: str) -> pd.DataFrame:
    jobs = harbor_nb.plan(
        harbor_nb.sample_tasks(),
        agents=["oracle", "nop"],
        environments=environment,
        name="samples",
        jobs_dir=folder,
    ).launch()
    jobs.wait(timeout=110, progress=False)
    trials = jobs.trials()
    trials["task"] = trials["task"].str.split("/").str[-1]
    return trials


def check_marks(trials: pd.DataFrame) -> None:
    assert set(trials["task"]) == TASKS
    assert len(trials) == 2 * len(TASKS)
    assert trials["exception"].isna().all(), trials["message"].dropna().tolist()
    certain = trials[trials["task"] != "flaky-network"]
    assert (certain.loc[certain["agent"] == "oracle", "reward"] == 1.0).all()
    assert (certain.loc[certain["agent"] == "nop", "reward"] == 0.0).all()
    assert trials.loc[(trials["task"] == "flaky-network") & (trials["agent"] == "nop"), "reward"].tolist() == [0.0]


@pytest.mark.local
def test_samples_score_right_on_local(tmp_path: Path):
    check_marks(run_samples(tmp_path, "local"))


@pytest.mark.local
@pytest.mark.docker
@pytest.mark.timeout(240)
def test_docker_gives_the_same_rewards_as_local_trial_by_trial(tmp_path: Path):
    local, docker = run_samples(tmp_path, "local"), run_samples(tmp_path, "docker")
    check_marks(docker)
    both = local.merge(docker, on=["task", "agent", "attempt"], suffixes=("_local", "_docker"))
    both = both[both["task"] != "flaky-network"]
    assert len(both) == 8
    named = [
        column.removesuffix("_local") for column in both if column.startswith("reward") and column.endswith("_local")
    ]
    for name in named:
        pd.testing.assert_series_equal(both[f"{name}_local"], both[f"{name}_docker"], check_names=False)
    assert (both["task_checksum_local"] == both["task_checksum_docker"]).all()


def test_flaky_network_falls_the_same_way_for_the_same_seed(tmp_path: Path):
    """The coin itself, run as the task runs it, in a folder that stands for /app."""
    import subprocess
    import sys

    code = (harbor_nb.sample_tasks() / "flaky-network/environment/download.py").read_text()
    outcomes = {}
    for seed in range(40):
        for repeat in range(2):
            app = tmp_path / f"{seed}-{repeat}"
            app.mkdir()
            script = app / "download.py"
            script.write_text(code.replace("/app", str(app)))
            env = os.environ | {"FLAKY_SEED": str(seed)}
            done = subprocess.run([sys.executable, "-S", "-E", script], env=env, capture_output=True)
            outcomes[seed, repeat] = done.returncode == 0
            assert (app / "data.txt").exists() == outcomes[seed, repeat]
    assert all(outcomes[seed, 0] == outcomes[seed, 1] for seed in range(40))
    assert 20 <= sum(outcomes[seed, 0] for seed in range(40)) <= 36
