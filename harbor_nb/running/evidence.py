"""What a trial's folder tells beyond its row: what was raised, in which phase, and the end of the log that matters."""

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from harbor_nb._display import clean
from harbor_nb.results._models import TrialResult
from harbor_nb.results.reading import UnreadableError, open_safely, parse_time, read_or_none

PHASES = {"environment_setup": "environment_setup", "agent_setup": "agent_setup", "agent_execution": "agent",
          "verifier": "verifier"}  # fmt: skip
_TAIL_BYTES, _TAIL_LINES, _LINE = 8192, 8, 200


def raised(trial: str) -> tuple[Any, str | None, str | None]:
    """Return what a trial raised (Harbor's exception_info), in which phase, and in which step of a task of several."""
    result = read_or_none(os.path.join(trial, "result.json"), TrialResult)  # noqa: PTH118 - readers take strings
    if result is None:
        return None, None, None
    found, spans, name = result.exception_info, result, None
    steps = [step for step in result.step_results or () if step.exception_info is not None]
    if steps and (found is None or found.exception_message == steps[0].exception_info.exception_message):
        found, spans, name = steps[0].exception_info, steps[0], steps[0].step_name
    if found is None:
        return None, None, None
    began = {
        phase: parse_time(span.started_at) for phase in PHASES if (span := getattr(spans, phase, None)) is not None
    }
    moment = _moment(found.occurred_at, parse_time(result.started_at), parse_time(result.finished_at))
    passed = [phase for phase in PHASES if (start := began.get(phase)) is not None and (not moment or start <= moment)]
    return found, PHASES[passed[-1]] if passed else ("agent" if name else None), name


def _moment(text: str | None, start: datetime | None, end: datetime | None) -> datetime | None:
    """Return when it was raised; Harbor 0.1 wrote local time without a zone, moved here by whole half hours."""
    moment = parse_time(text)
    if moment is None or start is None or end is None or start <= moment <= end:
        return moment
    half_hour = timedelta(minutes=30)
    return moment + (end - moment) // half_hour * half_hour


def tail(path: Path, size: int = _TAIL_BYTES) -> str:
    """Return the end of a text file; nothing for one that is absent, linked or no file."""
    try:
        stream, facts = open_safely(str(path))
        with stream:
            stream.seek(max(0, facts.st_size - size))
            return stream.read(size).decode("utf-8", "replace")
    except (UnreadableError, OSError):
        return ""


def log(trial: Path, phase: str | None, step: str | None = None) -> tuple[str, str]:
    """Return the name and the end of the file that tells most of a phase."""
    home = trial / "steps" / step if step and "/" not in step else trial
    found = {
        "verifier": [home / "verifier/test-stdout.txt"],
        "agent": newest(home / "agent"),
        "agent_setup": newest(home / "agent/setup") + newest(home / "agent"),
    }.get(phase or "", [])
    for path in (*found, trial / "exception.txt", trial / "trial.log"):
        if text := tail(path).strip():
            return str(path.relative_to(trial)), text
    return "", ""


def newest(folder: Path) -> list[Path]:
    """Return the log files of a folder, the one that was written last first."""
    try:
        files = [entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []
    files = [entry for entry in files if entry.name.endswith((".txt", ".log", ".jsonl", ".out"))]
    return [Path(e.path) for e in sorted(files, key=lambda entry: entry.stat().st_mtime, reverse=True)[:3]]


def last_lines(text: str, count: int = _TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines that hold anything, cleaned."""
    return tuple(clean(line.rstrip(), _LINE) for line in filled(text)[-count:])


def filled(text: str) -> list[str]:
    """Return the lines that hold anything; of a line that a progress bar wrote over, what was left on the screen."""
    lines: Iterable[str] = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return [line for line in lines if line.strip()]
