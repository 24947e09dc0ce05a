"""A job's trials as an Arrow table: each result decoded once, then remembered in the cache until its file changes."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import batched, compress
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import LocalFileSystem

from harbor_nb.results import _cache, reading
from harbor_nb.results._columns import arrow
from harbor_nb.results._models import shapes
from harbor_nb.results._rows import SCHEMA, table, with_attempts

_KEYS = ["trial", "size", "mtime_ns"]
_REMEMBERED = pa.schema([*SCHEMA, *((name, pa.int64()) for name in _KEYS[1:])])
_RACY_NS = 2_000_000_000  # a file younger than this may change again within one tick of the clock
_CHUNK = 1_000  # trials a table: few of Python's objects at a time, and these still in the processor's cache
_RESULT = f"{os.sep}result.json"
_QUICK = 2**16  # a result of fewer bytes is read in one call
_decode = msgspec.json.Decoder(shapes.TrialResult).decode


def _task_name(task: Any) -> str | None:
    return (task.path or task.name or "").replace("\\", "/").rstrip("/").rpartition("/")[2] or None if task else None


def _planned(config: Any) -> Any:
    """Return a result that says no more than the trial's configuration does."""
    if config is None:
        return shapes.TrialResult(task_name=None, config=None)
    task, agent = config.task, config.agent
    provider, _, model = ((agent and agent.model_name) or "").rpartition("/")
    info = shapes.AgentInfo(model_info=shapes.Model(name=model or None, provider=provider or None))
    name, source = (task.name or _task_name(task), task.source) if task else (None, None)
    return shapes.TrialResult(task_name=name, source=source, config=config, agent_info=info)


def linked_rows(job: reading.JobFolder) -> pa.Table:
    """Return a row for each link that stands where a trial folder should."""
    return table([(name, "a symbolic link, not followed", False, _planned(None)) for name in job.links])


def pending_rows(job: reading.JobFolder) -> pa.Table:
    """Return the trials that a live job's lock names and for which there is no folder yet."""

    def key(config: Any) -> tuple[Any, ...]:
        agent = config.agent
        return (_task_name(config.task), *((agent.name, agent.import_path, agent.model_name) if agent else ()))

    planned = (job.alive and job.lock and job.lock.trials) or ()
    configs = [_config(job.file(name)) for name in job.trial_names if planned]
    begun = Counter(key(config) for config in configs if config is not None)
    waiting = []
    for config in planned:
        begun[key(config)] -= 1
        if begun[key(config)] < 0:
            waiting.append((None, None, None, _planned(config)))
    return table(waiting)


def _config(trial: str) -> Any:
    return reading.read_or_none(f"{trial}{os.sep}config.json", shapes.TrialConfig)


def _entry(folder: str, name: str) -> tuple[Any, ...]:
    """Return what `table` wants to know of a trial folder, in as few calls as can be, whatever is in it."""
    path = f"{folder}{os.sep}{name}{_RESULT}"
    try:
        descriptor = os.open(path, reading.FLAGS)
        try:
            return name, None, True, _decode(os.read(descriptor, _QUICK))
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):  # a large one, or the rare rest: find out why, try once more
        try:
            return name, None, True, reading.read_struct(path, shapes.TrialResult)
        except reading.UnreadableError as error:
            reason = None if isinstance(error, reading.AbsentError) else f"result.json: {error}"
            return name, reason, False, _planned(_config(f"{folder}{os.sep}{name}"))


def _read(folder: str, names: Sequence[str]) -> pa.Table:
    chunks = [table([_entry(folder, name) for name in part]) for part in batched(names, _CHUNK)]
    return pa.concat_tables([SCHEMA.empty_table(), *chunks])


def _facts(folder: str, names: Sequence[str]) -> pa.Table:
    """Return size and time of change of each result; -1 where there is none, or it may change again unnoticed."""
    ends = f"{_RESULT}\0{folder}{os.sep}".join([*names, ""]).encode("utf-8", "surrogateescape")
    paths = (f"{folder}{os.sep}".encode("utf-8", "surrogateescape") + ends).split(b"\0")[:-1]
    try:  # pyarrow asks for all of them without Python's lock
        found = LocalFileSystem().get_file_info(paths)
    except OSError:  # one of them may not be looked at: read all again, each on its own
        found = LocalFileSystem().get_file_info([b""] * len(paths))
    sizes, times = (pa.array([getattr(one, fact) for one in found], pa.int64()) for fact in _KEYS[1:])
    settled = pc.and_kleene(sizes.is_valid(), pc.less(times, time.time_ns() - _RACY_NS))
    columns = (arrow(names, pa.large_string()), sizes.fill_null(-1), pc.if_else(settled, times, -1))
    return pa.table(dict(zip(_KEYS, columns, strict=True)))


def load(job: reading.JobFolder, columns: Sequence[str]) -> pa.Table:
    """Return the job's trials as a table of `SCHEMA`, from the cache as far as no file changed since.

    Args:
        job: The job.
        columns: The columns of `SCHEMA` that are needed.
    """
    with Memory() as memory:
        rows = memory.load(job, columns)
        return memory.load(job, columns) if memory.changed() else rows


class Memory(ThreadPoolExecutor):
    """Gives rows as they were remembered, while the files are asked whether they changed since."""

    def __init__(self) -> None:
        super().__init__(1)
        self._rows: dict[tuple[str, str | None], pa.Table] = {}
        self._asked: list[tuple[reading.JobFolder, pa.Table, Future[pa.Table]]] = []

    def load(self, job: reading.JobFolder, columns: Sequence[str]) -> pa.Table:
        """Return the job's trials as `load` does, though they may have changed."""
        key = (job.path, job.only)
        if key not in self._rows:
            known = None if job.only else _cache.read(job.path, list(dict.fromkeys([*_KEYS, *columns])))
            if known is None:
                self._rows[key] = _anew(job).select(columns)
            else:
                self._rows[key] = known.select(columns)
                asked = self.submit(_facts, job.path, known["trial"].to_pylist())
                self._asked.append((job, known, asked))
        return self._rows[key]

    def changed(self) -> bool:
        """Tell whether any of the rows given did not hold; those are given as they are from now on."""
        found = False
        for job, known, asked in self._asked:
            if not (known["trial"].to_pylist() == job.trial_names and _holds(known, asked.result())):
                rows = self._rows[job.path, job.only]
                self._rows[job.path, job.only] = _anew(job).select(rows.column_names)
                found = True
        self._asked.clear()
        return found


def _anew(job: reading.JobFolder) -> pa.Table:
    """Return the job's trials, read as far as they changed since they were remembered."""
    names = job.trial_names
    if job.only is not None or len(names) < _cache.FEWEST or _cache.folder() is None:
        return with_attempts(_read(job.path, names))
    return _renewed(job.path, names, _facts(job.path, names))


def _holds(known: pa.Table, listed: pa.Table) -> bool:
    """Tell whether the files are as they were, and none so young that it may change again unnoticed."""
    return bool(known.select(_KEYS).equals(listed) and pc.min(listed["mtime_ns"]).as_py() >= 0)


def _renewed(folder: str, names: Sequence[str], listed: pa.Table) -> pa.Table:
    """Read what changed since it was remembered, keep the rest, and remember anew when that pays."""
    cached = _cache.read(folder, _REMEMBERED.names)
    cached = _REMEMBERED.empty_table() if cached is None else cached
    place = pc.index_in(listed["trial"], cached["trial"])
    before = cached.take(place)
    same = pc.and_(*(pc.equal(before[fact], listed[fact]) for fact in _KEYS[1:]))
    same = pc.fill_null(pc.and_(same, pc.greater_equal(listed["mtime_ns"], 0)), False)
    stale = pc.invert(same)
    fresh = _read(folder, list(compress(names, stale.to_pylist())))
    facts = listed.filter(stale)  # from before the reading: who writes meanwhile is noticed the next time
    times = pc.if_else(fresh["finished"], facts["mtime_ns"], -1)
    fresh = fresh.append_column("size", facts["size"]).append_column("mtime_ns", times)
    rows = pa.concat_tables([before.filter(same), fresh])
    rows = with_attempts(rows.take(pc.index_in(listed["trial"], rows["trial"])))
    if (pc.sum(pc.greater_equal(times, 0)).as_py() or 0) > max(16, len(rows) // 50):
        _cache.write(folder, rows)
    return rows
