"""Tidy DataFrames of every grain over Harbor's job folders; `job` and `trial`, or `path`, join them."""

from harbor_nb.results.frames._jobs import artifacts, events, jobs, unreadable
from harbor_nb.results.frames._parquet import to_parquet
from harbor_nb.results.frames._trajectories import trajectory_steps
from harbor_nb.results.frames._trials import phases, rewards, task_steps, trials

__all__ = ["artifacts", "events", "jobs", "phases", "rewards", "task_steps", "to_parquet", "trajectory_steps", "trials"]
__all__ += ["unreadable"]
