"""A clean environment for each test: no key of the machine, a folder of its own, nothing remembered from before."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harbor_nb.backends import catalog
from harbor_nb.credentials import _known, _loading


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    before = dict(os.environ)
    for name in _known.known():
        os.environ.pop(name, None)
    for name in ("VSCODE_PID", "PYTHON_DOTENV_DISABLED"):
        os.environ.pop(name, None)
    home = tmp_path / "home"
    home.mkdir()
    os.environ["HOME"] = str(home)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    _loading._ours.clear()
    _loading._at_start.cache_clear()
    catalog._seen.clear()
    yield
    catalog._seen.clear()
    _loading._ours.clear()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def started_with(monkeypatch):
    """Set variables as if the shell had set them before this process began."""

    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        start = {**os.environ}
        monkeypatch.setattr(_loading, "_at_start", lambda: start)

    return set_all


@pytest.fixture
def vendor():
    """Serve a vendor on loopback: `with vendor("daytona", "401") as server`."""
    spec = importlib.util.spec_from_file_location("keys_loopback", Path(__file__).with_name("loopback.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.vendor


@pytest.fixture
def fresh():
    """Run code in a fresh process, with no key of the machine; give what it printed."""

    def run(code: str, cwd: Path | None = None, timeout: float = 60, **environment: str) -> str:
        env = {name: value for name, value in os.environ.items() if name not in _known.known()}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=env | environment, cwd=cwd, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
