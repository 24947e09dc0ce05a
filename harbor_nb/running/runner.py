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
from harbor_nb.running.events import EventLog
from harbor_nb.running.owner import OwnerRecord, now

HEARTBEAT_SEC = 10


async def _beat(record: OwnerRecord, folder: Path) -> None:
    while True:
        record.heartbeat_at = now()
        with contextlib.suppress(OSError):  # a full disk must not end the heartbeat
            record.write(folder)
        await asyncio.sleep(HEARTBEAT_SEC)


def _resolve_job_environment() -> None:
    """Resolve `${NAME}` in the job's environment.env when a sandbox is made; Harbor resolves it nowhere."""
    from harbor.environments.factory import EnvironmentFactory
    from harbor.utils.env import resolve_env_vars

    stock = EnvironmentFactory.create_environment_from_config

    def create(config: Any, *args: Any, **kwargs: Any) -> Any:
        return stock(config.model_copy(update={"env": resolve_env_vars(config.env)}), *args, **kwargs)

    setattr(EnvironmentFactory, "create_environment_from_config", create)  # noqa: B010 - a class method of Harbor


def _prepare(record: OwnerRecord, events: EventLog) -> None:
    """Put in place what we do faster or safer, inside this process; where Harbor looks different the log says so."""
    from harbor_nb.running.isolation import contain_preflight

    contain_preflight()
    _resolve_job_environment()
    if record.fast_stop:
        from harbor_nb.running.docker import use_fast_stop

        record.fast_stop = use_fast_stop()
        if not record.fast_stop:
            events.add("note", message="Harbor's docker environment looks different: stopped as Harbor does")


async def _run(config_data: dict[str, Any], folder: Path, record: OwnerRecord) -> None:
    from harbor import Job, JobConfig

    from harbor_nb.running.isolation import isolate

    events = EventLog(folder)
    beat = asyncio.create_task(_beat(record, folder))
    config = JobConfig.model_validate(config_data)
    _prepare(record, events)
    job = await Job.create(config)
    events.follow(job)
    if not isolate(job):
        events.add("note", message="Harbor's trial queue looks different: one bad trial ends its siblings")
    record.state = "running"
    record.write(folder)
    work = asyncio.create_task(job.run())

    def stop() -> None:
        events.add("cancel" if record.state == "running" else "cancel_again")
        if record.state == "running":  # a second cancel would change nothing for the better
            record.state = "cancelling"
            work.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    events.add("job_start", trials=len(job))
    try:
        await work
        record.state, record.exit = "finished", 0
    except asyncio.CancelledError:
        record.state, record.exit = "cancelled", 0
    finally:
        beat.cancel()
        events.add("job_end", state=record.state)


def main() -> int:
    """Run the job whose config comes by stdin; its folder is the one argument."""
    folder = Path(sys.argv[1])
    given = json.load(sys.stdin)
    os.environ.update(given["secrets"])
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    record = OwnerRecord.read(folder)
    assert record is not None
    record.own(os.getpid())
    record.write(folder)
    try:
        asyncio.run(_run(given["config"], folder, record))
    except BaseException as error:  # noqa: BLE001 - SystemExit too: the record must tell how it ended
        record.state, record.exit, record.error = "failed", 1, redact(f"{type(error).__name__}: {error}")
    record.heartbeat_at = now()
    record.write(folder)
    return record.exit or 0


if __name__ == "__main__":
    sys.exit(main())
