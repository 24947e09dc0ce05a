"""Decoded rows, remembered per user: an Arrow file a job folder, replaced in one step, bounded, free to be deleted."""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

VERSION = 1
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
    name = hashlib.sha256(os.path.realpath(job).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return None if base is None else base / f"{name}.arrow"


def read(job: str, columns: Sequence[str] | None) -> pa.Table | None:
    """Return the remembered rows of a job folder, or None; a damaged or foreign file counts as none."""
    path = _file(job)
    if path is None:
        return None
    try:
        with pa.OSFile(str(path)) as source:
            schema = pa.ipc.open_file(source).schema
            if schema.metadata is None or schema.metadata.get(b"job") != os.fsencode(os.path.realpath(job)):
                return None
            included = None if columns is None else [schema.get_field_index(name) for name in columns]
            options = pa.ipc.IpcReadOptions(included_fields=included)
            table = pa.ipc.open_file(source, options=options).read_all()
        table.validate()
        os.utime(path)
    except (OSError, pa.ArrowException):
        return None
    table = table.replace_schema_metadata(None)
    return table if columns is None else table.select(list(columns))


def write(job: str, table: pa.Table) -> None:
    """Remember the rows of a job folder; where that can't be done (no space, no right), nothing happens."""
    path = _file(job)
    if path is None:
        return
    draft = path.with_name(f"{path.stem}.{os.getpid()}.{secrets.token_hex(4)}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        marked = table.combine_chunks().replace_schema_metadata({"job": os.fsencode(os.path.realpath(job))})
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, marked.schema) as writer:
            writer.write_table(marked)
        draft.replace(path)
        _prune(path.parent)
    except (OSError, pa.ArrowException):
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _prune(base: Path) -> None:
    """Delete the oldest files above the bound, and drafts that a killed process left."""
    files = []
    for path in base.iterdir():
        with contextlib.suppress(OSError):
            facts = path.stat()
            if path.suffix == ".draft" and time.time() - facts.st_mtime > 3600:
                path.unlink()
            files.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files, key=lambda item: item[0]):
        if total <= MOST_BYTES:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
