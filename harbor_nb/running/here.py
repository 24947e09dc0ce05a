"""Run a job inside the kernel, to debug an agent or environment class that was written in a cell."""

import asyncio
import os
from typing import TYPE_CHECKING, Any
from unittest.mock import patch  # sets and, whatever happens, sets back

from harbor_nb._redaction import redact
from harbor_nb.errors import BadInputError
from harbor_nb.running.events import EventLog
from harbor_nb.running.launcher import make_folder
from harbor_nb.running.owner import OwnerRecord
from harbor_nb.running.runner import work

if TYPE_CHECKING:
    from harbor_nb.running.job import Job
    from harbor_nb.running.plans import Plan

_MOST_TRIALS = 5


def _run_until_done(coroutine: Any) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
        return
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    print("nest-asyncio2 has patched this kernel's event loop; it stays so until the kernel restarts")  # noqa: T201
    task = loop.create_task(coroutine)
    try:
        loop.run_until_complete(task)
    except KeyboardInterrupt:
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        raise


def run(plan: "Plan") -> "Job":
    """Run the plan's one job on this process's own event loop and wait for it."""
    import rich

    from harbor_nb.running.job import Job

    number = plan.n_trials
    if len(plan.configs) != 1 or number is None or number > _MOST_TRIALS:
        raise BadInputError(f"run_here is for one job of at most {_MOST_TRIALS} trials, to debug; type plan.launch()")
    (config,), (environment,) = plan.configs, plan.environments
    folder = make_folder(config)
    record = OwnerRecord.new(config["job_name"], environment)
    record.own(os.getpid())
    try:
        with patch.object(rich.get_console(), "quiet", True), patch.dict(os.environ, plan.secrets):
            _run_until_done(work(config, record, folder, EventLog(folder)))
        record.state, record.exit = "finished", 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        record.state, record.exit = "cancelled", 0
        print("cancelled")  # noqa: T201 - the answer to the interrupt
    except BaseException as error:
        record.state, record.exit, record.error = "failed", 1, redact(f"{type(error).__name__}: {error}")
        raise
    finally:
        record.write(folder)
    return Job(folder)
