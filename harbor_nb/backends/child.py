"""Run one of our functions in a child process that is ended in time with all it started; it answers in JSON lines."""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any


def ask_child(
    module: str, arguments: Sequence[str], environ: Mapping[str, str], limit_sec: float
) -> tuple[list[dict[str, Any]], str, int | None]:
    """Run `module.answers(*arguments)` in an empty folder, where no library finds a `.env`, for `limit_sec` at most.

    Returns:
        What it said (JSON objects), its last words, its exit code (None: it was given up).
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    with (
        tempfile.TemporaryDirectory(prefix="harbor_nb-", ignore_cleanup_errors=True) as away,
        tempfile.TemporaryFile() as output,  # no pipes: what the child started elsewhere may hold them for long
        tempfile.TemporaryFile() as error,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, module, *arguments], env={**environ, "PYTHONPATH": paths}, cwd=away,
            stdin=subprocess.DEVNULL, stdout=output, stderr=error, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit_sec)
        except subprocess.TimeoutExpired:
            code = None
            with contextlib.suppress(ProcessLookupError, AttributeError):  # Windows has no groups
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
        output.seek(0)
        error.seek(0)
        said = []
        for line in output:
            with contextlib.suppress(ValueError):
                said.append(json.loads(line))
        last = (error.read().decode(errors="replace").strip().splitlines() or [""])[-1]
    return said, last, code


def _answer(module: str, arguments: Sequence[str]) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an SDK or a preflight prints is no answer
    for one in importlib.import_module(module).answers(*arguments):
        answers.write(json.dumps(one) + "\n")
    answers.flush()
    os._exit(0)  # threads and exit handlers that were started keep nobody waiting


if __name__ == "__main__":
    _answer(sys.argv[1], sys.argv[2:])
