"""The three docker/daytona pairs that a stranger published: counts, flips and p-values, computed here independently."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as theirs

import harbor_nb

pytestmark = pytest.mark.real_jobs
PAIRS = [
    ("2026-03-26__23-35-42", "2026-03-29__20-14-39"),
    ("2026-03-26__23-59-57", "2026-03-29__20-34-16"),
    ("2026-03-27__12-34-21", "2026-03-29__20-45-57"),
]


def rewards(folder: Path) -> dict[str, float]:
    """Read the rewards with nothing but json."""
    found = {}
    for file in folder.glob("*/result.json"):
        result = json.loads(file.read_text())
        found[result["task_name"]] = result["verifier_result"]["rewards"]["reward"]
    return found


@pytest.mark.parametrize(("docker", "daytona"), PAIRS)
def test_counts_flips_and_p_value(real_jobs, docker, daytona):
    jobs = real_jobs / "DESU-CLUB__beam-benchmark/jobs"
    before, after = rewards(jobs / docker), rewards(jobs / daytona)
    found = harbor_nb.compare([jobs / docker, jobs / daytona])
    assert found.baseline == "docker"
    assert set(before) == set(after)
    row = found.table.set_index("missing").loc["left out"]
    assert row["tasks"] == len(before) == 11
    assert row["mean_baseline"] == pytest.approx(np.mean(list(before.values())))
    assert row["mean_side"] == pytest.approx(np.mean(list(after.values())))
    expected = {
        "fixed": {task for task in before if after[task] > before[task]},
        "broken": {task for task in before if after[task] < before[task]},
        "both": {task for task in before if before[task] == after[task] == 1},
        "neither": {task for task in before if before[task] == after[task] == 0},
    }
    flips = found.flips.set_index("flip")["tasks"]
    assert {name: set(tasks) for name, tasks in flips.items()} == expected
    fixed, broken = len(expected["fixed"]), len(expected["broken"])
    table = [[len(expected["both"]), broken], [fixed, len(expected["neither"])]]
    assert row["p_value"] == pytest.approx(theirs(table, exact=True).pvalue)
    differences = np.array([after[task] - before[task] for task in before])
    if differences.any():
        permuted = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
        )
        assert row["p_value"] == pytest.approx(permuted.pvalue)
    assert found.verdict == "inconclusive"
    assert "agent version (v0.6.4 | v0.6.6)" in found.headline
    assert "so this is not put down to the environment" in found.headline


def test_pairs_whose_checksums_all_differ(real_jobs):
    found = harbor_nb.compare(real_jobs / "DESU-CLUB__skypilot-benchmark/jobs")
    assert found.pairs.empty
    assert found.verdict == "none"
    assert found.excluded["trials"].sum() == 20
    assert found.excluded["left_out"].all()
    assert found.headline.startswith("No verdict on daytona against docker: no task could be paired.")


def test_all_pairs_at_once_cluster_by_task(real_jobs):
    found = harbor_nb.compare(real_jobs / "DESU-CLUB__beam-benchmark/jobs")
    assert len(found.pairs) == 33
    assert found.table["tasks"].tolist() == [11, 11]
    assert found.excluded["reason"].unique().tolist() == ["not on daytona"]
    assert found.excluded["trials"].sum() == 7
