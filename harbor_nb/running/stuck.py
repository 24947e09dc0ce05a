"""Trials that run: in which phase, for how long against their own timeout and what is usual, and whether they live."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import clean
from harbor_nb.errors import HarborNbError
from harbor_nb.results.reading import read_mapping
from harbor_nb.running.evidence import filled, newest, tail
from harbor_nb.running.owner import OwnerRecord
from harbor_nb.running.sources import task_config

if TYPE_CHECKING:
    import pandas as pd

_OF_EVENT = {
    "trial_start": "environment_setup", "environment_start": "environment_setup", "agent_start": "agent",
    "agent_end": "agent", "verification_start": "verifier",
}  # fmt: skip
_PARTS = {  # phase: the part of the task that limits it, and the setting
    "environment_setup": ("environment", "build_timeout_sec"),
    "agent": ("agent", "timeout_sec"),
    "verifier": ("verifier", "timeout_sec"),
}
_SLACK_SEC = 60.0  # Harbor ends a phase at its timeout; this long after it something is wrong
_UNUSUAL, _AT_LEAST_SEC = 5, 120.0  # times the usual, and never sooner
_MOST = 50


def watched(frame: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Yield a row for each trial that runs; `hung` is true with a reason, `text` says it all."""
    live = frame[frame["status"] == "running"]
    for job, part in live.groupby("job_path", sort=False):
        begun, usual = _begun(str(job)), _usual(str(job))
        alive = _alive(set(part["environment"].dropna()), Path(str(job)))
        for row in part.head(_MOST).to_dict("records"):
            trial = Path(str(row["path"]))
            phase, since = begun.get(trial.name) or _guess(trial)
            seconds = max(0.0, time.time() - since)
            limit, common, sandbox = timeout(trial, phase), usual.get(phase), alive(trial)
            if sandbox == "gone" and phase == "environment_setup":
                sandbox = "not there yet"
            why = (
                "its sandbox is gone" if sandbox == "gone"
                else "it is past its own timeout" if limit is not None and seconds > limit + _SLACK_SEC
                else f"others took {common:.0f} s" if common and seconds > max(_AT_LEAST_SEC, _UNUSUAL * common)
                else None
            )  # fmt: skip
            where, line = _last_line(trial)
            told = [
                f"{phase} for {seconds:.0f} s",
                f"own timeout {limit:.0f} s" if limit is not None else "no timeout of its own",
                f"usual {common:.0f} s" if common else "no trial of this job has ended this phase yet",
                f"sandbox {sandbox}" if sandbox else "sandbox not looked up",
                f"last line of {where}: {line}" if line else "nothing was logged",
            ]
            text = f"{trial.name}: {'; '.join(told)}" + (f"; looks hung, for {why}: job.cancel()" if why else "")
            yield {"trial": trial.name, "phase": phase, "seconds": seconds, "timeout_sec": limit, "usual_sec": common,
                   "why": why, "sandbox": sandbox, "last_line": line,
                   "hung": bool(why), "text": clean(text)}  # fmt: skip


def _begun(job: str) -> dict[str, tuple[str, float]]:
    """Return each trial's phase and when it began, from the event log."""
    from harbor_nb.results.frames import events

    frame = events(job, columns=["trial", "event", "time"])
    frame = frame.assign(phase=frame["event"].map(_OF_EVENT)).dropna()
    begins = (frame["phase"] != frame.groupby("trial")["phase"].shift()) | (frame["event"] == "trial_start")
    last = frame[begins].groupby("trial")[["phase", "time"]].last()
    return {str(trial): (phase, time.timestamp()) for trial, phase, time in last.itertuples()}


def _guess(trial: Path) -> tuple[str, float]:
    """Return the phase of a trial without an event log, by the files that are there, and since when."""
    for phase in ("verifier", "agent"):
        if files := newest(trial / phase):
            return phase, min(file.stat().st_mtime for file in files)
    return "environment_setup", trial.stat().st_mtime


def _usual(job: str) -> dict[str, float]:
    """Return the median of each phase's seconds over the trials of the job that have ended it."""
    from harbor_nb.results.frames import phases

    done = phases(job, columns=["phase", "seconds"]).dropna()
    return {str(phase): float(value) for phase, value in done.groupby("phase")["seconds"].median().items()}


def timeout(trial: Path, phase: str) -> float | None:
    """Return the seconds that a trial's phase may take, by its task and its config; None for no limit, or unknown."""
    part, setting = _PARTS[phase]
    config = read_mapping(trial / "config.json")
    own = config.get(part) or {}
    try:
        task = task_config(Path(config["task"]["path"]))
        base = task and (own.get("override_timeout_sec") or getattr(getattr(task, part), setting))
        if base is None:
            return None
        factor = config.get(f"{part}_{setting.replace('sec', 'multiplier')}")
        factor = config.get("timeout_multiplier", 1.0) if factor is None else factor
        return float(min(base, own.get("max_timeout_sec") or base) * factor)
    except (KeyError, TypeError):  # a config that Harbor did not write
        return None


def _alive(environments: set[str], job: Path) -> Any:
    """Return a function that tells whether a trial's sandbox is there: its state, gone, or None for can't tell."""
    from harbor_nb.running.leftovers import sandboxes

    try:
        if environments == {"local"}:
            names = _sandboxes()
        else:
            record = OwnerRecord.read(job)
            listed = sandboxes(environments, job.parent, job if record and record.practice else None)
            names = dict(zip(listed["trial"], listed["state"], strict=True))
    except HarborNbError:
        return lambda trial: None
    return lambda trial: names.get(trial.name, "gone")


def _sandboxes() -> dict[str, str]:
    """Return the trials that have a local sandbox, which is named after them."""
    import psutil

    mounts = ""
    for process in psutil.process_iter(["name"]):
        with suppress(OSError):
            if process.info["name"] == "bwrap":
                mounts += Path(f"/proc/{process.pid}/mountinfo").read_text()
    return dict.fromkeys(re.findall(r"/harbor_nb-sandbox-([^/ ]+?)__(?:env|verifier)", mounts), "running")


def _last_line(trial: Path) -> tuple[str, str]:
    files = [*newest(trial), *newest(trial / "agent"), *newest(trial / "verifier")]
    for path in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        if lines := filled(tail(path)):
            return str(path.relative_to(trial)), clean(lines[-1], 200)
    return "", ""
