"""Run what a job is missing: clear what a dead runner left, forget the trials to be run again, and go on."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from harbor_nb.errors import JobError
from harbor_nb.results.reading import read_mapping
from harbor_nb.running.configs import absolute, environment_of, needed_names, read_config, unstarred
from harbor_nb.running.launcher import spawn
from harbor_nb.running.leavings import clear
from harbor_nb.running.owner import OwnerRecord

_REASONS = {
    "different config": "its config.json is not what the trials in it were run with",
    "Existing trial config does not match": "a trial in it was run with other settings than its config.json has",
    "lock.json": "a task's files have changed since, or lock.json does not fit the config",
    "Task directory": "a task's folder is gone",
}


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Let one process at a time resume a job; the claim ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise JobError(f"{folder.name} is being resumed by another process") from None
    finally:
        os.close(handle)


def resume(folder: Path, retry: Iterable[str] | str) -> list[str]:
    """Start the runner of an ended job again; return what was cleared and removed first."""
    folder, again = folder.resolve(), {"CancelledError", *([retry] if isinstance(retry, str) else retry)}
    with claim(folder):
        record = OwnerRecord.read(folder)
        config = read_config(folder / "config.json")
        if not (config.get("tasks") or config.get("datasets") or config.get("source_jobs")):
            raise JobError(f"{folder.name} names no tasks in its config.json; type job.repair() to rebuild it")
        environment = environment_of(config)
        _mend(folder)
        config = read_config(folder / "config.json") | {"job_name": folder.name}
        missing = ", ".join(sorted(needed_names(config) - set(os.environ)))
        if missing:
            raise JobError(f"{folder.name} uses {missing}, which is not set now; type load_env() or set os.environ")
        told = [f"cleared {thing}" for thing in clear(folder, record, environment)]
        if forgotten := list(_forget(folder, again)):
            told.append(f"{len(forgotten)} trials run again")
        fresh = OwnerRecord.new(folder.name, environment, record.fast_stop if record else False)
        spawn(folder, config, fresh, practice=record and (record.plays or record.practice))
    return told


def in_words(error: str) -> str:
    """Say why Harbor refused to resume."""
    return next((f"Harbor refuses to resume it: {said}" for known, said in _REASONS.items() if known in error), error)


def _forget(folder: Path, again: set[str]) -> Iterator[str]:
    """Remove the folders of trials that shall run again: cancelled, failed in a named way, or without a result."""
    for trial in sorted(path.parent for path in folder.glob("*/config.json")):
        result = read_mapping(trial / "result.json")
        parts = [result, *(result.get("step_results") or [])]
        raised = {(part.get("exception_info") or {}).get("exception_type") for part in parts}
        if not result or raised & again or ("failed" in again and raised != {None}):
            shutil.rmtree(trial)
            yield trial.name


def _mend(folder: Path) -> None:
    """Make the configs say where the folder is now, and `${NAME}` where Harbor wrote a secret's stars."""
    names = ("config.json", "*/config.json", "lock.json", "*/lock.json")
    for file in (file for name in names for file in folder.glob(name)):
        with contextlib.suppress(json.JSONDecodeError):  # of a trial that was just being written; it runs again
            before = json.loads(file.read_bytes())
            after = unstarred(before)
            if file.name == "config.json":
                place = {"jobs_dir": str(folder.parent)} if file.parent == folder else {"trials_dir": str(folder)}
                after = absolute(absolute(after, base=Path.cwd()), base=folder.parent.parent) | place
            if after != before:
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(after, indent=4))
                partial.replace(file)
