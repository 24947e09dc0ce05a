"""In the runner: no log line, and no file of a trial that has ended, holds a value that the redactor knows."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redact

_LARGEST_BYTES = 64 * 2**20


def redact_logs() -> None:
    """Redact each log record where it is made, so that Harbor's own job.log and trial.log hold no value."""
    stock = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = stock(*args, **kwargs)
        with contextlib.suppress(Exception):  # a message that can't be formatted is logging's to report
            record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(make)


def scrub(folder: Path) -> None:
    """Take known values out of every text file below a folder, as Harbor does with the agent's own keys."""
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
                continue
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            if "\0" not in text[:8192] and (told := redact(text)) != text:
                path.write_bytes(told.encode("utf-8", "surrogateescape"))


def scrub_trials(job: Any, folder: Path) -> None:
    """Scrub each trial's folder when the trial has ended, its result written."""
    from harbor.trial.hooks import TrialEvent

    async def hook(event: Any) -> None:
        with contextlib.suppress(Exception):  # Harbor lets what a hook raises fall into the trial
            await asyncio.to_thread(scrub, folder / event.trial_name)

    job.add_hook(TrialEvent.END, hook)
