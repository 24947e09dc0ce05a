"""Trial results as rows of an Arrow table."""

import re
from collections.abc import Sequence
from datetime import timedelta
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harbor_nb._redaction import redact
from harbor_nb.known_failures import fault_of, match, normalise
from harbor_nb.results._models import record, shapes, speakable
from harbor_nb.results.reading import has_zone, parse_time

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
    **{name: f"agent_result.{field}" for name, field in _USAGE.items()},
}
_STEP = pa.struct(
    [(name, _TEXT) for name in ("step", "exception", "failure", "fault", "message", *TIMES[6:])]
    + [("reward", _FLOAT), *_SPENT]
)
SCHEMA = pa.schema(
    [("trial", _TEXT), ("reason", _TEXT), ("finished", pa.bool_())]
    + [(n, _TEXT) for n in ("trial_id", "task", "source", "task_checksum", "environment", "agent", "agent_version")]
    + [(n, _TEXT) for n in ("model", "provider", "exception", "phase", "failure", "fault", "message")]
    + [*((name, TIME) for name in TIMES), *_SPENT, ("n_steps", _INTEGER)]
    + [("rewards", pa.list_(_REWARD)), ("steps", pa.list_(_STEP)), ("attempt", _INTEGER)]
)
_WORDS = ".".join([*_PATHS.values(), "version"]).split(".")
_NOTHING = record("Nothing", **dict.fromkeys(_WORDS, str))()  # what is not there, has nothing
_TOLD = ("exception", "failure", "fault", "message")
_MESSAGE = 4000  # characters of an exception's message that are kept: its head and its tail
_VERSION_NUMBER = re.compile(r"(?<![\w.])v?\d+(?:\.\d+)+[\w.+-]*")
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
    raised = (one.exception_info for one in (result, *(result.step_results or ())))
    return next((error for error in raised if error is not None), None)


def _phase(result: Any, raised: Any) -> str | None:
    """Return the phase in which it was raised: the last that had begun by then."""
    when, start, end = map(parse_time, (raised.occurred_at, result.started_at, result.finished_at))
    if when and start and end and not (has_zone(raised.occurred_at) or start <= when <= end):
        when = end - (end - when) % timedelta(minutes=30)  # Harbor 0.1 wrote this one time in local time
    begun = [
        phase
        for phase, field in PHASES.items()
        if (began := parse_time((getattr(result, field) or _NOTHING).started_at)) and (when is None or began <= when)
    ]
    return begun[-1] if begun else None


def _told(raised: Any, phase: str | None, environment: str | None) -> tuple[str | None, ...]:
    """Return exception, known failure, fault and the message in one line."""
    if raised is None:
        return None, None, None, None
    name, message = raised.exception_type, raised.exception_message
    if message and len(message) > _MESSAGE:
        message = f"{message[: _MESSAGE // 2]} … {message[-_MESSAGE // 2 :]}"
    found = match(name, message, phase=phase, environment=environment)
    return name, found.name if found else None, found.fault if found else fault_of(name), normalise(message or "")


def _step(step: Any, environment: str | None) -> dict[str, Any]:
    rewards, of = _rewards(step.verifier_result), _Fields({"": [step]})
    lone = next(iter(rewards.values())) if len(rewards) == 1 else None
    told = _told(step.exception_info, None, environment)
    row = {"step": step.step_name, "reward": rewards.get("reward", lone), **dict(zip(_TOLD, told, strict=True))}
    row.update({name: of[_PATHS[name]][0] for name in TIMES[6:]})
    return row | {name: _whole(of[_PATHS[name]][0]) for name in _USAGE}


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
            return pa.array([parse_time(value) if isinstance(value, str) else value for value in values], TIME)
    if isinstance(values, pa.Array):
        return values
    try:
        array = pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([speakable(value) for value in values], kind)
    except (OverflowError, pa.ArrowInvalid):
        return pa.array([_whole(value) for value in values], kind)
    return pc.if_else(pc.is_finite(array), array, None) if kind == _FLOAT else array


class _Fields(dict[str, Sequence[Any]]):
    """What is at a path of fields, of each result, None where the path breaks off; after a dot: where fields are."""

    def __missing__(self, path: str) -> Sequence[Any]:
        if path.endswith("."):
            found = [thing or _NOTHING for thing in self[path[:-1]]]
        else:
            parent, dot, name = path.rpartition(".")
            found = list(map(attrgetter(name), self[parent + dot]))
        self[path] = found
        return found


def table(entries: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Return results as rows of `SCHEMA`.

    Args:
        entries: Of each trial: its name, why it is unreadable, whether it finished (None: not begun), a TrialResult.
    """
    if not entries:
        return SCHEMA.empty_table()
    *head, results = zip(*entries, strict=True)
    of = _Fields({"": results})
    if any(of["step_results"]):
        of["exception_info"], of["agent_result"] = [_raised(r) for r in results], [_usage(r) for r in results]
    environments = [config and environment_name(config.environment) for config in of["config"]]
    phases = [error and _phase(r, error) for r, error in zip(results, of["exception_info"], strict=True)]
    told = zip(*map(_told, of["exception_info"], phases, environments), strict=True)
    rewards = list(map(_rewards, of["verifier_result"]))
    names, values = list(chain(*rewards)), list(chain(*map(dict.values, rewards)))
    flat = pa.StructArray.from_arrays([arrow(names, _TEXT), arrow(values, _FLOAT)], fields=list(_REWARD))
    columns: dict[str, Any] = {
        **dict(zip(SCHEMA.names, head, strict=False)),
        **{name: of[path] for name, path in _PATHS.items()},
        "environment": environments,
        "agent": [n or (c and agent_name(c.agent)) for n, c in zip(of["agent_info.name"], of["config"], strict=True)],
        "agent_version": list(map(_version, of["agent_info.version"])),
        "phase": phases,
        **dict(zip(_TOLD, told, strict=True)),
        "n_steps": [len(own or " ") if done else None for own, done in zip(of["step_results"], head[-1], strict=True)],
        "rewards": pa.ListArray.from_arrays(list(accumulate(map(len, rewards), initial=0)), flat),
        "steps": [
            own and [_step(step, where) for step in own]
            for own, where in zip(of["step_results"], environments, strict=True)
        ],
        "attempt": pa.nulls(len(entries), _INTEGER),
    }
    return pa.table({field.name: arrow(columns[field.name], field.type) for field in SCHEMA}, schema=SCHEMA)


def redacted(texts: pa.ChunkedArray) -> Any:
    """Take known secrets out of every text, in one pass."""
    said = "\0".join(text.replace("\0", "") for text in texts.drop_null().to_pylist())
    spoken = arrow(redact(said).split("\0"), _TEXT)
    return pc.replace_with_mask(texts.combine_chunks(), texts.is_valid().combine_chunks(), spoken)


def with_attempts(table: pa.Table) -> pa.Table:
    """Number the trials of one task, agent and model from 1 in the order in which they began."""
    alike = [table[name] for name in ("source", "task", "task_checksum", "agent", "model", "provider", "environment")]
    joined = pc.binary_join_element_wise(*alike, pa.scalar("\0", _TEXT), null_handling="replace", null_replacement="\1")
    group = joined.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((pc.fill_null(table["started_at"].cast(_INTEGER), 2**63 - 1).to_numpy(), group))
    attempt = np.empty(len(order), np.int64)
    attempt[order] = np.arange(len(order)) - np.searchsorted(group[order], group[order]) + 1
    attempts = pa.array(attempt, mask=table["task"].is_null().to_numpy())
    return table.set_column(SCHEMA.get_field_index("attempt"), "attempt", attempts)
