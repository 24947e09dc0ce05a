"""Harbor's own viewer for a job, on loopback, ended with the kernel."""

import importlib
import importlib.util
import os
import shlex
import socket
import threading
from pathlib import Path
from typing import Any

from harbor_nb.running.waiting import in_notebook

_CONTAINER = Path("/.dockerenv")
_REMOTE = ("JUPYTERHUB_SERVICE_PREFIX", "SSH_CONNECTION", "KUBERNETES_SERVICE_HOST", "CODESPACES")
_ports: dict[Path, int] = {}


def _serve(folder: Path) -> int:
    """Serve the viewer of a jobs folder from a thread of this process, which ends with it; give its port."""
    if folder not in _ports:
        import harbor.viewer
        import uvicorn

        app = harbor.viewer.create_app(folder, mode="jobs", static_dir=Path(harbor.viewer.__file__).with_name("static"))
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        threading.Thread(target=server.run, args=([listening],), name="harbor-view", daemon=True).start()
        _ports[folder] = listening.getsockname()[1]
    return _ports[folder]


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
    if address is None or not in_notebook():
        print(shlex.join(["harbor", "view", str(folder)]))  # noqa: T201 - the command is the answer
        return None
    port = _serve(folder)
    page = f"jobs/{job.resolve().name}"
    if "COLAB_RELEASE_TAG" in os.environ:
        output = importlib.import_module("google.colab.output")
        return output.serve_kernel_port_as_iframe(port, path=f"/{page}", height="600")
    from IPython.display import IFrame

    return IFrame(address.format(port) + page, "100%", 600)
