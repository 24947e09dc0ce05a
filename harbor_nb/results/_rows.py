"""Trial results as Arrow tables: one row a trial folder, decoded once, remembered in the cache."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import batched, chain, compress
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import LocalFileSystem

from harbor_nb._redaction import redact
from harbor_nb.known_failures import fault_of, match, normalise
from harbor_nb.results import _cache, reading
from harbor_nb.results._models import record, shapes, speakable

PHASES = {name: name for name in ("environment_setup", "agent_setup")} | {
    "agent": "agent_execution",
    "verifier": "verifier",
}
"""The phases that a result times, in their order, and what it calls them."""

TIMES = ["started_at", "finished_at", *(f"{phase}_{end}" for phase in PHASES for end in ("started_at", "finished_at"))]
_TEXT, _INTEGER, _FLOAT = pa.large_string(), pa.int64(), pa.float64()
TIME = pa.timestamp("us", "UTC")
_REWARD = pa.struct([("name", _TEXT), ("value", _FLOAT)])
_USAGE = {
    f"tokens_{name}": f"n_{kind}_tokens" for name, kind in (("in", "input"), ("cached", "cache"), ("out", "output"))
}
_USAGE["cost_usd"] = "cost_usd"
_SPENT = [(name, _FLOAT if name == "cost_usd" else _INTEGER) for name in _USAGE]
_PATHS = {
    "trial_id": "id",
    "task": "task_name",
    **{name: name for name in ("source", "task_checksum", "started_at", "finished_at")},
    "model": "agent_info.model_info.name",
    "provider": "agent_info.model_info.provider",
    **{f"{phase}_{end}": f"{field}.{end}" for phase, field in PHASES.items() for end in ("started_at", "finished_at")},
}
_STEP = pa.struct(
    [(name, _TEXT) for name in ("step", "exception", "failure", "fault", "message", *TIMES[6:])]
    + [("reward", _FLOAT), *_SPENT]
)
SCHEMA = pa.schema(
    [("trial", _TEXT), ("size", _INTEGER), ("mtime_ns", _INTEGER), ("reason", _TEXT), ("finished", pa.bool_())]
    + [(n, _TEXT) for n in ("trial_id", "task", "source", "task_checksum", "environment", "agent", "agent_version")]
    + [(n, _TEXT) for n in ("model", "provider", "exception", "phase", "failure", "fault", "message")]
    + [*((name, TIME) for name in TIMES), *_SPENT, ("n_steps", _INTEGER)]
    + [("rewards", pa.list_(_REWARD)), ("steps", pa.list_(_STEP)), ("attempt", _INTEGER)]
)
_WORDS = ".".join([*_PATHS.values(), *_USAGE.values(), "version"]).split(".")
_NOTHING = record("Nothing", **dict.fromkeys(_WORDS, str))()  # what is not there, has nothing
_TOLD = ("exception", "failure", "fault", "message")
_KEYS = ["trial", "size", "mtime_ns"]
_MESSAGE = 4000  # characters of an exception's message that are kept: its head and its tail
_RACY_NS = 2_000_000_000  # a file younger than this may change again within one tick of the clock
_CHUNK = 1_000  # trials a table: few of Python's objects at a time, and these still in the processor's cache
_VERSION_NUMBER = re.compile(r"(?<![\w.])v?\d+(?:\.\d+)+[\w.+-]*")
_decode = msgspec.json.Decoder(shapes.TrialResult).decode
_LOCAL = "harbor_nb.local:LocalEnvironment"


def environment_name(config: Any) -> str:
    """Return Harbor's environment type, `local` for ours, the class's name for another import path."""
    if path := config and config.import_path:
        return "local" if path == _LOCAL else str(path.rpartition(":")[2])
    return (config and config.type) or "docker"


def agent_name(config: Any) -> str:
    """Return the agent's name as its configuration tells it; Harbor's default is the oracle."""
    path = (config and config.import_path) or "oracle"
    return (config and config.name) or path.rpartition(":")[2]


def _version(text: str | None) -> str | None:
    """Return an agent's version without what its terminal printed around it."""
    if text is None or (len(text) <= 40 and text.isprintable()):
        return text
    from harbor_nb._display import clean

    plain = clean(text)
    numbers = _VERSION_NUMBER.findall(plain)
    last = next((line.strip() for line in reversed(plain.splitlines()) if line.strip()), "")
    return numbers[-1] if numbers else (last[:40] or None)


def _usage(result: Any) -> Any:
    """Return what the agent spent, or the sum over the steps' agents; a figure that none gives stays missing."""
    if result.agent_result is not None or not result.step_results:
        return result.agent_result
    found = [step.agent_result for step in result.step_results if step.agent_result is not None]
    known = {f: [value for used in found if (value := getattr(used, f)) is not None] for f in _USAGE.values()}
    return shapes.Usage(**{field: sum(values) if values else None for field, values in known.items()})


def _rewards(verified: Any) -> dict[str, float]:
    rewards = (verified and verified.rewards) or {}
    return {name: value for name, value in rewards.items() if value is not None and value - value == 0}


def _raised(result: Any) -> Any:
    """Return the trial's exception, or that of its first step that failed."""
    if result.exception_info is not None or not result.step_results:
        return result.exception_info
    return next((step.exception_info for step in result.step_results if step.exception_info is not None), None)


def _phase(result: Any, raised: Any) -> str | None:
    """Return the phase in which it was raised: the last that had begun by then."""
    when, start, end = map(reading.parse_time, (raised.occurred_at, result.started_at, result.finished_at))
    if when and start and end and not (reading.has_zone(raised.occurred_at) or start <= when <= end):
        when = end - (end - when) % timedelta(minutes=30)  # Harbor 0.1 wrote this one time in local time
    begun = [
        phase
        for phase, field in PHASES.items()
        if (began := reading.parse_time((getattr(result, field) or _NOTHING).started_at))
        and (when is None or began <= when)
    ]
    return begun[-1] if begun else None


def _cut(message: str | None) -> str | None:
    if message is None or len(message) <= _MESSAGE:
        return message
    return f"{message[: _MESSAGE // 2]} … {message[-_MESSAGE // 2 :]}"


def _told(raised: Any, phase: str | None, environment: str | None) -> tuple[str | None, ...]:
    """Return exception, known failure, fault and the message in one line."""
    if raised is None:
        return None, None, None, None
    name, message = raised.exception_type, _cut(raised.exception_message)
    found = match(name, message, phase=phase, environment=environment)
    return name, found.name if found else None, found.fault if found else fault_of(name), normalise(message or "")


def _step(step: Any, environment: str | None) -> dict[str, Any]:
    rewards, used = _rewards(step.verifier_result), step.agent_result or _NOTHING
    lone = next(iter(rewards.values())) if len(rewards) == 1 else None
    told = _told(step.exception_info, None, environment)
    row = {"step": step.step_name, "reward": rewards.get("reward", lone), **dict(zip(_TOLD, told, strict=True))}
    for phase in ("agent", "verifier"):
        span = getattr(step, PHASES[phase]) or _NOTHING
        row.update({f"{phase}_started_at": span.started_at, f"{phase}_finished_at": span.finished_at})
    return row | {name: _whole(getattr(used, field)) for name, field in _USAGE.items()}


def _whole(value: int | None) -> int | None:
    return value if value is not None and -(2**63) <= value < 2**63 else None


def arrow(values: Sequence[Any], kind: pa.DataType) -> Any:
    """Return values as an Arrow array: text that is no Unicode (a file name of another encoding) is spelled out, a
    time without a zone is taken as UTC; what is no time, no finite number or too large is missing.
    """
    if kind == TIME:
        try:
            return arrow(values, pa.string()).cast(TIME)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([reading.parse_time(value) if isinstance(value, str) else value for value in values], TIME)
    if isinstance(values, pa.Array):
        return values
    try:
        array = pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([speakable(value) for value in values], kind)
    except (OverflowError, pa.ArrowInvalid):
        return pa.array([_whole(value) for value in values], kind)
    return pc.if_else(pc.is_finite(array), array, None) if kind == _FLOAT else array


def _of(things: Iterable[Any], path: str) -> list[Any]:
    """Return the value at the end of a path of fields, of each thing; None where the path breaks off."""
    first, *rest = path.split(".")
    values = list(map(attrgetter(first), things))
    for name in rest:
        values = list(map(attrgetter(name), [value or _NOTHING for value in values]))
    return values


def _table(entries: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Return results as rows of `SCHEMA`.

    Args:
        entries: Of each trial: its name, size and time of its result, why it is unreadable, whether it finished (None:
            not begun), and a TrialResult.
    """
    if not entries:
        return SCHEMA.empty_table()
    *head, results = zip(*entries, strict=True)
    raised, spent, steps = (_of(results, field) for field in ("exception_info", "agent_result", "step_results"))
    if any(steps):
        raised, spent = [_raised(r) for r in results], [_usage(r) for r in results]
    rewards = [_rewards(verified) for verified in _of(results, "verifier_result")]
    environments = [r.config and environment_name(r.config.environment) for r in results]
    phases = [error and _phase(r, error) for r, error in zip(results, raised, strict=True)]
    columns: dict[str, Any] = {
        **dict(zip(SCHEMA.names, head, strict=False)),
        "mtime_ns": _settled(head[2]),
        **{name: _of(results, path) for name, path in _PATHS.items()},
        "environment": environments,
        "agent": [r.agent_info.name if r.agent_info else r.config and agent_name(r.config.agent) for r in results],
        "agent_version": [_version(text) for text in _of(results, "agent_info.version")],
        "phase": phases,
        **dict(zip(_TOLD, zip(*map(_told, raised, phases, environments), strict=True), strict=True)),
        **{name: _of([used or _NOTHING for used in spent], field) for name, field in _USAGE.items()},
        "n_steps": [len(own or " ") if done else None for own, done in zip(steps, head[-1], strict=True)],
        "steps": [own and [_step(step, where) for step in own] for own, where in zip(steps, environments, strict=True)],
    }
    names, values = list(chain(*rewards)), [value for each in rewards for value in each.values()]
    flat = pa.StructArray.from_arrays([arrow(names, _TEXT), arrow(values, _FLOAT)], fields=list(_REWARD))
    columns["rewards"] = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *map(len, rewards)]), pa.int32()), flat)
    attempts = {"attempt": pa.nulls(len(entries), _INTEGER)}
    arrays = {kind.name: arrow(columns[kind.name], kind.type) for kind in SCHEMA if kind.name != "attempt"}
    return pa.table(arrays | attempts, schema=SCHEMA)


def redacted(texts: pa.ChunkedArray) -> Any:
    """Take known secrets out of every text, in one pass."""
    values = [value and value.replace("\0", "") for value in texts.to_pylist()]
    spoken = iter(redact("\0".join(value for value in values if value)).split("\0"))
    return arrow([value and next(spoken) for value in values], _TEXT)


def _task_name(task: Any) -> str | None:
    return (task.path or task.name or "").replace("\\", "/").rstrip("/").rpartition("/")[2] or None if task else None


def _planned(config: Any) -> Any:
    """Return a result that says no more than the trial's configuration does."""
    if config is None:
        return shapes.TrialResult(task_name=None, config=None)
    task, agent = config.task, config.agent
    provider, _, model = ((agent and agent.model_name) or "").rpartition("/")
    info = shapes.AgentInfo(
        name=agent_name(agent), model_info=shapes.Model(name=model or None, provider=provider or None)
    )
    name, source = (task.name or _task_name(task), task.source) if task else (None, None)
    return shapes.TrialResult(task_name=name, source=source, config=config, agent_info=info)


def linked_rows(job: reading.JobFolder) -> pa.Table:
    """Return a row for each link that stands where a trial folder should."""
    return _table([(name, -1, -1, "a symbolic link, not followed", False, _planned(None)) for name in job.links])


def pending_rows(job: reading.JobFolder) -> pa.Table:
    """Return the trials that a live job's lock names and for which there is no folder yet."""

    def key(config: Any) -> tuple[Any, ...]:
        agent = config.agent
        return (_task_name(config.task), *((agent.name, agent.import_path, agent.model_name) if agent else ()))

    planned = job.lock.trials or () if job.alive and job.lock is not None else ()
    configs = [
        reading.read_or_none(job.file(f"{n}{os.sep}config.json"), shapes.TrialConfig)
        for n in job.trial_names
        if planned
    ]
    begun = Counter(key(config) for config in configs if config is not None)
    entries = []
    for config in planned:
        begun[key(config)] -= 1
        if begun[key(config)] < 0:
            entries.append((None, -1, -1, None, None, _planned(config)))
    return _table(entries)


def _entry(folder: str, name: str) -> tuple[Any, ...]:
    """Return what `_table` wants to know of a trial folder, whatever is in it."""
    path = f"{folder}{os.sep}{name}{os.sep}"
    try:
        facts, result = _quickly(f"{path}result.json")
    except (OSError, ValueError, RecursionError):  # the rare rest: find out why, and whether another try helps
        try:
            result, facts = reading.read_struct(f"{path}result.json", shapes.TrialResult)
        except reading.UnreadableError as error:
            reason = None if isinstance(error, reading.AbsentError) else f"result.json: {error}"
            return name, -1, -1, reason, False, _planned(reading.read_or_none(f"{path}config.json", shapes.TrialConfig))
    return name, facts.st_size, facts.st_mtime_ns, None, True, result


def _quickly(path: str) -> tuple[os.stat_result, Any]:
    """Read and decode one result with as few calls as can be; anything odd raises."""
    descriptor = os.open(path, reading.FLAGS)
    try:
        facts = os.fstat(descriptor)
        return facts, _decode(os.read(descriptor, min(facts.st_size, reading.LARGEST) + 1))
    finally:
        os.close(descriptor)


def _read(folder: str, names: Sequence[str]) -> pa.Table:
    chunks = (_table([_entry(folder, name) for name in part]) for part in batched(names, _CHUNK))
    return pa.concat_tables([SCHEMA.empty_table(), *chunks])


def _with_attempts(table: pa.Table) -> pa.Table:
    """Number the trials of one task, agent and model from 1 in the order in which they began."""
    alike = [table[name] for name in ("source", "task", "task_checksum", "agent", "model", "provider", "environment")]
    joined = pc.binary_join_element_wise(*alike, pa.scalar("\0", _TEXT), null_handling="replace", null_replacement="\1")
    group = joined.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((pc.fill_null(table["started_at"].cast(_INTEGER), 2**63 - 1).to_numpy(), group))
    attempt = np.empty(len(order), np.int64)
    attempt[order] = np.arange(len(order)) - np.searchsorted(group[order], group[order]) + 1
    attempts = pa.array(attempt, mask=table["task"].is_null().to_numpy())
    return table.set_column(SCHEMA.get_field_index("attempt"), "attempt", attempts)


def _settled(mtimes_ns: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return times of change, -1 where a file is so young that it may change again within one tick of the clock."""
    settled = np.array(mtimes_ns, np.int64)
    settled[time.time_ns() - settled < _RACY_NS] = -1
    return settled


def _facts(folder: str, names: Sequence[str]) -> pa.Table:
    """Return size and modification time of each result, -1 where there is none."""
    paths = os.fsencode("\0".join([f"{folder}{os.sep}{name}{os.sep}result.json" for name in names])).split(b"\0")
    half = len(paths) // 2
    try:  # pyarrow asks for all without Python's lock, so two threads take half the time
        with ThreadPoolExecutor(2) as threads:
            found = list(chain(*threads.map(LocalFileSystem().get_file_info, (paths[:half], paths[half:]))))
    except OSError:  # one of them may not be looked at: read all again, each on its own
        found = LocalFileSystem().get_file_info([b""] * len(paths))
    sizes, mtimes_ns = (pa.array([getattr(one, name) for one in found], _INTEGER) for name in ("size", "mtime_ns"))
    mtimes_ns = _settled(pc.if_else(sizes.is_valid(), mtimes_ns, -1).to_numpy())
    return pa.table({"trial": arrow(names, _TEXT), "size": sizes.fill_null(-1), "mtime_ns": mtimes_ns})


def load(job: reading.JobFolder, columns: Sequence[str]) -> pa.Table:
    """Return the job's trials as a table of `SCHEMA`, from the cache as far as no file changed since.

    Args:
        job: The job.
        columns: The columns of `SCHEMA` that are needed.
    """
    names = job.trial_names
    remember = job.only is None and len(names) >= _cache.FEWEST
    known = _cache.read(job.path, list(dict.fromkeys([*_KEYS, *columns]))) if remember else None
    if known is not None:
        listed = _facts(job.path, names)
        if known.select(_KEYS).equals(listed) and pc.min(listed["mtime_ns"]).as_py() >= 0:
            return known.select(columns)
        return _update(job.path, names, listed).select(columns)
    table = _with_attempts(_read(job.path, names))
    if remember:
        _cache.write(job.path, table)
    return table.select(columns)


def _update(folder: str, names: Sequence[str], listed: pa.Table) -> pa.Table:
    """Read again what changed, keep the rest, and write the cache anew when that pays."""
    cached = _cache.read(folder, SCHEMA.names)
    cached = SCHEMA.empty_table() if cached is None else cached
    place = pc.index_in(listed["trial"], cached["trial"])
    before = cached.select(_KEYS).take(place)
    same = pc.and_(pc.equal(before["size"], listed["size"]), pc.equal(before["mtime_ns"], listed["mtime_ns"]))
    same = pc.fill_null(pc.and_(same, pc.greater_equal(listed["mtime_ns"], 0)), False)
    fresh = _read(folder, list(compress(names, pc.invert(same).to_pylist())))
    table = pa.concat_tables([cached.take(place.filter(same)), fresh])
    table = _with_attempts(table.take(pc.sort_indices(table["trial"])))
    if (pc.sum(pc.greater_equal(fresh["mtime_ns"], 0)).as_py() or 0) > max(16, len(table) // 50):
        _cache.write(folder, table)
    return table
