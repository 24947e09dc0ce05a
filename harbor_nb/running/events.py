"""The event log of a job: its runner appends a line an event, its handles follow; nothing here may disturb a trial."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from harbor_nb._display import clean
from harbor_nb.running.owner import now

FILE = "harbor_nb.events.jsonl"
PHASES = ("setup", "agent", "verifier")
_PHASE_AFTER = {"trial_start": "setup", "agent_start": "agent", "verification_start": "verifier", "trial_end": ""}


class EventLog:
    """A job's `harbor_nb.events.jsonl`; a full disk costs an event, never a trial."""

    def __init__(self, job: Path) -> None:
        self._path = job / FILE
        self.read_bytes = 0
        self._phase: dict[str, str] = {}

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

    def phases(self) -> dict[str, str]:
        """Give the phase that each trial is in: setup, agent, verifier; empty when it has ended."""
        for event in self.fresh():
            kind = str(event.get("event"))
            if kind == "job_start":  # a resumed job begins with no trial running
                self._phase.clear()
            elif kind in _PHASE_AFTER:
                self._phase[str(event.get("trial"))] = _PHASE_AFTER[kind]
        return self._phase

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
