"""How long a comparison of 50,000 trials takes, against scipy's bootstrap of the same task differences alone."""

import time

import numpy as np
import pandas as pd
from scipy import stats

import harbor_nb
from harbor_nb.results import statistics

TRIALS, RESAMPLES, LIMIT_SEC = 50_000, 10_000, 2.0


def trials(tasks: int, *, graded: bool) -> pd.DataFrame:
    """Make a frame of 50,000 trials of so many tasks on docker and daytona, with times, as `trials()` gives it."""
    rng = np.random.default_rng(0)
    attempts = TRIALS // tasks // 2
    task = np.tile(np.repeat(np.arange(tasks), attempts), 2)
    side = np.repeat(["docker", "daytona"], TRIALS // 2)
    chance = rng.beta(0.5, 0.5, tasks)[task]
    text = pd.StringDtype("pyarrow")
    frame = pd.DataFrame({
        "task": pd.array([f"task-{i}" for i in task], text), "source": "made", "agent": "agent", "model": "model",
        "task_checksum": pd.array([f"{i:064x}" for i in task], text), "environment": pd.array(side, text),
        "provider": "maker", "status": "scored", "job_path": pd.array(np.char.add("/jobs/", side), text),
        "path": pd.array([f"/jobs/{i}" for i in range(TRIALS)], text),
        "reward": rng.uniform(size=TRIALS) * chance if graded else rng.binomial(1, chance).astype(float),
        "started_at": pd.date_range("2026-01-01", periods=TRIALS, freq="s", tz="UTC"),
    })  # fmt: skip
    for phase in ("environment_setup", "agent_setup", "agent", "verifier", "teardown", "total"):
        frame[f"{phase}_sec"] = rng.gamma(2, 5, TRIALS)
    return frame


def seconds(call) -> float:
    """The best of three, in seconds of this process."""
    took = []
    for _ in range(3):
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return min(took)


def main() -> None:
    print(f"{TRIALS:,} trials, {RESAMPLES:,} resamples; CPU seconds, best of 3")
    worst = 0.0
    for tasks, graded in ((500, False), (5_000, False), (5_000, True), (25_000, False), (25_000, True)):
        frame = trials(tasks, graded=graded)
        means = frame.groupby(["task", "environment"])["reward"].mean().unstack()
        d = (means["daytona"] - means["docker"]).to_numpy()
        ours = seconds(lambda frame=frame: harbor_nb.compare(frame))
        bootstrap = seconds(lambda d=d: statistics.bca(d, resamples=RESAMPLES))
        scipys = seconds(
            lambda d=d: stats.bootstrap((d,), np.mean, n_resamples=RESAMPLES, method="BCa", batch=200, rng=1)
        )
        worst = max(worst, ours)
        kind = "graded" if graded else "pass/fail"
        print(
            f"  {tasks:>6,} tasks, {kind:<9}: compare {ours:.2f} s, its bootstrap {bootstrap:.3f} s;"
            f" scipy's bootstrap alone {scipys:.2f} s: compare takes {ours / scipys:.2f} x that"
        )
    print(f"slowest compare {worst:.2f} s, allowed {LIMIT_SEC:.1f} s")
    if worst > LIMIT_SEC:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
