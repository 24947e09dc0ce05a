"""What every test may ask for, and how a missing Docker or Chromium is told."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

os.environ["HARBOR_TELEMETRY"] = "off"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

REQUIRED = {word for word in os.environ.get("HARBOR_NB_REQUIRE", "").split(",") if word}
ROOT = Path(__file__).resolve().parent.parent
BASE_IMAGE = "python:3.13-slim"


def _runs(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not installed"
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip().split("\n")[0] or f"{command} failed"


@cache
def _missing_docker() -> str | None:
    for command in (
        ("docker", "info"),
        ("docker", "compose", "version"),
        ("docker", "buildx", "version"),
        ("docker", "image", "inspect", "--format", "ok", BASE_IMAGE),
    ):
        if reason := _runs(*command):
            return (
                f"{reason}; needs Docker Engine, compose v2, buildx and {BASE_IMAGE} (.ci/docker-engine makes all four)"
            )
    return None


@cache
def chromium() -> str | None:
    """The path of a Chromium, or None."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


@cache
def _missing_browser() -> str | None:
    if chromium() is None:
        return "no Chromium; install Debian's package chromium, or Google Chrome"
    if shutil.which("jupyter-lab") is None and not (ROOT / ".venv/bin/jupyter-lab").exists():
        return "no JupyterLab; pip install 'harbor-nb[notebook]'"
    return None


@cache
def _missing_local() -> str | None:
    from harbor_nb.sandbox import tier

    found = tier()
    return f"{found.reason}; {found.fix}" if found.name == "none" else None


@cache
def _missing_real_jobs() -> str | None:
    return None if (ROOT.parent / "shared/real-jobs").is_dir() else "no folder ../shared/real-jobs beside the project"


_CHECKS = {
    "docker": _missing_docker,
    "browser": _missing_browser,
    "local": _missing_local,
    "real_jobs": _missing_real_jobs,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.markexpr:
        deep = [item for item in items if item.get_closest_marker("deep")]
        if deep:
            config.hook.pytest_deselected(items=deep)
            items[:] = [item for item in items if not item.get_closest_marker("deep")]
    # the long ones first, so that no worker is left alone with one at the end
    items.sort(
        key=lambda item: item.path.parent.name not in ("lessons", "browser") and item.path.stem != "test_samples"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep the browser's tests on one worker, by their folder: pytest 9.2 leaves xdist_group without effect.

    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneBrowser(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "browser" if nodeid.startswith("tests/browser/") else nodeid

    return OneBrowser(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in _CHECKS.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            if marker in REQUIRED:
                pytest.fail(f"{marker} is required by HARBOR_NB_REQUIRE, but: {reason}", pytrace=False)
            pytest.skip(reason)


@pytest.fixture
def real_jobs() -> Path:
    """Job folders written by strangers; read only."""
    return ROOT.parent / "shared/real-jobs"
