"""What a hello-world trial costs on each practice cloud over `local`: medians of interleaved runs, one at a time."""

import json
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import harbor_nb

VENDORS = ["daytona", "e2b", "modal", "runloop"]
LIMIT_SEC = 2.0


def trial_seconds(job) -> list[float]:
    found = []
    for path in job.path.glob("*/result.json"):
        result = json.loads(path.read_text())
        assert (result["verifier_result"] or {}).get("rewards") == {"reward": 1.0}, result["exception_info"]
        times = [datetime.fromisoformat(result[name]) for name in ("started_at", "finished_at")]
        found.append((times[1] - times[0]).total_seconds())
    return sorted(found)


def main(rounds: int = 3, attempts: int = 3) -> None:
    task = Path(harbor_nb.sample_tasks()) / "hello-world"
    seconds: dict[str, list[float]] = {name: [] for name in ["local", *VENDORS]}
    with tempfile.TemporaryDirectory() as jobs:
        for number in range(rounds):
            for name in seconds:
                (job,) = harbor_nb.plan(
                    task, environments=name, practice=True, jobs_dir=jobs, name=f"bench{number}", attempts=attempts,
                    n_concurrent_trials=1,
                ).launch()  # fmt: skip
                job.wait(300, progress=False)
                seconds[name] += trial_seconds(job)
    local = statistics.median(seconds["local"])
    print(f"hello-world on local: {local:.2f} s (median of {rounds * attempts} trials)")
    for name in VENDORS:
        median = statistics.median(seconds[name])
        more = median - local
        verdict = "within" if more <= LIMIT_SEC else "ABOVE"
        least = min(seconds[name]) - min(seconds["local"])
        print(
            f"{name:8} {median:.2f} s, {more:+.2f} s, {median / local:.1f} x local: {verdict} {LIMIT_SEC:.0f} s more "
            f"(fastest against fastest: {least:+.2f} s)"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
