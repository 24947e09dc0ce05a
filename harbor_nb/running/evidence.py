"""What a trial's folder tells beyond its row: what was raised, in which step, and the end of the log that matters."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harbor_nb._display import clean
from harbor_nb.known_failures import KnownFailure, match
from harbor_nb.results._models import shapes
from harbor_nb.results.reading import UnreadableError, open_safely, read_or_none

_TAIL_BYTES, _TAIL_LINES, _LINE = 8192, 8, 200
_NEVER_BEGUN = "(this file was never made)"
_OF_THE_MACHINE = ("out-of-memory", "disk-full")  # an agent's output tells these, and what is missing only by the way


def raised(trial: str, phase: str | None) -> tuple[Any, str | None, str | None]:
    """Return what a trial raised (Harbor's exception_info), in which phase, and in which step of a task of several."""
    result = read_or_none(os.path.join(trial, "result.json"), shapes.TrialResult)  # noqa: PTH118 - readers take strings
    if result is None:
        return None, phase, None
    if result.exception_info is not None:
        return result.exception_info, phase, None
    step = next((step for step in result.step_results or () if step.exception_info is not None), None)
    if step is None:
        return None, phase, None
    verified = step.verifier is not None and step.verifier.started_at is not None
    return step.exception_info, "verifier" if verified else "agent", step.step_name


def tail(path: Path, size: int = _TAIL_BYTES) -> str:
    """Return the end of a text file; nothing for one that is absent, linked or no file."""
    try:
        stream, facts = open_safely(str(path))
        with stream:
            stream.seek(max(0, facts.st_size - size))
            return stream.read(size).decode("utf-8", "replace")
    except (UnreadableError, OSError):
        return ""


def _home(trial: Path, step: str | None) -> Path:
    return trial / "steps" / step if step and "/" not in step else trial


def log(trial: Path, phase: str | None, step: str | None = None) -> tuple[str, str]:
    """Return the name and the end of the file that tells most of a phase."""
    home = _home(trial, step)
    found = {
        "verifier": [home / "verifier/test-stdout.txt"],
        "agent": newest(home / "agent"),
        "agent_setup": newest(home / "agent/setup") + newest(home / "agent"),
    }.get(phase or "", [])
    for path in (*found, trial / "exception.txt", trial / "trial.log"):
        if text := tail(path).strip():
            return str(path.relative_to(trial)), text
    return "", ""


def read(name: str, text: str, exception: str | None = None) -> tuple[KnownFailure, str, str] | None:
    """Return what a log tells of a failure, with its name and text."""
    known = match(exception, text, output=True)
    return (known, name, text) if known is not None else None


def printed(trial: Path, step: str | None = None, exception: str | None = None) -> Any:
    """Return what the agent's or the tests' output tells of a failure, as `read` does."""
    for part in ("agent", "verifier"):
        name, text = log(trial, part, step)
        if f"{part}/" not in name:
            name = f"{part}/test-stdout.txt"
            text = "" if (_home(trial, step) / name).exists() else _NEVER_BEGUN
        told = read(name, text, exception)
        if told is not None and (part == "verifier" or told[0].name in _OF_THE_MACHINE):
            return told
    return None


def newest(folder: Path) -> list[Path]:
    """Return the log files of a folder, the one that was written last first."""
    try:
        files = [entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []
    ends = (".txt", ".log", ".jsonl", ".out")
    files = [entry for entry in files if entry.name.endswith(ends) and entry.name != "exit-code.txt"]
    return [Path(e.path) for e in sorted(files, key=lambda entry: entry.stat().st_mtime, reverse=True)[:3]]


def last_lines(text: str, count: int = _TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines that hold anything, cleaned."""
    return tuple(clean(line.rstrip(), _LINE) for line in filled(text)[-count:])


def filled(text: str) -> list[str]:
    """Return the lines that hold anything; of a line that a progress bar wrote over, what was left on the screen."""
    lines: Iterable[str] = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return [line for line in lines if line.strip()]
