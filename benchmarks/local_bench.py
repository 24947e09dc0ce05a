"""What `local` itself costs: a trial's wall time less its agent and verifier, and 40 trials at concurrency 8.

    .venv/bin/python benchmarks/local_bench.py

The first number is the median of 20 trials of hello-world, one at a time, the image in the cache; 0.3 s is the goal.
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

import harbor_nb

GOAL_SEC = 0.3


def seconds(span: dict[str, str] | None) -> float:
    if not span or not span.get("finished_at"):
        return 0.0
    started, finished = (datetime.fromisoformat(span[name]) for name in ("started_at", "finished_at"))
    return (finished - started).total_seconds()


def run(folder: Path, name: str, attempts: int, concurrency: int) -> list[dict]:
    plan = harbor_nb.plan(
        harbor_nb.sample_tasks() / "hello-world", agents="oracle", environments="local", attempts=attempts, name=name,
        jobs_dir=folder, n_concurrent_trials=concurrency,
    )  # fmt: skip
    plan.launch().wait(progress=False)
    return [json.loads(path.read_text()) for path in folder.glob(f"{name}*/*/result.json")]


def left_over(folder: Path) -> list[str]:
    """What of our sandboxes is still there: processes that see the folder in their mounts, mounts, and folders."""
    found = [str(path) for path in folder.rglob("harbor_nb-sandbox-*")]
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if str(folder) in Path(f"/proc/{process.pid}/mountinfo").read_text():
                found.append(f"{process.pid} {process.name()}")
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        os.environ["TMPDIR"] = str(Path(place, "tmp"))
        Path(place, "tmp").mkdir()
        run(Path(place), "warm", 1, 1)
        results = run(Path(place), "one", 20, 1)
        own = [seconds(result) - seconds(result["agent_execution"]) - seconds(result["verifier"]) for result in results]
        parts = {
            phase: statistics.median(seconds(result[phase]) for result in results)
            for phase in ("environment_setup", "agent_setup", "agent_execution", "verifier")
        }
        median = statistics.median(own)
        print(f"own cost of a trial, median of {len(own)}: {median:.3f} s, goal {GOAL_SEC} s")
        print(f"least {min(own):.3f} s, most {max(own):.3f} s")
        print("phases: " + ", ".join(f"{phase} {value:.3f} s" for phase, value in parts.items()))
        started = time.monotonic()
        results = run(Path(place), "many", 40, 8)
        wall = time.monotonic() - started
        right = sum((result.get("verifier_result") or {}).get("rewards") == {"reward": 1.0} for result in results)
        print(f"40 trials at concurrency 8: {right} right, {wall:.1f} s in all, launch included")
        left = left_over(Path(place, "tmp"))
    print(f"left behind: {left or 'nothing'}")
    return 0 if median <= GOAL_SEC and right == 40 and not left else 1


if __name__ == "__main__":
    sys.exit(main())
