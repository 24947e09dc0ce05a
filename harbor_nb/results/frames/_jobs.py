"""The frames made of job folders: jobs, events, artifacts, unreadable."""

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from harbor_nb._display import clean
from harbor_nb.results import _rows
from harbor_nb.results._models import JobConfig, JobLock, JobResult, JobStats, Owner, Struct, decode
from harbor_nb.results.frames._columns import BOOLEAN, FLOAT, INTEGER, TEXT, TIME, Column, build_rows, pick
from harbor_nb.results.reading import JobFolder, UnreadableError, find_jobs, parse_time, read_bytes, read_struct

if TYPE_CHECKING:
    import pandas as pd

_R, _O = "result.json: ", "harbor_nb.json: "
_COUNTS = ("completed", "errored", "running", "pending", "cancelled")
_LEGACY = {"completed": "n_trials", "errored": "n_errors"}

JOBS = [
    Column("job", TEXT, "folder", "Name of the job folder"),
    Column("job_id", TEXT, _R + "id", "Harbor's id of the job"),
    Column("environment", TEXT, "config.json: environment", "Environment type; `local` for ours"),
    Column("practice", BOOLEAN, _O + "practice", "Ran on a practice cloud"),
    Column("recorded", BOOLEAN, _O + "recorded", "Shipped as data"),
    Column("fast_stop", BOOLEAN, _O + "fast_stop", "Docker containers were stopped at once"),
    Column("agents", TEXT, "config.json: agents", "The agents, separated by commas"),
    Column("models", TEXT, "config.json: agents", "Their models, separated by commas"),
    Column("state", TEXT, "harbor_nb.json, result.json", "starting, running, cancelling, finished, cancelled, failed; `dead` where it said it ran and does not; `unreadable`"),
    Column("n_trials", INTEGER, "folder", "Trial folders there are", "trials"),
    Column("n_total", INTEGER, _R + "n_total_trials", "Trials planned", "trials"),
    *(Column(f"n_{name}", INTEGER, f"{_R}stats.n_{name}_trials", f"Trials {name}, as Harbor counts", "trials") for name in _COUNTS),
    Column("n_retries", INTEGER, _R + "stats.n_retries", "Retries so far", "trials"),
    Column("started_at", TIME, _R + "started_at", "Begin. Harbor writes it without a zone, on the runner's clock; the zone is found from its trials' times, else taken as UTC", "UTC"),
    Column("finished_at", TIME, _R + "finished_at", "End, likewise", "UTC"),
    Column("total_sec", FLOAT, _R + "started_at, finished_at", "Time of the whole job", "s"),
    Column("tokens_in", INTEGER, _R + "stats.n_input_tokens", "Input tokens, cached ones included", "tokens"),
    Column("tokens_cached", INTEGER, _R + "stats.n_cache_tokens", "Cached input tokens", "tokens"),
    Column("tokens_out", INTEGER, _R + "stats.n_output_tokens", "Output tokens", "tokens"),
    Column("cost_usd", FLOAT, _R + "stats.cost_usd", "Cost", "USD"),
    Column("harbor_version", TEXT, "harbor_nb.json, lock.json", "Harbor's version"),
    Column("harbor_nb_version", TEXT, _O + "harbor_nb_version", "Our version"),
    Column("error", TEXT, _O + "error", "Why the job failed as a whole"),
    Column("job_path", TEXT, "folder", "The job folder"),
]  # fmt: skip

_E = "harbor_nb.events.jsonl: "
EVENTS = [
    Column("job", TEXT, "folder", "Name of the job folder"),
    Column("time", TIME, _E + "t", "When it happened", "UTC"),
    Column("event", TEXT, _E + "event", "job_start, trial_start, environment_start, agent_start, agent_end, verification_start, trial_end, trial_cancel, job_end, note"),
    Column("trial", TEXT, _E + "trial", "Name of the trial folder; missing for the job's own events"),
    Column("task", TEXT, _E + "task", "The task's name"),
    Column("reward", FLOAT, _E + "reward", "The reward, at trial_end"),
    Column("exception", TEXT, _E + "exception", "The exception's type, at trial_end"),
    Column("message", TEXT, _E + "message", "What was said"),
    Column("extra", TEXT, _E + "all else", "The other fields, as JSON"),
    Column("job_path", TEXT, "folder", "The job folder"),
]  # fmt: skip

_M = "artifacts/manifest.json: "
ARTIFACTS = [
    Column("job", TEXT, "folder", "Name of the job folder"),
    Column("trial", TEXT, "folder", "Name of the trial folder"),
    Column("step", TEXT, "folder", "The task's step that left it; missing for tasks without steps"),
    Column("name", TEXT, "folder", "Path below the artifacts folder"),
    Column("status", TEXT, _M + "status", "ok, failed, empty, skipped as Harbor tells; `link` is a symbolic link, not followed"),
    Column("source", TEXT, _M + "source", "The path in the sandbox it was collected from"),
    Column("service", TEXT, _M + "service", "The compose service; missing for the main one"),
    Column("size_bytes", INTEGER, "folder", "Its size", "bytes"),
    Column("modified_at", TIME, "folder", "When it was last written", "UTC"),
    Column("path", TEXT, "folder", "The file; missing where nothing was collected"),
]  # fmt: skip

UNREADABLE = [
    Column("job", TEXT, "folder", "Name of the job folder"),
    Column("trial", TEXT, "folder", "Name of the trial folder; missing for a file of the job"),
    Column("file", TEXT, "folder", "Which file, below the trial's or the job's folder"),
    Column("reason", TEXT, "reading", "Why it could not be used"),
    Column("path", TEXT, "folder", "The file"),
]


def _state(job: JobFolder) -> str | None:
    if job.broken:
        return "unreadable"
    if job.owner is not None:
        state = job.owner.state
        return "dead" if state in {"starting", "running", "cancelling"} and not job.alive else state
    if job.result is None:
        return None
    return "finished" if job.result.finished_at else "running" if job.alive else "dead"


def _zone(job: JobFolder, result: JobResult) -> timedelta:
    """Return how far the runner's clock was from UTC, to the quarter of an hour; 0 where nothing tells."""
    mine = parse_time(result.finished_at or result.started_at)
    theirs: datetime | None = None
    if result.finished_at:
        theirs = pc.max(_rows.load(job, ["finished_at"])["finished_at"]).as_py()
    elif job.owner is not None:
        theirs = parse_time(job.owner.launched_at)
    if mine is None or theirs is None:
        return timedelta()
    quarter = timedelta(minutes=15)
    away = round((mine - theirs) / quarter) * quarter
    close = abs(mine - theirs - away) < timedelta(minutes=5) and abs(away) <= timedelta(hours=14)
    return away if close else timedelta()


def _times(job: JobFolder) -> tuple[datetime | None, datetime | None]:
    result = job.result
    if result is None:
        return None, None
    texts = (result.started_at, result.finished_at)
    named = [parse_time(text) for text in texts]
    if all(
        text is None or datetime.fromisoformat(text).tzinfo for text, time in zip(texts, named, strict=True) if time
    ):
        return named[0], named[1]
    away = _zone(job, result)
    return tuple(time - away if time else None for time in named)  # type: ignore[return-value]


def _who(job: JobFolder) -> dict[str, str | None]:
    """Return environment, agents and models, from the job's configuration or, where that is lost, from its trials."""
    config = job.config
    if config is not None and config.agents:
        names = [_rows.agent_name(agent) for agent in config.agents]
        models = [agent.model_name for agent in config.agents if agent.model_name]
        return {
            "environment": _rows.environment_name(config.environment),
            "agents": ", ".join(dict.fromkeys(names)),
            "models": ", ".join(dict.fromkeys(models)) or None,
        }
    table = _rows.load(job, ["environment", "agent", "model"])
    seen = {
        name: ", ".join(sorted(pc.unique(table[name].drop_null()).to_pylist())) or None for name in table.column_names
    }
    return {"environment": seen["environment"], "agents": seen["agent"], "models": seen["model"]}


def _job_row(job: JobFolder, wanted: set[str]) -> dict[str, Any]:
    owner, result = job.owner, job.result
    row: dict[str, Any] = {
        "job": job.name,
        "job_path": job.path,
        "state": _state(job),
        "n_trials": len(job.trial_names),
    }
    if job.broken:
        return row
    row.update({flag: bool(owner and getattr(owner, flag)) for flag in ("practice", "recorded", "fast_stop")})
    if wanted & {"environment", "agents", "models"}:
        row.update(_who(job))
    if owner is not None:
        row.update(harbor_version=owner.harbor_version, harbor_nb_version=owner.harbor_nb_version, error=owner.error)
    if row.get("harbor_version") is None and "harbor_version" in wanted and job.lock and job.lock.harbor:
        row["harbor_version"] = job.lock.harbor.version
    if result is None:
        return row
    stats = result.stats
    row.update(job_id=result.id, n_total=result.n_total_trials, n_retries=stats.n_retries)
    row.update({f"n_{name}": _count(stats, name) for name in _COUNTS})
    row.update(
        tokens_in=stats.n_input_tokens,
        tokens_cached=stats.n_cache_tokens,
        tokens_out=stats.n_output_tokens,
        cost_usd=stats.cost_usd,
    )
    if wanted & {"started_at", "finished_at", "total_sec"}:
        started, finished = _times(job)
        total = (finished - started).total_seconds() if started and finished else None
        row.update(started_at=started, finished_at=finished, total_sec=total)
    return row


def _count(stats: JobStats, name: str) -> int | None:
    found: int | None = getattr(stats, f"n_{name}_trials")
    return getattr(stats, _LEGACY[name]) if found is None and name in _LEGACY else found


def jobs(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a job.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.

    Returns:
        State, counts, times, tokens and cost as Harbor's job files tell them; what they do not tell is `NA`.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.jobs(harbor_nb.sample_jobs(), columns=["job", "environment", "state"])  # doctest: +SKIP
    """
    chosen = pick(JOBS, columns)
    wanted = {column.name for column in chosen}
    return build_rows(chosen, [_job_row(job, wanted) for job in find_jobs(x)])


class _Event(Struct):
    t: str | None = None
    event: str | None = None
    trial: str | None = None
    task: str | None = None
    reward: float | None = None
    exception: str | None = None
    message: str | None = None


def _event_lines(job: JobFolder) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines of the job's event log; the last one may still be in the writing."""
    try:
        data, _ = read_bytes(job.file("harbor_nb.events.jsonl"))
    except UnreadableError:
        return
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        if line.strip():
            yield number, line


def _event_rows(job: JobFolder) -> Iterator[dict[str, Any]]:
    for _, line in _event_lines(job):
        try:
            event, rest = decode(line, _Event), decode(line, dict[str, Any])
        except ValueError:
            continue
        known = {name: getattr(event, name) for name in _Event.__struct_fields__[1:]}
        extra = {name: value for name, value in rest.items() if name not in _Event.__struct_fields__}
        yield {
            "job": job.name,
            "time": parse_time(event.t),
            **known,
            "extra": json.dumps(extra) if extra else None,
            "job_path": job.path,
        }


def events(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row an event of our event log, in the order of the log.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.

    Returns:
        The events; a job that harbor_nb did not launch has none. Lines that are no JSON are in `unreadable`.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.events(harbor_nb.sample_jobs(), columns=["time", "event", "trial"])  # doctest: +SKIP
    """
    return build_rows(pick(EVENTS, columns), [row for job in find_jobs(x) for row in _event_rows(job)])


class _Collected(Struct):
    source: str | None = None
    destination: str = ""
    status: str | None = None
    service: str | None = None


def _manifest(folder: str) -> list[_Collected]:
    try:
        return read_struct(os.path.join(folder, "manifest.json"), list[_Collected])[0]  # noqa: PTH118
    except UnreadableError:
        return []


def _artifact_rows(folder: Path) -> Iterator[dict[str, Any]]:
    entries = {entry.destination.removeprefix("artifacts").strip("/") or ".": entry for entry in _manifest(str(folder))}
    found: set[str] = set()
    for parent, folders, files in os.walk(folder):
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted(files + linked):
            path = Path(parent) / name
            below = path.relative_to(folder).as_posix()
            if below == "manifest.json":
                continue
            above = [below, *(p.as_posix() for p in path.relative_to(folder).parents)]
            entry = next((entries[a] for a in above if a in entries), _Collected())
            found.update(above)
            facts = path.lstat()
            yield {
                "name": below,
                "status": "link" if path.is_symlink() else entry.status or "ok",
                "source": entry.source,
                "service": entry.service,
                "size_bytes": facts.st_size,
                "modified_at": datetime.fromtimestamp(facts.st_mtime, UTC),
                "path": str(path),
            }
    for below, entry in entries.items():
        if below not in found:
            yield {"name": below, "status": entry.status, "source": entry.source, "service": entry.service}


def artifacts(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a file that was collected from a sandbox, and one for each that Harbor tried to collect and could not.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.

    Returns:
        Where each file lies and where it came from. Links that an agent left are listed and never followed.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.artifacts(harbor_nb.sample_jobs(), columns=["trial", "name", "size_bytes"])  # doctest: +SKIP
    """
    rows = []
    for job in find_jobs(x):
        for trial in job.trial_names:
            folder = Path(job.path) / trial
            steps = sorted(p for p in (folder / "steps").glob("*") if p.is_dir() and not p.is_symlink())
            for step, where in [(None, folder), *((p.name, p) for p in steps)]:
                if not (where / "artifacts").is_symlink():
                    found = _artifact_rows(where / "artifacts")
                    rows += [{"job": job.name, "trial": trial, "step": step, **row} for row in found]
    return build_rows(pick(ARTIFACTS, columns), rows)


def _unreadable_rows(job: JobFolder) -> Iterator[dict[str, Any]]:
    table = _rows.load(job, ["trial", "reason"])
    if job.broken:
        yield {"job": job.name, "reason": job.broken, "path": job.path}
    for name, kind in (
        ("config.json", JobConfig),
        ("result.json", JobResult),
        ("lock.json", JobLock),
        ("harbor_nb.json", Owner),
    ):
        if not job.broken and os.path.lexists(job.file(name)):
            try:
                read_struct(job.file(name), kind)
            except UnreadableError as error:
                yield {"job": job.name, "file": name, "reason": str(error), "path": job.file(name)}
    for number, line in _event_lines(job):
        try:
            decode(line, _Event)
        except ValueError as error:
            log = "harbor_nb.events.jsonl"
            yield {"job": job.name, "file": log, "reason": f"line {number}: {error}", "path": job.file(log)}
    for link in job.links:
        yield {"job": job.name, "trial": link, "reason": "a symbolic link, not followed", "path": job.file(link)}
    for trial, reason in zip(
        *(column.to_pylist() for column in table.filter(pc.is_valid(table["reason"])).columns), strict=True
    ):
        file, _, why = reason.partition(": ")
        yield {"job": job.name, "trial": trial, "file": file, "reason": why, "path": job.file(f"{trial}{os.sep}{file}")}


def unreadable(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a file that could not be used, with the reason; the same trials have status `unreadable` in `trials`.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.

    Returns:
        job, trial, file, reason, path. Empty is good.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.unreadable(harbor_nb.sample_jobs()).empty  # doctest: +SKIP
        True
    """
    rows = [row for job in find_jobs(x) for row in _unreadable_rows(job)]
    return build_rows(pick(UNREADABLE, columns), [{**row, "reason": clean(row["reason"], 300)} for row in rows])
