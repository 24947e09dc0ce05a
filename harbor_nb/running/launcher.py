"""Start a job's runner as a detached process, and return at once."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb.errors import BadInputError, JobExistsError
from harbor_nb.running.owner import FILE, OwnerRecord

if TYPE_CHECKING:
    from harbor_nb.running.handles import Job

_LEAST_FREE_BYTES = 100 * 2**20


def start(config: dict[str, Any], environment: str) -> "Job":
    """Start the runner of one job; the config goes by a pipe, so no argument and no file holds a value of it."""
    from harbor_nb.running.handles import Job

    folder = Path(config["jobs_dir"]) / config["job_name"]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free < _LEAST_FREE_BYTES:
            raise BadInputError(
                f"less than 100 MB are free for {folder.parent}; free some room or give another jobs_dir"
            )
        folder.mkdir()  # of two launches at the same moment one makes it
    except FileExistsError:
        record = OwnerRecord.read(folder)
        lives = "still runs" if record is not None and record.alive() else "exists already"
        raise JobExistsError(
            f"the job {folder} {lives}; type harbor_nb.attach({str(folder)!r}), or give another job_name"
        ) from None
    except OSError as error:
        raise BadInputError(f"can't write to {folder.parent}: {error.strerror}; give another jobs_dir") from None
    OwnerRecord.new(config["job_name"], environment).write(folder)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    away = tempfile.gettempdir()  # a folder without a .env that a library could load behind our back
    with (folder / "harbor_nb.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "harbor_nb.running.runner", str(folder)],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=away, env=environ, start_new_session=True,
        )  # fmt: skip
    record = OwnerRecord.read(folder)
    assert record is not None
    if record.pid is None:
        record.own(process.pid)
        record.write(folder)
    assert process.stdin is not None
    process.stdin.write(json.dumps(config).encode())
    process.stdin.close()
    return Job(folder, process)


def launch(
    tasks: str | Path | list[str | Path],
    agent: str = "oracle",
    model: str | None = None,
    environment: str = "local",
    job_name: str | None = None,
    **fields: Any,
) -> "Job":
    """Launch one job on one environment and return at once; it outlives this process.

    Args:
        tasks: a task folder, several, or a folder of tasks.
        agent: Harbor's name of an agent, or an import path `module:Class`.
        model: the model's name, as Harbor takes it.
        environment: `local`, `docker`, `daytona`, `e2b`, `modal` or `runloop`.
        job_name: the job folder's name; a time by default.
        **fields: other fields of Harbor's `JobConfig`, and `attempts`.

    Returns:
        The job's handle.

    Raises:
        BadInputError: an argument can't be used.
        NotReadyError: the environment certainly can't run here.
        JobExistsError: a job of that name is there already.

    Example:
        >>> launch("tasks/hello-world").wait().trials()  # doctest: +SKIP
    """
    from harbor_nb.running.plans import plan

    made = plan(tasks, agents=[(agent, model)], environments=environment, name=job_name, exact_name=True, **fields)
    return made.launch()[0]


__all__ = ["FILE", "launch", "start"]
