"""Several jobs as one, and how a job is found again."""

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from harbor_nb._display import Shown
from harbor_nb.errors import JobError
from harbor_nb.running import ending, waiting
from harbor_nb.running.job import Job
from harbor_nb.running.owner import LIVE, live_jobs, remember_launch

if TYPE_CHECKING:
    import pandas as pd


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
        waiting.wait(self, timeout, progress)
        return self

    def __await__(self) -> Generator[Any, None, "Jobs"]:
        for job in self:
            yield from job.__await__()
        return self

    def cancel(self, timeout: float = 60, force: bool = False) -> "Jobs":
        """Cancel every job that lives; as `Job.cancel`."""
        for job in self:  # all are asked before one is waited for
            ending.ask(job.path)
        for job in self:
            job.cancel(timeout, force)
        return self

    def trials(self) -> "pd.DataFrame":
        """Give the trials of all jobs, one row each."""
        from harbor_nb.results import frames

        return frames.trials([job.path for job in self])

    def __repr__(self) -> str:
        more = len(self) - waiting.SHOWN
        shown = [repr(job) for job in self._jobs[: waiting.SHOWN]]
        return f"Jobs({', '.join(shown)}{f', and {more} more' if more > 0 else ''})"

    def _repr_html_(self) -> str:
        return waiting.table(self)


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
