"""How long `diagnose` takes over 10,000 failed trials, against reading their results with Python's own json.

Run: python benchmarks/diagnose_bench.py
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

COUNT = 10_000
KINDS = [
    ("DaytonaError", "Failed to create sandbox: Total CPU limit exceeded. Maximum allowed: {n}."),
    ("AgentTimeoutError", "Agent execution timed out after {n}.0 seconds"),
    ("RuntimeError", "Docker compose command failed for environment t{n}. Command: docker compose -p {trial}__env up. "
     "Return code: 1. Stdout: failed to solve: process \"/bin/sh -c make {n}\" did not complete successfully. "),
    ("NonZeroAgentExitCodeError", "Command failed (exit 1): agent -p 'do {trial}'\nstdout: {n} x\nstderr: None"),
    ("OddError", "odd thing at /srv/jobs/big/{trial}/x after {n}.25 seconds"),
]  # fmt: skip

EARLY = {"DaytonaError", "RuntimeError"}  # raised before the agent began


def write(folder):
    (folder / "config.json").write_text('{"job_name": "big", "tasks": []}')
    for number in range(COUNT):
        exception, message = KINDS[number % len(KINDS)]
        name = f"task-{number % 500:03d}__{number:07d}"
        trial = folder / name
        trial.mkdir()
        config = {"task": {"path": f"tasks/task-{number % 500:03d}"}, "environment": {"type": "docker"}}
        span = {"started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:01:00Z"}
        result = {
            "id": name, "task_name": f"task-{number % 500:03d}", "trial_name": name, "config": config, **span,
            "environment_setup": span, "agent_execution": None if exception in EARLY else span, "exception_info": {
                "exception_type": exception, "exception_message": message.format(n=number, trial=name),
                "exception_traceback": "  at line\n" * 40, "occurred_at": "2026-01-01T00:00:30Z"},
        }  # fmt: skip
        (trial / "result.json").write_text(json.dumps(result))


def main():
    with tempfile.TemporaryDirectory() as place:
        os.environ["HARBOR_NB_CACHE"] = f"{place}/cache"
        folder = Path(place) / "big"
        folder.mkdir()
        write(folder)
        import pandas as pd  # noqa: F401 - its import is not what is measured

        import harbor_nb

        harbor_nb.diagnose(harbor_nb.sample_jobs())  # imports what is not measured
        started = time.perf_counter()
        for file in folder.glob("*/result.json"):
            json.loads(file.read_bytes())
        plain = time.perf_counter() - started
        times = []
        for _ in range(3):
            started = time.perf_counter()
            told = harbor_nb.diagnose(folder)
            times.append(time.perf_counter() - started)
        assert sum(group["trials"] for group in told.groups) == COUNT
        print(f"{COUNT:,} failed trials in {len(told.groups)} groups; json alone {plain:.2f} s")
        print(f"diagnose: first {times[0]:.2f} s ({times[0] / plain:.1f} of json), again {times[-1]:.2f} s")
    return 0 if times[0] <= 1.5 or "--report" in sys.argv else 1


if __name__ == "__main__":
    sys.exit(main())
