"""Decoded rows, remembered per user: an Arrow file a job folder, replaced in one step, bounded, free to be deleted."""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import feather

from harbor_nb import known_failures

VERSION = 5
"""Raised whenever the columns or their meaning change; files of another version are never read."""

FEWEST = 32
"""Jobs with fewer trials are as fast to read as to remember."""

MOST_BYTES = 512 * 2**20
"""What the folder may hold; the least recently used files go first."""

_OFF = {"0", "off", "no", "false"}


def folder() -> Path | None:
    """Return the cache folder, or None where `HARBOR_NB_CACHE=off` turns it off; it may also name a folder."""
    setting = os.environ.get("HARBOR_NB_CACHE", "")
    if setting.lower() in _OFF and setting:
        return None
    base = Path(setting) if setting else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harbor_nb"
    return base / f"results-{VERSION}"


def _file(job: str) -> Path | None:
    base = folder()
    name = hashlib.sha256(os.fsencode(os.path.realpath(job)) + known_failures.fingerprint()).hexdigest()[:32]
    return None if base is None else base / f"{name}.arrow"


def read(job: str, columns: Sequence[str]) -> pa.Table | None:
    """Return columns of the remembered rows of a job folder, or None; a damaged or foreign file counts as none."""
    path = _file(job)
    if path is None:
        return None
    try:
        table = feather.read_table(path, columns=columns, use_threads=False)
        table.validate()
        os.utime(path)
    except (OSError, pa.ArrowException):
        return None
    return table


def write(job: str, table: pa.Table) -> None:
    """Remember the rows of a job folder; where that can't be done (no space, no right), nothing happens."""
    path = _file(job)
    if path is None:
        return
    draft = path.with_name(f"{path.stem}.{os.getpid()}.{secrets.token_hex(4)}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        feather.write_feather(table.combine_chunks(), draft, compression="uncompressed")
        draft.replace(path)
        _prune(path.parent)
    except (OSError, pa.ArrowException):
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _prune(base: Path) -> None:
    """Delete the least recently used files above the bound, and drafts that a killed process left."""
    total = 0
    for used, size, path in sorted(((f := p.stat()).st_mtime, f.st_size, p) for p in base.iterdir())[::-1]:
        total += size
        if total > MOST_BYTES or (path.suffix == ".draft" and time.time() - used > 3600):
            path.unlink(missing_ok=True)
