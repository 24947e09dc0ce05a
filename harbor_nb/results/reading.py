"""Find job folders and read their files safely: no link followed, no pipe waited for, no half file believed."""

import errno
import glob
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, BinaryIO

from harbor_nb.errors import BadInputError
from harbor_nb.results._models import decode, shapes
from harbor_nb.samples import sample_jobs

LARGEST = 512 * 2**20
"""A result or configuration of more bytes than this is not read; trajectories have no such limit."""

FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_OWN_FILES = {"harbor_nb.json", "job.log", "harbor_nb.events.jsonl", "harbor_nb.log"}
_TRIAL_SIGNS = {"trial.log", "agent", "verifier", "artifacts", "steps", "exception.txt"}
_DEPTH = 3
_HALF_WRITTEN_SEC = 2.0
_RE_READS = 3
_HEARTBEAT_SEC = 60.0
_FOREIGN_LIFE_SEC = 6 * 3600.0
_ZONE = re.compile(r"T.*(Z|[+-]\d\d:?\d\d)$")
_LIVE = {"starting", "running", "cancelling"}


FILES = {
    "config.json": shapes.JobConfig,
    "result.json": shapes.JobResult,
    "lock.json": shapes.JobLock,
    "harbor_nb.json": shapes.Owner,
}
"""The files of a job, and what is read of each."""


class UnreadableError(Exception):
    """A file that can't be used; the message is the reason, for the `unreadable` frame."""


class AbsentError(UnreadableError):
    """A file that is not there."""


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@cache
def _shipped() -> tuple[str, ...]:
    """Return the folder of the recorded jobs, with a separator at its end, in both its spellings."""
    try:
        folder = sample_jobs()
    except FileNotFoundError:
        return ()
    return (f"{folder}{os.sep}", f"{folder.resolve()}{os.sep}")


def is_link(path: str) -> bool:
    """Tell whether a path is a symbolic link; one that may not be looked at is none."""
    return os.path.islink(path)  # noqa: PTH114 - Path.is_symlink raises there


def is_folder(path: str) -> bool:
    """Tell whether a path is a folder or a link to one; what may not be looked at is none."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises there


def open_safely(path: str) -> tuple[BinaryIO, os.stat_result]:
    """Open a plain file and return it and its facts; links, folders and pipes are refused with a reason."""
    try:
        descriptor = os.open(path, FLAGS)
    except OSError as error:
        linked = error.errno == errno.ELOOP
        kind = AbsentError if error.errno == errno.ENOENT else UnreadableError
        raise kind("a symbolic link, not followed" if linked else _reason(error)) from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise UnreadableError("a folder, not a file" if stat.S_ISDIR(facts.st_mode) else "not a plain file")
    return os.fdopen(descriptor, "rb"), facts


def read_bytes(path: str) -> tuple[bytes, os.stat_result]:
    """Return a file's bytes, at most `LARGEST`, and its facts from before the reading."""
    file, facts = open_safely(path)
    with file:
        if facts.st_size > LARGEST:
            raise UnreadableError(f"{facts.st_size:,} bytes, more than the {LARGEST:,} that are read")
        try:
            return file.read(facts.st_size + 1), facts
        except OSError as error:
            raise UnreadableError(_reason(error)) from None


def read_struct(path: str, kind: Any) -> Any:
    """Return a file decoded as `kind`; one that is being written right now is read again.

    Raises:
        UnreadableError: With the reason, in words.
    """
    for left in reversed(range(_RE_READS)):
        data, facts = read_bytes(path)
        try:
            return decode(data, kind)
        except ValueError as error:
            if left and time.time() - facts.st_mtime < _HALF_WRITTEN_SEC:
                time.sleep(0.02)
                continue
            raise UnreadableError("empty" if not data.strip() else f"not a result: {error}"[:300]) from None
    raise AssertionError("unreachable")


def read_or_none(path: str, kind: Any) -> Any:
    """Return a file decoded as `kind`, or None where it is absent or unreadable."""
    try:
        return read_struct(path, kind)
    except UnreadableError:
        return None


def read_mapping(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing where it is absent, unreadable or no mapping."""
    return read_or_none(str(path), dict[str, Any]) or {}


def _own(name: str) -> cached_property[Any]:
    return cached_property(lambda job: read_or_none(job.file(name), FILES[name]))


@dataclass
class JobFolder:
    """One job folder; its files are opened when they are asked for."""

    path: str
    only: str | None = None
    broken: str | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return os.path.basename(self.path)  # noqa: PTH119 - strings all the way, ten thousand times

    @cached_property
    def _listed(self) -> tuple[list[str], list[str]]:
        if self.only is not None or self.broken:
            return [self.only] if self.only else [], []
        names, links = [], []
        try:
            with os.scandir(self.path) as scan:
                for entry in scan:
                    if entry.is_dir(follow_symlinks=False):
                        names.append(entry.name)
                    elif entry.is_symlink() and is_folder(entry.path):
                        links.append(entry.name)
        except OSError as error:
            self.broken = _reason(error)
        return sorted([name for name in names if name[0] != "."]), sorted(links)

    @property
    def trial_names(self) -> list[str]:
        """The names of its trial folders, sorted; none where it can't be listed, and `broken` says why."""
        return self._listed[0]

    @property
    def links(self) -> list[str]:
        """The names of links that stand where a trial folder should, sorted."""
        return self._listed[1]

    def file(self, name: str) -> str:
        """The path of a file of the job."""
        return f"{self.path}{os.sep}{name}"

    owner, result, config, lock = (_own(name) for name in ("harbor_nb.json", "result.json", "config.json", "lock.json"))

    def flag(self, name: str) -> bool:
        """Whether the owner record says `practice`, `recorded` or `fast_stop`; what we ship is recorded anyhow."""
        shipped = name == "recorded" and f"{self.path}{os.sep}".startswith(_shipped())
        return shipped or bool(self.owner and getattr(self.owner, name))

    @cached_property
    def alive(self) -> bool:
        """Whether the job still runs, as far as its files tell: a heartbeat, or for a stranger's job a recent log."""
        if self.owner is not None:
            beat = parse_time(self.owner.heartbeat_at)
            return self.owner.state in _LIVE and beat is not None and time.time() - beat.timestamp() < _HEARTBEAT_SEC
        if self.result is None or self.result.finished_at is not None:
            return False
        touched = [Path(self.file(name)) for name in ("result.json", "job.log")]
        return any(time.time() - p.stat().st_mtime < _FOREIGN_LIFE_SEC for p in touched if p.exists())


def has_zone(text: str | None) -> bool:
    """Tell whether an ISO 8601 time names its zone."""
    return _ZONE.search(text or "") is not None


def parse_time(text: str | None) -> datetime | None:
    """Return an ISO 8601 time with its zone, UTC where it names none; None where it is no time."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _has(folder: str, names: Iterable[str]) -> bool:
    return any(os.path.lexists(f"{folder}{os.sep}{name}") for name in names)


def _kind(folder: str) -> str:
    """Tell a job folder from a trial folder from a folder of such, by a few files, never by listing it."""
    if _has(folder, _OWN_FILES):
        return "job"
    told = read_or_none(f"{folder}{os.sep}config.json", shapes.JobConfig)
    if told is None and not _has(folder, _TRIAL_SIGNS):
        if not _has(folder, FILES):
            return "other"
        told = read_or_none(f"{folder}{os.sep}result.json", shapes.JobConfig)
    return "trial" if told is None or told.trial_name or told.task else "job"


def entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name; nothing where it can't be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def _find(folder: str, depth: int = _DEPTH) -> Iterator[JobFolder]:
    kind = _kind(folder)
    subs = [sub for sub in entries(folder) if sub.name[0] != "." and is_folder(sub.path)] if kind == "other" else []
    if kind == "trial":
        parent, name = os.path.split(folder)
        yield JobFolder(parent, only=name)
    elif kind == "other" and not os.access(folder, os.R_OK | os.X_OK):
        yield JobFolder(folder, broken="permission denied")
    # A job without job-level files (an old one, or a copied one) shows by what is in it.
    elif kind == "job" or any(_kind(sub.path) == "trial" for sub in subs[:20] if not sub.is_symlink()):
        yield JobFolder(folder)
    elif depth:
        for sub in subs:
            if not sub.is_symlink():
                yield from _find(sub.path, depth - 1)
            elif _kind(sub.path) == "job":
                yield JobFolder(sub.path, broken="a symbolic link, not followed")


def _paths(x: Any) -> Iterator[str]:
    if isinstance(x, (str, os.PathLike)):
        text = os.path.abspath(os.path.expanduser(os.fspath(x)))  # noqa: PTH100, PTH111 - keeps links as they are typed
        if os.path.exists(text):  # noqa: PTH110 - a text, as above
            yield text
            return
        found = sorted(glob.glob(text)) if glob.has_magic(text) else []  # noqa: PTH207 - absolute
        if not found:
            raise BadInputError(
                f"No such folder: {os.fspath(x)}. Give a jobs or job folder, a list of them, or a glob."
            )
        yield from filter(is_folder, found)
    elif isinstance(x, Iterable):
        for item in x:
            yield from _paths(item)
    else:
        raise BadInputError(
            f"Can't read trials from a {type(x).__name__}. Give a folder, a list, a glob, a Job or Jobs."
        )


def find_jobs(x: Any) -> list[JobFolder]:
    """Return what `x` names as job folders, each once, in the order of their paths."""
    found: dict[tuple[str, str], JobFolder] = {}
    for path in _paths(x):
        if not is_folder(path):
            raise BadInputError(f"Not a folder: {path}. Give the folder that holds the job.")
        for job in _find(path):
            found.setdefault((job.path, job.only or ""), job)
    return [found[path, trial] for path, trial in sorted(found) if not trial or (path, "") not in found]
