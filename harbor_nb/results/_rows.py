"""Trial results as Arrow tables: one row a trial folder, decoded once, remembered in the cache."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harbor_nb._redaction import redact
from harbor_nb.results import _cache
from harbor_nb.results._models import TrialConfig, TrialResult, speakable
from harbor_nb.results.reading import FLAGS, LARGEST, AbsentError, JobFolder, UnreadableError, read_or_none, read_struct

PHASES = ("environment_setup", "agent_setup", "agent", "verifier")
TIMES = ["started_at", "finished_at", *(f"{phase}_{end}" for phase in PHASES for end in ("started_at", "finished_at"))]
_TEXT = pa.large_string()
_TIME = pa.timestamp("us", "UTC")
_STEP = pa.struct(
    [(n, _TEXT) for n in ("step", "exception", "exception_message", *TIMES[6:])]
    + [("reward", pa.float64()), ("reward_names", pa.list_(_TEXT)), ("reward_values", pa.list_(pa.float64()))]
    + [(name, pa.int64()) for name in ("tokens_in", "tokens_cached", "tokens_out")]
    + [("cost_usd", pa.float64())]
)
SCHEMA = pa.schema(
    [("trial", _TEXT), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("reason", _TEXT), ("finished", pa.bool_())]
    + [(n, _TEXT) for n in ("trial_id", "task", "source", "task_checksum", "environment", "agent", "agent_version")]
    + [(n, _TEXT) for n in ("model", "provider", "exception", "exception_message", "phase")]
    + [(name, _TIME) for name in TIMES]
    + [(name, pa.int64()) for name in ("tokens_in", "tokens_cached", "tokens_out", "n_steps")]
    + [("cost_usd", pa.float64()), ("reward_names", pa.list_(_TEXT)), ("reward_values", pa.list_(pa.float64()))]
    + [("steps", pa.list_(_STEP)), ("attempt", pa.int64())]
)
_INT64 = 2**63
_MESSAGE = 4000  # characters of an exception's message that are kept: its head and its tail
_RACY_NS = 2_000_000_000  # a file younger than this may change again within one tick of the clock
_THREADS = 2
_PART = 500  # names a thread takes at a time
_CHUNK = 20_000  # trials a table; keeps Python's objects few
_VERSION_NUMBER = re.compile(r"(?<![\w.])v?\d+(?:\.\d+)+[\w.+-]*")
_decode = msgspec.json.Decoder(TrialResult).decode
_LOCAL = "harbor_nb.local:LocalEnvironment"


def environment_name(config: Any) -> str:
    """Return Harbor's environment type, `local` for ours, the class's name for another import path."""
    if config is None:
        return "docker"
    if config.import_path:
        return "local" if config.import_path == _LOCAL else config.import_path.rpartition(":")[2]
    return config.type or "docker"


def agent_name(config: Any) -> str:
    """Return the agent's name as its configuration tells it; Harbor's default is the oracle."""
    if config is None:
        return "oracle"
    return config.name or (config.import_path or "oracle").rpartition(":")[2]


def _version(text: str | None) -> str | None:
    """Return an agent's version without what its terminal printed around it."""
    if text is None or (len(text) <= 40 and text.isprintable()):
        return text
    from harbor_nb._display import clean

    plain = clean(text)
    numbers = _VERSION_NUMBER.findall(plain)
    last = next((line.strip() for line in reversed(plain.splitlines()) if line.strip()), "")
    return numbers[-1] if numbers else (last[:40] or None)


def integer(value: int | None) -> int | None:
    return value if value is not None and -_INT64 <= value < _INT64 else None


def finite(value: float | None) -> float | None:
    return value if value is not None and value - value == 0 else None


def _usage(found: list[Any]) -> tuple[int | None, int | None, int | None, float | None]:
    """Sum what each step's agent spent; a figure that none gives stays missing, as in Harbor's own totals."""
    known = [usage for usage in found if usage is not None]

    def total(name: str) -> Any:
        values = [value for usage in known if (value := getattr(usage, name)) is not None]
        return sum(values) if values else None

    tokens_in, cached, tokens_out = (integer(total(f"n_{kind}_tokens")) for kind in ("input", "cache", "output"))
    return tokens_in, cached, tokens_out, finite(total("cost_usd"))


def _rewards(verified: Any) -> dict[str, float]:
    rewards = verified.rewards if verified is not None else None
    return {name: value for name, value in rewards.items() if finite(value) is not None} if rewards else {}


def main_reward(rewards: dict[str, float]) -> float | None:
    """Return the reward called `reward`, or the only one there is."""
    return rewards.get("reward", next(iter(rewards.values())) if len(rewards) == 1 else None)


def _cut(message: str | None) -> str | None:
    if message is None or len(message) <= _MESSAGE:
        return message
    return f"{message[: _MESSAGE // 2]} … {message[-_MESSAGE // 2 :]}"


def _phase(raised: Any, starts: Iterable[str | None]) -> str | None:
    """Return the phase in which it was raised: the last that had begun by then."""
    if raised is None:
        return None
    begun = [p for p, start in zip(PHASES, starts, strict=True) if start and start[:26] <= (raised.occurred_at or "~")]
    return begun[-1] if begun else None


def _span(span: Any) -> tuple[str | None, str | None]:
    return (span.started_at, span.finished_at) if span is not None else (None, None)


def _steps(steps: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for step in steps:
        rewards = _rewards(step.verifier_result)
        raised = step.exception_info
        error = (raised.exception_type, _cut(redact(raised.exception_message or ""))) if raised else (None, None)
        when = (*_span(step.agent_execution), *_span(step.verifier))
        earned = (main_reward(rewards), list(rewards), list(rewards.values()))
        values = (step.step_name, *error, *when, *earned, *_usage([step.agent_result]))
        rows.append(dict(zip(_STEP.names, values, strict=True)))
    return rows


def _row(name: str, size: int, mtime_ns: int, result: Any) -> tuple[Any, ...]:
    info = result.agent_info
    model = info.model_info if info is not None else None
    steps = result.step_results
    raised = result.exception_info
    if raised is None and steps:
        raised = next((step.exception_info for step in steps if step.exception_info is not None), None)
    setup, ready = _span(result.environment_setup), _span(result.agent_setup)
    agent, verifier = _span(result.agent_execution), _span(result.verifier)
    usage = result.agent_result
    if usage is not None:
        tokens = (integer(usage.n_input_tokens), integer(usage.n_cache_tokens), integer(usage.n_output_tokens))
        spent = (*tokens, finite(usage.cost_usd))
    else:
        spent = _usage([step.agent_result for step in steps or ()])
    rewards = _rewards(result.verifier_result)
    config = result.config
    identity = (result.id, result.task_name, result.source, result.task_checksum, environment_name(config.environment))
    version = _version(info.version) if info is not None else None
    actor = (info.name if info is not None else agent_name(config.agent), version)
    brain = (model.name, model.provider) if model is not None else (None, None)
    phase = _phase(raised, (setup[0], ready[0], agent[0], verifier[0]))
    error = (raised.exception_type, _cut(raised.exception_message), phase) if raised is not None else (None, None, None)
    when = (result.started_at, result.finished_at, *setup, *ready, *agent, *verifier)
    count = len(steps) if steps else 1
    earned = (list(rewards), list(rewards.values()), _steps(steps) if steps else None)
    head = (name, size, mtime_ns, None, True)
    return (*head, *identity, *actor, *brain, *error, *when, *spent[:3], count, spent[3], *earned, None)


def _task_name(task: Any) -> str | None:
    return (task.path or task.name or "").replace("\\", "/").rstrip("/").rpartition("/")[2] or None if task else None


def config_row(name: str | None, config: Any, reason: str | None = None, *, begun: bool = True) -> tuple[Any, ...]:
    """Return the row of a trial that has no readable result, from its configuration; null in `finished`: not begun."""
    head = (name, -1, -1, reason, False if begun else None, None)
    if config is None:
        return (*head, *(None,) * (len(SCHEMA) - len(head)))
    task, agent = config.task, config.agent
    provider, _, model = ((agent.model_name if agent else None) or "").rpartition("/")
    where = (task.name or _task_name(task) if task else None, task.source if task else None, None)
    actor = (environment_name(config.environment), agent_name(agent), None, model or None, provider or None)
    return (*head, *where, *actor, *(None,) * (len(SCHEMA) - len(head) - len(where) - len(actor)))


def pending_rows(job: JobFolder) -> list[tuple[Any, ...]]:
    """Return the trials that a live job's lock names and for which there is no folder yet."""
    if not job.alive or job.lock is None:
        return []

    def key(config: Any) -> tuple[Any, ...]:
        agent = config.agent
        return (_task_name(config.task), *((agent.name, agent.import_path, agent.model_name) if agent else ()))

    configs = (read_or_none(job.file(f"{name}{os.sep}config.json"), TrialConfig) for name in job.trial_names)
    begun = Counter(key(config) for config in configs if config is not None)
    rows = []
    for config in job.lock.trials or ():
        begun[key(config)] -= 1
        if begun[key(config)] < 0:
            rows.append(config_row(None, config, begun=False))
    return rows


def read_row(folder: str, name: str) -> tuple[Any, ...]:
    """Return one trial folder's row, whatever is in it."""
    path = f"{folder}{os.sep}{name}{os.sep}"
    try:
        facts, result = _quickly(path + "result.json")
    except (OSError, ValueError, RecursionError):  # the rare rest: find out why, and whether another try helps
        try:
            result, facts = read_struct(path + "result.json", TrialResult)
        except UnreadableError as error:
            reason = None if isinstance(error, AbsentError) else f"result.json: {error}"
            return config_row(name, read_or_none(path + "config.json", TrialConfig), reason)
    fresh = time.time_ns() - facts.st_mtime_ns < _RACY_NS
    return _row(name, facts.st_size, -1 if fresh else facts.st_mtime_ns, result)


def _quickly(path: str) -> tuple[os.stat_result, Any]:
    """Read and decode one result with as few calls as can be; anything odd raises."""
    descriptor = os.open(path, FLAGS)
    try:
        facts = os.fstat(descriptor)
        return facts, _decode(os.read(descriptor, min(facts.st_size, LARGEST) + 1))
    finally:
        os.close(descriptor)


def arrow(values: Any, kind: pa.DataType) -> pa.Array:
    """Return values as an Arrow array; text that is no Unicode (a file name of another encoding) is spelled out."""
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([speakable(value) for value in values], kind)


def times(values: Any) -> Any:
    """Return ISO 8601 texts as UTC microseconds; without a zone they are taken as UTC, what is no time is missing."""
    texts = arrow(values, pa.string()) if isinstance(values, (list, tuple)) else values
    try:
        return texts.cast(_TIME)
    except pa.ArrowInvalid:
        from harbor_nb.results.reading import parse_time

        return pa.array([parse_time(text) for text in texts.to_pylist()], _TIME)


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = []
    for kind, raw in zip(SCHEMA, columns, strict=True):
        values = _redacted(raw) if kind.name == "exception_message" else raw
        arrays.append(times(values) if kind.type == _TIME else arrow(values, kind.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _redacted(values: Iterable[str | None]) -> list[str | None]:
    """Take known secrets out of every message, in one pass."""
    texts = [None if value is None else value.replace("\0", "") for value in values]
    spoken = iter(redact("\0".join(text for text in texts if text is not None)).split("\0"))
    return [None if text is None else next(spoken) for text in texts]


def codes(table: pa.Table, names: Iterable[str]) -> Any:
    """Return one integer a row, equal where all the named columns are equal."""
    total = np.zeros(len(table), np.int64)
    for name in names:
        column = table[name].combine_chunks().dictionary_encode(null_encoding="encode")
        total = total * (len(column.dictionary) + 1) + column.indices.to_numpy(zero_copy_only=False)
        total = np.unique(total, return_inverse=True)[1].astype(np.int64)
    return total


def _with_attempts(table: pa.Table) -> pa.Table:
    """Number the trials of one task, agent and model from 1 in the order in which they began."""
    group = codes(table, ("source", "task", "task_checksum", "agent", "model", "provider", "environment"))
    began = pc.fill_null(table["started_at"].cast(pa.int64()), _INT64 - 1).to_numpy()
    order = np.lexsort((began, group))
    sorted_group = group[order]
    position = np.arange(len(order))
    first = np.r_[True, sorted_group[1:] != sorted_group[:-1]] if len(order) else np.zeros(0, bool)
    attempt = np.empty(len(order), np.int64)
    attempt[order] = position - np.maximum.accumulate(np.where(first, position, 0)) + 1
    attempts = pa.array(attempt, mask=table["task"].is_null().to_numpy())
    return table.set_column(SCHEMA.get_field_index("attempt"), "attempt", attempts)


def _read(folder: str, names: list[str]) -> pa.Table:
    chunks = [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)] or [[]]
    return pa.concat_tables([table([read_row(folder, name) for name in chunk]) for chunk in chunks])


def _facts(folder: str, names: list[str]) -> tuple[Any, Any]:
    """Return size and modification time of each result, -1 where there is none; asked by two threads, for the wait."""

    def part_facts(start: int) -> list[tuple[int, int]]:
        found = []
        for name in names[start : start + _PART]:
            try:
                facts = os.lstat(f"{folder}{os.sep}{name}{os.sep}result.json")
            except OSError:
                found.append((-1, -1))
            else:
                found.append((facts.st_size, facts.st_mtime_ns))
        return found

    with ThreadPoolExecutor(_THREADS) as threads:
        found = [facts for part in threads.map(part_facts, range(0, len(names), _PART)) for facts in part]
    sizes, mtimes = np.array(found, np.int64).reshape(-1, 2).T.copy()
    return sizes, mtimes


def load(job: JobFolder, columns: Iterable[str] | None = None) -> pa.Table:
    """Return the job's trials as a table of `SCHEMA`, from the cache as far as no file changed since.

    Args:
        job: The job.
        columns: The columns of `SCHEMA` that are needed; None for all.
    """
    names = job.trial_names
    wanted = SCHEMA.names if columns is None else [name for name in SCHEMA.names if name in set(columns)]
    if job.only is not None or len(names) < _cache.FEWEST:
        return _with_attempts(_read(job.path, names)).select(wanted)
    keys = ["trial", "size", "mtime_ns"]
    known = _cache.read(job.path, list(dict.fromkeys([*keys, *wanted])))
    if known is None:
        table = _with_attempts(_read(job.path, names))
        _cache.write(job.path, table)
        return table.select(wanted)
    sizes, mtimes = _facts(job.path, names)
    listed = pa.table({"trial": arrow(names, _TEXT), "size": sizes, "mtime_ns": mtimes})
    if known.select(keys).equals(listed) and (mtimes >= 0).all():
        return known.select(wanted)
    return _update(job.path, listed).select(wanted)


def _update(folder: str, listed: pa.Table) -> pa.Table:
    """Read again what changed, keep the rest, and write the cache anew when that pays."""
    cached = _cache.read(folder, None)
    cached = SCHEMA.empty_table() if cached is None else cached
    keys = list(zip(*(cached[name].to_pylist() for name in ("trial", "size", "mtime_ns")), strict=True))
    place = {key: index for index, key in enumerate(keys) if key[2] >= 0}
    now = list(zip(*(listed[name].to_pylist() for name in listed.column_names), strict=True))
    kept = [place[key] for key in now if key in place]
    changed = [key[0] for key in now if key not in place]
    table = pa.concat_tables([cached.take(pa.array(kept, pa.int64())), _read(folder, changed)])
    table = _with_attempts(table.take(pc.sort_indices(table["trial"])))
    stable = pc.sum(pc.greater_equal(table["mtime_ns"], 0)).as_py() or 0
    if stable - len(kept) > max(16, len(table) // 50):
        _cache.write(folder, table)
    return table
