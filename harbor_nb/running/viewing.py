"""Harbor's own viewer for a job, on loopback, ended with the kernel."""

import atexit
import importlib
import importlib.util
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harbor_nb.running.waiting import in_notebook

_START_SEC = 20
_CONTAINER = Path("/.dockerenv")
_REMOTE = ("JUPYTERHUB_SERVICE_PREFIX", "SSH_CONNECTION", "KUBERNETES_SERVICE_HOST", "CODESPACES")
_VIEW = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()  # ends with who holds the pipe
from harbor.cli.main import app
app()
"""
_servers: dict[Path, tuple[subprocess.Popen[bytes], int]] = {}


def _serve(folder: Path) -> int | None:
    """Start the viewer of a jobs folder, or find the one that is there; give its port."""
    if folder in _servers and _servers[folder][0].poll() is None:
        return _servers[folder][1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-c", _VIEW, "view", str(folder), "--jobs", "--port", str(port), "--no-build"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)
    atexit.register(server.kill)
    end = time.monotonic() + _START_SEC
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                _servers[folder] = (server, port)
                return port
        time.sleep(0.1)
    server.kill()
    return None


def _address() -> str | None:
    """Return where the browser finds a port of this machine, `{}` for the port; None where it most likely can't."""
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if prefix and importlib.util.find_spec("jupyter_server_proxy"):
        return f"{prefix}proxy/{{}}/"
    colab = "COLAB_RELEASE_TAG" in os.environ  # it finds the port by itself
    remote = not colab and (_CONTAINER.exists() or any(name in os.environ for name in _REMOTE))
    return None if remote else "http://127.0.0.1:{}/"


def view(job: Path) -> Any:
    """Show Harbor's viewer where the browser can reach it; else print the command for a terminal."""
    folder, address = job.resolve().parent, _address()
    port = _serve(folder) if address and in_notebook() else None
    if address is None or port is None:
        print(shlex.join(["harbor", "view", str(folder)]))  # noqa: T201 - the command is the answer
        return None
    page = f"jobs/{job.resolve().name}"
    if "COLAB_RELEASE_TAG" in os.environ:
        output = importlib.import_module("google.colab.output")
        return output.serve_kernel_port_as_iframe(port, path=f"/{page}", height="600")
    from IPython.display import IFrame

    return IFrame(address.format(port) + page, "100%", 600)
