"""Several jobs as one, and how a job is found again."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

from harbor_nb.errors import JobError
from harbor_nb.running import waiting
from harbor_nb.running.job import Handled, Job
from harbor_nb.running.owner import LIVE, live_jobs, remember_launch


class Jobs(Handled, Sequence[Job]):
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

    def _each(self) -> Sequence[Job]:
        return self._jobs

    @property
    def state(self) -> dict[str, str]:
        """Each job's state by its name."""
        return {job.name: job.state for job in self}

    def __repr__(self) -> str:
        more = len(self) - waiting.SHOWN
        shown = [repr(job) for job in self._jobs[: waiting.SHOWN]]
        return f"Jobs({', '.join(shown)}{f', and {more} more' if more > 0 else ''})"


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
