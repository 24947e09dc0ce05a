"""`python -m harbor_nb.running.runner JOB_FOLDER`: the one place that runs a Harbor Job; the config comes by stdin."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redact, redactor
from harbor_nb.running.events import EventLog
from harbor_nb.running.owner import OwnerRecord, now
from harbor_nb.running.practice import practice_cloud

HEARTBEAT_SEC = 10


async def _beat(record: OwnerRecord, folder: Path) -> None:
    while True:
        record.heartbeat_at = now()
        with contextlib.suppress(OSError):  # a full disk must not end the heartbeat
            record.write(folder)
        await asyncio.sleep(HEARTBEAT_SEC)


@contextlib.contextmanager
def environment_resolved() -> Iterator[None]:
    """Resolve `${NAME}` in environment.env and in kwargs when a sandbox or an agent is made; Harbor does it nowhere."""
    from harbor.agents.factory import AgentFactory
    from harbor.environments.factory import EnvironmentFactory
    from harbor.utils.env import resolve_env_vars

    makers = ((EnvironmentFactory, "create_environment_from_config"), (AgentFactory, "create_agent_from_config"))

    def resolving(stock: Any) -> Any:
        def create(config: Any, *args: Any, **kwargs: Any) -> Any:
            texts = {key: value for key, value in config.kwargs.items() if isinstance(value, str)}
            made = {"env": resolve_env_vars(config.env), "kwargs": config.kwargs | resolve_env_vars(texts)}
            return stock(config.model_copy(update=made), *args, **kwargs)

        return create

    with contextlib.ExitStack() as undo:
        for place, name in makers:
            undo.callback(setattr, place, name, vars(place)[name])
            setattr(place, name, resolving(getattr(place, name)))
        yield


def _prepare(record: OwnerRecord, events: EventLog) -> None:
    """Put in place what we do faster or safer, inside this process; where Harbor looks different the log says so."""
    from harbor_nb.running.isolation import contain_preflight

    contain_preflight()
    if record.fast_stop:
        from harbor_nb.running.docker import use_fast_stop

        record.fast_stop = use_fast_stop()
        if not record.fast_stop:
            events.add("note", message="Harbor's docker environment looks different: stopped as Harbor does")


async def _made(kind: Any, config: Any, folder: Path) -> Any:
    """Make Harbor's job; of a job that has not begun, config.json stands there only for who reads it meanwhile."""
    ours = folder / "config.json"
    text = ours.read_text() if ours.exists() and not (folder / "result.json").exists() else None
    if text is None:
        return await kind.create(config)
    ours.unlink()  # Harbor would compare it with the config that it completes while it makes the job
    try:
        return await kind.create(config)
    finally:
        if not ours.exists():
            ours.write_text(text)


async def _work(config: Any, record: OwnerRecord, folder: Path, events: EventLog) -> None:
    from harbor import Job

    from harbor_nb.running.isolation import isolate

    _prepare(record, events)
    job = await _made(Job, config, folder)
    events.follow(job)
    if not isolate(job):
        events.add("note", message="Harbor's trial queue looks different: one bad trial ends its siblings")
    events.add("job_start", trials=len(job))
    if record.state == "starting":
        record.state = "running"
        record.write(folder)
    with environment_resolved():
        await job.run()


async def _run(config_data: dict[str, Any], folder: Path, record: OwnerRecord) -> None:
    from harbor import JobConfig

    events = EventLog(folder)
    beat = asyncio.create_task(_beat(record, folder))
    work = asyncio.create_task(_work(JobConfig.model_validate(config_data), record, folder, events))

    def stop() -> None:
        events.add("cancel" if record.state != "cancelling" else "cancel_again")
        if record.state != "cancelling":  # a second cancel would change nothing for the better
            record.state = "cancelling"
            work.cancel()
            record.write(folder)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    try:
        await work
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
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    record = OwnerRecord.read(folder)
    assert record is not None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cancelled before it began"))
    try:
        with practice_cloud(given["practice"], record):
            asyncio.run(_run(given["config"], folder, record))
    except SystemExit as error:
        early = error.code == "cancelled before it began"
        record.state, record.exit = ("cancelled", 0) if early else ("failed", 1)
        record.error = redact(f"{error.code}")
    except BaseException as error:  # noqa: BLE001 - the record must tell how it ended
        print(redact(traceback.format_exc()))  # noqa: T201 - into harbor_nb.log
        record.state, record.exit, record.error = "failed", 1, _told(error)
    record.heartbeat_at = now()
    record.write(folder)
    shutil.rmtree(record.temporary, ignore_errors=True)
    return record.exit or 0


if __name__ == "__main__":
    sys.exit(main())
