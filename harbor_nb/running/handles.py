"""Handles of jobs: their state from files alone, waiting, cancelling, and their trials."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from harbor_nb.errors import JobError
from harbor_nb.running.owner import OwnerRecord, live_jobs

if TYPE_CHECKING:
    import pandas as pd

    from harbor_nb.running.diagnosis import Diagnosis
    from harbor_nb.running.repairs import Repair

_ENDED = frozenset({"finished", "cancelled", "failed", "lost", "unknown"})
_POLL_SEC = 0.1


class Job:
    """One job, told from its folder; the same in the process that launched it and in any other."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        self.path = Path(path)
        self._process = process

    @property
    def name(self) -> str:
        """The job folder's name."""
        return self.path.name

    def __fspath__(self) -> str:
        return str(self.path)

    def _result(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            data: dict[str, Any] = json.loads((self.path / "result.json").read_bytes())
            return data
        return {}

    @property
    def state(self) -> str:
        """One of starting, running, cancelling, finished, cancelled, failed, lost, unknown."""
        if self._process is not None:
            self._process.poll()  # a child that ended is collected, so that it is not a zombie
        record = OwnerRecord.read(self.path)
        if record is None:
            return "finished" if self._result().get("finished_at") else "unknown"
        if record.state in _ENDED:
            return record.state
        alive = record.alive()
        if alive is None:
            return "unknown"
        if alive:
            return record.state
        again = OwnerRecord.read(self.path)  # it may have written its end between the two looks
        return again.state if again is not None and again.state in _ENDED else "lost"

    @property
    def counts(self) -> dict[str, int]:
        """Trials: total, completed, running, errored, pending."""
        result = self._result()
        stats = result.get("stats") or {}
        keys = {"completed": "n_completed_trials", "running": "n_running_trials", "errored": "n_errored_trials",
                "pending": "n_pending_trials"}  # fmt: skip
        return {"total": int(result.get("n_total_trials") or 0)} | {
            name: int(stats.get(key) or 0) for name, key in keys.items()
        }

    def wait(self, timeout: float | None = None, progress: bool = True) -> "Job":
        """Wait until the job ends; an interrupt stops the waiting, not the job.

        Args:
            timeout: seconds, or None for no limit.
            progress: show a line that counts.

        Returns:
            The job.

        Raises:
            TimeoutError: it did not end in time; it goes on.

        Example:
            >>> launch("tasks/hello-world").wait()  # doctest: +SKIP
        """
        Jobs([self]).wait(timeout, progress)
        return self

    def __await__(self) -> Generator[Any, None, "Job"]:
        async def until() -> Job:
            while self.state not in _ENDED:  # noqa: ASYNC110 - what changes is a file of another process
                await asyncio.sleep(_POLL_SEC)
            return self

        return until().__await__()

    def cancel(self, timeout: float = 60) -> "Job":
        """End the job gracefully and wait for it.

        Raises:
            JobError: its runner can't be reached from here.
            TimeoutError: it did not end in `timeout` seconds.
        """
        if self.state in _ENDED - {"unknown"}:
            return self
        record = OwnerRecord.read(self.path)
        if record is None or not record.alive() or record.pid is None:
            raise JobError(f"{self.name} is not run by a process of this machine; cancel it where it runs")
        os.kill(record.pid, signal.SIGTERM)
        return self.wait(timeout, progress=False)

    def log(self, lines: int = 20) -> str:
        """Give the last lines of the runner's log."""
        from harbor_nb._display import clean

        path = self.path / "harbor_nb.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(clean(line) for line in text.splitlines()[-lines:])

    def trials(self) -> "pd.DataFrame":
        """Give the job's trials, one row each."""
        from harbor_nb.results import frames

        return frames.trials(self.path)

    def diagnose(self) -> "Diagnosis":
        """Say why trials failed, whose fault it was, and the line that mends it; see `harbor_nb.diagnose`."""
        from harbor_nb.running.diagnosis import diagnose

        return diagnose(self)

    def repair(self, environment: str | None = None, **settings: Any) -> "Repair":
        """Plan to run this job again so that it works; the arguments are those of `harbor_nb.repair`."""
        from harbor_nb.running.repairs import repair

        return repair(self, environment, **settings)

    def __repr__(self) -> str:
        counts = self.counts
        return f"Job({self.name}: {self.state}, {counts['completed']} of {counts['total']} trials done)"


class Jobs(Sequence[Job]):
    """Several jobs, handled as one."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = tuple(jobs)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> "Jobs": ...
    def __getitem__(self, index: int | slice) -> "Job | Jobs":
        return Jobs(self._jobs[index]) if isinstance(index, slice) else self._jobs[index]

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def state(self) -> dict[str, str]:
        """Each job's state by its name."""
        return {job.name: job.state for job in self}

    def wait(self, timeout: float | None = None, progress: bool = True) -> "Jobs":
        """Wait until all jobs have ended; an interrupt stops the waiting, not the jobs.

        Raises:
            TimeoutError: not all ended in `timeout` seconds; they go on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        shown = ""
        try:
            while any(state not in _ENDED for state in self.state.values()):
                if end is not None and time.monotonic() > end:
                    raise TimeoutError(f"{', '.join(job.name for job in self)} still running after {timeout} s")
                if progress and (line := self._line()) != shown:
                    print(f"\r{line}", end="", flush=True)  # noqa: T201 - the progress line is what was asked for
                    shown = line
                time.sleep(_POLL_SEC)
        except KeyboardInterrupt:
            print("\nstopped waiting; the jobs go on")  # noqa: T201
            return self
        if progress:
            print(f"\r{self._line()}")  # noqa: T201
        return self

    def _line(self) -> str:
        counts = [(job.name, job.counts) for job in self]
        return "  ".join(f"{name} {count['completed']}/{count['total']}" for name, count in counts)

    def cancel(self) -> "Jobs":
        """Cancel every job that lives."""
        for job in self:
            job.cancel()
        return self

    def trials(self) -> "pd.DataFrame":
        """Give the trials of all jobs, one row each."""
        from harbor_nb.results import frames

        return frames.trials([job.path for job in self])

    def __repr__(self) -> str:
        return f"Jobs({', '.join(repr(job) for job in self)})"


@overload
def attach(folder: None = None) -> Jobs: ...
@overload
def attach(folder: str | Path | Job) -> Job: ...
def attach(folder: str | Path | Job | None = None) -> Job | Jobs:
    """Give the handle of a job by its folder, also of one that another process or plain `harbor run` started.

    Args:
        folder: the job's folder; None for all jobs of this user that live.

    Returns:
        The job; without a folder, the jobs, oldest first.

    Raises:
        JobError: the folder is not a job's.

    Example:
        >>> attach("jobs/my-job").state  # doctest: +SKIP
    """
    if folder is None:
        return Jobs(Job(path) for path in live_jobs())
    path = Path(folder).expanduser().resolve()
    if not any((path / name).is_file() for name in ("harbor_nb.json", "config.json", "result.json")):
        inside = ", ".join(sorted(file.parent.name for file in path.glob("*/config.json"))[:5])
        if inside:
            raise JobError(f"{path} is a folder of jobs; give one of them: {inside}")
        raise JobError(f"{path} is not a job folder; give one that holds config.json")
    return Job(path)
