import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "notebooks/tasks"
SENTINELS = {
    "DAYTONA_API_KEY": "sentinel-real-daytona", "E2B_API_KEY": "sentinel-real-e2b",
    "MODAL_TOKEN_ID": "sentinel-real-id", "MODAL_TOKEN_SECRET": "sentinel-real-secret",
    "RUNLOOP_API_KEY": "sentinel-real-runloop",
}  # fmt: skip


def drive(vendor: str, jobs_dir: Path, tasks: list[str], **asked) -> dict:
    """Run a real Harbor job in a process of its own, with the keys of real accounts in its environment."""
    asked |= {"jobs_dir": str(jobs_dir), "tasks": [str(TASKS / task) for task in tasks]}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "drive.py"), vendor], input=json.dumps(asked), text=True,
        capture_output=True, env=os.environ | SENTINELS | {"PYTHONPATH": str(ROOT)}, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for value in SENTINELS.values():
        assert value not in done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    told["log"] = done.stderr
    return told


@pytest.fixture
def cloud_job(tmp_path: Path):
    def run(vendor: str, tasks: list[str], **asked) -> dict:
        return drive(vendor, tmp_path / "jobs", tasks, **asked)

    return run
