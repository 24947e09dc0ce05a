import os
import shutil
import signal
import socket
import threading
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.running.owner import OwnerRecord

TASKS = Path(__file__).resolve().parents[2] / "notebooks/tasks"
SENTINELS = {
    "DAYTONA_API_KEY": "sentinel-real-daytona", "E2B_API_KEY": "e2b_5e17e15e17e15e17e15e17",
    "MODAL_TOKEN_ID": "ak-sentinel-real", "MODAL_TOKEN_SECRET": "as-sentinel-real-secret",
    "RUNLOOP_API_KEY": "ak_sentinel_real_runloop",
}  # fmt: skip
ADDRESSES = ("DAYTONA_API_URL", "E2B_API_URL", "E2B_SANDBOX_URL", "MODAL_SERVER_URL", "RUNLOOP_BASE_URL")


class Vendor:
    """Stands where a real vendor would: it counts who comes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.came: list[bytes] = []
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            with caller:
                caller.settimeout(2)
                self.came.append(caller.recv(65536))


@pytest.fixture
def vendor(monkeypatch):
    """The keys and addresses of real accounts, in this process's environment."""
    made = Vendor()
    for name, value in SENTINELS.items():
        monkeypatch.setenv(name, value)
    for name in ADDRESSES:
        monkeypatch.setenv(name, made.url)
    yield made
    made.listener.close()


@pytest.fixture
def practised(tmp_path: Path, vendor):
    """Launch jobs with practice and wait for them; whatever still runs at the end is ended by its pid."""
    started: list = []

    def run(environments, tasks, *, practice=True, wait: float | None = 240, **fields):
        folders = [TASKS / task if isinstance(task, str) else task for task in tasks]
        made = harbor_nb.plan(
            folders,
            environments=environments,
            practice=practice,
            jobs_dir=tmp_path / "jobs",
            name=f"p{len(started)}",
            **fields,
        )
        jobs = made.launch(force=True)  # the keys here are sentinels
        started.extend(jobs)
        return jobs if wait is None else jobs.wait(wait, progress=False)

    yield run
    for job in started:
        record = OwnerRecord.read(job.path)
        if record is not None and record.alive() and record.pid:
            os.kill(record.pid, signal.SIGKILL)
        if record is not None and record.temporary:
            shutil.rmtree(record.temporary, ignore_errors=True)


@pytest.fixture
def slow_task(tmp_path: Path) -> Path:
    """hello-world, whose solution first sleeps."""
    folder = tmp_path / "tasks/slow"
    shutil.copytree(TASKS / "hello-world", folder)
    (folder / "solution/solve.sh").write_text("#!/bin/bash\nsleep 300 &\nsleep 300\n")
    return folder
