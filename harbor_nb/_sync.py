"""Run async code from anywhere: one background event loop in a thread; the caller's own loop is never touched."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())  # a forked child has no thread behind its parent's loop
        if loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="harbor_nb", daemon=True).start()
            _loops[os.getpid()] = loop
        return loop


def run_sync[T](work: Coroutine[Any, Any, T], timeout_sec: float | None = None) -> T:
    """Run `work` to its end on the background loop and return its result.

    Raises:
        TimeoutError: it took longer than `timeout_sec` seconds; the work is cancelled.
    """
    if threading.current_thread().name == "harbor_nb" and asyncio.get_event_loop() is _loop():
        work.close()
        raise RuntimeError("run_sync was called on the background loop itself; await the coroutine instead")
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result(timeout_sec)
    except BaseException:
        future.cancel()
        raise
