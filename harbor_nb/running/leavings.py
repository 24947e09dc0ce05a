"""What a runner of this machine left behind: processes of its session, its folder, docker containers and networks."""

import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

import psutil

from harbor_nb.backends.docker_engine import run_docker
from harbor_nb.running.owner import PREFIX, OwnerRecord

_LABEL = "com.docker.compose.project"
_NAMES = {"container": ".Names", "network": ".Name", "volume": ".Name"}  # as docker's lists call them


def _session(record: OwnerRecord, temporary: str | None = None) -> list[psutil.Process]:
    """Give the processes of a dead runner's session, or of these the ones with its own TMPDIR."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = os.getsid(process.pid) == record.pid and process.pid != record.pid
            if mine and (temporary is None or process.environ().get("TMPDIR") == temporary):
                found.append(process)
        except (OSError, psutil.Error):  # it ended meanwhile, or is another user's
            continue
    return found


def processes(record: OwnerRecord) -> list[psutil.Process]:
    """Give what a dead runner's session still has; known by the runner's own TMPDIR, for ids come again."""
    return _session(record, record.temporary) if record.temporary else []


def compose_name(trial: str) -> str:
    """Give a trial's name as Harbor writes it into the name of a compose project."""
    return re.sub(r"[^a-z0-9_-]", "-", trial.lower())


def docker_things(job: Path) -> list[tuple[str, str, str]]:
    """Give (kind, name, compose project) of all that docker still has of a job's trials."""
    ours = tuple(f"{compose_name(child.name)}__" for child in job.iterdir() if child.is_dir())
    found = []
    for kind, name in _NAMES.items() if ours else ():
        command = [kind, "ls", *(["--all"] if kind == "container" else []), "--filter", f"label={_LABEL}"]
        _, output, _ = run_docker(*command, "--format", f'{{{{{name}}}}}\t{{{{.Label "{_LABEL}"}}}}', limit_sec=60)
        rows = [line.split("\t") for line in output.splitlines() if "\t" in line]
        found += [(kind, row[0], row[1]) for row in rows if row[1].startswith(ours)]
    return found


def left(job: Path, record: OwnerRecord | None, environment: str) -> list[str]:
    """Say what is left on this machine of a job whose runner has ended."""
    said = [f"process {process.pid}" for process in processes(record)] if record else []
    return said + ([f"{kind} {name}" for kind, name, _ in docker_things(job)] if environment == "docker" else [])


def clear(job: Path, record: OwnerRecord | None, environment: str) -> list[str]:
    """Remove what a dead runner left: its processes first, for one of them might bring a container back."""
    removed = left(job, record, environment)
    if record is not None:
        session = _session(record)  # also local sandboxes, which end by themselves with their runner
        for process in processes(record):
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(session, timeout=10)
        own = Path(record.temporary)
        if own.parent == Path(tempfile.gettempdir()) and own.name.startswith(PREFIX):  # not what a file says alone
            shutil.rmtree(own, ignore_errors=True)
    for project in {project for _, _, project in docker_things(job)} if environment == "docker" else ():
        down = "down --rmi local --volumes --remove-orphans -t 0".split()
        run_docker("compose", "-p", project, *down, limit_sec=120)
    return removed
