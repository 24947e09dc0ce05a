"""Each test has its own list of launched jobs, its own folder, and ends the runners it started."""

import os
import signal
import time
from pathlib import Path

import pytest

from harbor_nb.running.owner import OwnerRecord


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield
    for path in tmp_path.glob("**/harbor_nb.json"):
        record = OwnerRecord.read(path.parent)
        if record and record.pid and record.pid != os.getpid() and record.alive():
            os.kill(record.pid, signal.SIGTERM)
            until(lambda record=record: not record.alive(), 30)


def until(told, seconds=30):
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def make_task(folder: Path, name: str, solution: str = "true", **files: str) -> Path:
    """A task whose verifier gives 1 when the solution made /app/done."""
    task = folder / name
    made = {
        "task.toml": 'schema_version = "1.4"\n[agent]\ntimeout_sec = 60.0\n[verifier]\ntimeout_sec = 60.0\n',
        "instruction.md": "Make /app/done.\n",
        "environment/Dockerfile": "FROM python:3.13-slim\nWORKDIR /app\n",
        "solution/solve.sh": f"#!/bin/bash\n{solution}\ntouch /app/done\n",
        "tests/test.sh": "#!/bin/bash\n[ -f /app/done ]\necho $((1 - $?)) > /logs/verifier/reward.txt\n",
    } | files
    for path, text in made.items():
        target = task / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        if target.suffix == ".sh":
            target.chmod(0o755)
    return task


@pytest.fixture
def tasks(tmp_path):
    for name in ("first", "second", "third"):
        make_task(tmp_path / "tasks", name)
    return tmp_path / "tasks"
