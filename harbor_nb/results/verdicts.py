"""From paired tasks to a verdict against a margin, and the words for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harbor_nb.results import intervals
from harbor_nb.results import statistics as stat

Array = np.ndarray[Any, Any]
SMALL = "equivalent, small difference detected"


@dataclass(frozen=True)
class Estimate:
    """The difference between one side and the baseline over paired tasks, each task one value.

    Args:
        pairs: One row a pair: source, task, task_checksum, mean_baseline, mean, n_baseline, n.
        binary: Whether every reward is 0 or 1.
        scale: Width of the outcome's range; 1 for rewards in 0..1.
    """

    pairs: pd.DataFrame
    binary: bool
    scale: float = 1.0

    @cached_property
    def by_task(self) -> pd.DataFrame:
        """The means of each task; several agents or models on one task are averaged, for they are not independent."""
        keyed = self.pairs.dropna(subset=["mean", "mean_baseline"])
        return keyed.groupby(["source", "task", "task_checksum"])[["mean_baseline", "mean"]].mean()

    @cached_property
    def d(self) -> Array:
        """The paired differences, shape (tasks,)."""
        return np.round((self.by_task["mean"] - self.by_task["mean_baseline"]).to_numpy(float), 12)

    @cached_property
    def single(self) -> bool:
        """Whether each task has one attempt a side and the outcome is pass or fail."""
        once = bool((self.pairs[["n_baseline", "n"]] == 1).all(axis=None))
        return self.binary and once and len(self.by_task) == len(self.pairs)

    @cached_property
    def balanced(self) -> bool:
        """Whether both sides have about as many attempts, so that without a difference either sign is as likely."""
        attempts = self.pairs[["n_baseline", "n"]].sum()
        return bool(3 * attempts.min() >= 2 * attempts.max())

    def interval(self, level: float, *, cautious: bool = False) -> intervals.Interval:
        """Return the interval of the mean difference; `cautious` for a claim of equivalence."""
        if not len(self.d):
            return intervals.Interval(float("nan"), float("nan"), "no paired task")
        return intervals.mean_interval(
            self.d, level, binary=self.single, scale=self.scale, cautious=cautious, balanced=self.balanced
        )

    @cached_property
    def test(self) -> tuple[float, str]:
        """The p-value of the exact test, and its name."""
        if not len(self.d):
            return float("nan"), "none"
        if self.single:
            return stat.mcnemar(int((self.d > 0).sum()), int((self.d < 0).sum())), "exact McNemar"
        uneven = "" if self.balanced else ", not exact: one side has more attempts"
        return stat.sign_flip(self.d), f"sign-flip permutation over tasks{uneven}"

    def differs(self, alpha: float) -> bool:
        """Tell whether the (1 - alpha) interval leaves out 0."""
        low, high, _ = self.interval(1 - alpha)
        return bool(low > 0 or high < 0)

    def within(self, margin: float, alpha: float) -> bool:
        """Tell whether the (1 - 2 alpha) interval lies inside the margin: two one-sided tests (Schuirmann 1987)."""
        low, high, _ = self.interval(1 - 2 * alpha, cautious=True)
        return bool(-margin < low and high < margin)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The figures of a line of `Comparison.table`."""
        (low, high, method), (low90, high90, _) = self.interval(0.95), self.interval(0.90, cautious=True)
        bca = stat.bca(self.d)
        p_value, test = self.test
        means = self.by_task.mean()
        return {
            "tasks": len(self.d), "mean_baseline": means["mean_baseline"], "mean_side": means["mean"],
            "difference": self.d.mean() if len(self.d) else float("nan"), "low": low, "high": high,
            "low_90": low90, "high_90": high90, "bca_low": bca[0], "bca_high": bca[1], "p_value": p_value,
            "sd": self.d.std(ddof=1) if len(self.d) > 1 else float("nan"), "method": method, "test": test,
        }  # fmt: skip


def _claimed(estimates: list[Estimate], by: list[float], claim: Callable[[Estimate, float], bool]) -> set[int]:
    """Return which claims hold, Holm's steps from the least `by`: the i-th of m at 5 % / (m - i), until one fails."""
    held: set[int] = set()
    for step, place in enumerate(np.argsort(by, kind="stable")):
        if not claim(estimates[place], 0.05 / (len(by) - step)):
            break
        held.add(int(place))
    return held


def verdicts(estimates: list[Estimate], margin: float) -> list[str]:
    """Return the verdict of each comparison; several at once are corrected (Holm 1979).

    Args:
        estimates: One a compared side.
        margin: The largest difference that counts as none, in units of the outcome.

    Returns:
        `equivalent`, `equivalent, small difference detected`, `better`, `worse` or `inconclusive`.
    """
    sizes = [abs(estimate.d.mean()) if len(estimate.d) else 9e9 for estimate in estimates]
    apart = _claimed(estimates, [estimate.test[0] for estimate in estimates], Estimate.differs)
    alike = _claimed(estimates, sizes, lambda estimate, alpha: estimate.within(margin, alpha))
    words = []
    for place, estimate in enumerate(estimates):
        direction = "better" if len(estimate.d) and estimate.d.mean() > 0 else "worse"
        same = SMALL if place in apart else "equivalent"
        words.append(same if place in alike else direction if place in apart else "inconclusive")
    return words


def needs(estimate: Estimate, margin: float) -> str:
    """Say how many tasks or attempts would settle an inconclusive comparison, and on what assumption."""
    tasks = len(estimate.d)
    if tasks < 2:
        return "One task tells nothing about others: it takes many tasks, each paired, to tell."
    sd, assumed = estimate.d.std(ddof=1), "the spread between tasks seen here"
    least = np.sqrt(max(2.0, (estimate.d != 0).sum()) / tasks) * estimate.scale / 2
    if sd < least / 2:
        sd, assumed = least, "that a few tasks would flip"
    alike = stat.tasks_needed(margin / estimate.scale, sd / estimate.scale, equivalence=True)
    apart = stat.tasks_needed(margin / estimate.scale, sd / estimate.scale)
    told = (
        f"To settle it at 80 % power, assuming {assumed} (standard deviation {sd:.2f}): about {alike:,} tasks would "
        f"show equivalence if nothing differs, {apart:,} a difference as large as the margin; here are {tasks:,}."
    )
    return f"{told} {_attempts(estimate, sd, max(alike, tasks + 1))}"


def _attempts(estimate: Estimate, sd: float, wanted: int) -> str:
    """Say what more attempts on the same tasks would do: they shrink the noise of attempts, not that of tasks."""
    if not estimate.binary:
        return "More attempts on these tasks help only as far as the spread is noise between attempts."
    sides = [(estimate.pairs[f"mean{side}"], estimate.pairs[f"n{side}"]) for side in ("_baseline", "")]
    here, there = (mean * (1 - mean) / (n - 1).where(n > 1) for mean, n in sides)
    noise = (here + there).mean()
    basis, between = "as the attempts here suggest", max(sd**2 - noise, 0.0)
    if np.isnan(noise):
        basis, noise, between = "if all of the spread is noise between attempts", sd**2, 0.0
    room = sd**2 * len(estimate.d) / wanted - between
    if room <= 0:
        return "More attempts on these tasks alone would not: the tasks themselves differ too much."
    more = int(np.ceil(noise * min(n.mean() for _, n in sides) / room))
    return f"Or about {more:,} attempts a side on each of these tasks, {basis}."


def amount(value: float, scale: float, *, sign: bool = True, unit: bool = True) -> str:
    """Return a difference in percentage points, or in the outcome's own unit where that is not 0..1."""
    if np.isnan(value):
        return "unknown"
    plus = "+" if sign else ""
    text = f"{100 * value:{plus}.1f}{' points' if unit else ''}" if scale == 1 else f"{value:{plus}.3g}"
    return text.replace("-", "−")


def tasks(count: int, kind: str = "") -> str:
    """Return a number of tasks in words."""
    return f"{count:,} {kind}task{'s' if count != 1 else ''}"


def sentence(row: Any, baseline: str, *, margin: float, scale: float, repeats: bool) -> str:
    """Return the sentence that a person would put in a report.

    Args:
        row: A line of `Comparison.table`.
        baseline: The baseline.
        margin: The margin of equivalence.
        scale: Width of the outcome's range.
        repeats: Whether the sides are repeats of one setting, so that what differs is chance.

    Returns:
        Verdict, difference, the interval used and the number of tasks.
    """
    level, low, high = (90, row.low_90, row.high_90) if "equivalent" in row.verdict else (95, row.low, row.high)
    figures = (
        f"{amount(row.difference, scale)}, {level} % interval {amount(low, scale, unit=False)} to "
        f"{amount(high, scale, unit=False)}, over {tasks(row.tasks, 'paired ')}"
    )
    if (apart := row.low > 0 or row.high < 0) != (row.p_value <= 0.05):
        zero = "leaves out 0" if apart else "holds 0"
        figures += f" (the 95 % interval {zero}, yet p = {row.p_value:.3g} by {row.test})"
    limit = f"±{amount(margin, scale, sign=False)}"
    if repeats:
        chance = "more than chance usually gives: something that is not recorded differs, or it is the one in twenty"
        if row.verdict not in {"better", "worse"}:
            chance = "this is how far repeats of one setting come apart by chance"
        return f"Between the repeats {baseline} and {row.side} the difference is {figures}; {chance}."
    said = {
        "equivalent": f"is equivalent to {baseline} within {limit}",
        SMALL: f"is equivalent to {baseline} within {limit}, with a small difference detected",
        "better": f"scores higher than {baseline}",
        "worse": f"scores lower than {baseline}",
        "inconclusive": f"can be called neither equal to {baseline} within {limit} nor different",
    }[row.verdict]
    if row.verdict == "inconclusive" and apart:
        said += " once several comparisons are corrected for"
    return f"{row.side} {said}: {figures}."
