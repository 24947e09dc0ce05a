"""Confidence intervals of a mean paired difference: pure functions over arrays, one value a task."""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.stats import binom

from harbor_nb.results.statistics import sign_flip

Array = np.ndarray[Any, Any]
_FEW = 20
"""Below so many tasks that differ, the normal approximation is not to be trusted alone."""


class Interval(NamedTuple):
    """Two ends, and the method in words."""

    low: Any
    high: Any
    method: str


def student(differences: Array, level: float = 0.95, *, skewed: bool = False) -> tuple[float, float]:
    """Return Student's t interval of the mean over tasks (Miller 2024; clustered by task, each giving one value).

    Adjusted for skew (Hall 1992, J R Statist Soc B 54:221): with T the t statistic and k the skewness over the root of
    n, T + k T^2 / 3 + k^2 T^3 / 27 + k / 6 has nearly Student's distribution; the ends are where it is its quantile.

    Args:
        differences: Shape (tasks,), each the mean over the task's attempts.
        level: Confidence.
        skewed: Whether to adjust it for skew.

    Returns:
        The ends; NaN with fewer than two tasks.

    Example:
        >>> import numpy as np
        >>> [round(float(end), 3) for end in student(np.array([0.0, 0.5, 1.0]))]
        [-0.742, 1.742]
        >>> [round(float(end), 3) for end in student(np.array([0.0, 0.0, 0.0, 0.0, 1.0]), skewed=True)]
        [-0.164, 1.97]
    """
    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    mean, spread = differences.mean(), differences.std()
    t = stats.t.ppf(0.5 + level / 2, count - 1) * np.array([1.0, -1.0])
    skew = ((differences - mean) ** 3).mean() / max(spread, 1e-6) ** 3 / np.sqrt(count)
    if skewed and abs(skew) > 1e-6:
        t = 3 / skew * (np.cbrt(1 + skew * (t - skew / 6)) - 1)
    low, high = mean - t * spread / np.sqrt(count - 1)
    return float(low), float(high)


def tango(gained: Any, lost: Any, tasks: Any, level: float = 0.95, inflated: Any = 1.0) -> tuple[Array, Array]:
    """Return the score interval for the difference of paired proportions (Tango 1998, Statistics in Medicine 17:891).

    The ends solve (b - c - n d)^2 = z^2 n (2 q + d (1 - d)), q being the likelihood's best share of lost tasks given d.
    Sums of parts of a task may stand for the counts: d^2 <= |d|, so the interval is then on the wide side.

    Args:
        gained: b, tasks that failed at the baseline and pass now; any shape.
        lost: c, tasks that passed at the baseline and fail now.
        tasks: n, all paired tasks.
        level: Confidence.
        inflated: Factor of the variance; n / (n - 1) as Miettinen and Nurminen 1985 (Stat Med 4:213) have it.

    Returns:
        Low and high ends, of the arguments' common shape.

    Example:
        >>> low, high = tango(0, 0, 20)
        >>> round(float(low), 4), round(float(high), 4)
        (-0.1611, 0.1611)
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (gained, lost, tasks)))
    z2 = stats.norm.ppf(0.5 + level / 2) ** 2 * inflated
    estimate = (b - c) / n
    ends = []
    for far in (-1.0, 1.0):
        inner, outer = estimate, np.full_like(estimate, far)
        for _ in range(45):
            middle = (inner + outer) / 2
            linear = -b - c + (2 * n - b + c) * middle
            q = (np.sqrt(np.maximum(linear**2 + 8 * n * c * middle * (1 - middle), 0)) - linear) / (4 * n)
            out = (b - c - n * middle) ** 2 > z2 * n * np.maximum(2 * q + middle * (1 - middle), 0)
            inner, outer = np.where(out, inner, middle), np.where(out, middle, outer)
        ends.append(inner)
    return ends[0], ends[1]


def clopper_pearson(successes: Any, count: Any, level: Any = 0.95) -> tuple[Array, Array]:
    """Return the exact interval of a share (Clopper and Pearson 1934): each end errs at most half of 1 - level.

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
    x, n = np.asarray(successes, dtype=float), np.asarray(count, dtype=float)
    tail = (1 - level) / 2
    low = np.where(x > 0, stats.beta.ppf(tail, np.maximum(x, 1e-9), n - x + 1), 0.0)
    high = np.where(x < n, stats.beta.ppf(1 - tail, x + 1, np.maximum(n - x, 1e-9)), 1.0)
    return low, high


def blaker(successes: Any, count: Any, level: Any = 0.95) -> tuple[Array, Array]:
    """Return the exact interval of a share that lies within Clopper and Pearson's (Blaker 2000, Can J Stat 28:783).

    A share p is left out where P(tail as rare as that of x, on either side) < 1 - level. The ends are searched from
    Clopper and Pearson's inward.

    Args:
        successes: x, number of tasks of the kind.
        count: n, number of all tasks.
        level: Confidence, of both ends together.

    Returns:
        Low and high ends.

    Example:
        >>> low, high = blaker(3, 10)
        >>> round(float(low), 3), round(float(high), 3)
        (0.087, 0.619)
    """
    x, n, rare = (np.array(v, float)[..., None] for v in np.broadcast_arrays(successes, count, 1 - np.asarray(level)))
    ends = []
    for end in clopper_pearson(x, n, 1 - rare):
        outer, inner = end, (end + x / n) / 2
        for _ in range(2):  # the second time within one step of the first
            p = outer + (inner - outer) * np.linspace(0, 1, 101)
            upper, lower = binom.sf(x - 1, n, p), binom.cdf(x, n, p)
            as_rare = np.minimum(
                upper + binom.cdf(binom.ppf(upper, n, p) - 1, n, p), lower + binom.sf(binom.ppf(1 - lower, n, p), n, p)
            )
            first = np.maximum((as_rare >= rare).argmax(-1), 1)[..., None]
            outer, inner = np.take_along_axis(p, first - 1, -1), np.take_along_axis(p, first, -1)
        ends.append(outer[..., 0])
    return ends[0], ends[1]


def _share(x: Array, n: Array, level: float) -> tuple[Array, Array]:
    """Return Blaker's ends, from 5 tasks of both kinds on at 94.8 % for 95 %: nearer to it in the mean."""
    return blaker(x, n, np.where(np.minimum(x, n - x) < 5, level, 1 - 1.04 * (1 - level)))


def _empty_cell(b: Array, c: Array, n: Array, level: float, exact: Any) -> tuple[Array, Array]:
    """Return the exact ends where no task was gained, none lost, or none stayed: one share is left. NaN elsewhere."""
    unique, at = np.unique(np.stack([[b, n], [c, n]], 1).reshape(2, -1), axis=1, return_inverse=True)
    lows, highs = (end[at].reshape(2, *b.shape) for end in exact(*unique, level))
    cases = [b + c == 0, b == 0, c == 0, b + c == n]
    low = np.select(cases, [-highs[1], -highs[1], lows[0], 1 - 2 * highs[1]], np.nan)
    return low, np.select(cases, [highs[0], -lows[1], highs[0], 1 - 2 * lows[1]], np.nan)


def paired_counts(gained: Any, lost: Any, tasks: Any, level: float = 0.95, *, cautious: bool = False) -> Interval:
    """Return the interval for one attempt and a pass/fail outcome: Tango's, made exact where it has a gap.

    Tango's covers as little as 84 % where all flips go one way. Where one of fixed, broken and unchanged has no task,
    it is widened to Blaker's interval of the share that is left; where fewer than 20 tasks flip, or all but three are
    fixed or are broken, to Student's t. From 20 flips on its variance is times n / (n - 1). Computed over all outcomes
    of 10 to 200 tasks it covers 94 % or more.

    Args:
        gained: Tasks that pass only on the compared side; any shape.
        lost: Tasks that pass only on the baseline.
        tasks: All paired tasks.
        level: Confidence.
        cautious: For claims of equivalence: Student's t always, and Clopper and Pearson's in Blaker's place.

    Returns:
        Low and high ends of the mean difference, and the method.

    Example:
        >>> paired_counts(0, 0, 59, 0.90, cautious=True).high.round(3)
        np.float64(0.05)
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (gained, lost, tasks)))
    mean, df = (b - c) / n, np.maximum(n - 1, 1)
    half = stats.t.ppf(0.5 + level / 2, df) * np.sqrt(np.maximum((b + c) / n - mean**2, 0) / df)
    half = np.where((b + c < _FEW) | (n - np.maximum(b, c) < 4) | cautious, half, 0)
    score = tango(b, c, n, level, np.where(b + c < _FEW, 1, n / df))
    exact = _empty_cell(b, c, n, level, clopper_pearson if cautious else _share)
    low, high = np.fmin(np.fmin(score[0], exact[0]), mean - half), np.fmax(np.fmax(score[1], exact[1]), mean + half)
    widened = low.min() < score[0].min() or high.max() > score[1].max()
    return Interval(
        np.maximum(low, -1.0), np.minimum(high, 1.0),
        "score interval for paired proportions (Tango 1998)"
        + (", widened to Student's t and the exact bound on flipped tasks" if widened else ""),
    )  # fmt: skip


def mean_interval(
    differences: Array,
    level: float = 0.95,
    *,
    binary: bool = False,
    scale: float = 1.0,
    cautious: bool = False,
    balanced: bool = True,
) -> Interval:
    """Return the interval of the mean paired difference, chosen by what the data are.

    Pass/fail with one attempt: `paired_counts`. Else Student's t over tasks; while fewer than 20 tasks differ, or for a
    claim of equivalence, widened to Tango's interval with sums for counts and to the exact bound on flipped tasks. The
    end that leaves out 0 stays Student's where the exact sign-flip test agrees that there is a difference and both
    sides have as many attempts. One attempt against five makes skewed differences: Hall's is in Student's place.

    Args:
        differences: Shape (tasks,).
        level: Confidence.
        binary: Whether each side is one attempt with reward 0 or 1.
        scale: Width of the outcome's range; 1 for rewards in 0..1.
        cautious: For claims of equivalence.
        balanced: Whether both sides have about as many attempts.

    Returns:
        Low and high ends, and the method.

    Example:
        >>> import numpy as np
        >>> found = mean_interval(np.zeros(10), binary=True, cautious=True)
        >>> round(float(found.low), 3), round(float(found.high), 3)
        (-0.308, 0.308)
    """
    d = differences / scale
    if binary:
        found = paired_counts((d > 0).sum(), (d < 0).sum(), len(d), level, cautious=cautious)
        return Interval(float(found.low) * scale, float(found.high) * scale, found.method)
    ends: list[Any] = [student(d, level, skewed=not balanced)]
    method = "Student's t over tasks" + ("" if balanced else ", adjusted for skew (Hall 1992)")
    if np.count_nonzero(d) < _FEW or cautious:
        gained, lost = np.maximum(d, 0).sum(), np.maximum(-d, 0).sum()
        # Only the far end of the exact bound holds for parts of a task: the near one would need whole flips.
        most_gained, most_lost = clopper_pearson(np.ceil([gained, lost]), len(d), level)[1]
        exact = (np.nan if gained else -most_lost, np.nan if lost else most_gained)
        ends += [tango(gained, lost, len(d), level), exact, student(d, level)]
        method += ", widened to the score interval (Tango 1998) and the exact bound on flipped tasks"
    lows, highs = zip(*ends, strict=True)
    low, high = max(-1.0, float(np.nanmin(lows))), min(1.0, float(np.nanmax(highs)))
    apart = lows[0] > 0 or highs[0] < 0
    if apart and balanced and not cautious and len(ends) > 1 and sign_flip(d) <= 1 - level:
        low, high = (lows[0], high) if lows[0] > 0 else (low, highs[0])
        method += "; its end near 0 confirmed by the sign-flip test"
    return Interval(low * scale, high * scale, method)
