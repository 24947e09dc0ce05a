"""Run a Harbor job against a practice cloud in this process: VENDOR, then JSON of what to run; prints JSON."""

import asyncio
import json
import os
import sys
from pathlib import Path

from harbor_nb.practice_clouds.description import Practice
from harbor_nb.practice_clouds.server import PracticeServer


async def run(vendor: str, asked: dict) -> list[dict]:
    from harbor import Job, JobConfig
    from harbor.utils.async_cleanup import with_async_cleanup

    config = JobConfig(
        job_name="job", jobs_dir=Path(asked["jobs_dir"]), quiet=True, n_concurrent_trials=asked.get("concurrency", 2),
        n_attempts=asked.get("attempts", 1), agents=[{"name": name} for name in asked.get("agents", ["oracle"])],
        tasks=[{"path": path} for path in asked["tasks"]], environment={"type": vendor},
    )  # fmt: skip
    result = await with_async_cleanup((await Job.create(config)).run())
    return [
        {
            "task": trial.task_name, "agent": trial.config.agent.name,
            "rewards": trial.verifier_result.rewards if trial.verifier_result else None,
            "exception": trial.exception_info and trial.exception_info.exception_type,
            "message": trial.exception_info and trial.exception_info.exception_message,
        }
        for trial in result.trial_results
    ]  # fmt: skip


def main() -> None:
    vendor, asked = sys.argv[1], json.load(sys.stdin)
    server = PracticeServer(vendor, Practice(**{vendor: asked.get("faults", {})})).start()
    server.apply()
    try:
        trials = asyncio.run(run(vendor, asked))
    finally:
        server.close()
    told = {
        "trials": trials, "foreign_keys": server.backend.foreign_keys,
        "sandboxes": len(server.backend.boxes), "left": len(server.backend.live()),
        "folder_gone": not server.backend.folder.exists(), "environ": sorted(os.environ),
    }  # fmt: skip
    print("\n" + json.dumps(told))


main()
