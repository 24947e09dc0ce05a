"""The agents' own steps: ATIF trajectories of any version, in batches, so that memory stays flat."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
from msgspec.structs import fields

from harbor_nb.results._columns import TABLES, Column, arrow, arrow_schema, build, pick
from harbor_nb.results._models import decode, many, record, shapes
from harbor_nb.results.reading import UnreadableError, entries, find_jobs, is_link, open_safely

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = 64 * 2**20  # a file up to this size is decoded at once, a larger one step by step
_CHUNK = 8 * 2**20
_LARGEST_STEP = 512 * 2**20
_BATCH_ROWS = 10_000
_BATCH_BYTES = 16 * 2**20

_PATHS = {c.name: re.findall(r"steps\[\]\.([\w.]+)", c.source) for c in TABLES["trajectory_steps"]}
_STEP, _HEAD = ({f.name: f.type for f in fields(kind)} for kind in (shapes.TrajectoryStep, shapes.TrajectoryHead))
# A string with the colon that makes it a key, or a bracket; `cut` where the buffer ends before that is sure.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?P<end>"\s*+(?P<key>:)?)?(?P<cut>\\?\Z)?|[\[\]{}]', re.DOTALL)


@cache
def _kinds(columns: tuple[str, ...]) -> tuple[Any, Any]:
    """Return the structs of a step and of a trajectory that hold just what these columns need."""
    names = {path.partition(".")[0] for column in columns for path in _PATHS[column]}
    step = record("OneStep", **{name: _STEP[name] for name in sorted(names)})
    embedded = record("Embedded", **_HEAD, steps=many(step))
    return step, record("Trajectory", **_HEAD, steps=many(step), subagent_trajectories=many(embedded))


def _plain(content: Any) -> str | None:
    """Return a message as text; of a picture or a sound its type and file."""
    if content is None or isinstance(content, str):
        return content
    texts = (
        part.text if part.text is not None else f"[{part.type}: {part.source.path if part.source else '?'}]"
        for part in content
    )
    return "\n".join(texts)


def _tools(raw: Any) -> list[Any]:
    found: list[Any] = (decode(raw, many(shapes.Called) | None) if bytes(raw) else None) or []
    return found


def _json(raw: Any) -> str | None:
    text = bytes(raw).decode("utf-8", "replace")
    return None if text in {"", "null"} else text


def _observed(step: Any, _: Any) -> str | None:
    results = (step.observation.results or []) if step.observation is not None else []
    return "\n".join(text for one in results if (text := _plain(one.content))) or None


def _model(step: Any, head: Any) -> Any:
    return step.model_name or (head.agent.model_name if step.source == "agent" and head.agent else None)


_CELLS: dict[str, Callable[[Any, Any], Any]] = {
    "model": _model,
    "text": lambda step, _: _plain(step.message),
    "tool_calls": lambda step, _: _json(step.tool_calls),
    "tools": lambda step, _: ", ".join(call.function_name or "?" for call in _tools(step.tool_calls)) or None,
    "n_tool_calls": lambda step, _: len(_tools(step.tool_calls)),
    "observation": _observed,
}


def _cell(column: Column) -> Callable[[Any, Any], Any] | None:
    """Return what makes a cell of a step and its trajectory's head; None where the column is the file's."""
    if column.name in _CELLS or not _PATHS[column.name]:
        return _CELLS.get(column.name)
    field, _, inner = _PATHS[column.name][0].partition(".")
    if not inner:
        return lambda step, _: getattr(step, field)
    return lambda step, _: (part := getattr(step, field)) and getattr(part, inner)


def _elements(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and bytes of each object below the root's keys, and of each object in its arrays, never all at once."""
    buffer, position, depth, key, start, start_depth = bytearray(), 0, 0, b"", -1, 0
    while True:
        cut = False
        for token in _TOKEN.finditer(buffer, position):
            if token["cut"] is not None:
                cut = True
                position = token.start()
                break
            position = token.end()
            first = buffer[token.start()]
            if first == 0x22:
                if depth == 1 and token["key"]:
                    key = bytes(token.group()).rpartition(b'"')[0][1:]
                elif depth == 1:
                    yield key, bytes(token.group()).strip()
            elif first in b"{[":
                depth += 1
                if start < 0 and first == 0x7B and depth in (2, 3):
                    start, start_depth = token.start(), depth
            else:
                depth -= 1
                if start >= 0 and depth == start_depth - 1:
                    yield key, bytes(buffer[start:position])
                    start = -1
        position = position if cut else len(buffer)
        keep = start if start >= 0 else position
        del buffer[:keep]
        position, start = position - keep, min(start, 0)
        if len(buffer) > _LARGEST_STEP:
            raise UnreadableError(f"one step of more than {_LARGEST_STEP:,} bytes")
        more = file.read(_CHUNK)
        if not more:
            if depth:
                raise UnreadableError("cut off in the middle")
            return
        buffer += more


def _documents(path: str, columns: tuple[str, ...]) -> Iterator[tuple[int, Any, Iterable[Any]]]:
    """Yield each trajectory in a file: its number, its head, its steps."""
    step, whole = _kinds(columns)
    file, facts = open_safely(path)
    with file:
        if facts.st_size <= _WHOLE:
            document = decode(file.read(), whole)
            for number, one in enumerate((document, *(document.subagent_trajectories or ()))):
                yield number, one, one.steps or ()
            return
        head, number = whole(), 0
        for key, data in _elements(file):
            name = key.decode("utf-8", "replace")
            if name == "steps":
                yield 0, head, [decode(data, step)]
            elif name == "subagent_trajectories":
                number += 1
                embedded = decode(data, whole)
                yield number, embedded, embedded.steps or ()
            elif name in _HEAD:
                setattr(head, name, decode(data, _HEAD[name] | None))


def task_step_folders(trial: str) -> list[tuple[str | None, str]]:
    """Return the trial's folder, and the folders of its task's steps with their names; no link is followed."""
    steps = (entry for entry in _below(trial, "steps") if entry.is_dir(follow_symlinks=False))
    return [(None, trial), *((entry.name, entry.path) for entry in steps)]


def _below(folder: str, name: str) -> list[os.DirEntry[str]]:
    path = f"{folder}{os.sep}{name}"
    return [] if is_link(path) else entries(path)


def _files(x: Any) -> Iterator[dict[str, str | None]]:
    """Yield where each trajectory file lies."""
    for job in find_jobs(x):
        for trial in job.trial_names:
            place = {"job": job.name, "trial": trial, "path": job.file(trial)}
            for task_step, folder in task_step_folders(place["path"]):
                for entry in chain(_below(folder, "agent"), _below(folder, "user-agent")):
                    if entry.name.startswith("trajectory") and entry.name.endswith(".json"):
                        yield {**place, "task_step": task_step, "file": os.path.relpath(entry.path, place["path"])}


def _file_rows(place: dict[str, Any], columns: Sequence[Column]) -> Iterator[tuple[Any, ...]]:
    names = tuple(column.name for column in columns)
    for number, head, steps in _documents(f"{place['path']}{os.sep}{place['file']}", names):
        named = {
            **place,
            "trajectory": number,
            "trajectory_id": head.trajectory_id or head.session_id,
            "schema_version": head.schema_version,
            "agent": head.agent.name if head.agent is not None else None,
        }
        cells = [(_cell(column), named.get(column.name)) for column in columns]
        for step in steps:
            yield tuple(known if get is None else get(step, head) for get, known in cells)


def batches(x: Any, columns: Sequence[Column], unreadable: list[dict[str, Any]]) -> Iterator[pa.Table]:
    """Yield the steps of all trajectories as tables of bounded size; what can't be read goes to `unreadable`."""
    rows: list[tuple[Any, ...]] = []
    weight = 0
    for place in _files(x):
        try:
            for row in _file_rows(place, columns):
                rows.append(row)
                weight += sum(len(cell) for cell in row if isinstance(cell, str))
                if len(rows) >= _BATCH_ROWS or weight >= _BATCH_BYTES:
                    yield _batch(rows, columns)
                    rows, weight = [], 0
        except (UnreadableError, ValueError) as error:
            unreadable.append({**place, "reason": str(error)})
    if rows:
        yield _batch(rows, columns)


def _batch(rows: list[tuple[Any, ...]], columns: Sequence[Column]) -> pa.Table:
    cells = zip(*rows, strict=True)
    arrays = [arrow(values, kind.type) for kind, values in zip(arrow_schema(columns), cells, strict=True)]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(columns))


def trajectory_steps(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a step of an agent's trajectory (ATIF of any version).

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; only these are decoded. None for all.

    Returns:
        The steps in their order. Files that can't be read are named in `frame.attrs["unreadable"]` and in
        `unreadable(x, trajectories=True)`. For more than fits in memory use `to_parquet`.

    Example:
        >>> import harbor_nb
        >>> steps = harbor_nb.trajectory_steps(harbor_nb.sample_jobs(), columns=["trial", "tools"])  # doctest: +SKIP
    """
    chosen = pick("trajectory_steps", columns)
    lost: list[dict[str, Any]] = []
    tables = list(batches(x, chosen, lost))
    table = pa.concat_tables([arrow_schema(chosen).empty_table(), *tables])
    frame = build(chosen, lambda name: table[name])
    if lost:
        frame.attrs["unreadable"] = [f"{row['path']}{os.sep}{row['file']}: {row['reason']}" for row in lost]
    return frame
