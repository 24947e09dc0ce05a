"""The owner record of a job: which process runs it, and whether that process lives."""

import os
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

FILE = "harbor_nb.json"


def now() -> str:
    """Give the time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(psutil.boot_time())


class OwnerRecord(BaseModel):
    """What `harbor_nb.json` holds."""

    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    job_name: str
    host: str = ""
    boot_id: str = ""
    pid: int | None = None
    pid_started: float | None = None
    launched_at: str = ""
    heartbeat_at: str = ""
    state: str = "starting"
    exit: int | None = None
    error: str | None = None
    harbor_version: str = ""
    harbor_nb_version: str = ""
    environment: str = ""
    practice: bool = False
    recorded: bool = False
    fast_stop: bool = False

    @classmethod
    def new(cls, job_name: str, environment: str) -> "OwnerRecord":
        """Make the record of a job that is about to start on this machine."""
        from importlib.metadata import version

        return cls(
            job_name=job_name, environment=environment, host=socket.gethostname(), boot_id=_boot_id(), launched_at=now(),
            heartbeat_at=now(), harbor_version=version("harbor"), harbor_nb_version=version("harbor-nb"),
        )  # fmt: skip

    @classmethod
    def read(cls, job: Path) -> "OwnerRecord | None":
        """Read a job folder's record; None when there is none or it can't be decoded."""
        try:
            return cls.model_validate_json((job / FILE).read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, job: Path) -> None:
        """Replace the record in one step, so that no reader sees half of it."""
        handle, name = tempfile.mkstemp(dir=job, prefix=".harbor_nb-")
        with os.fdopen(handle, "w") as file:
            file.write(self.model_dump_json(indent=1))
        Path(name).replace(job / FILE)

    def own(self, pid: int) -> None:
        """Name the process that runs the job."""
        self.pid, self.pid_started = pid, psutil.Process(pid).create_time()

    def alive(self) -> bool | None:
        """Tell whether the runner lives; None when it can't be told from this machine."""
        if self.host != socket.gethostname():
            return None
        if self.boot_id != _boot_id() or self.pid is None:
            return False
        try:
            process = psutil.Process(self.pid)
            same = self.pid_started is None or abs(process.create_time() - self.pid_started) < 1
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
