"""Run one of our modules in a child process that is ended in time with all it started; it answers in JSON lines."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a child said: JSON objects, its last words, its exit code (None: it was given up)."""

    said: list[dict[str, Any]]
    error: str
    code: int | None


def ask_child(module: str, arguments: Sequence[str], environ: Mapping[str, str], limit_sec: float) -> Answer:
    """Run `python -m module` in an empty folder, where no library finds a `.env`, for `limit_sec` seconds at most."""
    paths = os.pathsep.join(path for path in sys.path if path)
    with tempfile.TemporaryDirectory(prefix="harbor_nb-", ignore_cleanup_errors=True) as away:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env={**environ, "PYTHONPATH": paths}, cwd=away,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        output, error, code = b"", b"", None
        try:
            output, error = process.communicate(timeout=limit_sec)
            code = process.returncode
        except subprocess.TimeoutExpired:
            _end(process)
            with contextlib.suppress(subprocess.TimeoutExpired):  # what it started elsewhere may hold the pipe
                output, error = process.communicate(timeout=0.3)
    said = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            said.append(json.loads(line))
    last = (error.decode(errors="replace").strip().splitlines() or [""])[-1]
    return Answer([one for one in said if isinstance(one, dict)], last, code)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
