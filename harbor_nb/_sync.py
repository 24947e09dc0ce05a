"""Run async code from anywhere: in a thread with an event loop of its own; the caller's loop is never touched."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run_sync[T](work: Coroutine[Any, Any, T], timeout_sec: float | None = None) -> T:
    """Run `work` to its end in a thread of its own and return its result.

    Raises:
        TimeoutError: it took longer than `timeout_sec` seconds; the work is cancelled.
    """
    thread = ThreadPoolExecutor(1)
    try:
        return thread.submit(asyncio.run, asyncio.wait_for(work, timeout_sec)).result(timeout_sec)
    finally:
        thread.shutdown(wait=False)  # a look-up of a name may hold it for longer
