"""`make deep`: the same tests with other versions of Harbor and of Python than the pinned ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What runs jobs, reads them and asks for keys; the rest does not ask for Harbor's version.
ROOMS = ["running", "failures", "keys", "clouds", "results", "project", "test_magics.py", "test_cli.py"]
PINNED = "--deselect=tests/project/test_project.py::test_installed_versions_are_the_pinned_ones"


def other_python(version: str) -> str | None:
    """Find a Python of that version, as tools/setup does: on PATH, in pyenv, through uv."""
    in_pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}*/bin/python"))
    asked = subprocess.run([sys.executable, "-m", "uv", "python", "find", version], capture_output=True, text=True)
    found = shutil.which(f"python{version}") or (str(in_pyenv[-1]) if in_pyenv else asked.stdout.strip())
    works = found and subprocess.run([found, "-c", "print()"], capture_output=True, check=False).returncode == 0
    return found if works else None


def make_venv(folder: Path, python: str, *wanted: str) -> Path:
    """Install harbor_nb with all its extras and the test tools, each at its pinned version but for what is wanted."""
    other = {name.partition("=")[0].partition("<")[0] for name in wanted}
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    kept = folder / "constraints.txt"
    kept.write_text("\n".join(pin for pin in pins if pin.partition("==")[0].strip() not in other))
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    settings = {"UV_DEFAULT_INDEX": index.stdout.strip()} if index.stdout.strip() else {}
    inside = folder / "venv/bin/python"
    uv = [sys.executable, "-m", "uv"]
    for command in (
        [*uv, "venv", "-q", "--python", python, folder / "venv"],
        [*uv, "pip", "install", "-q", "--python", inside, "-c", kept, "-e", f"{ROOT}[all]", "--group", "dev", *wanted],
    ):
        subprocess.run(command, check=True, cwd=ROOT, env={**settings, **os.environ})
    return inside


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("version", "wanted"), [("3.12", ()), ("3.13", ("harbor>0.24",))], ids=["oldest Python", "newest Harbor"]
)
def test_other_versions_pass_the_same_tests(version, wanted, tmp_path):
    python = other_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here; install it, for instance with: uv python install {version}")
    inside = make_venv(tmp_path, python, *wanted)
    told = subprocess.run(
        [inside, "-c", "import sys, harbor; print(*sys.version_info[:2], harbor.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert ".".join(told[:2]) == version
    if wanted:
        assert tuple(map(int, told[2].split(".")[:2])) > (0, 24)
    rooms = [f"tests/{room}" for room in ROOMS]
    tests = [
        inside,
        "-m",
        "pytest",
        *rooms,
        *([PINNED] if wanted else []),
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "loadgroup",
    ]
    done = subprocess.run(tests, cwd=ROOT, capture_output=True, text=True)
    print(told, done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-6000:]
