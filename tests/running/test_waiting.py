"""Progress while one waits: lines, bars in a terminal, a picture in a notebook; and Harbor's viewer."""

import json
import os
import pty
import socket
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

import harbor_nb
from harbor_nb.running import viewing
from tests.running.conftest import until
from tests.running.test_life import kernel, run_cell

pytestmark = [pytest.mark.local, pytest.mark.timeout(240)]


def test_elsewhere_it_is_a_line_at_a_time(tasks, capsys):
    harbor_nb.plan(tasks, name="lines").launch().wait(60)
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "lines-local 3/3"
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


def test_in_a_notebook_it_is_a_picture_that_is_drawn_anew(tasks):
    manager, client = kernel()
    pictures = []

    def hear(message):
        if message["msg_type"] in ("display_data", "update_display_data"):
            pictures.append((message["msg_type"], message["content"]["data"]["text/html"]))

    code = f"import harbor_nb; jobs = harbor_nb.plan({str(tasks)!r}, name='pic').launch().wait(60)"
    try:
        client.execute_interactive(code, timeout=90, output_hook=hear)
        here = "viewing._CONTAINER = viewing.Path('none'); viewing._REMOTE = ()"  # the browser is on this machine
        run_cell(client, f"from harbor_nb.running import viewing; {here}")
        assert "iframe" in run_cell(client, "jobs[0].view()._repr_html_()")
        port = int(run_cell(client, "print([port for _, port in viewing._servers.values()][0])"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/jobs") as answer:
            assert "pic-local" in json.dumps(json.load(answer))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert pictures[0][0] == "display_data"
    assert {kind for kind, _ in pictures[1:]} == {"update_display_data"}
    assert "3 of 3" in pictures[-1][1]
    until(lambda: not answers(port))  # it ends with the kernel


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
