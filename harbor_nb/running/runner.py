"""`python -m harbor_nb.running.runner JOB_FOLDER`: the one place that runs a Harbor Job; the config comes by stdin."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redact
from harbor_nb.running.owner import OwnerRecord, now

HEARTBEAT_SEC = 10


class _Events:
    def __init__(self, job: Path) -> None:
        self._file = (job / "harbor_nb.events.jsonl").open("a", buffering=1)

    def add(self, event: str, **values: Any) -> None:
        self._file.write(redact(json.dumps({"t": now(), "event": event, **values})) + "\n")


def _hook(events: _Events, name: str) -> Any:
    async def hook(event: Any) -> None:
        extra: dict[str, Any] = {}
        result = getattr(event, "result", None)
        if name == "trial_end" and result is not None:
            verified = getattr(result, "verifier_result", None)
            extra["reward"] = (getattr(verified, "rewards", None) or {}).get("reward")
            failure = getattr(result, "exception_info", None)
            extra["exception"] = getattr(failure, "exception_type", None)
        events.add(name, trial=getattr(event, "trial_name", None), task=getattr(event, "task_name", None), **extra)

    return hook


async def _beat(record: OwnerRecord, job: Path) -> None:
    while True:
        record.heartbeat_at = now()
        record.write(job)
        await asyncio.sleep(HEARTBEAT_SEC)


async def _run(config_data: dict[str, Any], folder: Path, record: OwnerRecord) -> None:
    from harbor import Job, JobConfig

    events = _Events(folder)
    job = await Job.create(JobConfig.model_validate(config_data))
    for name, register in (
        ("trial_start", job.on_trial_started), ("environment_start", job.on_environment_started),
        ("agent_start", job.on_agent_started), ("agent_end", job.on_agent_ended),
        ("verification_start", job.on_verification_started), ("trial_end", job.on_trial_ended),
        ("trial_cancel", job.on_trial_cancelled),
    ):  # fmt: skip
        register(_hook(events, name))
    record.state = "running"
    beat = asyncio.create_task(_beat(record, folder))
    work = asyncio.create_task(job.run())

    def stop() -> None:
        if record.state != "cancelling":
            record.state = "cancelling"
            work.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    events.add("job_start")
    try:
        await work
        record.state, record.exit = "finished", 0
    except asyncio.CancelledError:
        record.state, record.exit = "cancelled", 0
    finally:
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat
        events.add("job_end", state=record.state)


def main() -> int:
    """Run the job whose config comes by stdin; its folder is the one argument."""
    folder = Path(sys.argv[1])
    config = json.load(sys.stdin)
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    record = OwnerRecord.read(folder)
    assert record is not None
    record.own(os.getpid())
    record.write(folder)
    try:
        asyncio.run(_run(config, folder, record))
    except BaseException as error:  # noqa: BLE001 - SystemExit too: the record must tell how it ended
        record.state, record.exit, record.error = "failed", 1, redact(f"{type(error).__name__}: {error}")
    record.heartbeat_at = now()
    record.write(folder)
    return record.exit or 0


if __name__ == "__main__":
    sys.exit(main())
