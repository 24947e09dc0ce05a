"""Handles of jobs: their state from files alone, waiting, cancelling, resuming, and their trials."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from harbor_nb._display import Shown, clean, render
from harbor_nb.errors import JobError
from harbor_nb.running import leavings
from harbor_nb.running.events import PHASES, EventLog
from harbor_nb.running.launcher import collect
from harbor_nb.running.owner import LIVE, OwnerRecord, live_jobs, remember_launch
from harbor_nb.running.waiting import progress as show

if TYPE_CHECKING:
    import pandas as pd

    from harbor_nb.running.diagnosis import Diagnosis
    from harbor_nb.running.repairs import Repair

_POLL_SEC = 0.1
_TAIL_BYTES = 200_000
_SHOWN = 50


def _tail(path: Path, lines: int) -> str:
    """Give the last lines of a file that may be huge, fit to be shown."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(clean(line, 2000) for line in text.splitlines()[-lines:])


class Trial(Shown):
    """One trial of a job, by its name."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def __fspath__(self) -> str:
        return str(self.path)

    def log(self, kind: str = "trial", lines: int = 100) -> str:
        """Give the last lines of what was logged.

        Args:
            kind: `trial` (Harbor's own log), `agent` or `verifier` (the newest text file there).
            lines: how many.

        Returns:
            Text without control characters; empty while there is none.

        Raises:
            JobError: there is no such kind.

        Example:
            >>> attach("jobs/first").trial("hello-world__abc").log("agent")  # doctest: +SKIP
        """
        if kind not in ("trial", "agent", "verifier"):
            raise JobError(f"no log {kind!r}; ask for 'trial', 'agent' or 'verifier'")
        if kind == "trial":
            return _tail(self.path / "trial.log", lines)
        ends = (".txt", ".log", ".jsonl", ".out")
        # a link that an agent left could show any file of this user
        files = [file for file in self.path.glob(f"**/{kind}/**/*") if not file.is_symlink()]
        found = [file for file in files if file.suffix in ends and file.is_file()]
        newest = max(found, key=lambda file: (file.stat().st_mtime, file.name), default=self.path / kind)
        return _tail(newest, lines)

    def __repr__(self) -> str:
        return f"Trial({clean(self.name)})"


class Job(Shown):
    """One job, told from its folder; the same in the process that launched it and in any other."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._events = EventLog(self.path)
        self._said = ""

    @property
    def name(self) -> str:
        """The job folder's name."""
        return self.path.name

    def __fspath__(self) -> str:
        return str(self.path)

    def _json(self, name: str) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            data = json.loads((self.path / name).read_bytes())
            return data if isinstance(data, dict) else {}
        return {}

    @property
    def state(self) -> str:
        """One of starting, running, cancelling, finished, cancelled, failed, lost, unknown."""
        for _ in range(2):  # a runner may write its end between the look at its record and the look at its process
            record = OwnerRecord.read(self.path)
            if record is None:
                return "finished" if self._json("result.json").get("finished_at") else "unknown"
            collect(record.pid)
            alive = record.alive() if record.state in LIVE else True
            if alive is not False:
                return record.state if alive else "unknown"
        return "lost"

    @property
    def counts(self) -> dict[str, int]:
        """Trials: total, completed, errored, pending, cancelled, running, and the running ones by phase."""
        result = self._json("result.json")
        stats = result.get("stats") or {}
        counts = {"total": int(result.get("n_total_trials") or 0)}
        for name in ("completed", "errored", "pending", "running", "cancelled"):
            counts[name] = int(stats.get(f"n_{name}_trials") or 0)
        for name in ("completed", "errored"):  # Harbor counts what was cancelled among both
            counts[name] = max(0, counts[name] - counts["cancelled"])
        phases = [phase for phase in self._events.phases().values() if phase] if counts["running"] else []
        return counts | {phase: phases.count(phase) for phase in PHASES}

    @property
    def last_sign(self) -> str | None:
        """When the job last gave a sign of life, as ISO 8601 in UTC; None if it never did."""
        record = OwnerRecord.read(self.path)
        return record.heartbeat_at if record else self._json("result.json").get("updated_at")

    @property
    def error(self) -> str | None:
        """Why a failed or lost job ended, in words; None for any other."""
        record, state = OwnerRecord.read(self.path), self.state
        if state == "lost" and record is not None:
            code = collect(record.pid)
            code_told = "" if code is None else f" with exit code {code}"
            return f"its runner died{code_told}; job.resume() goes on. It said last: {self.log(3) or 'nothing'}"
        return clean(record.error) if record and record.error and state == "failed" else None

    def wait(self, timeout: float | None = None, progress: bool = True) -> "Job":
        """Wait until the job ends; an interrupt stops the waiting, not the job.

        Args:
            timeout: seconds, or None for no limit.
            progress: show it: bars in a terminal, a picture in a notebook, lines elsewhere.

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
            while self.state in LIVE:  # noqa: ASYNC110 - what changes is a file of another process
                await asyncio.sleep(_POLL_SEC)
            return self

        return until().__await__()

    @property
    def _on_docker(self) -> bool:
        from harbor_nb.running.configs import environment_of

        return environment_of(self._json("config.json")) == "docker"

    def _ask_to_end(self) -> None:
        record = OwnerRecord.read(self.path)
        if record is not None and record.pid is not None and record.state in LIVE and record.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGTERM)

    def cancel(self, timeout: float = 60, force: bool = False) -> "Job":
        """End the job gracefully, wait for it, and look that nothing of it is left on this machine.

        Args:
            timeout: seconds to wait for a graceful end.
            force: if it has not ended by then, end it by SIGKILL and remove what it leaves.

        Returns:
            The job.

        Raises:
            JobError: its runner can't be reached from here; or something is left, which the message names.
            TimeoutError: it did not end in `timeout` seconds.

        Example:
            >>> attach("jobs/first").cancel()  # doctest: +SKIP
        """
        record = OwnerRecord.read(self.path)
        if self.state not in LIVE or record is None or record.pid is None:
            if self.state == "unknown":
                raise JobError(f"{self.name} is not run by a process of this machine; cancel it where it runs")
            return self
        self._ask_to_end()
        end = time.monotonic() + timeout
        while (collect(record.pid), record.alive())[1]:  # its process, not only its record: then all it holds is let go
            if time.monotonic() > end and not force:
                raise TimeoutError(f"{self.name} has not ended in {timeout:g} s; use job.cancel(force=True)")
            if time.monotonic() > end:
                os.kill(record.pid, signal.SIGKILL)
                time.sleep(_POLL_SEC)
                leavings.clear(self.path, record, self._on_docker)
                (OwnerRecord.read(self.path) or record).model_copy(update={"state": "cancelled"}).write(self.path)
            time.sleep(_POLL_SEC)
        if left := leavings.left(self.path, record, self._on_docker):
            raise JobError(f"{self.name} has ended, but this is left: {', '.join(left)}; see harbor_nb.sandboxes()")
        return self

    def resume(self, retry: Iterable[str] | str = (), force: bool = False) -> "Job":
        """Run what is missing, was cancelled, or failed in the named ways, with the same config; keep the rest.

        What a dead runner left (processes, containers, networks) is removed first.

        Args:
            retry: exception names, such as `AgentTimeoutError`; `failed` means all.
            force: resume also when it can't be told whether the job still runs elsewhere.

        Returns:
            The job, running again.

        Raises:
            JobError: it still runs, or Harbor would refuse; the message says why.

        Example:
            >>> attach("jobs/first").resume(retry="failed").wait()  # doctest: +SKIP
        """
        from harbor_nb.running.resuming import in_words, resume

        state = self.state
        if state in LIVE or (state == "unknown" and not force):
            sign = f"; last sign of life {self.last_sign}. If it has ended, type job.resume(force=True)"
            raise JobError(f"{self.name} {'still runs' if state in LIVE else f'may still run{sign}'}")
        self._said = "; ".join(resume(self.path, retry))
        while self.state == "starting":
            time.sleep(_POLL_SEC)
        if self.state == "failed":
            raise JobError(in_words(self.error or ""))
        return self

    def log(self, lines: int = 20) -> str:
        """Give the last lines of the runner's log."""
        return _tail(self.path / "harbor_nb.log", lines) or _tail(self.path / "job.log", lines)

    def trial(self, name: str) -> Trial:
        """Give one trial by its name, or by the only task of that name.

        Raises:
            JobError: there is none, or several.
        """
        inside = [path for path in self.path.iterdir() if path.is_dir()]
        exact = [path for path in inside if path.name == name]
        found = exact or [path for path in inside if path.name.startswith(f"{name}__")]
        if len(found) != 1:
            near = ", ".join(sorted(path.name for path in found or inside)[:5])
            raise JobError(f"{'several trials' if found else 'no trial'} {name!r} in {self.name}; there is {near}")
        return Trial(found[0])

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

    def view(self) -> Any:
        """Show the job in Harbor's own viewer, which ends with this kernel; outside of a notebook print the command."""
        from harbor_nb.running.viewing import view

        return view(self.path)

    @property
    def _told(self) -> str:
        state = self.state
        sign = f"last sign of life {self.last_sign}" if state == "unknown" and self.last_sign else ""
        return self.error or sign or self._said

    def __repr__(self) -> str:
        counts, told = self.counts, self._told
        done = f"{counts['completed']} of {counts['total']} trials done"
        return f"Job({clean(self.name)}: {self.state}, {done}{f'; {told}' if told else ''})"

    def _repr_html_(self) -> str:
        return Jobs([self])._repr_html_()


class Jobs(Shown, Sequence[Job]):
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
        try:
            with show(self, progress) as draw:
                while any(job.state in LIVE for job in self):
                    if end is not None and time.monotonic() > end:
                        raise TimeoutError(f"{', '.join(job.name for job in self)} still running after {timeout} s")
                    draw()
                    time.sleep(_POLL_SEC)
        except KeyboardInterrupt:
            print("stopped waiting; the jobs go on. harbor_nb.attach() finds them again")  # noqa: T201
        return self

    def __await__(self) -> Generator[Any, None, "Jobs"]:
        for job in self:
            yield from job.__await__()
        return self

    def cancel(self, timeout: float = 60, force: bool = False) -> "Jobs":
        """Cancel every job that lives; as `Job.cancel`."""
        for job in self:  # all are asked before one is waited for
            job._ask_to_end()
        for job in self:
            job.cancel(timeout, force)
        return self

    def trials(self) -> "pd.DataFrame":
        """Give the trials of all jobs, one row each."""
        from harbor_nb.results import frames

        return frames.trials([job.path for job in self])

    def __repr__(self) -> str:
        shown = [repr(job) for job in self._jobs[:_SHOWN]]
        return f"Jobs({', '.join(shown)}{f', and {len(self) - _SHOWN} more' if len(self) > _SHOWN else ''})"

    def _repr_html_(self) -> str:
        names = ("name", "state", "counts", "_told")
        shown = [{name.strip("_"): getattr(job, name) for name in names} for job in self._jobs[:_SHOWN]]
        return render("jobs", jobs=shown, more=max(0, len(self) - _SHOWN))


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
        hint = f"a folder of jobs; give one of them: {inside}" if inside else "not a job folder: it has no config.json"
        raise JobError(f"{path} is {hint}")
    job = Job(path)
    if job.state in LIVE:
        remember_launch(path)  # it may have been moved, or launched by another user's hand
    return job
