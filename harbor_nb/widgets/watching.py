"""What a monitor knows of a job: its trials as they are now, by the event log, a line at a time, and the results."""

import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from harbor_nb.known_failures import KnownFailure, match
from harbor_nb.results.reading import JobFolder, read_mapping
from harbor_nb.running.events import PHASE_OF, EventLog, Trials
from harbor_nb.running.owner import LIVE

_SAME = ["task", "agent", "reward", "exception", "message"]  # in a frame as in a row


@lru_cache(4096)
def known(exception: str, message: str | None, environment: str | None) -> KnownFailure | str:
    """Return the known failure behind an exception, else its name; remembered, since many trials fail alike."""
    return match(exception, message, environment=environment) or exception


class Watch:
    """One job: `rows` by trial, kept up to date by `look()`, which reads only what was appended."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self.name = str(job.name)
        folder = JobFolder(str(job.path))
        self.labels = [label for label in ("practice", "recorded") if folder.flag(label)]
        self.state = "unknown"
        self.total = 0
        self.environment: str | None = None
        self._log = EventLog(Path(job.path))
        self.rows = Trials()
        self._next_frame = 0.0
        self._settled = False

    @property
    def ended(self) -> bool:
        """Whether the job has come to its end, as far as can be told."""
        return self.state not in LIVE

    def look(self) -> list[str]:
        """Read what is new; return the trials that changed."""
        self.state = str(self.job.state)
        self.rows, changed = self._log.trials()
        # the truth of the result files: at the end, and for jobs without an event log
        if self.ended != self._settled or (not self._log.read_bytes and time.monotonic() >= self._next_frame):
            changed += self._read_frame()
            self._settled = self.ended
        total = read_mapping(Path(self.job.path) / "result.json").get("n_total_trials")
        self.total = max(int(total or 0), len(self.rows))
        return changed

    def counts(self) -> dict[str, int]:
        """Return how many trials passed, scored less, are unscored (failed), running, and still to come."""
        parts = {"scored": "scored", "pending": "pending"}
        parts |= dict.fromkeys(("unscored", "unreadable", "cancelled"), "unscored")
        found = Counter(parts.get(row["state"], "running") for row in self.rows.values())
        passed = sum(reward >= 1 for reward in self.rewards())
        found.update(passed=passed, scored=-passed, pending=self.total - len(self.rows), total=self.total)
        return {part: found[part] for part in ("passed", "scored", "unscored", "running", "pending", "total")}

    def rewards(self) -> list[float]:
        """Return the rewards that there are so far."""
        return [row["reward"] for row in self.rows.values() if row["state"] == "scored" and row["reward"] is not None]

    def faults(self) -> Counter[Any]:
        """Return how many trials failed by each known failure, or by an exception that is none."""
        raised = [row for row in self.rows.values() if row["exception"] not in (None, "CancelledError")]
        return Counter(known(row["exception"], row["message"], self.environment) for row in raised)

    def _read_frame(self) -> list[str]:
        from harbor_nb.results.frames import trials

        started = time.monotonic()
        frame = trials(self.job.path, columns=[*_SAME, "trial", "status", "total_sec", "started_at", "environment"])
        records = frame.astype(object).where(frame.notna(), None).to_dict("records")
        for record in records:
            row = self.rows.row(record["trial"])
            row.update({name: record[name] for name in _SAME}, seconds=record["total_sec"], since=None)
            running = record["status"] in ("running", "pending")
            if running and record["started_at"]:
                row["since"] = record["started_at"].timestamp()
            if not (running and row["state"] in PHASE_OF):  # which says more
                row["state"] = record["status"]
            self.environment = record["environment"] or self.environment
        self._next_frame = time.monotonic() + max(1.0, 25 * (time.monotonic() - started))  # 4 % of a core at most
        return [record["trial"] for record in records]
