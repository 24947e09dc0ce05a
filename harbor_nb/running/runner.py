"""`python -m harbor_nb.running.runner JOB_FOLDER`: the one place that runs a Harbor Job; the config comes by stdin."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redact, redactor
from harbor_nb.running.events import EventLog
from harbor_nb.running.owner import OwnerRecord, now
from harbor_nb.running.practice import practice_cloud
from harbor_nb.running.secrecy import redact_logs, scrub_trials

HEARTBEAT_SEC = 10
_EARLY = "cancelled before it began"


async def _beat(record: OwnerRecord, folder: Path) -> None:
    while True:
        record.heartbeat_at = now()
        with contextlib.suppress(OSError):  # a full disk must not end the heartbeat
            record.write(folder)
        await asyncio.sleep(HEARTBEAT_SEC)


async def work(config: Any, record: OwnerRecord, folder: Path, events: EventLog) -> None:
    """Make Harbor's job and run it, with what we do faster or safer; where Harbor looks different the log says so."""
    from harbor import Job, JobConfig

    from harbor_nb.running.isolation import isolate, patched

    if record.fast_stop:
        from harbor_nb.running.docker import use_fast_stop

        record.fast_stop = use_fast_stop()
        if not record.fast_stop:
            events.add("note", message="Harbor's docker environment looks different: stopped as Harbor does")

    async def began(_: Any) -> None:
        if record.state == "starting":
            record.state = "running"
            with contextlib.suppress(OSError):
                record.write(folder)

    with patched():
        job = await Job.create(JobConfig.model_validate(config))
        events.follow(job)
        scrub_trials(job, folder)
        if not isolate(job):
            events.add("note", message="Harbor's trial queue looks different: one bad trial ends its siblings")
        events.add("job_start", trials=len(job))
        job.on_trial_started(began)  # before that Harbor may still refuse
        await job.run()


async def _run(config: dict[str, Any], folder: Path, record: OwnerRecord) -> None:
    events = EventLog(folder)
    beat = asyncio.create_task(_beat(record, folder))
    job = asyncio.create_task(work(config, record, folder, events))

    def stop() -> None:
        events.add("cancel" if record.state != "cancelling" else "cancel_again")
        if record.state != "cancelling":  # a second cancel would change nothing for the better
            record.state = "cancelling"
            job.cancel()
            record.write(folder)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    try:
        await job
        record.state, record.exit = "finished", 0
    except asyncio.CancelledError:
        record.state, record.exit = "cancelled", 0
    finally:
        beat.cancel()
        events.add("job_end", state=record.state)


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return redact(f"{type(error).__name__}: {error}")


def main() -> int:
    """Run the job whose config comes by stdin; its folder is the one argument."""
    folder = Path(sys.argv[1])
    given = json.load(sys.stdin)
    os.environ.update(given["secrets"])
    for name, value in given["secrets"].items():
        redactor.remember(name, value)
    redact_logs()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    record = OwnerRecord.read(folder)
    assert record is not None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_EARLY))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        with practice_cloud(given["practice"], record):
            asyncio.run(_run(given["config"], folder, record))
    except BaseException as error:  # noqa: BLE001 - SystemExit too: the record must tell how it ended
        print(redact(traceback.format_exc()))  # noqa: T201 - into harbor_nb.log
        early = str(error) == _EARLY
        record.state, record.exit, record.error = "cancelled" if early else "failed", int(not early), _told(error)
    if not (folder / "config.json").exists():  # Harbor never came to write it; who resumes or repairs needs it
        (folder / "config.json").write_text(json.dumps(given["config"], indent=4))
    record.heartbeat_at = now()
    record.write(folder)
    shutil.rmtree(record.temporary, ignore_errors=True)
    return record.exit or 0


if __name__ == "__main__":
    sys.exit(main())
