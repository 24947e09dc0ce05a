"""Our wall time over `harbor run`'s for the same oracle trials on docker, paired, and the rewards trial by trial.

One trial: <= 0.35, the median of 5 pairs. 12 trials at concurrency 4: <= 0.5, rewards equal.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harbor_nb

os.environ["HARBOR_TELEMETRY"] = "off"
TASKS = harbor_nb.sample_tasks()
SIX = ["hello-world", "auth-token-race-condition", "report-artifact"]


def rewards(job: Path) -> list[tuple[str, float]]:
    results = [json.loads(path.read_text()) for path in job.glob("*/result.json")]
    return sorted((result["task_name"], result["verifier_result"]["rewards"]["reward"]) for result in results)


def theirs(folder: Path, name: str, options: list[str]) -> tuple[float, list[tuple[str, float]]]:
    command = [str(Path(sys.executable).parent / "harbor"), "run", "-q", "-y", "-e", "docker", "-o", str(folder)]
    began = time.monotonic()
    subprocess.run([*command, "--job-name", name, *options], check=True, capture_output=True)
    return time.monotonic() - began, rewards(folder / name)


def ours(folder: Path, name: str, tasks: list[Path], **fields) -> tuple[float, list[tuple[str, float]]]:
    """From the call to the end, in a fresh process, as their command is."""
    code = (
        "import sys, json, harbor_nb; name, folder, tasks, fields = json.loads(sys.argv[1]);"
        "harbor_nb.plan(tasks, environments='docker', name=name, exact_name=True, jobs_dir=folder, **fields)"
        ".launch().wait(progress=False)"
    )
    given = json.dumps([name, str(folder), [str(task) for task in tasks], fields])
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code, given], check=True, capture_output=True)
    return time.monotonic() - began, rewards(folder / name)


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = [TASKS / "hello-world"]
        ours(folder, "warm", [TASKS / task for task in SIX])  # images are cached from here on
        ratios = []
        for number in range(pairs):
            a, got = ours(folder, f"ours{number}", one)
            b, had = theirs(folder, f"theirs{number}", ["-p", str(one[0])])
            assert got == had, (got, had)
            ratios.append(a / b)
            print(f"one trial: ours {a:.2f} s, harbor run {b:.2f} s, ratio {a / b:.3f}")
        print(f"one trial, median of {pairs}: {statistics.median(ratios):.3f} (wanted <= 0.35)")
        twelve = [TASKS / task for task in SIX]
        a, got = ours(folder, "ours12", twelve, attempts=4, n_concurrent_trials=4)
        names = [word for task in SIX for word in ("-i", task)]
        b, had = theirs(folder, "theirs12", ["-p", str(TASKS), *names, "-k", "4", "-n", "4"])
        assert len(got) == 12
        assert got == had, (got, had)
        print(f"12 trials at concurrency 4: ours {a:.2f} s, harbor run {b:.2f} s, ratio {a / b:.3f} (wanted <= 0.5)")


if __name__ == "__main__":
    main()
