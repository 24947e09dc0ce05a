"""The handle of a job: its state from files alone, waiting, cancelling, resuming, and its trials."""

import asyncio
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harbor_nb._display import Shown, clean
from harbor_nb.errors import JobError
from harbor_nb.results.reading import read_mapping
from harbor_nb.running import ending, waiting
from harbor_nb.running.events import PHASE_OF, PHASES, EventLog
from harbor_nb.running.launcher import collect
from harbor_nb.running.owner import LIVE, OwnerRecord
from harbor_nb.running.trial import Trial, tail

if TYPE_CHECKING:
    import pandas as pd

    from harbor_nb.running.diagnosis import Diagnosis
    from harbor_nb.running.repairs import Repair


class Handled(Shown):
    """What one job and several have in common."""

    def _each(self) -> "Sequence[Job]":
        raise NotImplementedError

    def wait(self, timeout: float | None = None, progress: bool = True) -> Self:
        """Wait until every job has ended; an interrupt stops the waiting, not the jobs.

        Args:
            timeout: seconds, or None for no limit.
            progress: show it: bars in a terminal, a widget or HTML in a notebook, lines elsewhere.

        Returns:
            The same job or jobs.

        Raises:
            TimeoutError: not all ended in time; they go on.

        Example:
            >>> launch("tasks/hello-world").wait()  # doctest: +SKIP
        """
        waiting.wait(self._each(), timeout, progress)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        async def until() -> Self:
            while any(job.state in LIVE for job in self._each()):  # noqa: ASYNC110 - files of another process
                await asyncio.sleep(waiting.POLL_SEC)
            return self

        return until().__await__()

    def cancel(self, timeout: float = 60, force: bool = False) -> Self:
        """End what runs gracefully, wait for it, and look that nothing of it is left: here, and at the vendor.

        Args:
            timeout: seconds to wait for a graceful end.
            force: what has not ended by then is ended by SIGKILL, and what it leaves is removed.

        Returns:
            The same job or jobs; each says where it can't be told whether a sandbox is left, for want of a key for one.

        Raises:
            JobError: a runner can't be reached from here; or something is left, which the message names.
            TimeoutError: it did not end in `timeout` seconds.

        Example:
            >>> attach("jobs/first").cancel()  # doctest: +SKIP
        """
        asked = [(job, ending.ask(job.path)) for job in self._each()]  # all, before one is waited for
        for job, record in asked:
            if record is not None:
                job._said = ending.cancel(job.path, record, timeout, force)
        for job in self._each():
            if job.state == "unknown":
                raise JobError(f"{job.name} is not run by a process of this machine; cancel it where it runs")
        return self

    def trials(self) -> "pd.DataFrame":
        """Give the trials of every job, one row each."""
        from harbor_nb.results import frames

        return frames.trials([job.path for job in self._each()])

    def _repr_html_(self) -> str:
        return waiting.table(self._each())


class Job(Handled):
    """One job, told from its folder; the same in the process that launched it and in any other."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._events = EventLog(self.path)
        self._said = ""

    @property
    def name(self) -> str:
        """The job folder's name."""
        return self.path.name

    def _each(self) -> "Sequence[Job]":
        return [self]

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def _result(self) -> dict[str, Any]:
        return read_mapping(self.path / "result.json")

    @property
    def state(self) -> str:
        """One of starting, running, cancelling, finished, cancelled, failed, lost, unknown."""
        for _ in range(2):  # a runner may write its end between the look at its record and the look at its process
            record = OwnerRecord.read(self.path)
            if record is None:
                return "finished" if self._result.get("finished_at") else "unknown"
            collect(record.pid)
            alive = record.alive() if record.state in LIVE else True
            if alive is not False:
                return record.state if alive else "unknown"
        return "lost"

    @property
    def counts(self) -> dict[str, int]:
        """Trials: total, completed, errored, pending, cancelled, running, and the running ones by phase."""
        result = self._result
        stats = result.get("stats") or {}
        counts = {"total": int(result.get("n_total_trials") or 0)}
        for name in ("completed", "errored", "pending", "running", "cancelled"):
            counts[name] = int(stats.get(f"n_{name}_trials") or 0)
        for name in ("completed", "errored"):  # Harbor counts what was cancelled among both
            counts[name] = max(0, counts[name] - counts["cancelled"])
        trials = self._events.trials()[0] if counts["running"] else {}
        phases = [PHASE_OF.get(row["state"]) for row in trials.values()]
        return counts | {phase: phases.count(phase) for phase in PHASES}

    @property
    def last_sign(self) -> str | None:
        """When the job last gave a sign of life, as ISO 8601 in UTC; None if it never did."""
        record = OwnerRecord.read(self.path)
        return record.heartbeat_at if record else self._result.get("updated_at")

    @property
    def error(self) -> str | None:
        """Why a failed or lost job ended, in words; None for any other."""
        record, state = OwnerRecord.read(self.path), self.state
        if state == "lost" and record is not None:
            code = collect(record.pid)
            code_told = "" if code is None else f" with exit code {code}"
            return f"its runner died{code_told}; job.resume() goes on. It said last: {self.log(3) or 'nothing'}"
        return clean(record.error) if record and record.error and state == "failed" else None

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
            time.sleep(waiting.POLL_SEC)
        if self.state == "failed":
            raise JobError(in_words(self.error or ""))
        return self

    def log(self, lines: int = 20) -> str:
        """Give the last lines of the runner's log."""
        return tail(self.path / "harbor_nb.log", lines) or tail(self.path / "job.log", lines)

    def trial(self, name: str) -> Trial:
        """Give one trial by its name, or by the only task of that name.

        Raises:
            JobError: there is none, or several.
        """
        inside = sorted(path for path in self.path.iterdir() if path.is_dir())
        found = [path for path in inside if path.name == name]
        found = found or [path for path in inside if path.name.startswith(f"{name}__")]
        if len(found) != 1:
            near = ", ".join(path.name for path in (found or inside)[:5])
            raise JobError(f"{'several trials' if found else 'no trial'} {name!r} in {self.name}; there is {near}")
        return Trial(found[0])

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
    def told(self) -> str:
        """What there is to know of the job besides its state: why it ended, its last sign of life, what was cleared."""
        sign = f"last sign of life {self.last_sign}" if self.state == "unknown" and self.last_sign else ""
        return self.error or sign or self._said

    def __repr__(self) -> str:
        counts, told = self.counts, self.told
        done = f"{counts['completed']} of {counts['total']} trials done"
        return f"Job({clean(self.name)}: {self.state}, {done}{f'; {told}' if told else ''})"
