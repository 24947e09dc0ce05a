"""The owner record of a job: which process runs it and whether it lives; and the list of jobs launched here."""

import contextlib
import hashlib
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from harbor_nb._files import write_whole

FILE = "harbor_nb.json"
PREFIX = "harbor_nb-"  # of a runner's own temporary folder
LIVE = frozenset({"starting", "running", "cancelling"})


def now() -> str:
    """Give the time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


def _place() -> dict[str, Any]:
    """Name this machine, its start, and the container we are in."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot_id": boot.read_text().strip() if boot.exists() else "",
        "pid_namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
    }


def process_started(pid: int) -> float | None:
    """Give when a process started, on a clock that nobody can set; None for one that is gone or a zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in b"ZX" else float(fields[19])
    with contextlib.suppress(psutil.NoSuchProcess):
        if not Path("/proc/self/stat").exists() and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return psutil.Process(pid).create_time()
    return None


class OwnerRecord(BaseModel):
    """What `harbor_nb.json` holds."""

    schema_version: int = 2
    job_name: str
    host: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
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
    plays: str | None = None  # the practice plan, as `Practice.to_json` writes it
    recorded: bool = False
    fast_stop: bool = False
    temporary: str = ""

    @classmethod
    def new(cls, job_name: str, environment: str, fast_stop: bool = False) -> "OwnerRecord":
        """Make the record of a job that is about to start on this machine."""
        from importlib.metadata import version

        return cls(
            job_name=job_name, environment=environment, launched_at=now(), heartbeat_at=now(), fast_stop=fast_stop,
            harbor_version=version("harbor"), harbor_nb_version=version("harbor-nb"), **_place(),
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
        write_whole(job / FILE, self.model_dump_json(indent=1).encode())

    def own(self, pid: int) -> None:
        """Name the process that runs the job."""
        self.pid, self.pid_started = pid, process_started(pid)

    @property
    def lives(self) -> bool | None:
        """Tell whether the job lives, by its state and its runner; None when it can't be told from this machine."""
        return self.state in LIVE and self.alive()

    def alive(self) -> bool | None:
        """Tell whether the runner lives; None when it can't be told from this machine."""
        here = _place()
        if self.boot_id and self.boot_id == here["boot_id"]:
            return self._runs() if self.pid_namespace == here["pid_namespace"] else None
        if self.host != here["host"]:
            return None
        return not self.boot_id and self._runs()  # else this machine was started again since

    def _runs(self) -> bool:
        started = process_started(self.pid) if self.pid is not None else None
        return started is not None and self.pid_started is not None and abs(started - self.pid_started) < 1


def _registry() -> Path:
    import platformdirs

    return platformdirs.user_state_path("harbor_nb") / "jobs"


def remember_launch(job: Path) -> None:
    """Note a job's folder for this user, so that `attach()` finds it from any notebook."""
    name = hashlib.sha256(os.fsencode(job)).hexdigest()[:24]
    with contextlib.suppress(OSError):
        _registry().mkdir(parents=True, exist_ok=True)
        (_registry() / name).write_text(str(job))


def live_jobs() -> list[Path]:
    """Give the folders of the noted jobs that live; the others are forgotten."""
    found = []
    with contextlib.suppress(OSError):
        for note in sorted(_registry().iterdir(), key=lambda path: path.stat().st_mtime):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                folder = Path(note.read_text())
                record = OwnerRecord.read(folder)
                if record is not None and record.lives is not False:
                    found.append(folder)
                else:
                    note.unlink(missing_ok=True)
    return found
