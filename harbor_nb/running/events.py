"""The event log of a job: its runner appends a line an event, its handles follow; nothing here may disturb a trial."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from harbor_nb._display import clean
from harbor_nb.results.reading import parse_time
from harbor_nb.running.owner import now

FILE = "harbor_nb.events.jsonl"
PHASES = ("setup", "agent", "verifier")
PHASE_OF = {
    "starting": "setup", "environment setup": "setup", "agent": "agent", "agent done": "agent", "verifier": "verifier",
}  # fmt: skip
_STATE_AFTER = {
    "trial_start": "starting", "environment_start": "environment setup", "agent_start": "agent",
    "agent_end": "agent done", "verification_start": "verifier", "trial_cancel": "cancelled",
}  # fmt: skip
_UNKNOWN = dict.fromkeys(("task", "agent", "reward", "exception", "message", "seconds", "since"))


class Trials(dict[str, dict[str, Any]]):
    """The trials of a job as they are now, by their names; `since` is when one that runs began, in epoch seconds."""

    def row(self, trial: str) -> dict[str, Any]:
        """Give one trial's row, made when missing."""
        return self.setdefault(trial, {**_UNKNOWN, "state": ""})

    def take(self, event: dict[str, Any]) -> list[str]:
        """Take one event over; give the trials that it changed."""
        kind, name = str(event.get("event")), event.get("trial")
        if kind == "job_start":  # a resumed job begins with no trial running
            gone = [trial for trial, row in self.items() if row["state"] in PHASE_OF]
            return [trial for trial in gone if self.pop(trial)]
        if name is None:
            return []
        row, moment = self.row(str(name)), parse_time(str(event.get("t")))
        if kind == "trial_start":
            row.update(_UNKNOWN, since=moment and moment.timestamp())
        row.update({key: event[key] for key in ("task", "agent") if event.get(key)})
        row["state"] = _STATE_AFTER.get(kind, row["state"])
        if kind == "trial_end":
            row.update({key: event.get(key) for key in ("reward", "exception", "message")})
            cancelled = row["state"] == "cancelled" or row["exception"] == "CancelledError"
            row["state"] = "scored" if row["reward"] is not None else "cancelled" if cancelled else "unscored"
            if moment and row["since"]:
                row["seconds"], row["since"] = moment.timestamp() - row["since"], None
        return [str(name)]


class EventLog:
    """A job's `harbor_nb.events.jsonl`; a full disk costs an event, never a trial."""

    def __init__(self, job: Path) -> None:
        self._path = job / FILE
        self.read_bytes = 0
        self._trials = Trials()

    def add(self, event: str, **values: Any) -> None:
        """Write one event with its time; values are cleaned and redacted."""
        told = {name: clean(value, 500) if isinstance(value, str) else value for name, value in values.items()}
        with contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(json.dumps({"t": now(), "event": event, **told}) + "\n")

    def follow(self, job: Any) -> None:
        """Write every event of Harbor's job from now on."""
        from harbor.trial.hooks import TrialEvent

        for event in TrialEvent:
            name = event.name.lower()
            job.add_hook(event, self._hook(name if "_" in name else f"trial_{name}"))

    def fresh(self) -> list[dict[str, Any]]:
        """Give the events that were added since the last call."""
        found: list[Any] = []
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self.read_bytes:  # begun anew
                self.read_bytes = 0
            file.seek(self.read_bytes)
            added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self.read_bytes += len(whole)
            for line in whole.splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict)]

    def trials(self) -> tuple[Trials, list[str]]:
        """Give the trials as they are now, and the names of those that changed since the last call."""
        return self._trials, [trial for event in self.fresh() for trial in self._trials.take(event)]

    def _hook(self, name: str) -> Any:
        async def hook(event: Any) -> None:
            with contextlib.suppress(Exception):  # Harbor lets what a hook raises fall into the trial
                told = _outcome(event.result) if name == "trial_end" else {}
                who = event.config.agent.name or event.config.agent.import_path
                self.add(name, trial=event.trial_name, task=event.task_name, agent=who, **told)

        return hook


def _outcome(result: Any) -> dict[str, Any]:
    rewards = (result.verifier_result.rewards if result.verifier_result else None) or {}
    only = next(iter(rewards.values())) if len(rewards) == 1 else None
    steps = (step.exception_info for step in result.step_results or [] if step.exception_info)
    raised = result.exception_info or next(steps, None)
    failure = {"exception": raised.exception_type, "message": raised.exception_message} if raised else {}
    return {"reward": rewards.get("reward", only), **failure}
