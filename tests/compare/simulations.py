"""Simulated comparisons of known truth: error rates of the verdict's intervals and tests, and of the naive ones."""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats

from harbor_nb.results import intervals
from harbor_nb.results import statistics as stat


class Rates(NamedTuple):
    """Shares of the simulations, and the mean count of tasks that differ."""

    rejected: float  # the 95 % interval leaves out 0
    exact: float  # the exact test's p-value is at most 0.05
    naive: float  # two proportions over trials, missing left out
    naive_zero: float  # the same, a missing trial counted as a failure: what a viewer of averages shows
    covered: float  # the 95 % interval holds the truth
    equivalent: float  # the 90 % interval lies within the margin
    flipped: float


def two_proportions(passed_a, tried_a, passed_b, tried_b):
    """Test two proportions over all trials, pooled: what a table of averages invites to."""
    pooled = (passed_a + passed_b) / (tried_a + tried_b)
    spread = np.sqrt(pooled * (1 - pooled) * (1 / tried_a + 1 / tried_b))
    return bool(spread > 0 and abs(passed_a / tried_a - passed_b / tried_b) / spread > 1.959964)


def difficulties(rng, tasks, kind):
    """Chances to pass: `wide` from almost never to almost always, or `same` for every task."""
    return rng.beta(0.5, 0.5, tasks) if kind == "wide" else np.full(tasks, 0.5)


def one(rng, chances_a, chances_b, attempts, missing):
    """Return the paired differences over tasks, and passed and tried trials of each side."""
    found = []
    for chances, lost in zip((chances_a, chances_b), missing, strict=True):
        tried = rng.binomial(attempts, 1 - lost, len(chances))
        found.append((rng.binomial(tried, chances), tried))
    (passed_a, tried_a), (passed_b, tried_b) = found
    both = (tried_a > 0) & (tried_b > 0)
    d = passed_b[both] / tried_b[both] - passed_a[both] / tried_a[both]
    return d, (passed_a.sum(), max(tried_a.sum(), 1), passed_b.sum(), max(tried_b.sum(), 1))


def shifted(rng, chances, gain, loss, sway):
    """Move the chances, of mean 1/2, by gain - loss in the mean, and each one up or down by `sway` of its room."""
    moved = chances + 2 * gain * (1 - chances) - 2 * loss * chances
    room = np.minimum(chances, 1 - chances)
    return np.clip(moved + sway * room * rng.choice([-1, 1], len(chances)), 0, 1)


def _ends(d, level, attempts, *, cautious):
    if attempts == 1:
        return _counted(int((d > 0).sum()), int((d < 0).sum()), len(d), level, cautious)
    return intervals.mean_interval(d, level, cautious=cautious)[:2]


@cache
def _counted(gained, lost, tasks, level, cautious):
    return intervals.paired_counts(gained, lost, tasks, level, cautious=cautious)[:2]


def rates(
    *, tasks, attempts, gain=0.0, loss=0.0, sway=0.0, kind="wide", missing=(0.1, 0.1), margin=0.05, runs=2000, seed=1
):
    """Simulate two sides: the truth is gain - loss; with `sway` single tasks differ while the mean does not."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(7)
    truth = gain - loss
    for _ in range(runs):
        chances = difficulties(rng, tasks, kind)
        d, trials = one(rng, chances, shifted(rng, chances, gain, loss, sway), attempts, missing)
        low, high = _ends(d, 0.95, attempts, cautious=False)
        low90, high90 = intervals.student(d, 0.90)
        if -margin < low90 and high90 < margin:  # the cautious interval is never within Student's
            low90, high90 = _ends(d, 0.90, attempts, cautious=True)
        p = stat.mcnemar(int((d > 0).sum()), int((d < 0).sum())) if attempts == 1 else stat.sign_flip(d, 2000)
        counts += [
            low > 0 or high < 0, p <= 0.05, two_proportions(*trials),
            two_proportions(trials[0], tasks * attempts, trials[2], tasks * attempts),
            low <= truth <= high, -margin < low90 and high90 < margin, np.count_nonzero(d),
        ]  # fmt: skip
    return Rates(*(float(count) for count in counts / runs))


@cache
def _intervals(tasks, margin):
    """Every outcome of one attempt a side: fixed and broken tasks, and what the intervals say of it."""
    gained, lost = (grid.ravel() for grid in np.meshgrid(np.arange(tasks + 1), np.arange(tasks + 1)))
    possible = gained + lost <= tasks
    gained, lost = gained[possible], lost[possible]
    low, high, _ = intervals.paired_counts(gained, lost, tasks, 0.95)
    low90, high90, _ = intervals.paired_counts(gained, lost, tasks, 0.90, cautious=True)
    mean = (gained - lost) / tasks
    half = 1.6448536 * np.sqrt(np.maximum((gained + lost) / tasks - mean**2, 0) / (tasks - 1))
    inside = (low90 > -margin) & (high90 < margin)
    return gained, lost, low, high, inside, (mean - half > -margin) & (mean + half < margin)


def flips(*, tasks, fixed, broken, margin=0.05):
    """Compute exactly, over all outcomes, one attempt a side: a task is fixed or broken with these chances."""
    gained, lost, low, high, inside, by_t = _intervals(tasks, margin)
    chances = stats.multinomial.pmf(
        np.column_stack([gained, lost, tasks - gained - lost]), tasks, [fixed, broken, 1 - fixed - broken]
    )
    truth = fixed - broken
    told = {
        "covered": (low <= truth + 1e-9) & (truth - 1e-9 <= high),
        "rejected": (low > 0) | (high < 0),
        "equivalent": inside,
        "equivalent_by_t": by_t,
    }
    return {name: float(chances[where].sum()) for name, where in told.items()} | {"flipped": tasks * (fixed + broken)}
