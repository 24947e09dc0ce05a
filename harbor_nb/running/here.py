"""Run a job inside the kernel, to debug an agent or environment class that was written in a cell."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from unittest.mock import patch  # sets and, whatever happens, sets back

from harbor_nb.errors import BadInputError
from harbor_nb.running import runner
from harbor_nb.running.launcher import make_folder
from harbor_nb.running.owner import OwnerRecord

if TYPE_CHECKING:
    from harbor_nb.running.job import Job
    from harbor_nb.running.plans import Plan

_MOST_TRIALS = 5


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
    with patch.object(rich.get_console(), "quiet", True), patch.dict(os.environ, plan.secrets), _loop() as loop:
        task = loop.create_task(runner.run(config, record, folder))
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            runner.cancel(task, record, folder)
            loop.run_until_complete(asyncio.wait([task]))
            runner.end(record, folder, config, "cancelled")  # where the interrupt ended the task itself
            print("cancelled")  # noqa: T201 - the answer to the interrupt
        except BaseException as error:
            runner.end(record, folder, config, "failed", error)
            raise
    return Job(folder)


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give this thread's own loop, which runs already in a kernel, or a new one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as fresh:
            yield fresh.get_loop()
        return
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    print("nest-asyncio2 has patched this kernel's event loop; it stays so until the kernel restarts")  # noqa: T201 - told where it was asked for
    yield loop
