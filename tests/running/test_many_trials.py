"""A thousand trials of an agent that does nothing, watched from a kernel."""

import gc
import statistics
import time

import psutil
import pytest

import harbor_nb


@pytest.mark.deep
@pytest.mark.local
@pytest.mark.timeout(1800)
def test_a_thousand_trials_complete_and_watching_them_is_cheap(tasks):
    (job,) = harbor_nb.plan(
        tasks / "first", agents="nop", name="many", attempts=1000, n_concurrent_trials=8
    ).launch()  # fmt: skip
    kernel = psutil.Process()
    while job.counts["completed"] < 5:
        time.sleep(0.1)
    gc.collect()
    before = kernel.memory_info().rss
    looks = []
    while (began := time.perf_counter()) and job.state == "running":
        looks.append(time.perf_counter() - began)
        repr(job)
        time.sleep(0.1)
    gc.collect()
    grown = (kernel.memory_info().rss - before) / 2**20
    print(f"state: median {statistics.median(looks) * 1000:.2f} ms of {len(looks)}; memory grew {grown:.1f} MB")
    assert job.state == "finished"
    assert job.counts["completed"] == 1000
    assert statistics.median(looks) <= 0.010
    assert grown <= 50
    assert len(job.trials()) == 1000
