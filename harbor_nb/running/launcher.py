"""Start a job's runner as a detached process, and return at once."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb.errors import BadInputError, JobExistsError
from harbor_nb.practice_clouds.description import VENDORS, Practice
from harbor_nb.running.owner import PREFIX, OwnerRecord, remember_launch

if TYPE_CHECKING:
    from harbor_nb.running.job import Job

_LEAST_FREE_BYTES = 100 * 2**20
_PIPE_BYTES = 2**20
_children: dict[int, subprocess.Popen[bytes]] = {}


def make_folder(config: Mapping[str, Any]) -> Path:
    """Make a new job's folder; of two launches at the same moment one makes it."""
    folder = Path(config["jobs_dir"], config["job_name"])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free < _LEAST_FREE_BYTES:
            raise BadInputError(f"less than 100 MB are free for {folder.parent}; free some or give another jobs_dir")
        folder.mkdir()
    except FileExistsError:
        record = OwnerRecord.read(folder)
        lives = "still runs" if record is not None and record.lives else "exists already"
        raise JobExistsError(
            f"the job {folder} {lives}; type harbor_nb.attach({str(folder)!r}), or give another name"
        ) from None
    except OSError as error:
        raise BadInputError(f"can't write to {folder.parent}: {error.strerror}; give another jobs_dir") from None
    return folder


def spawn(
    folder: Path, config: dict[str, Any], record: OwnerRecord, secrets: Mapping[str, str] | None = None,
    practice: Any = None,
) -> "Job":  # fmt: skip
    """Start the runner of a job folder; the config goes by a pipe, so no argument and no file holds a value of it."""
    from harbor_nb.running.job import Job

    made = Practice.of(practice)
    record.practice, record.plays = made is not None, made.to_json() if made is not None else None
    record.temporary = tempfile.mkdtemp(prefix=PREFIX)  # a folder without a .env; ours to remove
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(_own_paths()), "TMPDIR": record.temporary}
    known = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the runner hears it once it can answer
    with (folder / "harbor_nb.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "harbor_nb.running.runner", str(folder)], stdin=subprocess.PIPE, stdout=log,
            stderr=subprocess.STDOUT, cwd=record.temporary, env=environ, start_new_session=True, pipesize=_PIPE_BYTES,
        )  # fmt: skip
    signal.pthread_sigmask(signal.SIG_SETMASK, known)
    record.own(process.pid)
    record.write(folder)  # before the config: the runner waits for that, and is the only one to write from then on
    assert process.stdin is not None
    played = record.plays if record.environment in VENDORS else None  # a rehearsal's other jobs need no cloud
    given = {"config": config, "secrets": dict(secrets or {}), "practice": played}
    with contextlib.suppress(BrokenPipeError):  # a runner that died at once tells it in its log
        process.stdin.write(json.dumps(given, default=str).encode())
        process.stdin.close()
    _children[process.pid] = process
    remember_launch(folder)
    return Job(folder)


def collect(pid: int | None) -> int | None:
    """Collect a runner that this process started and that ended, so that it is no zombie; give its exit code."""
    return _children[pid].poll() if pid in _children else None


def _own_paths() -> list[str]:
    """Give what this process adds to Python's own path: agents in modules beside the notebook are found there."""
    standard = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return [
        path for path in dict.fromkeys(place or str(Path.cwd()) for place in sys.path) if not path.startswith(standard)
    ]


def launch(
    tasks: Any,
    agent: Any = "oracle",
    model: str | None = None,
    environment: str = "local",
    job_name: str | None = None,
    **fields: Any,
) -> "Job":
    """Launch one job on one environment and return at once; it outlives this process.

    Args:
        tasks: a task folder, several, a folder of tasks, or a dataset of the registry `name@version`.
        agent: Harbor's name of an agent, or an import path `module:Class`.
        model: the model's name, as Harbor takes it.
        environment: `local`, `docker`, `daytona`, `e2b`, `modal`, `runloop`, or another that Harbor knows.
        job_name: the job folder's name; a time by default.
        **fields: other arguments of `plan`, and fields of Harbor's `JobConfig`.

    Returns:
        The job's handle.

    Raises:
        BadInputError: an argument can't be used.
        NotReadyError: the environment certainly can't run here.
        JobExistsError: a job of that name is there already.

    Example:
        >>> launch("tasks/hello-world").wait().trials()  # doctest: +SKIP
    """
    from harbor_nb.running.planning import plan

    agents = [(agent, model) if model else agent]
    made = plan(tasks, agents=agents, environments=environment, name=job_name, exact_name=True, **fields)
    return made.launch()[0]
