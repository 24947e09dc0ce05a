"""Resampling, exact tests, pass@k and power of a paired comparison: pure functions over arrays, one value a task."""

from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_GROUPS = 256
_z = NormalDist().inv_cdf


def _grouped(values: Array) -> tuple[Array, Array, float]:
    """Return mean and count of up to 256 groups of equal or neighbouring values, and the mean square within them."""
    groups = np.unique(values, return_inverse=True)[1]
    if groups.max(initial=0) >= _GROUPS:
        groups = ((values - values.min()) / np.ptp(values) * (_GROUPS - 1)).astype(int)
    counts = np.bincount(groups)
    means = np.bincount(groups, values) / np.maximum(counts, 1)
    return means[counts > 0], counts[counts > 0], float(((values - means[groups]) ** 2).mean())


def bca(differences: Array, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the bias-corrected and accelerated bootstrap interval of the mean, resampling tasks (Efron 1987).

    Drawing tasks is drawing how often each value occurs, a multinomial. Of more than 256 different values it is drawn
    how often each of 256 groups of neighbours occurs; what is left, the sum of small spreads in the groups, is normal.

    Args:
        differences: Shape (tasks,).
        level: Confidence.
        resamples: Bootstrap samples.
        seed: Of the random numbers.

    Returns:
        The ends; NaN where there are fewer than two tasks.

    Example:
        >>> import numpy as np
        >>> low, high = bca(np.arange(20.0))
        >>> low < 9.5 < high
        True
    """
    from scipy import stats

    count, rng = len(differences), np.random.default_rng(seed)
    if count < 2:
        return float("nan"), float("nan")
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    values, times, within = _grouped(differences)
    means = rng.multinomial(count, times / count, size=resamples) @ values / count
    means = np.sort(means + rng.normal(0, np.sqrt(within / count), resamples))
    mean = differences.mean()
    below = (np.searchsorted(means, mean - 1e-12) + np.searchsorted(means, mean + 1e-12)) / 2
    bias = stats.norm.ppf(np.clip(below / resamples, 1 / resamples, 1 - 1 / resamples))
    centred = differences - mean
    skew = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)  # the jackknife's, of a mean
    z: Any = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    ends = np.quantile(means, stats.norm.cdf(bias + z / (1 - skew * z)))
    return float(ends[0]), float(ends[1])


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value that flips go either way alike (McNemar 1947, binomial).

    Args:
        gained: Tasks that pass only on the compared side.
        lost: Tasks that pass only on the baseline.

    Returns:
        The p-value; 1 without flips.

    Example:
        >>> round(mcnemar(1, 7), 7)
        0.0703125
    """
    from scipy import stats

    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip(differences: Array, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the p-value of the paired permutation test: each task's difference might as well have the other sign.

    Exact up to 18 tasks that differ, else by draws (Phipson and Smyth 2010, p is never 0); of more than 256 different
    sizes as in `bca`.

    Args:
        differences: Shape (tasks,).
        resamples: Draws.
        seed: Of the random numbers.

    Returns:
        The two-sided p-value.

    Example:
        >>> import numpy as np
        >>> sign_flip(np.array([1.0, 1.0, 1.0, 1.0]))
        0.125
    """
    sizes = np.abs(differences[differences != 0])
    observed = abs(differences.sum()) - 1e-9
    if len(sizes) <= 18:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
        return float((np.abs(sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    unique, times, within = _grouped(sizes)
    drawn: Array = (2 * rng.binomial(times, 0.5, size=(resamples, len(times))) - times) @ unique
    drawn += rng.normal(0, np.sqrt(within * len(sizes)), resamples)
    return float((1 + (np.abs(drawn) >= observed).sum()) / (resamples + 1))


def pass_at_k(attempts: Any, passed: Any, k: int) -> Array:
    """Return the unbiased estimate, a task, that one of k attempts passes: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021).

    Args:
        attempts: n, shape (tasks,).
        passed: c, shape (tasks,).
        k: Attempts allowed; NaN where a task has fewer.

    Returns:
        Shape (tasks,).

    Example:
        >>> pass_at_k([5, 5], [2, 0], 2).round(3).tolist()
        [0.7, 0.0]
    """
    n, c = np.asarray(attempts, dtype=float), np.asarray(passed, dtype=float)
    steps = np.arange(k)[:, None]
    fail = np.prod(np.clip((n - c - steps) / np.maximum(n - steps, 1), 0, 1), axis=0)
    return np.where(n >= k, 1 - fail, np.nan)


def holm(p_values: Any) -> Array:
    """Return p-values corrected for several comparisons at once (Holm 1979).

    Args:
        p_values: Shape (comparisons,).

    Returns:
        The same shape, each at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    return np.minimum(steps, 1)[np.argsort(order)]


def tasks_needed(difference: float, sd: float, *, equivalence: bool = False, power: float = 0.8) -> int:
    """Return how many tasks show a difference (5 %, two-sided), or equivalence when there is none (Schuirmann 1987).

    Args:
        difference: The difference to see, or the margin of equivalence.
        sd: Standard deviation of the paired differences over tasks, of a pilot or assumed.
        equivalence: Whether to show that the sides are within `difference`, assuming that they are the same.
        power: Chance to succeed.

    Returns:
        Tasks; for equivalence at least what the exact bound on flipped tasks asks for when none flips.

    Example:
        >>> tasks_needed(0.05, 0.0, equivalence=True), tasks_needed(0.1, 0.5)
        (59, 197)
    """
    floor = 6.0
    if equivalence:
        floor = np.log(0.05) / np.log(1 - difference) if difference < 1 else 2
    sure, likely = (0.95, (1 + power) / 2) if equivalence else (0.975, power)
    return int(np.ceil(max(((_z(sure) + _z(likely)) * sd / difference) ** 2, floor)))


def power_text(tasks: int, attempts: int = 1, difference: float = 0.05, sd: float | None = None) -> str:
    """Say what a comparison of so many tasks and attempts can tell, with its assumptions; for a plan's preview.

    Args:
        tasks: Tasks that both sides run.
        attempts: Attempts a side on each task.
        difference: The difference to see, in units of the reward.
        sd: Standard deviation of the paired differences, of a pilot; None assumes pass or fail at a rate of 50 %, the
            worst case, with every task's chance the same on both sides.

    Returns:
        One sentence.

    Example:
        >>> power_text(5).split(" (")[0]
        '5 tasks x 1 attempt: differences of 89 points or more would show'
    """
    known = difference_sd(attempts=attempts) if sd is None else sd
    least = (_z(0.975) + _z(0.8)) * known / np.sqrt(tasks)
    wanted = tasks_needed(difference, known)
    basis = "pass rate 50 %" if sd is None else f"standard deviation {sd:.2f} as in the pilot"
    count = f"{attempts} attempt{'s' if attempts > 1 else ''}"
    more = f", or {int(np.ceil(attempts * wanted / tasks)):,} attempts a task" if sd is None and wanted > tasks else ""
    return (
        f"{tasks:,} tasks x {count}: differences of {100 * min(least, 1):.0f} points or more would show (80 % power, "
        f"{basis}); {100 * difference:g} points takes {wanted:,} tasks x {count}{more}."
    )


def difference_sd(rate: float = 0.5, attempts: int = 1, between: float = 0.0) -> float:
    """Return the standard deviation of paired differences that stated assumptions give (Miller 2024, section 5).

    Args:
        rate: Chance that a task passes.
        attempts: Attempts a side.
        between: Standard deviation of the true differences between tasks.

    Returns:
        In units of the reward.

    Example:
        >>> round(difference_sd(0.5, 1), 3)
        0.707
    """
    return float(np.sqrt(between**2 + 2 * rate * (1 - rate) / attempts))
