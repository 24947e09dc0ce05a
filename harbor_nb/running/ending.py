"""End a job gracefully, and say what is left of it: on this machine, and at the vendor of its sandboxes."""

import contextlib
import os
import signal
import time
import warnings
from pathlib import Path

from harbor_nb.errors import JobError, ProviderError
from harbor_nb.running import leavings
from harbor_nb.running.launcher import collect
from harbor_nb.running.owner import OwnerRecord

_POLL_SEC = 0.1
_DELETING_SEC = (0, 1, 3)  # a vendor may list a sandbox for a moment after it was deleted


def ask(job: Path) -> OwnerRecord | None:
    """Ask the runner of a job to end; give its record where it lives on this machine."""
    record = OwnerRecord.read(job)
    if record is None or record.pid is None or not record.lives:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGTERM)
    return record


def cancel(job: Path, record: OwnerRecord, timeout: float, force: bool) -> str:
    """Wait until a job has ended that was asked to; give what can't be told of what it left, or raise with that."""
    end = time.monotonic() + timeout
    while (collect(record.pid), record.alive())[1]:  # its process, not only its record: then all it holds is let go
        if time.monotonic() > end and not force:
            raise TimeoutError(f"{job.name} has not ended in {timeout:g} s; use job.cancel(force=True)")
        if time.monotonic() > end and record.pid:
            os.kill(record.pid, signal.SIGKILL)
            time.sleep(_POLL_SEC)
            leavings.clear(job, record, record.environment)
            (OwnerRecord.read(job) or record).model_copy(update={"state": "cancelled"}).write(job)
        time.sleep(_POLL_SEC)
    at_vendor, doubt = ([], "") if record.practice else _at_vendor(job, record.environment)
    if left := [*leavings.left(job, record, record.environment), *at_vendor]:
        raise JobError(f"{job.name} has ended, but this is left: {', '.join(left)}; see harbor_nb.sandboxes()")
    if doubt:
        warnings.warn(doubt, stacklevel=3)
    return doubt


def _at_vendor(job: Path, environment: str) -> tuple[list[str], str]:
    """Ask a cloud for the sandboxes of a job that has ended; give them, and what can't be told."""
    from harbor_nb.backends.providers import NAMES
    from harbor_nb.running.leftovers import sandboxes

    if environment in ("local", "docker"):
        return [], ""
    unsure = f"{job.name} has ended; whether a sandbox of it is left can't be told"
    if environment not in NAMES:
        return [], f"{unsure}: harbor_nb does not list those of {environment}"
    for pause in _DELETING_SEC:
        time.sleep(pause)
        try:
            rows = sandboxes(environment, jobs=job.parent).to_dict("records")
        except ProviderError as error:
            return [], f"{unsure}: {error}"
        mine = [f"{environment} sandbox {row['id']}" for row in rows if Path(row["job"]).name == job.name]
        if not mine:
            break
    unnamed = [row["trial"] for row in rows].count("")
    told = f"{unsure}: {environment} has {unnamed} of Harbor's without their trial's name; see harbor_nb.sandboxes()"
    return mine, told if unnamed else ""
