"""Error rates over simulated comparisons of known truth; the full grid is deep, docs/how-sure.md tells its numbers."""

import pytest
from simulations import flips, rates

FLIPS = [(0.0, 0.05), (0.05, 0.0), (0.02, 0.07), (0.05, 0.10), (0.1, 0.1), (0.2, 0.2), (0.15, 0.2), (0.3, 0.2)]


@pytest.mark.parametrize(("fixed", "broken"), FLIPS)
@pytest.mark.parametrize("tasks", [10, 30, 100, 200])
def test_one_attempt(tasks, fixed, broken):
    found = flips(tasks=tasks, fixed=fixed, broken=broken, runs=8000)
    noise = 0.0073  # three standard errors of 5 % over 8,000 runs
    assert found["covered"] >= 0.94 - noise
    if found["flipped"] >= 20:
        assert found["covered"] <= 0.96 + noise
    if fixed == broken:
        assert found["rejected"] <= 0.06
    if abs(fixed - broken) == pytest.approx(0.05):
        assert found["equivalent"] <= 0.05 + noise


def test_students_t_would_be_wrong_here():
    """Why the score interval: all flips one way, the truth at the margin."""
    assert flips(tasks=30, fixed=0, broken=0.05)["equivalent_by_t"] > 0.15
    assert flips(tasks=30, fixed=0, broken=0.05)["equivalent"] == 0


@pytest.mark.parametrize(("tasks", "attempts"), [(50, 5), (100, 2)])
def test_several_attempts(tasks, attempts):
    null = rates(tasks=tasks, attempts=attempts, runs=400)
    noise = 0.033
    assert abs(null.rejected - 0.05) <= noise
    assert abs(null.exact - 0.05) <= noise
    assert null.covered >= 0.94 - noise
    margin = rates(tasks=tasks, attempts=attempts, loss=0.05, runs=400)
    assert margin.covered >= 0.94 - noise
    assert margin.equivalent <= 0.05 + noise


def test_counting_missing_trials_as_failures_raises_false_alarms():
    found = rates(tasks=200, attempts=3, missing=(0.0, 0.15), runs=300)
    assert found.rejected <= 0.09
    assert found.naive_zero > 0.5


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
@pytest.mark.parametrize("tasks", [10, 20, 50, 100, 200])
@pytest.mark.parametrize("truth", [{}, {"kind": "same"}, {"sway": 0.6}, {"loss": 0.05}, {"gain": 0.10, "loss": 0.15}])
def test_the_full_grid(tasks, attempts, truth):
    found = rates(tasks=tasks, attempts=attempts, runs=4000, **truth)
    noise = 0.0103  # three standard errors of 5 % over 4,000 runs
    assert found.covered >= 0.94 - noise
    if not truth.get("loss"):
        assert found.rejected <= 0.06 + noise
        assert found.exact <= 0.06 + noise
        if found.flipped >= 25:
            assert found.rejected >= 0.04 - noise
    else:
        assert found.equivalent <= 0.05 + noise


@pytest.mark.deep
@pytest.mark.parametrize("tasks", [10, 20, 30, 50, 75, 100, 150, 200, 400, 800])
def test_one_attempt_on_a_fine_grid(tasks):
    shares = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3)
    for fixed in shares:
        for broken in (*shares, round(fixed + 0.05, 3)):
            found = flips(tasks=tasks, fixed=fixed, broken=broken)
            assert found["covered"] >= 0.94 - 0.0047, (tasks, fixed, broken)
            if broken == round(fixed + 0.05, 3):
                assert found["equivalent"] <= 0.05 + 0.0047, (tasks, fixed, broken)
