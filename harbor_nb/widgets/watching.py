"""What a monitor knows of a job: its trials as they are now, read from the event log, a line at a time."""

import time
from collections import Counter
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from harbor_nb.known_failures import KnownFailure, match
from harbor_nb.results.reading import JobFolder
from harbor_nb.running.events import EventLog

FINAL = frozenset({"finished", "cancelled", "failed", "lost", "unknown"})
_PHASES = {
    "trial_start": "starting", "environment_start": "environment setup", "agent_start": "agent",
    "agent_end": "agent done", "verification_start": "verifier", "trial_cancel": "cancelled",
}  # fmt: skip
_OF_FRAME = ["trial", "task", "agent", "status", "reward", "exception", "message", "total_sec", "started_at"]


@lru_cache(4096)
def known(exception: str | None, message: str | None, environment: str | None) -> KnownFailure | None:
    """Return the known failure behind an exception; remembered, since many trials fail alike."""
    return match(exception, message, environment=environment) if exception else None


class Watch:
    """One job: `rows` by trial, kept up to date by `look()`, which reads only what was appended."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self.name = str(job.name)
        folder = JobFolder(str(job.path))
        self.labels = [label for label in ("practice", "recorded") if folder.flag(label)]
        self.rows: dict[str, dict[str, Any]] = {}
        self.touched: dict[str, None] = {}  # trials that changed since the last drawing
        self.state = "unknown"
        self.total = 0
        self.environment: str | None = None
        self._log = EventLog(Path(job.path))
        self._next_frame = 0.0
        self._settled = False

    def look(self) -> bool:
        """Read what is new; return whether anything changed."""
        before = self.state
        self.state = str(self.job.state)
        fresh = [event for event in self._log.fresh() if event.get("trial")]
        for event in fresh:
            self._take(event)
        changed, final = bool(fresh), self.state in FINAL
        # the truth of the result files: at the end, and for jobs without an event log
        if final != self._settled or (not self._log.read_bytes and time.monotonic() >= self._next_frame):
            changed |= self._read_frame()
            self._settled = final
        counts = dict(self.job.counts)
        total = int(counts.get("total") or max(sum(int(n or 0) for n in counts.values()), len(self.rows)))
        changed |= total != self.total or before != self.state
        self.total = max(total, len(self.rows))
        return changed

    def counts(self) -> dict[str, int]:
        """Return how many trials passed, scored less, are unscored (failed), running, and still to come."""
        ends = {"scored": "scored", **dict.fromkeys(("unscored", "unreadable", "cancelled"), "unscored")}
        found = Counter(ends.get(row["state"], "running") for row in self.rows.values())
        passed = sum(reward >= 1 for reward in self.rewards())
        result = {"passed": passed, "scored": found["scored"] - passed, "unscored": found["unscored"]}
        pending = max(0, self.total - len(self.rows))
        return result | {"running": found["running"], "pending": pending, "total": self.total}

    def rewards(self) -> list[float]:
        """Return the rewards that there are so far."""
        return [row["reward"] for row in self.rows.values() if row["state"] == "scored" and row["reward"] is not None]

    def _row(self, trial: str) -> dict[str, Any]:
        self.touched[trial] = None
        return self.rows.setdefault(trial, _blank())

    def _take(self, event: dict[str, Any]) -> None:
        kind, moment = event.get("event"), _epoch(event.get("t"))
        row = self._row(str(event["trial"]))
        row["task"] = event.get("task") or row["task"]
        row["agent"] = event.get("agent") or row["agent"]
        if kind == "trial_start":
            row.update(_blank(), task=row["task"], agent=row["agent"], since=moment, state="starting")
        elif kind == "trial_end":
            reward, exception = event.get("reward"), event.get("exception")
            cancelled = row["state"] == "cancelled" or exception == "CancelledError"
            row["state"] = "scored" if reward is not None else "cancelled" if cancelled else "unscored"
            row.update(reward=reward, exception=exception, message=event.get("message"))
            if moment and isinstance(row["since"], float):
                row["seconds"], row["since"] = moment - row["since"], None
        elif kind in _PHASES:
            row["state"] = _PHASES[str(kind)]

    def _read_frame(self) -> bool:
        from harbor_nb.results.frames import trials

        started = time.monotonic()
        frame = trials(self.job.path, columns=[*_OF_FRAME, "environment"])
        frame = frame.astype(object).where(frame.notna(), None)
        for record in frame.to_dict("records"):
            row = self._row(record["trial"])
            was = row["state"]
            row.update({name: record[name] for name in ("task", "agent", "reward", "exception", "message")})
            running = record["status"] in ("running", "pending")
            row["state"] = was if running and was not in ("", "scored", "unscored") else record["status"]
            row["seconds"] = record["total_sec"]
            row["since"] = _epoch(record["started_at"]) if running else None
            self.environment = record["environment"] or self.environment
        self._next_frame = time.monotonic() + max(1.0, 25 * (time.monotonic() - started))  # 4 % of a core at most
        return True


def _blank() -> dict[str, Any]:
    names = ("task", "agent", "reward", "exception", "message", "seconds", "since")
    return {**dict.fromkeys(names), "state": ""}


def _epoch(moment: Any) -> float | None:
    try:
        return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).timestamp()
    except (ValueError, AttributeError):
        return None
