"""The summary's counts, intervals and Styler."""

import json

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

import harbor_nb
from harbor_nb.errors import BadInputError
from harbor_nb.results.summaries import interval


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARBOR_NB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("passes", "count"), [(0, 5), (5, 5), (1, 1), (3, 11), (500, 1000)])
def test_a_pass_rates_interval_is_wilsons(passes, count):
    expected = proportion_confint(passes, count, method="wilson")
    assert interval(np.r_[np.ones(passes), np.zeros(count - passes)]) == pytest.approx(expected, abs=1e-12)


def test_a_means_interval_is_students():
    from scipy import stats

    values = np.array([0.1, 0.5, 0.9, 0.4])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert interval(values) == pytest.approx(expected)
    assert np.isnan(interval(np.array([0.5]))).all()
    assert np.isnan(interval(np.array([]))).all()


def frame(rows):
    names = ["status", "reward", "fault", "agent", "tokens_in", "tokens_cached", "tokens_out", "cost_usd"]
    seconds = ["environment_setup_sec", "agent_setup_sec", "agent_sec", "verifier_sec", "teardown_sec", "total_sec"]
    made = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows]).astype(
        {"fault": "string", "agent": "string", "status": "string", "reward": float, "cost_usd": float}
        | dict.fromkeys(["tokens_in", "tokens_cached", "tokens_out"], "Int64")
    )
    return made.assign(**dict.fromkeys(seconds, 1.5))


ROWS = [
    ("scored", 1, None, "a", 10, None, 1, 0.5),
    ("scored", 0, None, "a", None, None, 1, None),
    ("unscored", None, "infrastructure", "a", None, None, None, None),
    ("unscored", None, "agent", "a", None, None, None, None),
    ("running", None, None, "a", None, None, None, None),
    ("scored", 0.5, "agent", None, None, None, None, None),
]


def test_what_counts_and_what_is_missing():
    lines = harbor_nb.summary(frame(ROWS), by="agent").set_index("agent")
    a = lines.loc["a"]
    assert a[["n", "scored", "missing", "unfinished"]].tolist() == [4, 3, 1, 1]
    assert a["score"] == pytest.approx(1 / 3)  # the agent's own crash is a 0, the lost sandbox is missing
    assert a["score_if_missing_zero"] == 0.25
    assert a["faults"] == "infrastructure 1, agent 1"
    assert (a["tokens_in"], a["tokens_out"], a["cost_usd"], a["agent_sec"]) == (10, 2, 0.5, 1.5)
    assert pd.isna(a["tokens_cached"])
    assert len(lines) == 2  # a missing group is a group
    whole = harbor_nb.summary(frame(ROWS), by=[])
    assert whole["n"].item() == 5


def test_the_styler_shows_and_escapes():
    hostile = frame([("scored", 1, "agent", "<script>alert(1)</script>", 1, 1, 1, 1.0)])
    html = harbor_nb.summary(hostile, by=["agent"]).style.to_html()
    assert "<script" not in html
    assert "100%" in html
    assert "⚠ agent 1" in html
    assert "var(--jp-" in html
    assert harbor_nb.summary(frame(ROWS)[:0], by=["agent"]).empty
    assert isinstance(harbor_nb.summary(frame(ROWS), by=["agent"]).head(1), pd.DataFrame)


def test_a_column_that_is_not_there():
    with pytest.raises(BadInputError, match="no column 'agnet'"):
        harbor_nb.summary(frame(ROWS), by=["agnet"])


def test_over_a_folder(tmp_path):
    trial = tmp_path / "jobs/job/t__1"
    trial.mkdir(parents=True)
    result = {"task_name": "t", "config": {"agent": {"name": "oracle"}}, "verifier_result": {"rewards": {"reward": 1}}}
    (trial / "result.json").write_text(json.dumps(result))
    (trial / "config.json").write_text('{"trial_name": "t__1"}')
    line = harbor_nb.summary(tmp_path / "jobs").iloc[0]
    assert line[["environment", "agent", "n", "score"]].tolist() == ["docker", "oracle", 1, 1.0]
