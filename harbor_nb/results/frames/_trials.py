"""The frames made of trial results: trials, rewards, phases, task_steps."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harbor_nb.results import _loading, _rows
from harbor_nb.results._columns import FLOAT, Column, arrow, build, pick, seconds
from harbor_nb.results.reading import JobFolder, find_jobs

if TYPE_CHECKING:
    import pandas as pd

PHASES = (*_rows.PHASES, "teardown")
_FLAGS = ("practice", "recorded", "fast_stop")
_OF_TRIAL = {"job", "trial", "trial_id", "path", "step_index"}
_MOST_REWARDS = 256
_TEXT = pa.large_string()
_NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("job", "trial", "path", "job_path", *_FLAGS), ()),
    "status": ("reason", "finished", "rewards", "exception"),
    **dict.fromkeys(("reward", "passed"), ("rewards",)),
    "message": ("reason", "finished", "message"),
    **{f"{phase}_sec": (f"{phase}_started_at", f"{phase}_finished_at") for phase in _rows.PHASES},
    "teardown_sec": tuple(_rows.TIMES),
    "total_sec": ("started_at", "finished_at"),
}


class Rows:
    """Trials, or steps of tasks: an Arrow table, and what is computed from it when it is asked for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def rewards(self) -> tuple[Any, pa.Array, Any]:
        """Rows, names and values of all rewards, flat."""
        lists = self.table["rewards"].combine_chunks()
        name, value = pc.list_flatten(lists).flatten()
        return pc.list_parent_indices(lists).to_numpy(), name, value.to_numpy(zero_copy_only=False)

    def named_reward(self, name: str) -> np.ndarray[Any, Any]:
        """Return one named reward, NaN where a trial has none."""
        rows, names, values = self.rewards
        column = np.full(len(self), np.nan)
        here = pc.equal(names, name).to_numpy(zero_copy_only=False)
        column[rows[here]] = values[here]
        return column

    def reward_names(self) -> list[str]:
        """Return the names of all rewards but `reward`, sorted; no more than pandas can bear as columns."""
        return sorted(set(pc.unique(self.rewards[1]).to_pylist()) - {"reward"})[:_MOST_REWARDS]

    @cached_property
    def reward(self) -> np.ndarray[Any, Any]:
        """The reward of each trial: that called `reward`, or the only one."""
        rows, _, values = self.rewards
        column = self.named_reward("reward")
        lone = (np.bincount(rows, minlength=len(self))[rows] == 1) & np.isnan(column[rows])
        column[rows[lone]] = values[lone]
        return column

    def column(self, name: str) -> Any:
        """Return a column as an Arrow array."""
        if name == "passed":
            return pa.array(self.reward >= 1, mask=np.isnan(self.reward))
        if name == "reward" or name.startswith("reward_"):
            values = self.reward if name == "reward" else self.named_reward(name.removeprefix("reward_"))
            return pa.array(values, from_pandas=True)
        if name.endswith("_sec"):
            part = "" if name == "total_sec" else name.removesuffix("sec")
            return seconds(self.table[f"{part}started_at"], self.table[f"{part}finished_at"])
        return _rows.redacted(self.table[name]) if name == "message" else self.table[name]


class Trials(Rows):
    """The trials of some jobs."""

    def __init__(self, x: Any, needs: Iterable[str], *, pending: bool = False, load: Any = _loading.load) -> None:
        """Read the columns `needs` of the results by `load`; none of them, and no result is opened."""
        self.jobs: list[JobFolder] = find_jobs(x)
        stored = [name for name in _rows.SCHEMA.names if name in {"trial", *needs}]
        tables: list[pa.Table] = []
        sizes = []
        for job in self.jobs:
            unread = stored == ["trial"]
            parts = [pa.table({"trial": arrow(job.trial_names, _TEXT)}) if unread else load(job, stored)]
            if job.links:
                parts.append(_loading.linked_rows(job).select(stored))
            if pending and not unread and job.alive:
                parts.append(_loading.pending_rows(job).select(stored))
            tables += parts
            sizes.append(sum(map(len, parts)))
        self.table = pa.concat_tables(tables or [_rows.SCHEMA.empty_table().select(stored)]).combine_chunks()
        self._job_of = pa.array(np.repeat(np.arange(len(self.jobs)), sizes))

    def of_job(self, value: Callable[[JobFolder], Any], kind: pa.DataType) -> pa.Array:
        """Return a job's value repeated for each of its trials."""
        return arrow([value(job) for job in self.jobs], kind).take(self._job_of)

    def path(self) -> pa.Array:
        """Return the trial folders."""
        folders = self.of_job(lambda job: job.path, _TEXT)
        return pc.binary_join_element_wise(folders, self.table["trial"], pa.scalar(os.sep, _TEXT))

    @cached_property
    def _alive(self) -> pa.Array:
        return self.of_job(lambda job: job.alive, pa.bool_())

    def status(self) -> pa.Array:
        """Return what became of each trial."""
        table = self.table
        has_reward = pc.greater(pc.list_value_length(table["rewards"]), 0)
        cancelled = pc.fill_null(pc.equal(table["exception"], "CancelledError"), False)
        finished = pc.if_else(has_reward, "scored", pc.if_else(cancelled, "cancelled", "unscored"))
        told = pc.if_else(table["finished"], finished, pc.if_else(self._alive, "running", "cancelled"))
        return pc.if_else(pc.is_valid(table["reason"]), "unreadable", pc.coalesce(told, "pending"))

    def last_phase_end(self) -> Any:
        """Return the end of the last phase, where the teardown begins."""
        ends = [self.table[f"{phase}_finished_at"] for phase in _rows.PHASES]
        return pc.max_element_wise(*(end.cast(pa.int64()) for end in ends)).cast(ends[0].type)

    def message(self) -> Any:
        """Return what was raised in one line, or why there is no result."""
        table = self.table
        told = pc.or_(pc.or_(pc.fill_null(table["finished"], True), pc.is_valid(table["reason"])), self._alive)
        lost = "no result.json: the trial ended before it wrote one"
        return pc.if_else(told, pc.coalesce(table["reason"], super().column("message")), lost)

    def column(self, name: str) -> Any:
        """Return a column of `trials` as an Arrow array."""
        if name in {"job", "job_path"}:
            return self.of_job(lambda job: job.name if name == "job" else job.path, _TEXT)
        if name in _FLAGS:
            return self.of_job(lambda job: job.flag(name), pa.bool_())
        if name in {"path", "status", "message"}:
            return getattr(self, name)()
        if name == "teardown_sec":
            return seconds(self.last_phase_end(), self.table["finished_at"])
        return super().column(name)

    def spread(self, columns: Sequence[Column], rows: np.ndarray[Any, Any], here: dict[str, Any]) -> "pd.DataFrame":
        """Return a frame of another grain: columns of its own from `here`, the others from the trials at `rows`."""
        place = pa.array(rows)
        return build(columns, lambda name: here[name] if name in here else self.column(name).take(place))


def needs(columns: Iterable[Column]) -> set[str]:
    """Return the stored columns from which these are made."""
    wanted: set[str] = set()
    for column in columns:
        named = column.name.startswith("reward_")
        wanted.update(_NEEDS["reward"] if named else _NEEDS.get(column.name, (column.name,)))
    return wanted


def trials(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a trial.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted, see docs/frames.md; fewer are read faster. None for all.

    Returns:
        The trials in the order of their folders. What is missing is `NA`, never 0; times are UTC; a broken result
        is a row of status `unreadable`.

    Raises:
        BadInputError: `x` does not exist, or a column that the frame does not have.

    Example:
        >>> import harbor_nb
        >>> frame = harbor_nb.trials(harbor_nb.sample_jobs())  # doctest: +SKIP
        >>> frame.groupby("environment")["passed"].mean()  # doctest: +SKIP
    """
    chosen = pick("trials", columns)

    def made(load: Any) -> "pd.DataFrame":
        data = Trials(x, needs(chosen), pending=True, load=load)
        place = 0 if columns is not None else [column.name for column in chosen].index("passed")
        names = data.reward_names() if columns is None else []
        named = [Column(f"reward_{name}", FLOAT, "", "") for name in names]
        return build([*chosen[:place], *named, *chosen[place:]], data.column)

    with _loading.Memory() as memory:
        frame = made(memory.load)
        return made(memory.load) if memory.changed() else frame


def rewards(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a named reward of a trial.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.

    Returns:
        job, trial, trial_id, name, value, path; a trial without rewards has no row.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.rewards(harbor_nb.sample_jobs(), columns=["trial", "name", "value"])  # doctest: +SKIP
    """
    chosen = pick("rewards", columns)
    data = Trials(x, {"trial_id", "rewards"})
    rows, names, values = data.rewards
    return data.spread(chosen, rows, {"name": names, "value": pa.array(values)})


def phases(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a phase of a trial: environment setup, agent setup, agent, verifier, teardown.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.

    Returns:
        job, trial, trial_id, phase, started_at, finished_at, seconds, path; a phase that never began has no row.

    Example:
        >>> import harbor_nb
        >>> frame = harbor_nb.phases(harbor_nb.sample_jobs())  # doctest: +SKIP
        >>> frame.groupby("phase")["seconds"].median()  # doctest: +SKIP
    """
    chosen = pick("phases", columns)
    data = Trials(x, {"trial_id", *_rows.TIMES})
    table, last = data.table, data.last_phase_end()
    ended = pc.is_valid(table["finished_at"])
    spans = [(table[f"{phase}_started_at"], table[f"{phase}_finished_at"]) for phase in _rows.PHASES]
    spans.append((pc.if_else(ended, last, pa.scalar(None, last.type)), table["finished_at"]))
    parts = [
        pa.table({"row": np.arange(len(data)), "phase": [phase] * len(data), "started_at": start, "finished_at": end})
        for phase, (start, end) in zip(PHASES, spans, strict=True)
    ]
    long = pa.concat_tables(parts).filter(pc.field("started_at").is_valid())
    long = long.take(np.argsort(long["row"].to_numpy(), kind="stable"))
    here = {name: long[name] for name in ("phase", "started_at", "finished_at")}
    return data.spread(
        chosen, long["row"].to_numpy(), {**here, "seconds": seconds(here["started_at"], here["finished_at"])}
    )


def task_steps(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a step of a multi-step task's trial.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.

    Returns:
        One row a step that ran, with its own reward, failure, times and tokens; a task without steps has no row.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.task_steps(harbor_nb.sample_jobs(), columns=["trial", "step", "reward"])  # doctest: +SKIP
    """
    chosen = pick("task_steps", columns)
    data = Trials(x, {"trial_id", "steps"})
    lists = data.table["steps"].combine_chunks()
    rows = pc.list_parent_indices(lists)
    index = rows.to_numpy()
    steps = Rows(pa.Table.from_struct_array(pc.list_flatten(lists)))
    here = {c.name: steps.column(c.name) for c in chosen if c.name not in _OF_TRIAL}
    here["step_index"] = pa.array(np.arange(len(index)) - np.searchsorted(index, index) + 1)
    return data.spread(chosen, index, here)
