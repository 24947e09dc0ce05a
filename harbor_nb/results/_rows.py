"""Trial results as rows of an Arrow table."""

import re
from collections.abc import Iterable, Sequence, Sized
from datetime import timedelta
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harbor_nb._redaction import redact
from harbor_nb.known_failures import fault_of, match, normalise
from harbor_nb.results._columns import ARROW, BOOLEAN, FLOAT, INTEGER, TABLES, TEXT, TIME, arrow, arrow_schema
from harbor_nb.results._models import nothing, shapes
from harbor_nb.results.reading import has_zone, parse_time

PHASES = {
    "environment_setup": "environment_setup",
    "agent_setup": "agent_setup",
    "agent": "agent_execution",
    "verifier": "verifier",
}
"""The phases that a result times, in their order, and what it calls them."""

_ENDS = {f"{phase}_{end}": f"{path}.{end}" for phase, path in PHASES.items() for end in ("started_at", "finished_at")}
TIMES = ["started_at", "finished_at", *_ENDS]
_PATHS = {c.name: c.source.removeprefix("result.json: ") for c in TABLES["trials"]} | _ENDS
_MADE = {"job", "job_path", "path", "practice", "recorded", "fast_stop", "status", "reward", "passed"}
_STORED = [c for c in TABLES["trials"] if c.name not in _MADE and not c.name.endswith("_sec")]
_OF_STEP = {"step", *(c.name for c in _STORED)} - {"trial", "trial_id"}
_TEXT, _TIME = ARROW[TEXT], ARROW[TIME]
_REWARD = pa.struct([("name", _TEXT), ("value", ARROW[FLOAT])])
_REWARDS = pa.field("rewards", pa.list_(_REWARD))
_STEP_COLUMNS = [c for c in TABLES["task_steps"] if c.name in _OF_STEP]
_STEP = pa.struct([*arrow_schema(_STEP_COLUMNS), *((name, _TIME) for name in TIMES[6:]), _REWARDS])
_TOLD_OF_FILE = [("reason", _TEXT), ("finished", ARROW[BOOLEAN])]
_TIMED = [(name, _TIME) for name in _ENDS]
SCHEMA = pa.schema([*arrow_schema(_STORED), *_TOLD_OF_FILE, *_TIMED, _REWARDS, ("steps", pa.list_(_STEP))])
_USAGE = shapes.Usage.__struct_fields__
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
    known = {f: [value for used in found if (value := getattr(used, f)) is not None] for f in _USAGE}
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
        if (began := parse_time((getattr(result, field) or nothing).started_at)) and (when is None or began <= when)
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


class Fields(dict[str, Sequence[Any]]):
    """What is at a path of fields, of each result, None where the path breaks off; after a dot: where fields are."""

    def __missing__(self, path: str) -> Sequence[Any]:
        if path.endswith("."):
            found = [thing or nothing for thing in self[path[:-1]]]
        else:
            parent, dot, name = path.rpartition(".")
            found = list(map(attrgetter(name), self[parent + dot]))
        self[path] = found
        return found


def _listed(lists: Iterable[Sized], flat: Any) -> pa.Array:
    return pa.ListArray.from_arrays(list(accumulate(map(len, lists), initial=0)), flat)


def _arrays(kind: Iterable[pa.Field], of: Fields, environments: Sequence[Any], **own: Any) -> list[pa.Array]:
    """Return the fields of trials or of task steps: their `own`, what was raised, rewards, else what is there."""
    phases = own.get("phase") or [None] * len(environments)
    told = zip(*map(_told, of["exception_info"], phases, environments), strict=True)
    rewards = list(map(_rewards, of["verifier_result"]))
    names, values = list(chain(*rewards)), list(chain(*map(dict.values, rewards)))
    flat = pa.StructArray.from_arrays([arrow(names, _TEXT), arrow(values, ARROW[FLOAT])], fields=list(_REWARD))
    known = {**own, **dict(zip(_TOLD, told, strict=True)), "rewards": _listed(rewards, flat)}
    return [arrow(known[f.name] if f.name in known else of[_PATHS[f.name]], f.type) for f in kind]


def table(entries: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Return results as rows of `SCHEMA`.

    Args:
        entries: Of each trial: its name, why it is unreadable, whether it finished (None: not begun), a TrialResult.
    """
    if not entries:
        return SCHEMA.empty_table()
    names, reasons, finished, results = zip(*entries, strict=True)
    of = Fields({"": results})
    environments = [config and environment_name(config.environment) for config in of["config"]]
    lists = [own or () for own in of["step_results"]]
    steps: Any = pa.nulls(0, _STEP)
    if any(lists):
        of["exception_info"], of["agent_result"] = [_raised(r) for r in results], [_usage(r) for r in results]
        step = Fields({"": list(chain(*lists))})
        where = [name for own, name in zip(lists, environments, strict=True) for _ in own]
        steps = pa.StructArray.from_arrays(_arrays(_STEP, step, where, step=step["step_name"]), fields=list(_STEP))
    arrays = _arrays(
        SCHEMA,
        of,
        environments,
        trial=names,
        reason=reasons,
        finished=finished,
        environment=environments,
        agent=[n or (c and agent_name(c.agent)) for n, c in zip(of["agent_info.name"], of["config"], strict=True)],
        agent_version=list(map(_version, of["agent_info.version"])),
        phase=[error and _phase(r, error) for r, error in zip(results, of["exception_info"], strict=True)],
        n_steps=[len(own) or 1 if done else None for own, done in zip(lists, finished, strict=True)],
        steps=_listed(lists, steps),
        attempt=pa.nulls(len(entries), ARROW[INTEGER]),
    )
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


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
    order = np.lexsort((pc.fill_null(table["started_at"].cast(ARROW[INTEGER]), 2**63 - 1).to_numpy(), group))
    attempt = np.empty(len(order), np.int64)
    attempt[order] = np.arange(len(order)) - np.searchsorted(group[order], group[order]) + 1
    attempts = pa.array(attempt, mask=table["task"].is_null().to_numpy())
    return table.set_column(SCHEMA.get_field_index("attempt"), "attempt", attempts)
