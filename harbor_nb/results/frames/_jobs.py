"""The frames made of job folders: jobs, events, artifacts, unreadable."""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from msgspec.structs import asdict

from harbor_nb._display import clean
from harbor_nb.results import _loading, _rows, reading
from harbor_nb.results._columns import TABLES, build_rows, pick
from harbor_nb.results._models import decode, shapes
from harbor_nb.results.frames._trajectories import batches, task_step_folders

if TYPE_CHECKING:
    import pandas as pd

_PATHS = {
    column.name: column.source.replace("result.json: ", "result.").replace("harbor_nb.json: ", "owner.")
    for column in TABLES["jobs"]
    if column.source.startswith(("result.json: ", "harbor_nb.json: ")) and column.name != "total_sec"
}
_LOG = "harbor_nb.events.jsonl"


def _state(job: reading.JobFolder) -> str | None:
    if job.broken:
        return "unreadable"
    if job.owner is not None:
        state = job.owner.state
        return "dead" if state in {"starting", "running", "cancelling"} and not job.alive else state
    if job.result is None:
        return None
    return "finished" if job.result.finished_at else "running" if job.alive else "dead"


def _zone(job: reading.JobFolder) -> timedelta:
    """Return how far the runner's clock was from UTC, to the quarter of an hour; 0 where nothing tells."""
    mine = reading.parse_time(job.result.finished_at or job.result.started_at)
    if job.result.finished_at:
        theirs = pc.max(_loading.load(job, ["finished_at"])["finished_at"]).as_py()
    else:
        theirs = reading.parse_time(job.owner.launched_at) if job.owner is not None else None
    if mine is None or theirs is None:
        return timedelta()
    quarter = timedelta(minutes=15)
    away = round((mine - theirs) / quarter) * quarter
    close = abs(mine - theirs - away) < timedelta(minutes=5) and abs(away) <= timedelta(hours=14)
    return away if close else timedelta()


def _times(job: reading.JobFolder) -> tuple[datetime | None, datetime | None]:
    texts = (job.result.started_at, job.result.finished_at)
    away = timedelta() if any(map(reading.has_zone, texts)) else _zone(job)
    started, finished = (time and time - away for time in map(reading.parse_time, texts))
    return started, finished


def _who(job: reading.JobFolder) -> dict[str, str | None]:
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
    table = _loading.load(job, ["environment", "agent", "model"])
    seen = {
        name: ", ".join(sorted(pc.unique(table[name].drop_null()).to_pylist())) or None for name in table.column_names
    }
    return {"environment": seen["environment"], "agents": seen["agent"], "models": seen["model"]}


def _job_row(job: reading.JobFolder, wanted: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"job": job.name, "job_path": job.path, "n_trials": len(job.trial_names)}
    row["state"] = _state(job)
    if job.broken:
        return row
    told = _rows.Fields({"": [job]})
    row.update({name: told[path][0] for name, path in _PATHS.items() if name in wanted})
    row.update({flag: job.flag(flag) for flag in ("practice", "recorded", "fast_stop")})
    if wanted & {"environment", "agents", "models"}:
        row.update(_who(job))
    if "harbor_version" in wanted:
        row["harbor_version"] = told["owner.harbor_version"][0] or told["lock.harbor.version"][0]
    if told["result.stats.n_completed_trials"] == [None]:  # Harbor 0.1
        row.update(n_completed=told["result.stats.n_trials"][0], n_errored=told["result.stats.n_errors"][0])
    if job.result is not None and wanted & {"started_at", "finished_at", "total_sec"}:
        started, finished = _times(job)
        total = (finished - started).total_seconds() if started and finished else None
        row.update(started_at=started, finished_at=finished, total_sec=total)
    return row


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
    chosen = pick("jobs", columns)
    wanted = {column.name for column in chosen}
    return build_rows(chosen, [_job_row(job, wanted) for job in reading.find_jobs(x)])


def _events(job: reading.JobFolder) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Yield number and row, or what is wrong with it, of each whole line; the last may still be in the writing."""
    try:
        lines = reading.read_bytes(job.file(_LOG))[0].split(b"\n")[:-1]
    except reading.UnreadableError:
        return
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                known = asdict(decode(line, shapes.Event))
                extra = {name: value for name, value in decode(line, dict[str, Any]).items() if name not in known}
                place = {"job": job.name, "time": reading.parse_time(known["t"]), "job_path": job.path}
                yield number, {**known, **place, "extra": json.dumps(extra) if extra else None}
        except ValueError as error:
            yield number, error


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
    rows = [row for job in reading.find_jobs(x) for _, row in _events(job) if isinstance(row, dict)]
    return build_rows(pick("events", columns), rows)


def _artifact_rows(folder: Path) -> Iterator[dict[str, Any]]:
    manifest = reading.read_or_none(str(folder / "manifest.json"), list[shapes.Collected]) or []
    entries = {(entry.destination or "").removeprefix("artifacts").strip("/") or ".": entry for entry in manifest}
    found: set[str] = set()
    for parent, folders, files in os.walk(folder):
        for name in sorted([*files, *(sub for sub in folders if reading.is_link(f"{parent}{os.sep}{sub}"))]):
            path = Path(parent) / name
            below = path.relative_to(folder)
            if below.as_posix() == "manifest.json":
                continue
            above = [below.as_posix(), *(up.as_posix() for up in below.parents)]
            entry = next((entries[up] for up in above if up in entries), shapes.Collected())
            found.update(above)
            row = {"name": above[0], "source": entry.source, "service": entry.service, "path": str(path)}
            try:
                facts = path.lstat()
            except OSError:
                yield {**row, "status": "unreadable"}
                continue
            status = "link" if stat.S_ISLNK(facts.st_mode) else entry.status or "ok"
            when = datetime.fromtimestamp(facts.st_mtime, UTC)
            yield {**row, "status": status, "size_bytes": facts.st_size, "modified_at": when}
    for name, entry in entries.items():
        if name not in found:
            yield {"name": name, "status": entry.status, "source": entry.source, "service": entry.service}


def artifacts(x: Any, columns: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read one row a file collected from a sandbox, and one for each that Harbor could not collect.

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
    for job in reading.find_jobs(x):
        for trial in job.trial_names:
            for step, folder in task_step_folders(job.file(trial)):
                if not reading.is_link(f"{folder}{os.sep}artifacts"):
                    found = _artifact_rows(Path(folder) / "artifacts")
                    rows += [{"job": job.name, "trial": trial, "step": step, **row} for row in found]
    return build_rows(pick("artifacts", columns), rows)


def _unreadable_rows(job: reading.JobFolder) -> Iterator[dict[str, Any]]:
    table = _loading.load(job, ["trial", "reason"])
    if job.broken:
        yield {"job": job.name, "reason": job.broken, "path": job.path}
    for name, kind in reading.FILES.items():
        if not job.broken and os.path.lexists(job.file(name)):
            try:
                reading.read_struct(job.file(name), kind)
            except reading.UnreadableError as error:
                yield {"job": job.name, "file": name, "reason": str(error), "path": job.file(name)}
    for number, found in _events(job):
        if isinstance(found, ValueError):
            yield {"job": job.name, "file": _LOG, "reason": f"line {number}: {found}", "path": job.file(_LOG)}
    for link in job.links:
        yield {"job": job.name, "trial": link, "reason": "a symbolic link, not followed", "path": job.file(link)}
    for row in table.filter(pc.field("reason").is_valid()).to_pylist():
        file, _, reason = row["reason"].partition(": ")
        place = {"job": job.name, "file": file, "path": job.file(f"{row['trial']}{os.sep}{file}")}
        yield {**row, **place, "reason": reason}


def unreadable(x: Any, columns: Iterable[str] | None = None, *, trajectories: bool = False) -> "pd.DataFrame":
    """Read one row a file that could not be used, with the reason; such trials have that status in `trials`.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        columns: The columns wanted; None for all.
        trajectories: Also open every trajectory.

    Returns:
        job, trial, file, reason, path. Empty is good.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.unreadable(harbor_nb.sample_jobs()).empty  # doctest: +SKIP
        True
    """
    rows = [row for job in reading.find_jobs(x) for row in _unreadable_rows(job)]
    if trajectories:
        for _ in batches(x, pick("trajectory_steps", ["step_id"]), rows):
            pass
    return build_rows(pick("unreadable", columns), [{**row, "reason": clean(row["reason"], 300)} for row in rows])
