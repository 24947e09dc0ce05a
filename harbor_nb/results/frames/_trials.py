"""The frames made of trial results: trials, rewards, phases, task_steps."""

import os
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harbor_nb.results import _rows
from harbor_nb.results.frames import _failures
from harbor_nb.results.frames._columns import FLOAT, Column, build, no_nan, pick, seconds
from harbor_nb.results.reading import JobFolder, find_jobs

if TYPE_CHECKING:
    import pandas as pd

PHASES = ("environment_setup", "agent_setup", "agent", "verifier", "teardown")
_MOST_REWARDS = 256
_NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("job", "trial", "path", "job_path", "practice", "recorded", "fast_stop"), ()),
    "status": ("reason", "finished", "reward_values", "exception"),
    "reward": ("reward_names", "reward_values"),
    "passed": ("reward_names", "reward_values"),
    **dict.fromkeys(("failure", "fault"), ("reason", "exception", "exception_message", "phase", "environment")),
    "message": ("reason", "finished", "exception", "exception_message", "phase", "environment"),
    **{f"{p}_sec": (f"{p}_started_at", f"{p}_finished_at") for p in PHASES[:4]},
    "teardown_sec": tuple(_rows.TIMES),
    "total_sec": ("started_at", "finished_at"),
}


class Trials:
    """The trials of some jobs: one Arrow table, and what is computed from it when it is asked for."""

    def __init__(self, x: Any, needs: Iterable[str], *, pending: bool = False) -> None:
        """Read the columns `needs` of the results; none of them, and no result is opened."""
        self.jobs: list[JobFolder] = find_jobs(x)
        stored = sorted({"trial", *needs})
        tables, self.sizes = [], []
        for job in self.jobs:
            if stored == ["trial"]:
                table = pa.table({"trial": _rows.arrow(job.trial_names, pa.large_string())})
            else:
                table = _rows.load(job, stored)
            rows = [_rows.config_row(name, None, "a symbolic link, not followed") for name in job.links]
            if rows := rows + (_rows.pending_rows(job) if pending and stored != ["trial"] else []):
                table = pa.concat_tables([table, _rows.table(rows).select(table.column_names)])
            tables.append(table)
            self.sizes.append(len(table))
        self.table = pa.concat_tables(tables).combine_chunks() if tables else _rows.SCHEMA.empty_table()

    def __len__(self) -> int:
        return len(self.table)

    def of_job(self, value: Callable[[JobFolder], Any], kind: pa.DataType) -> pa.Array:
        """Return a job's value repeated for each of its trials."""
        values = _rows.arrow([value(job) for job in self.jobs], kind)
        return values.take(pa.array(np.repeat(np.arange(len(self.jobs)), self.sizes)))

    @cached_property
    def path(self) -> pa.Array:
        """The trial folders."""
        folders = self.of_job(lambda job: job.path, pa.large_string())
        return pc.binary_join_element_wise(folders, self.table["trial"], pa.scalar(os.sep, pa.large_string()))

    @cached_property
    def _reward_place(self) -> tuple[Any, list[str], Any, Any]:
        """Rows, names, name codes and values of all rewards, flat."""
        lists = self.table["reward_names"].combine_chunks()
        rows = pc.list_parent_indices(lists).to_numpy()
        names = pc.list_flatten(lists).dictionary_encode()
        values = pc.list_flatten(self.table["reward_values"].combine_chunks()).to_numpy(zero_copy_only=False)
        return rows, names.dictionary.to_pylist(), names.indices.to_numpy(zero_copy_only=False), values

    def named_reward(self, name: str) -> np.ndarray[Any, Any]:
        """Return one named reward, NaN where a trial has none."""
        rows, names, codes, values = self._reward_place
        column = np.full(len(self), np.nan)
        if name in names:
            here = codes == names.index(name)
            column[rows[here]] = values[here]
        return column

    def reward_names(self) -> list[str]:
        """The names of all rewards but `reward`, sorted; no more than pandas can bear as columns."""
        return sorted(set(self._reward_place[1]) - {"reward"})[:_MOST_REWARDS]

    @cached_property
    def reward(self) -> np.ndarray[Any, Any]:
        """The reward of each trial: that called `reward`, or the only one."""
        rows, _, _, values = self._reward_place
        count = np.bincount(rows, minlength=len(self))
        column = self.named_reward("reward")
        lone = (count[rows] == 1) & np.isnan(column[rows])
        column[rows[lone]] = values[lone]
        return column

    @cached_property
    def status(self) -> pa.Array:
        """What became of each trial."""
        table = self.table
        alive = self.of_job(lambda job: job.alive, pa.bool_())
        has_reward = pc.greater(pc.fill_null(pc.list_value_length(table["reward_values"]), 0), 0)
        cancelled = pc.fill_null(pc.equal(table["exception"], "CancelledError"), False)
        finished = pc.if_else(has_reward, "scored", pc.if_else(cancelled, "cancelled", "unscored"))
        unfinished = pc.if_else(alive, "running", "cancelled")
        told = pc.coalesce(pc.if_else(table["finished"], finished, unfinished), "pending")
        return pc.if_else(pc.is_valid(table["reason"]), "unreadable", told)

    @cached_property
    def failures(self) -> dict[str, pa.Array]:
        """The columns failure, fault and message."""
        return _failures.columns(self.table)

    def last_phase_end(self) -> Any:
        """Return the end of the last phase, where the teardown begins."""
        ends = [self.table[f"{phase}_finished_at"] for phase in PHASES[:4]]
        return pc.max_element_wise(*(end.cast(pa.int64()) for end in ends)).cast(ends[0].type)

    def _message(self) -> Any:
        lost = pc.invert(pc.or_(pc.fill_null(self.table["finished"], True), pc.is_valid(self.table["reason"])))
        lost = pc.and_(lost, pc.invert(self.of_job(lambda job: job.alive, pa.bool_())))
        return pc.if_else(lost, "no result.json: the trial ended before it wrote one", self.failures["message"])

    _COMPUTED: ClassVar[dict[str, Callable[["Trials"], Any]]] = {
        "job": lambda self: self.of_job(lambda job: job.name, pa.large_string()),
        "job_path": lambda self: self.of_job(lambda job: job.path, pa.large_string()),
        "path": lambda self: self.path,
        "status": lambda self: self.status,
        "reward": lambda self: no_nan(self.reward),
        "passed": lambda self: pa.array(self.reward >= 1, mask=np.isnan(self.reward)),
        "failure": lambda self: self.failures["failure"],
        "fault": lambda self: self.failures["fault"],
        "message": _message,
        "teardown_sec": lambda self: seconds(self.last_phase_end(), self.table["finished_at"]),
        "total_sec": lambda self: seconds(self.table["started_at"], self.table["finished_at"]),
    }

    def column(self, name: str) -> Any:
        """Return a column of `trials` as an Arrow array."""
        if name in self._COMPUTED:
            return self._COMPUTED[name](self)
        if name in {"practice", "recorded", "fast_stop"}:
            return self.of_job(lambda job: bool(job.owner and getattr(job.owner, name)), pa.bool_())
        if name.endswith("_sec"):
            return seconds(self.table[f"{name[:-4]}_started_at"], self.table[f"{name[:-4]}_finished_at"])
        if name.startswith("reward_"):
            return no_nan(self.named_reward(name.removeprefix("reward_")))
        return self.table[name]


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
    data = Trials(x, needs(chosen), pending=True)
    if columns is None:
        named = [Column(f"reward_{name}", FLOAT, "", "") for name in data.reward_names()]
        place = [column.name for column in chosen].index("passed")
        chosen[place:place] = named
    return build(chosen, data.column)


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
    data = Trials(x, {"trial_id", "reward_names", "reward_values"})
    rows, names, codes, values = data._reward_place
    here = {"name": pa.array(names, pa.large_string()).take(pa.array(codes)), "value": no_nan(values)}
    return build(chosen, lambda name: here[name] if name in here else data.column(name).take(pa.array(rows)))


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
    table = data.table
    last = data.last_phase_end()
    ends = [(table[f"{phase}_started_at"], table[f"{phase}_finished_at"]) for phase in PHASES[:4]]
    ends.append((pc.if_else(pc.is_valid(table["finished_at"]), last, pa.scalar(None, last.type)), table["finished_at"]))
    count = len(data)
    # phase-major to trial-major: row i of phase p goes to place i * 5 + p
    order = pa.array((np.arange(count)[:, None] + np.arange(len(PHASES)) * count).ravel())
    starts, stops = (
        pa.chunked_array([c for pair in ends for c in pair[i].chunks], last.type).take(order) for i in (0, 1)
    )
    begun = pc.is_valid(starts)
    starts, stops = starts.filter(begun), stops.filter(begun)
    trial = pa.array(np.repeat(np.arange(count), len(PHASES))).filter(begun.combine_chunks())
    here = {
        "phase": pa.array(np.tile(np.array(PHASES, object), count), pa.large_string()).filter(begun.combine_chunks()),
        "started_at": starts,
        "finished_at": stops,
        "seconds": seconds(starts, stops),
    }
    return build(chosen, lambda name: here[name] if name in here else data.column(name).take(trial))


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
    data = Trials(x, {"trial_id", "environment", "steps"})
    lists = data.table["steps"].combine_chunks()
    rows = pc.list_parent_indices(lists)
    steps = pa.Table.from_struct_array(pc.list_flatten(lists))
    index = rows.to_numpy()
    first = np.searchsorted(index, index)
    reward = steps["reward"]
    steps = steps.append_column("environment", data.table["environment"].take(rows))
    steps = steps.append_column("phase", pa.nulls(len(steps), pa.large_string()))
    steps = steps.append_column("reason", pa.nulls(len(steps), pa.large_string()))
    here: dict[str, Any] = {
        "step_index": pa.array(np.arange(len(index)) - first + 1),
        "passed": pc.greater_equal(reward, 1.0),
        **dict(zip(steps.column_names, steps.columns, strict=True)),
    }
    if {"failure", "fault", "message"} & {column.name for column in chosen}:
        here.update(_failures.columns(steps))
    for phase in ("agent", "verifier"):
        here[f"{phase}_sec"] = seconds(*(_rows.times(steps[f"{phase}_{end}_at"]) for end in ("started", "finished")))
    return build(chosen, lambda name: here[name] if name in here else data.column(name).take(rows))
