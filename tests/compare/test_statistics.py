"""Every estimator against a published example or a second implementation."""

import doctest
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from harbor_nb.results import intervals
from harbor_nb.results import statistics as stat


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_student_is_that_of_scipy_and_statsmodels(rng, level):
    d = rng.normal(0.1, 0.4, 37)
    found = intervals.student(d, level)
    theirs = stats.ttest_1samp(d, 0).confidence_interval(level)
    assert found == pytest.approx((theirs.low, theirs.high))
    assert found == pytest.approx(DescrStatsW(d).tconfint_mean(1 - level))


def test_clustered_standard_error_is_millers(rng):
    # Miller 2024, section 2.2: the clustered standard error; with equal attempts it is that of the tasks' means
    tasks, attempts = 25, 4
    trials = rng.normal(size=(tasks, attempts)) + rng.normal(size=(tasks, 1))
    centred = trials - trials.mean()
    clustered = np.sqrt(sum(np.outer(row, row).sum() for row in centred)) / (tasks * attempts)
    low, high = intervals.student(trials.mean(axis=1))
    ours = (high - low) / 2 / stats.t.ppf(0.975, tasks - 1)
    assert ours == pytest.approx(clustered * np.sqrt(tasks / (tasks - 1)))


def test_published_example_of_paired_proportions():
    # Fagerland, Lydersen and Laake 2014, Stat Med 33:2850: airway hyper-responsiveness of 21 children (Bentur et al.),
    # 1 and 7 discordant: Tango's interval -0.517 to -0.026, McNemar's exact p 0.0703
    assert np.allclose(intervals.tango(1, 7, 21), (-0.517, -0.026), atol=5e-4)
    assert stat.mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)


@pytest.mark.parametrize(("b", "c", "n"), [(1, 7, 30), (0, 5, 30), (12, 2, 41), (3, 3, 15), (43, 0, 44), (0, 0, 20)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_tango_inverts_the_score_test(b, c, n, level):
    """At each end the score statistic is the normal quantile; the restricted likelihood is maximised numerically."""
    from scipy import optimize

    def statistic(delta):
        def unlikely(q):  # c's share q, b's share q + delta
            p = np.array([q + delta, q, 1 - 2 * q - delta])
            return -np.sum(np.array([b, c, n - b - c]) * np.log(np.maximum(p, 1e-300)))

        lower, upper = max(0.0, -delta), (1 - delta) / 2
        q = optimize.minimize_scalar(unlikely, bounds=(lower, upper), method="bounded", options={"xatol": 1e-12}).x
        return (b - c - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))

    z = stats.norm.ppf(0.5 + level / 2)
    low, high = intervals.tango(b, c, n, level)
    assert statistic(float(low)) == pytest.approx(z, rel=2e-3)
    assert statistic(float(high)) == pytest.approx(-z, rel=2e-3)


def test_tango_without_flips_is_closed_form():
    for n in (5, 20, 100):
        z2 = stats.norm.ppf(0.975) ** 2
        assert np.allclose(intervals.tango(0, 0, n), (-z2 / (n + z2), z2 / (n + z2)))


@pytest.mark.parametrize(("x", "n"), [(0, 10), (3, 10), (10, 10), (17, 60)])
def test_clopper_pearson_is_that_of_statsmodels(x, n):
    assert np.allclose(intervals.clopper_pearson(x, n, 0.9), proportion_confint(x, n, alpha=0.1, method="beta"))


def test_blakers_interval_is_that_of_r_and_of_its_definition():
    # R's BlakerCI: binom.blaker.limits(3, 10) is 0.08726443 0.61941066
    assert np.allclose(intervals.blaker(3, 10), (0.08726443, 0.61941066), atol=5e-5)
    count, level = 23, 0.9
    y = np.arange(count + 1)
    shares = np.linspace(0.0005, 0.9995, 2000)[:, None]
    chances = stats.binom.pmf(y, count, shares)
    tails = np.minimum(stats.binom.cdf(y, count, shares), stats.binom.sf(y - 1, count, shares))
    lows, highs = intervals.blaker(y, count, level)
    for x in y:  # all outcomes whose rarer tail is as rare as that of x, by summing
        as_rare = np.where(tails <= tails[:, [x]] * (1 + 1e-9), chances, 0).sum(axis=1)
        kept = shares[as_rare >= 1 - level]
        assert (lows[x], highs[x]) == pytest.approx((kept.min(), kept.max()), abs=8e-4)


def test_few_tasks_with_attempts_that_all_agree_are_told_apart():
    """Six tasks of twelve worse in part and none better: the sign-flip test's 1 in 32, and so the interval's."""
    d = np.array([-0.4, -0.2, -0.6, -0.4, -0.2, -0.4] + [0.0] * 6)
    assert stat.sign_flip(d) == pytest.approx(1 / 32)
    found = intervals.mean_interval(d)
    assert found.high == pytest.approx(intervals.student(d)[1])
    assert found.low < intervals.student(d)[0]  # the far end stays wide
    assert intervals.mean_interval(d, 0.98).high > 0
    five = np.array([-0.4, -0.2, -0.6, -0.4, -0.4] + [0.0] * 7)
    assert intervals.student(five)[1] < 0 < intervals.mean_interval(five).high


def test_grouped_resampling_is_that_of_single_values(rng):
    d = np.concatenate([rng.exponential(0.2, 3000), [3.0, 8.0]]) - 0.21
    theirs = stats.bootstrap((d,), np.mean, n_resamples=10_000, method="BCa", batch=100, rng=1).confidence_interval
    assert stat.bca(d, resamples=50_000) == pytest.approx((theirs.low, theirs.high), abs=4e-4)
    signs = rng.choice([-1.0, 1.0], (5000, len(d)))
    theirs = (np.abs(signs @ np.abs(d)) >= abs(d.sum())).mean()
    assert stat.sign_flip(d, 50_000) == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 7), (10, 10), (25, 9), (0, 6)])
def test_mcnemar_is_that_of_statsmodels(b, c):
    assert stat.mcnemar(b, c) == pytest.approx(sm_mcnemar([[5, b], [c, 5]], exact=True).pvalue if b + c else 1.0)


def test_mcnemar_published_example():
    # Agresti's ratings of the prime minister, 86 and 150 switched; R's exact2x2 gives 3.716e-05
    assert stat.mcnemar(86, 150) == pytest.approx(3.716e-5, rel=1e-3)


def test_sign_flip_is_the_exact_permutation_test(rng):
    for d in (rng.normal(0.3, 1, 9), np.array([0.2, 0, -0.4, 0.6, 0.6, 0, 1.0])):
        theirs = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True)
        assert stat.sign_flip(d) == pytest.approx(theirs.pvalue)


def test_sign_flip_by_draws_is_near_the_exact_one(rng):
    d = rng.normal(0.35, 1, 24)
    theirs = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=200_000, vectorized=True, rng=1
    )
    assert stat.sign_flip(d, 100_000) == pytest.approx(theirs.pvalue, abs=0.006)
    coarse = np.round(d * 2) / 2  # few different sizes take another way
    theirs = stats.permutation_test(
        (coarse,), np.mean, permutation_type="samples", n_resamples=200_000, vectorized=True, rng=1
    )
    assert stat.sign_flip(coarse, 100_000) == pytest.approx(theirs.pvalue, abs=0.006)


def test_bca_is_that_of_scipy(rng):
    for d in (rng.exponential(1, 60), rng.choice([-1.0, 0, 0, 1], 80)):
        theirs = stats.bootstrap((d,), np.mean, n_resamples=50_000, method="BCa", rng=1).confidence_interval
        assert stat.bca(d, resamples=50_000) == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 2), (5, 0, 3), (10, 9, 4), (4, 4, 4), (6, 1, 6)])
def test_pass_at_k_counts_all_subsets(n, c, k):
    outcomes = [True] * c + [False] * (n - c)
    subsets = list(itertools.combinations(outcomes, k))
    assert stat.pass_at_k([n], [c], k)[0] == pytest.approx(np.mean([any(subset) for subset in subsets]))


def test_pass_at_k_is_chen_et_als_code():
    def chen(n, c, k):  # figure 3 of Chen et al. 2021
        return 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))

    for n, c, k in itertools.product((5, 20, 200), (0, 1, 4), (1, 2, 5)):
        assert stat.pass_at_k([n], [c], k)[0] == pytest.approx(chen(n, c, k))


def test_pass_at_k_is_unbiased(rng):
    passed = rng.binomial(6, 0.3, 40_000)
    assert stat.pass_at_k(np.full(40_000, 6), passed, 3).mean() == pytest.approx(1 - 0.7**3, abs=0.005)


def test_holm_is_that_of_statsmodels(rng):
    for count in (1, 2, 7):
        p = rng.uniform(0, 0.2, count)
        assert np.allclose(stat.holm(p), multipletests(p, method="holm")[1])


def test_tasks_needed_published_example():
    # Miller 2024, section 5: 3 points, a variance of differences of 1/9, 80 % power: 969 questions
    assert stat.tasks_needed(0.03, 1 / 3) == pytest.approx(969, abs=1)


@pytest.mark.parametrize(("difference", "sd"), [(0.1, 0.5), (0.05, 0.4)])
def test_the_tasks_needed_have_the_promised_power(rng, difference, sd):
    tasks = stat.tasks_needed(difference, sd)
    d = rng.normal(difference, sd, (4000, tasks))
    p = stats.ttest_1samp(d, 0, axis=1).pvalue
    assert (p <= 0.05).mean() == pytest.approx(0.8, abs=0.025)
    tasks = stat.tasks_needed(difference, sd, equivalence=True)
    d = rng.normal(0, sd, (2000, tasks))
    half = stats.t.ppf(0.95, tasks - 1) * d.std(axis=1, ddof=1) / np.sqrt(tasks)
    assert (np.abs(d.mean(axis=1)) + half < difference).mean() == pytest.approx(0.8, abs=0.035)


def test_difference_sd_is_what_is_simulated(rng):
    chances = np.clip(0.4 + rng.normal(0, 0.1, 200_000), 0, 1)
    sides = [rng.binomial(4, c) / 4 for c in (chances, chances)]
    assert (sides[1] - sides[0]).std() == pytest.approx(stat.difference_sd(0.4, 4), rel=0.03)


def test_the_examples_in_the_docs_and_docstrings_run():
    page = Path(__file__).resolve().parents[2] / "docs/how-sure.md"
    for done in (doctest.testfile(str(page), module_relative=False), doctest.testmod(stat), doctest.testmod(intervals)):
        assert done.attempted >= 3
        assert done.failed == 0


def _score(gained, lost, tasks, level=0.95, *, inflated=True):
    """Tango's interval; of counts with the variance times n / (n - 1), which is a higher level without it."""
    z = stats.norm.ppf(0.5 + level / 2) * np.sqrt(tasks / (tasks - 1) if inflated else 1)
    return [float(end) for end in intervals.tango(gained, lost, tasks, 2 * stats.norm.cdf(z) - 1)]


def _vector(gained, lost, tasks):
    return np.array([1.0] * gained + [-1.0] * lost + [0.0] * (tasks - gained - lost))


def _students(gained, lost, tasks, level):
    """Student's t by scipy, over the differences written out."""
    return stats.ttest_1samp(_vector(gained, lost, tasks), 0).confidence_interval(level)


@pytest.mark.parametrize(
    ("gained", "lost", "tasks"), [(30, 24, 90), (45, 25, 180), (21, 5, 60), (19, 1, 120), (50, 20, 85)]
)
def test_many_flips_both_ways_have_the_score_interval_alone(gained, lost, tasks):
    found = intervals.paired_counts(gained, lost, tasks)
    assert (float(found.low), float(found.high)) == pytest.approx(_score(gained, lost, tasks))
    assert found.method == "score interval for paired proportions (Tango 1998)"


@pytest.mark.parametrize("counts", [(6, 3, 40), (12, 7, 200), (18, 1, 120), (28, 1, 30), (3, 2, 10)])
@pytest.mark.parametrize("level", [0.90, 0.95])
def test_few_that_flip_or_few_that_stay_widen_it_to_students(counts, level):
    found, t = intervals.paired_counts(*counts, level), _students(*counts, level)
    score = _score(*counts, level, inflated=sum(counts[:2]) >= 20)
    assert float(found.low) == pytest.approx(max(-1, min(t.low, score[0])))
    assert float(found.high) == pytest.approx(min(1, max(t.high, score[1])))
    wider = min(t.low, score[0]) < score[0] or max(t.high, score[1]) > score[1]
    assert ("widened to Student's t" in found.method) == wider


@pytest.mark.parametrize(("lost", "tasks"), [(25, 60), (5, 100), (60, 60), (1, 30)])
def test_flips_one_way_reach_the_exact_interval_of_their_share(lost, tasks):
    share = stats.binomtest(lost, tasks).proportion_ci(0.90, "exact")
    t, score = _students(0, lost, tasks, 0.90), _score(0, lost, tasks, 0.90, inflated=lost >= 20)
    found = intervals.paired_counts(0, lost, tasks, 0.90, cautious=True)
    wanted = (np.nanmin([-share.high, t.low, score[0]]), np.nanmax([-share.low, t.high, score[1]]))
    assert (float(found.low), float(found.high)) == pytest.approx(wanted)
    mirrored = intervals.paired_counts(lost, 0, tasks, 0.90, cautious=True)
    assert (float(mirrored.low), float(mirrored.high)) == pytest.approx((-wanted[1], -wanted[0]))


def test_a_claim_of_equivalence_is_held_to_students_t_also_with_many_flips():
    found, t = intervals.paired_counts(60, 55, 200, 0.90, cautious=True), _students(60, 55, 200, 0.90)
    score = _score(60, 55, 200, 0.90)
    assert (float(found.low), float(found.high)) == pytest.approx((min(t.low, score[0]), max(t.high, score[1])))


def test_graded_differences_have_students_t_by_scipy_in_their_own_scale():
    d = np.random.default_rng(3).normal(2.0, 5.0, 60)
    found, t = intervals.mean_interval(d, scale=20.0), stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((t.low, t.high))
    assert found.method == "Student's t over tasks"


def test_pass_fail_differences_have_the_interval_of_their_counts():
    d = _vector(8, 3, 50)
    assert intervals.mean_interval(d, binary=True)[:2] == pytest.approx(intervals.paired_counts(8, 3, 50)[:2])
    scaled = intervals.mean_interval(d * 4, binary=True, scale=4.0)
    assert scaled[:2] == pytest.approx(tuple(4 * end for end in intervals.paired_counts(8, 3, 50)[:2]))


def test_few_partial_differences_reach_the_score_interval_of_their_sums():
    d = np.concatenate([[0.4, 0.2, -0.2], np.zeros(27)])
    found, t, score = (
        intervals.mean_interval(d),
        stats.ttest_1samp(d, 0).confidence_interval(),
        _score(0.6, 0.2, 30, inflated=False),
    )
    assert (found.low, found.high) == pytest.approx((min(t.low, score[0]), max(t.high, score[1])))
    one_way = np.concatenate([[-0.4, -0.2], np.zeros(28)])
    most = stats.binomtest(1, 30).proportion_ci(0.95, "exact").high
    lowest = min(-most, _score(0, 0.6, 30, inflated=False)[0], stats.ttest_1samp(one_way, 0).confidence_interval().low)
    assert intervals.mean_interval(one_way).low == pytest.approx(lowest)
