"""How fast job folders become DataFrames: `python benchmarks/frames_bench.py [trials] [--large 100000]`.

Every number comes from one run on warm disk; each alternative reads the same files, in turns with ours. Exits 1 where
the median misses a bound of issue 5.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

os.environ["HARBOR_TELEMETRY"] = "off"
START = "2026-03-27T06:43:"


def result(index: int, random_: random.Random) -> dict:
    """A trial result of the size and shape that Harbor writes (3.7 KB, like the mean of 4,284 real ones)."""
    task, job = f"task-{index % 500:03d}-with-a-usual-name", str(uuid.UUID(int=7))
    name = f"{task[:32]}__{index:07d}"
    failed = random_.random() < 0.05
    config = {
        "task": {"path": f"tasks/{task}", "git_url": None, "git_commit_id": None, "overwrite": False, "source": "set"},
        "trial_name": name,
        "trials_dir": "jobs/2026-03-26__23-35-42",
        **{f"{kind}timeout_multiplier": None for kind in ("agent_", "verifier_", "agent_setup_", "environment_build_")},
        "timeout_multiplier": 1.0,
        "agent": {
            "name": "claude-code",
            "import_path": None,
            "model_name": "anthropic/claude-sonnet-4-5",
            "kwargs": {},
            "env": {},
        },
        "environment": {"type": "docker", "import_path": None, "force_build": False, "delete": True, "kwargs": {}},
        "verifier": {"override_timeout_sec": None, "max_timeout_sec": None, "disable": False},
        "artifacts": [],
        "job_id": job,
    }

    def span(a: int, b: int) -> dict:
        return {"started_at": f"{START}{a:02d}.511734Z", "finished_at": f"{START}{b:02d}.407824Z"}

    message = f"Agent {name} left with code 1 in /tmp/{uuid.UUID(int=index)}: connection reset by peer"
    trace = "Traceback (most recent call last):\n" + '  File "harbor/trial/trial.py", line 512, in run\n' * 20
    return {
        "id": str(uuid.UUID(int=index)),
        "task_name": task,
        "trial_name": name,
        "trial_uri": f"file:///home/user/project/jobs/2026-03-26__23-35-42/{name}",
        "task_id": {"path": f"tasks/{task}"},
        "source": "set",
        "task_checksum": f"{index % 500:064x}",
        "config": config,
        "agent_info": {"name": "claude-code", "version": "2", "model_info": {"name": "sonnet-4-5", "provider": None}},
        "agent_result": {
            "n_input_tokens": random_.randrange(10**6),
            "n_cache_tokens": random_.randrange(10**5),
            "n_output_tokens": random_.randrange(10**5),
            "cost_usd": random_.random(),
            "rollout_details": None,
            "metadata": None,
        },
        "verifier_result": None if failed else {"rewards": {"reward": float(random_.random() < 0.6)}},
        "exception_info": {
            "exception_type": "RuntimeError",
            "exception_message": message,
            "exception_traceback": trace,
            "occurred_at": f"{START}31.407824Z",
        }
        if failed
        else None,
        **span(10, 58),
        "environment_setup": span(11, 14),
        "agent_setup": span(15, 22),
        "agent_execution": span(23, 31),
        "verifier": span(32, 40),
        "step_results": None,
    }  # fmt: skip


def make_jobs(folder: Path, trials: int, per_job: int = 10_000) -> Path:
    """Write jobs of trials under `folder`."""
    random_ = random.Random(5)
    for start in range(0, trials, per_job):
        job = folder / f"job-{start // per_job:03d}"
        job.mkdir(parents=True)
        (job / "config.json").write_text(json.dumps({"job_name": job.name, "agents": [{"name": "claude-code"}]}))
        for index in range(start, min(start + per_job, trials)):
            data = result(index, random_)
            trial = job / data["trial_name"]
            trial.mkdir()
            (trial / "result.json").write_text(json.dumps(data, indent=4))
            (trial / "config.json").write_text(json.dumps(data["config"], indent=4))
    old = time.time() - 3600
    for path in folder.glob("*/*/result.json"):
        os.utime(path, (old, old))
    return folder


def make_trajectories(folder: Path, megabytes: int) -> Path:
    """Write trials with trajectories of 2 MB each."""
    text = "The worker holds the lock while it waits for the queue; ".ljust(60) * 25
    for index in range(megabytes // 2):
        agent = folder / "job" / f"task__{index:04d}" / "agent"
        agent.mkdir(parents=True)
        steps = []
        for number in range(1, 2**21 // 4200):
            call = {"tool_call_id": f"t{number}", "function_name": "Read", "arguments": {"path": f"/app/{number}.py"}}
            steps.append(
                {
                    "step_id": number,
                    "timestamp": f"2026-03-27T06:{number // 60 % 60:02d}:{number % 60:02d}.166Z",
                    "source": "agent",
                    "message": text,
                    "tool_calls": [call],
                    "observation": {"results": [{"source_call_id": f"t{number}", "content": text}]},
                    "metrics": {"prompt_tokens": 601, "completion_tokens": 161, "cached_tokens": 0},
                }
            )
        (agent / "trajectory.json").write_text(
            json.dumps(
                {"schema_version": "ATIF-v1.6", "session_id": str(index), "agent": {"name": "a"}, "steps": steps}
            )
        )
        (agent.parent / "config.json").write_text(json.dumps({"trial_name": agent.parent.name, "task": {"path": "t"}}))
    return folder


def rounds(count: int, **functions) -> dict[str, list[float]]:
    """Return the seconds of each function in each round; they take turns, so that a busy machine slows all alike."""
    spent: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(count):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            spent[name].append(time.perf_counter() - start)
    return spent


def over(above: list[float], below: list[float]) -> list[float]:
    """Return the ratio of each round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def read_bytes(folder: Path) -> None:
    """List the trials and read their results: what any reader must do."""
    for job in os.scandir(folder):
        for trial in os.scandir(job.path):
            with contextlib.suppress(NotADirectoryError), open(f"{trial.path}/result.json", "rb") as file:  # noqa: PTH123 - the quickest way
                file.read()


def viewer(folder: Path) -> None:
    """Harbor's viewer: configuration and result of each trial through its models."""
    from harbor.viewer.scanner import JobScanner

    scanner = JobScanner(folder)
    for job in scanner.list_jobs():
        for trial in scanner.list_trials(job):
            scanner.get_trial_config(job, trial)
            scanner.get_trial_result(job, trial)


def normalise(folder: Path) -> None:
    """pandas.json_normalize over json.load."""
    import pandas as pd

    rows = []
    for path in folder.glob("*/*/result.json"):
        with path.open() as file:
            rows.append(json.load(file))
    pd.json_normalize(rows)


CHILD = """
import json, os, re, sys, time
import pandas, pyarrow.compute, pyarrow.pandas_compat
import harbor_nb
from harbor_nb.results import frames
def peak():  # ru_maxrss would hold the parent's, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = peak()
start = time.perf_counter()
frame = getattr(frames, sys.argv[2])(sys.argv[1], json.loads(sys.argv[3]))
told = {"sec": time.perf_counter() - start, "rows": len(frame), "before_mb": before, "peak_mb": peak()}
sys.path.insert(0, sys.argv[4])
from frames_bench import Path, read_bytes, rounds
raw = rounds(3, raw=lambda: read_bytes(Path(sys.argv[1])))["raw"] if sys.argv[2] == "trials" else [1.0]
print(json.dumps({**told, "raw_sec": sorted(raw)[len(raw) // 2]}))
"""


def child(folder: Path, frame: str, columns: list[str] | None, cache: str) -> dict:
    """Read a frame in a new process; seconds of the call and of reading the bytes, peak memory of the process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), frame, json.dumps(columns), str(Path(__file__).parent)],
        env={**os.environ, "HARBOR_NB_CACHE": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", type=int, nargs="?", default=10_000)
    parser.add_argument("--large", type=int, default=0, help="also this many trials, in a child process")
    parser.add_argument("--megabytes", type=int, default=100, help="of trajectories")
    parser.add_argument("--folder", type=Path, help="where to keep the made jobs")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each comparison")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows: list[tuple[str, float, str, float, bool]] = []

    def show(what: str, value: float | list[float], unit: str, bound: float, at_least: bool = False) -> None:
        """Print a figure, or of several runs the median, least and most; the median is held to the bound."""
        runs = value if isinstance(value, list) else [value]
        middle = statistics.median(runs)
        held = middle >= bound if at_least else middle <= bound
        rows.append((what, middle, unit, bound, held))
        spread = f" [{min(runs):.2f} to {max(runs):.2f}]" if len(runs) > 1 else ""
        sign = ">=" if at_least else "<="
        print(f"{'ok  ' if held else 'MISS'} {what}: {middle:.2f} {unit}{spread} (bound {sign} {bound:g})", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        base = options.folder or Path(temporary)
        os.environ["HARBOR_NB_CACHE"] = "off"
        jobs = base / f"jobs-{options.trials}"
        if not jobs.exists():
            make_jobs(jobs, options.trials)
        import pyarrow.compute  # noqa: F401 - paid for before the clock starts

        from harbor_nb.results.frames import trials

        trials(jobs)  # imports, and the disk is warm for all
        spent = rounds(options.rounds, raw=lambda: read_bytes(jobs), cold=lambda: trials(jobs))
        raw, cold = spent["raw"], spent["cold"]
        middles = f"reading the bytes {statistics.median(raw):.3f} s, trials() {statistics.median(cold):.3f} s"
        print(f"{options.trials} trials, medians of {options.rounds} rounds: {middles}")
        show("trials(), no cache of ours, over reading the bytes", over(cold, raw), "x", 2.0)
        cache = str(Path(temporary) / "cache")
        child(jobs, "trials", None, cache)
        for what, columns in (("all columns", None), ("three columns", ["task", "agent", "reward"])):
            again = [child(jobs, "trials", columns, cache) for _ in range(options.rounds)]
            ratios = over([run["sec"] for run in again], [run["raw_sec"] for run in again])
            show(f"second time, new process, {what}, over reading the bytes", ratios, "x", 0.5)
        others = rounds(3, cold=lambda: trials(jobs), flat=lambda: normalise(jobs), viewer=lambda: viewer(jobs))
        show("faster than pandas.json_normalize", over(others["flat"], others["cold"]), "x", 3.0, at_least=True)
        show("faster than Harbor's viewer scanner", over(others["viewer"], others["cold"]), "x", 6.0, at_least=True)
        if options.large:
            large = base / f"jobs-{options.large}"
            if not large.exists():
                make_jobs(large, options.large)
            child(large, "trials", ["reward"], "off")
            small = [child(jobs, "trials", None, "off") for _ in range(3)]
            big = [child(large, "trials", None, "off") for _ in range(3)]

            def pick(runs: list[dict], key: str) -> float:
                return statistics.median(run[key] for run in runs)

            ratio = pick(big, "sec") / pick(small, "sec") / (options.large / options.trials)
            print(f"{options.large} trials: {pick(big, 'sec'):.2f} s, peak {pick(big, 'peak_mb'):.0f} MB")
            show("time of the large folder over linear", ratio, "x", 1.15)
            grown = [(pick(runs, "peak_mb") - pick(runs, "before_mb")) for runs in (small, big)]
            show(
                "memory of the large folder over linear",
                grown[1] / grown[0] / (options.large / options.trials),
                "x",
                1.15,
            )
            show("peak memory, large folder", pick(big, "peak_mb"), "MB", 600)
        if options.megabytes:
            steps = base / f"trajectories-{options.megabytes}"
            if not steps.exists():
                make_trajectories(steps, options.megabytes)
            size = sum(path.stat().st_size for path in steps.glob("*/*/agent/*.json")) / 1e6
            runs = [child(steps, "trajectory_steps", ["source", "tokens_out"], "off") for _ in range(4)][1:]
            fast = size / statistics.median(run["sec"] for run in runs)
            show(f"trajectory_steps(), two columns of {size:.0f} MB", fast, "MB/s", 150, at_least=True)
            show("peak memory, trajectories", max(run["peak_mb"] for run in runs), "MB", 300)
    return 0 if all(row[-1] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
