"""Progress while one waits: lines, bars in a terminal, a picture in a notebook; and Harbor's viewer."""

import os
import pty
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

import harbor_nb
from harbor_nb.running import viewing
from tests.running.conftest import make_task, until

CANARY = "canary-77c0-of-a-key"
WIDGET = "application/vnd.jupyter.widget-view+json"
pytestmark = [pytest.mark.local, pytest.mark.timeout(240)]


def test_elsewhere_it_is_a_line_at_a_time(tasks, capsys):
    harbor_nb.plan(tasks, name="lines").launch().wait(60)
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "lines-local 3/3, finished"
    assert "\r" not in told


def test_in_a_terminal_it_is_bars(tasks):
    code = f"import harbor_nb; harbor_nb.plan({str(tasks)!r}, name='bars').launch().wait(60)"
    seen = bytearray()

    def read(handle):
        seen.extend(data := os.read(handle, 4096))
        return data

    output = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            pty.spawn([sys.executable, "-c", code], read)
        finally:
            os.dup2(output, 1)
            os.close(output)
    assert b"bars-local" in seen
    assert b"3/3" in seen


class Heard(NotebookClient):
    """A notebook's run that keeps every message of its kernel."""

    def process_message(self, msg, cell, cell_index):
        self.__dict__.setdefault("heard", []).append((msg["msg_type"], msg["content"]))
        return super().process_message(msg, cell, cell_index)


LOOK = """
from urllib.request import urlopen
from harbor_nb.running import viewing
viewing._CONTAINER, viewing._REMOTE = viewing.Path("none"), ()  # the browser is on this machine
assert "iframe" in jobs[0].view()._repr_html_()
(port,) = viewing._ports.values()
assert "pic-local" in urlopen(f"http://127.0.0.1:{port}/api/jobs").read().decode()
print(port, models() - before)
"""


def test_in_a_notebook_it_is_a_widget_and_html_for_those_without(tasks, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    make_task(tasks, "slow", solution=f"sleep 2; echo {CANARY}")
    cells = [
        "import harbor_nb, ipywidgets; from ipywidgets.widgets.widget import _instances\n"
        f"models = lambda: len(_instances)\nbefore = models(); harbor_nb.load_env()\n"
        f"jobs = harbor_nb.plan({str(tasks)!r}, name='pic', n_concurrent_trials=1).launch().wait(60)",
        LOOK,
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    run = Heard(book, timeout=90, kernel_name="python3")
    run.execute()
    shown = [(kind, told) for kind, told in run.heard if "data" in kind and "text/html" in told["data"]]
    assert shown[0][0] == "display_data"
    assert {kind for kind, _ in shown[1:]} == {"update_display_data"}
    *living, last = [told["data"] for _, told in shown]
    assert len(living) >= 3
    assert all({WIDGET, "text/html", "text/plain"} <= set(data) for data in living)
    values = [told["data"]["state"]["value"] for kind, told in run.heard if kind == "comm_msg" and "value" in
              told["data"].get("state", {})]  # fmt: skip
    done = [int(value.partition(" of 4")[0].rpartition(">")[2]) for value in values if " of 4" in value]
    assert done == sorted(done)
    assert values[-1] == last["text/html"]
    (kept,) = [output.data for output in book.cells[0].outputs if "data" in output]
    assert kept == last
    assert set(kept) == {"text/html", "text/plain"}  # a saved notebook has no model to look for
    assert "4 of 4" in kept["text/html"]
    assert ">finished<" in kept["text/html"]
    assert kept["text/plain"] == "pic-local 4/4, finished"
    port, grown = map(int, book.cells[1].outputs[0].text.split())
    assert grown == 0
    assert CANARY not in repr(run.heard)
    until(lambda: not answers(port))  # the viewer ends with the kernel


def answers(port):
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def test_outside_of_a_notebook_the_viewers_command_is_printed(tmp_path, capsys):
    assert viewing.view(tmp_path / "jobs" / "one") is None
    assert capsys.readouterr().out == f"harbor view {tmp_path}/jobs\n"


@pytest.mark.parametrize(
    ("variables", "proxy", "container", "expected"),
    [
        ({}, False, False, "http://127.0.0.1:7/jobs/one"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}, True, True, "/user/ann/proxy/7/jobs/one"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}, False, False, None),
        ({"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, True, False, None),
        ({"KUBERNETES_SERVICE_HOST": "192.0.2.1"}, False, False, None),
        ({}, False, True, None),
    ],
)
def test_the_viewer_is_shown_only_where_the_browser_reaches_it(
    tmp_path, capsys, monkeypatch, variables, proxy, container, expected
):
    """On a remote hub without jupyter-server-proxy an iframe would stay blank: no server is started for it."""
    started = []
    for name in (*viewing._REMOTE, "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "marker").touch()
    monkeypatch.setattr(viewing, "_CONTAINER", tmp_path / ("marker" if container else "none"))
    monkeypatch.setattr(viewing.importlib.util, "find_spec", lambda name: proxy or None)
    monkeypatch.setattr(viewing, "in_notebook", lambda: True)
    monkeypatch.setattr(viewing, "_serve", lambda folder: started.append(folder) or 7)
    shown = viewing.view(tmp_path / "jobs/one")
    assert (shown and shown.src) == expected
    assert bool(started) == (expected is not None)
    printed = capsys.readouterr().out
    assert printed == ("" if expected else f"harbor view {tmp_path}/jobs\n")


def test_colab_shows_the_viewer_through_its_own_port_proxy(tmp_path, monkeypatch):
    asked = []
    output = SimpleNamespace(serve_kernel_port_as_iframe=lambda port, **options: asked.append((port, options)))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    monkeypatch.setattr(viewing, "_CONTAINER", tmp_path)  # Colab runs in one
    monkeypatch.setattr(viewing, "in_notebook", lambda: True)
    monkeypatch.setattr(viewing, "_serve", lambda folder: 7)
    viewing.view(tmp_path / "jobs/one")
    assert asked == [(7, {"path": "/jobs/one", "height": "600"})]
