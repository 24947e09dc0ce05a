"""What a comparison tells beside the difference: flips, pass@k, time and cost ratios, failures."""

from typing import Any

import numpy as np
import pandas as pd

from harbor_nb.results import intervals
from harbor_nb.results import statistics as stat
from harbor_nb.results.summaries import SECONDS, interval

_MEASURES = {**SECONDS, "cost_usd": "cost (USD)"}
_COLD = ("environment setup, first start of a task", "environment setup, later starts")
_K = (1, 2, 3, 5, 10, 20, 50, 100)


def flips(pairs: pd.DataFrame, middle: float) -> pd.DataFrame:
    """Sort paired tasks into fixed (higher than at the baseline), broken (lower), both and neither (equal).

    Args:
        pairs: One row a pair.
        middle: Equal means from here on are `both`, below it `neither`; 0.5 for rewards in 0..1.

    Returns:
        flip, pairs (how many) and tasks (their names).
    """
    known = pairs.dropna(subset=["difference"])
    change = known["difference"].round(12)
    equal = np.where(known["mean"] >= middle, "both", "neither")
    kind = np.where(change > 0, "fixed", np.where(change < 0, "broken", equal))
    labels = known["task"]
    for name in ("agent", "model", "environment"):
        if name in known and known[name].nunique() > 1:
            labels = labels + ", " + known[name]
    names = {name: labels[kind == name].tolist() for name in ("fixed", "broken", "both", "neither")}
    return pd.DataFrame({"flip": list(names), "pairs": [*map(len, names.values())], "tasks": list(names.values())})


def pass_at_k(trials: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Estimate pass@k of each side over its paired tasks, for the k that every task's attempts allow.

    The interval is Wilson's for k = 1 with one attempt, else Student's t over tasks, kept within 0..1.
    """
    rows = []
    cells = trials.dropna(subset=["value"]).groupby(["side", *key])["value"].agg(n="size", c="sum")
    for side, part in cells.groupby("side"):
        for k in (k for k in _K if k <= part["n"].min()):
            values = stat.pass_at_k(part["n"], part["c"], k)
            low, high = interval(values)
            ends = {"low": max(low, 0.0), "high": min(high, 1.0)}
            rows.append({"side": side, "k": k, "pass_at_k": values.mean(), **ends, "tasks": len(values)})
    return pd.DataFrame(rows, columns=["side", "k", "pass_at_k", "low", "high", "tasks"])


def _ratio(trials: pd.DataFrame, seconds: Any, key: list[str], baseline: str, other: str) -> dict[str, Any] | None:
    """Return the ratio of geometric means over tasks that have the measure on both sides."""
    logs = np.log(seconds.where(seconds > 0))
    means = logs.groupby([trials[name] for name in (*key, "side")]).mean().dropna().unstack("side")
    means = means.reindex(columns=[baseline, other]).dropna()
    if means.empty:
        return None
    change = (means[other] - means[baseline]).groupby(level=[0, 1, 2]).mean().to_numpy()
    low, high = np.exp(intervals.student(change))
    here, there = np.exp(means.mean())
    ends = {"low": low, "high": high}
    return {"tasks": len(change), "baseline": here, "side": there, "ratio": np.exp(change.mean()), **ends}


def phases(trials: pd.DataFrame, key: list[str], baseline: str, other: str) -> pd.DataFrame:
    """Compare the time of each phase, and the cost where it is reported, task by task.

    Args:
        trials: The trials of the paired tasks; what is missing has no time to compare.
        key: The columns that pair, task first.
        baseline: The baseline.
        other: The compared side.

    Returns:
        phase, tasks, baseline and side (geometric means; seconds, USD), ratio and its 95 % interval (Student's
        t over tasks on logarithms). Where tasks have several attempts a job, first and later starts are told apart.
    """
    rows = []
    trials = trials[trials["reason"].isna()]
    measures = [(label, trials[name].astype("float64")) for name, label in _MEASURES.items() if name in trials]
    if "environment_setup_sec" in trials and len(trials) and trials["started_at"].notna().all():
        groups = trials.groupby(["job_path", "side", *key])["started_at"]
        first = trials["started_at"] == groups.transform("min")
        if (~first).any():
            setup = trials["environment_setup_sec"].astype("float64")
            measures[1:1] = [(_COLD[0], setup.where(first)), (_COLD[1], setup.where(~first))]
    for label, values in measures:
        found = _ratio(trials, values, key, baseline, other)
        if found is not None:
            rows.append({"phase": label, **found})
    return pd.DataFrame(rows, columns=["phase", "tasks", "baseline", "side", "ratio", "low", "high"])


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Count the failures of each side by fault, known failure and exception."""
    told = trials.loc[trials["exception"].notna(), ["side", "fault", "failure", "exception"]]
    texts = told.astype(object).where(told.notna(), "")
    return texts.groupby(list(texts.columns)).size().rename("trials").reset_index()
