"""Which tasks are valid where: the oracle must score full marks there, and doing nothing must not."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harbor_nb._display import Shown

_TASK = ["source", "task", "task_checksum"]


class Calibration(Shown):
    """Tasks and environments, each valid or not, from trials of the oracle and of nop.

    Args:
        trials: A trials frame that holds both agents.

    Attributes:
        table: A line a task and environment: valid, reason, the lowest reward of the oracle, the highest of nop.
    """

    def __init__(self, trials: pd.DataFrame) -> None:
        frame = trials[trials["agent"].isin(["oracle", "nop"])].copy()
        frame[_TASK] = frame[_TASK].astype(object).fillna("").astype(str)
        rows = []
        for key, part in frame.groupby([*_TASK, "environment"]):
            worst, best = (part.loc[part["agent"] == agent, "reward"] for agent in ("oracle", "nop"))
            reason = _reason(part, worst, best)
            figures = {"oracle": worst.min(), "nop": best.max(), "valid": not reason, "reason": reason}
            rows.append(dict(zip([*_TASK, "environment"], key, strict=True)) | figures)
        self.table = pd.DataFrame(rows, columns=[*_TASK, "environment", "valid", "reason", "oracle", "nop"])

    def invalid(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Return the tasks that are not valid on some environment of these trials, each with its reason."""
        here = self.table[self.table["environment"].isin(trials["environment"].unique()) & ~self.table["valid"]]
        reasons = here.assign(reason="not valid on " + here["environment"] + ": " + here["reason"])
        return reasons.groupby(_TASK)["reason"].agg("; ".join).reset_index()

    def unknown(self, trials: pd.DataFrame) -> int:
        """Count the tasks of these trials that were not calibrated on all their environments."""
        wanted = trials[[*_TASK, "environment"]].drop_duplicates()
        found = wanted.merge(self.table, how="left", on=[*_TASK, "environment"])
        return len(found.loc[found["valid"].isna(), _TASK].drop_duplicates())

    def __repr__(self) -> str:
        bad = self.table[~self.table["valid"]]
        lines = [f"  {row.task} on {row.environment}: {row.reason}" for row in bad.head(20).itertuples()]
        head = f"Calibration: {int(self.table['valid'].sum())} of {len(self.table)} tasks and environments are valid"
        return "\n".join([head, *lines, *(["  …"] if len(bad) > 20 else [])])


def _reason(part: pd.DataFrame, worst: Any, best: Any) -> str:
    """Say why a task is not valid there, or nothing."""
    told = []
    for agent, rewards in (("oracle", worst), ("nop", best)):
        if rewards.isna().any() or rewards.empty:
            faults = part.loc[(part["agent"] == agent) & part["reward"].isna(), "fault"].dropna().unique()
            told.append(f"{agent} has no reward ({', '.join(map(str, faults)) or 'not run'})")
    if (worst < 1).any():
        told.append(f"the oracle scores {worst.min():g}")
    if (best >= 1).any():
        told.append("doing nothing scores full marks")
    return ", ".join(told)


def calibrate(tasks: Any, environments: str | Sequence[str], attempts: int = 1, **plan: Any) -> Calibration:
    """Run the oracle and nop on every environment; say which tasks are valid there.

    Args:
        tasks: As `plan` takes them.
        environments: The environments to calibrate.
        attempts: Trials of each agent on each task; several show a task that a coin decides.
        **plan: Other arguments of `plan`, such as jobs_dir.

    Returns:
        The calibration, for `compare(..., calibration=...)`, which leaves out what is not valid and says so.

    Raises:
        BadInputError: What `plan` refuses.
        NotReadyError: No environment can run here.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.calibrate(harbor_nb.sample_tasks(), ["local", "docker"]).table  # doctest: +SKIP
    """
    from harbor_nb.running.planning import plan as make_plan

    jobs = make_plan(tasks, agents=["oracle", "nop"], environments=environments, attempts=attempts, **plan).launch()
    return Calibration(jobs.wait(progress=False).trials())
