"""The estimators of a paired comparison: pure functions over arrays, one value a task."""

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
_FEW = 20
"""Below so many tasks that differ, the normal approximation is not to be trusted alone."""


class Interval(NamedTuple):
    """Two ends, and the method in words."""

    low: Any
    high: Any
    method: str


def student(differences: Array, level: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean over tasks (Miller 2024; clustered by task, each giving one value).

    Args:
        differences: Shape (tasks,), each the mean over the task's attempts.
        level: Confidence.

    Returns:
        The ends; NaN with fewer than two tasks.

    Example:
        >>> import numpy as np
        >>> [round(float(end), 3) for end in student(np.array([0.0, 0.5, 1.0]))]
        [-0.742, 1.742]
    """
    from scipy import stats

    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.5 + level / 2, count - 1) * differences.std(ddof=1) / np.sqrt(count)
    return float(differences.mean() - half), float(differences.mean() + half)


def tango(gained: Any, lost: Any, tasks: Any, level: float = 0.95) -> tuple[Array, Array]:
    """Return the score interval for the difference of paired proportions (Tango 1998, Statistics in Medicine 17:891).

    The ends solve (b - c - n d)^2 = z^2 n (2 q + d (1 - d)), q being the likelihood's best share of lost tasks given d.
    Sums of parts of a task may stand for the counts: d^2 <= |d|, so the interval is then on the wide side.

    Args:
        gained: b, tasks that failed at the baseline and pass now; any shape.
        lost: c, tasks that passed at the baseline and fail now.
        tasks: n, all paired tasks.
        level: Confidence.

    Returns:
        Low and high ends, of the arguments' common shape.

    Example:
        >>> low, high = tango(0, 0, 20)
        >>> round(float(low), 4), round(float(high), 4)
        (-0.1611, 0.1611)
    """
    from scipy import stats

    b, c, n = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (gained, lost, tasks)))
    z2 = stats.norm.ppf(0.5 + level / 2) ** 2
    estimate = (b - c) / n

    def outside(delta: Array) -> Array:
        linear = -b - c + (2 * n - b + c) * delta
        q = (np.sqrt(np.maximum(linear**2 + 8 * n * c * delta * (1 - delta), 0)) - linear) / (4 * n)
        return np.asarray((b - c - n * delta) ** 2 > z2 * n * np.maximum(2 * q + delta * (1 - delta), 0))

    ends = []
    for far in (-1.0, 1.0):
        inner, outer = estimate.copy(), np.full_like(estimate, far)
        for _ in range(45):
            middle = (inner + outer) / 2
            out = outside(middle)
            inner, outer = np.where(out, inner, middle), np.where(out, middle, outer)
        ends.append(inner)
    return ends[0], ends[1]


def clopper_pearson(successes: Any, count: Any, level: float = 0.95) -> tuple[Array, Array]:
    """Return the exact interval of a share (Clopper and Pearson 1934), from the beta distribution.

    Args:
        successes: Number of tasks of the kind.
        count: Number of all tasks.
        level: Confidence.

    Returns:
        Low and high ends.

    Example:
        >>> low, high = clopper_pearson(0, 10)
        >>> float(low), round(float(high), 4)
        (0.0, 0.3085)
    """
    from scipy import stats

    x, n = np.asarray(successes, dtype=float), np.asarray(count, dtype=float)
    tail = (1 - level) / 2
    low = np.where(x > 0, stats.beta.ppf(tail, np.maximum(x, 1e-9), n - x + 1), 0.0)
    high = np.where(x < n, stats.beta.ppf(1 - tail, x + 1, np.maximum(n - x, 1e-9)), 1.0)
    return low, high


def _one_way(gained: Array, lost: Array, n: Any, level: float) -> tuple[Array, Array]:
    """Return the exact bounds where no task, or no task but those of one direction, differs; NaN elsewhere."""
    up_low, up_high = clopper_pearson(gained, n, level)
    down_low, down_high = clopper_pearson(lost, n, level)
    low = np.where(lost == 0, np.where(gained == 0, -down_high, up_low), np.where(gained == 0, -down_high, np.nan))
    high = np.where(gained == 0, np.where(lost == 0, up_high, -down_low), np.where(lost == 0, up_high, np.nan))
    return low, high


def paired_counts(gained: Any, lost: Any, tasks: Any, level: float = 0.95, *, cautious: bool = False) -> Interval:
    """Return the interval for one attempt and a pass/fail outcome: Tango's, made exact where few tasks differ.

    Args:
        gained: Tasks that pass only on the compared side; any shape.
        lost: Tasks that pass only on the baseline.
        tasks: All paired tasks.
        level: Confidence.
        cautious: Widen to the hull with Student's t and the exact bounds always; for claims of equivalence.

    Returns:
        Low and high ends of the mean difference, and the method.

    Example:
        >>> paired_counts(0, 0, 59, 0.90).high.round(3)
        np.float64(0.05)
    """
    from scipy import stats

    b, c, n = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (gained, lost, tasks)))
    low, high = tango(b, c, n, level)
    exact_low, exact_high = _one_way(b, c, n, level)
    few = (b + c < _FEW) | cautious
    mean = (b - c) / n
    half = stats.t.ppf(0.5 + level / 2, np.maximum(n - 1, 1)) * np.sqrt(
        np.maximum((b + c) / n - mean**2, 0) / np.maximum(n - 1, 1)
    )
    low = np.where(few, np.fmin(np.fmin(low, exact_low), mean - half), low)
    high = np.where(few, np.fmax(np.fmax(high, exact_high), mean + half), high)
    return Interval(
        np.maximum(low, -1.0), np.minimum(high, 1.0),
        "score interval for paired proportions (Tango 1998)"
        + (", widened to Student's t and the exact bound on flipped tasks" if bool(np.all(few)) else ""),
    )  # fmt: skip


def mean_interval(
    differences: Array, level: float = 0.95, *, binary: bool = False, scale: float = 1.0, cautious: bool = False
) -> Interval:
    """Return the interval of the mean paired difference, chosen by what the data are.

    Pass/fail with one attempt: `paired_counts`. Else Student's t over tasks; while fewer than 20 tasks differ, or for a
    claim of equivalence, widened to Tango's interval with sums for counts and to the exact bound on flipped tasks.

    Args:
        differences: Shape (tasks,).
        level: Confidence.
        binary: Whether each side is one attempt with reward 0 or 1.
        scale: Width of the outcome's range; 1 for rewards in 0..1.
        cautious: For claims of equivalence.

    Returns:
        Low and high ends, and the method.

    Example:
        >>> import numpy as np
        >>> found = mean_interval(np.zeros(10), binary=True)
        >>> round(float(found.low), 3), round(float(found.high), 3)
        (-0.308, 0.308)
    """
    d = differences / scale
    if binary:
        found = paired_counts((d > 0).sum(), (d < 0).sum(), len(d), level, cautious=cautious)
        return Interval(float(found.low) * scale, float(found.high) * scale, found.method)
    low, high = student(d, level)
    method = "Student's t over tasks"
    differ = np.count_nonzero(d)
    if differ < _FEW or cautious:
        gained, lost = np.maximum(d, 0).sum(), np.maximum(-d, 0).sum()
        score = tango(gained, lost, len(d), level)
        # Only the far end of the exact bound holds for parts of a task: the near one would need whole flips.
        bound = clopper_pearson(np.ceil(gained), len(d), level)[1], clopper_pearson(np.ceil(lost), len(d), level)[1]
        low = float(np.nanmin([low, score[0], -bound[1] if gained == 0 else np.nan]))
        high = float(np.nanmax([high, score[1], bound[0] if lost == 0 else np.nan]))
        method += ", widened to the score interval (Tango 1998) and the exact bound on flipped tasks"
        low, high = max(low, -1.0), min(high, 1.0)
    return Interval(low * scale, high * scale, method)


def _resampled_means(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) <= 256:  # resampling tasks is resampling how often each value occurs
        return np.asarray(rng.multinomial(len(values), counts / len(values), size=resamples) @ unique / len(values))
    means = np.empty(resamples)
    block = max(1, 2_000_000 // len(values))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        means[start : start + size] = values[rng.integers(len(values), size=(size, len(values)), dtype=np.int32)].mean(
            1
        )
    return means


def bca(differences: Array, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the bias-corrected and accelerated bootstrap interval of the mean, resampling tasks (Efron 1987).

    Args:
        differences: Shape (tasks,).
        level: Confidence.
        resamples: At most so many; over 5,000 tasks of more than 256 different values fewer, 2,000 at least.
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

    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    if count > 5000:
        resamples = min(resamples, max(2000, 25_000_000 // count))
    means = np.sort(_resampled_means(differences, resamples, np.random.default_rng(seed)))
    below = (np.searchsorted(means, differences.mean()) + np.searchsorted(means, differences.mean(), "right")) / 2
    bias = stats.norm.ppf(np.clip(below / resamples, 1 / resamples, 1 - 1 / resamples))
    centred = differences - differences.mean()
    skew = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)  # the jackknife's acceleration, for a mean
    z = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(means, stats.norm.cdf(bias + z / (1 - skew * z)))
    return float(low), float(high)


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value that flips go either way alike (McNemar 1947, binomial).

    Args:
        gained: Tasks that pass only on the compared side.
        lost: Tasks that pass only on the baseline.

    Returns:
        The p-value; 1 without flips.

    Example:
        >>> mcnemar(1, 7)
        0.0703125
    """
    from scipy import stats

    flips = gained + lost
    return float(min(1.0, 2 * stats.binom.cdf(min(gained, lost), flips, 0.5))) if flips else 1.0


def sign_flip(differences: Array, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the p-value of the paired permutation test: each task's difference might as well have the other sign.

    Exact up to 18 tasks that differ, else by draws (Phipson and Smyth 2010, p is never 0).

    Args:
        differences: Shape (tasks,).
        resamples: Draws at most; over 5,000 tasks of more than 256 different sizes fewer, 2,000 at least.
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
    unique, counts = np.unique(sizes, return_counts=True)
    if len(unique) > 256:
        if len(sizes) > 5000:
            resamples = min(resamples, max(2000, 25_000_000 // len(sizes)))
        sums = np.full(resamples, -sizes.sum())
        for size in np.array_split(sizes, max(1, len(sizes) // 512)):  # a random bit a sign
            octets = rng.integers(256, size=(resamples, -(-len(size) // 8)), dtype=np.uint8)
            sums += 2.0 * (np.unpackbits(octets, axis=1, count=len(size)).astype(np.float32) @ size.astype(np.float32))
    else:
        sums = (2 * rng.binomial(counts, 0.5, size=(resamples, len(counts))) - counts) @ unique
    return float((1 + (np.abs(sums) >= observed).sum()) / (resamples + 1))


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
    result = np.empty(len(p))
    result[order] = np.minimum(steps, 1)
    return result


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
    from scipy import stats

    if equivalence:
        needed = ((stats.norm.ppf(0.95) + stats.norm.ppf((1 + power) / 2)) * sd / difference) ** 2
        floor = np.log(0.05) / np.log(1 - difference) if difference < 1 else 2
    else:
        needed, floor = ((stats.norm.ppf(0.975) + stats.norm.ppf(power)) * sd / difference) ** 2, 6
    return int(np.ceil(max(needed, floor)))


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
    from scipy import stats

    known = difference_sd(attempts=attempts) if sd is None else sd
    least = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * known / np.sqrt(tasks)
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
