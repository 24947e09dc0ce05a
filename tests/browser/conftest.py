"""One JupyterLab (or Notebook 7) on loopback and one headless Chromium, shared by all tests of this folder."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs/pictures"
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --force-color-profile=srgb""".split()
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


def chromium_path() -> str:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))


class Lab:
    """A notebook server: write notebooks, open them in a page, run, save, restart their kernels."""

    def __init__(self, folder: Path, app: str = "lab", **environment: str) -> None:
        self.folder = folder / "work"
        self.folder.mkdir(parents=True)
        self.app = app
        self.token = secrets.token_hex(16)
        self.settings = folder / "settings"
        self.log = folder / "server.log"
        for name, values in SETTINGS.items():
            self.set(name, values)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        extra = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")} | {
            "JUPYTERLAB_SETTINGS_DIR": str(self.settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        }
        command = [sys.executable, "-m", "jupyterlab" if app == "lab" else "notebook", "--no-browser", "--allow-root"]
        command += [f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"]
        command += [f"--IdentityProvider.token={self.token}", "--ServerApp.disable_check_xsrf=True"]
        command += [f"--ServerApp.root_dir={self.folder}", "--expose-app-in-browser"]
        home = folder / "home"
        home.mkdir()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **extra, "HOME": str(home), "PATH": path, **environment},
        )
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "is running at" in line:
                break
        else:
            raise RuntimeError("JupyterLab did not start:\n" + "".join(lines[-20:]))
        self._drain = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=self.log.open("wb"))

    def set(self, plugin: str, values: dict) -> None:
        """Write a setting of the front end, as its settings page does."""
        file = self.settings / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))

    def theme(self, dark: bool) -> None:
        self.set("@jupyterlab/apputils-extension/themes", {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"})

    def api(self, path: str, method: str = "GET") -> object:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def notebook(self, name: str, *cells: str) -> Path:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.folder / f"{name}.ipynb"
        nbformat.write(book, path)
        return path

    def open(self, page, name: str) -> None:
        place = f"lab/tree/{name}.ipynb?reset&" if self.app == "lab" else f"notebooks/{name}.ipynb?"
        page.goto(f"http://127.0.0.1:{self.port}/{place}token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("window.jupyterapp && window.jupyterapp.commands.hasCommand('notebook:run-all-cells')")
        page.wait_for_function(
            """() => { const w = window.jupyterapp.shell.currentWidget;
            return w && w.context && w.context.sessionContext.session?.kernel?.connectionStatus === 'connected' }"""
        )
        page.evaluate("window.jupyterapp.shell.collapseLeft?.()")

    def run_all(self, page) -> None:
        """Run every cell and wait for the last to end; an exception in a cell fails the test."""
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        errors = page.locator('.jp-OutputArea [data-mime-type="application/vnd.jupyter.stderr"]:has(.ansi-red-fg)')
        assert errors.count() == 0, errors.first.inner_text()

    def execute(self, page, code: str) -> str:
        """Run code in the notebook's kernel, without a cell, and return what it printed."""
        return page.evaluate(
            """async (code) => {
            const kernel = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
            const future = kernel.requestExecute({ code });
            let text = "";
            future.onIOPub = (m) => (text += m.content.text ?? (m.content.traceback || []).join("\\n"));
            await future.done;
            return text.replaceAll("undefined", ""); }""",
            code,
        )

    def save(self, page) -> None:
        page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")

    def kernel_id(self, name: str) -> str:
        return next(s["kernel"]["id"] for s in self.api("sessions") if s["path"] == f"{name}.ipynb")

    def restart_kernel(self, name: str) -> None:
        self.api(f"kernels/{self.kernel_id(name)}/restart", "POST")

    def end_jobs(self) -> None:
        """End what a story left running: its runners outlive their kernels on purpose."""
        for record in self.folder.glob("*/*/harbor_nb.json"):
            owner = json.loads(record.read_text())
            with suppress(psutil.NoSuchProcess, TypeError):
                process = psutil.Process(owner["pid"])
                if "harbor_nb.running.runner" in process.cmdline() and str(record.parent) in process.cmdline():
                    process.terminate()
                    process.wait(20)

    def shut_down_kernels(self) -> None:
        for session in self.api("sessions"):
            with suppress(OSError):
                self.api(f"sessions/{urllib.parse.quote(session['id'])}", "DELETE")

    def stop(self) -> None:
        with suppress(OSError):
            self.shut_down_kernels()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._drain.wait(5)


@pytest.fixture(scope="package", params=["lab", pytest.param("notebook", marks=pytest.mark.deep)])
def lab(request, tmp_path_factory):
    """JupyterLab; under `make deep` Notebook 7 as well."""
    server = Lab(tmp_path_factory.mktemp(request.param), request.param)
    server.theme(dark=False)
    yield server
    server.stop()


@pytest.fixture(scope="package")
def chromium():
    # of this folder, not of the session: Playwright's loop must have ended before another folder's async tests
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium_path(), headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.failed = report.failed
    return report


@pytest.fixture
def new_page(chromium, lab, request, tmp_path):
    """Open a page that fails the test where a script of somebody else's runs or a host beyond loopback is asked."""
    contexts = []

    def make(width: int = 1200, height: int = 1400):
        context = chromium.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        # anywidget gives a model up that is not ready after 2 s; a loaded test machine is slower than a person's
        context.add_init_script(
            "const wait = AbortSignal.timeout; AbortSignal.timeout = (ms) => wait.call(AbortSignal, 30 * ms)"
        )
        page = context.new_page()
        page.set_default_timeout(60_000)  # a loaded machine is slow, not wrong
        page.beyond = []
        page.on("request", lambda request: None if _here(request.url) else page.beyond.append(request.url))
        page.errors = []
        page.on("console", lambda line: page.errors.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("dialog", lambda dialog: (page.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        return page

    yield make
    if getattr(request.node, "failed", False):
        for number, page in enumerate(page for context in contexts for page in context.pages):
            page.screenshot(path=tmp_path / f"failed-{number}.png")
            print(f"{tmp_path}/failed-{number}.png", page.errors)
    beyond = [url for context in contexts for page in context.pages for url in page.beyond]
    for context in contexts:
        context.close()
    lab.shut_down_kernels()  # first: a kernel that is idle leaves its ended runners as zombies
    lab.end_jobs()
    assert not beyond, beyond


def _here(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:"))


@pytest.fixture
def picture(tmp_path):
    """Take a picture of the first element that matches; HARBOR_NB_PICTURES=1 renews those of the docs."""
    folder = PICTURES if os.environ.get("HARBOR_NB_PICTURES") else tmp_path

    def take(page, selector: str, name: str) -> None:
        page.locator(selector).first.screenshot(path=folder / f"{name}.png")

    return take
