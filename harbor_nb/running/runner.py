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


async def _work(config: Any, record: OwnerRecord, folder: Path, events: EventLog) -> None:
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


async def run(config: dict[str, Any], record: OwnerRecord, folder: Path, practice: str | None = None) -> None:
    """Run a job to its end and write how it ended; what went wrong is raised after that."""
    beat = asyncio.create_task(_beat(record, folder))
    try:
        with practice_cloud(practice, record):
            await _work(config, record, folder, EventLog(folder))
        end(record, folder, config, "finished")
    except asyncio.CancelledError:
        if record.state != "cancelling":  # what ended the loop itself is told by who runs it
            raise
        end(record, folder, config, "cancelled")
    except Exception as error:
        end(record, folder, config, "failed", error)
        raise
    finally:
        beat.cancel()


def cancel(task: "asyncio.Task[None]", record: OwnerRecord, folder: Path) -> None:
    """Cancel the task that runs a job; a second cancel would change nothing for the better."""
    EventLog(folder).add("cancel" if record.state in ("starting", "running") else "cancel_again")
    if record.state in ("starting", "running"):
        record.state = "cancelling"
        task.cancel()
        record.write(folder)


def end(record: OwnerRecord, folder: Path, config: Any, state: str, error: BaseException | None = None) -> None:
    """Write how the job ended, once: from then on a resume may own the folder, while threads of Harbor hold us."""
    if record.exit is not None:
        return
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    EventLog(folder).add("job_end", state=state)
    if not (folder / "config.json").exists():  # Harbor never came to write it; who resumes or repairs needs it
        (folder / "config.json").write_text(json.dumps(config, indent=4))
    shutil.rmtree(record.temporary, ignore_errors=True)
    record.error = redact(f"{type(error).__name__}: {error}") if error is not None else None
    record.state, record.exit, record.heartbeat_at = state, int(state == "failed"), now()
    record.write(folder)


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

    async def heard() -> None:
        job = asyncio.create_task(run(given["config"], record, folder, given["practice"]))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, cancel, job, record, folder)
        await job

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_EARLY))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        asyncio.run(heard())
    except BaseException as error:  # noqa: BLE001 - SystemExit too: the record must tell how it ended
        print(redact(traceback.format_exc()))  # noqa: T201 - into harbor_nb.log
        end(record, folder, given["config"], "cancelled" if str(error) == _EARLY else "failed", error)
    return record.exit or 0


if __name__ == "__main__":
    sys.exit(main())
