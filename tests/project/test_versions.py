"""`make deep`: the same tests with other versions of Python, Harbor and pandas than the pinned ones."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = "{}.{}".format(*sys.version_info[:2])
# What runs jobs, reads them and asks for keys; the rest does not ask for Harbor's version.
ROOMS = ["running", "failures", "keys", "clouds", "results", "project", "test_magics.py", "test_cli.py"]
PINNED = "test_installed_versions_are_the_pinned_ones"
WITH_PANDAS = ("pandas", "numpy", "pandas-stubs", "numpy-typing-compat", "scipy-stubs", "optype")


def other_python(version: str) -> str | None:
    """Find a Python of that version, as tools/setup does: on PATH, in pyenv, through uv."""
    in_pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}*/bin/python"))
    asked = subprocess.run([sys.executable, "-m", "uv", "python", "find", version], capture_output=True, text=True)
    for found in (shutil.which(f"python{version}"), *map(str, in_pyenv), asked.stdout.strip()):
        # pyenv's own shims are on PATH for versions that are not chosen, and fail
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return None


def make_venv(folder: Path, python: str, wanted: list[str], free: str) -> Path:
    """Install harbor_nb, all its extras and the test tools, at the pinned versions but for names that match `free`."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    kept = folder / "constraints.txt"
    kept.write_text("\n".join(pin for pin in pins if not re.fullmatch(free, pin.partition("==")[0].strip())))
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    settings = {"UV_DEFAULT_INDEX": index.stdout.strip()} if index.stdout.strip() else {}
    inside, uv = folder / "venv/bin/python", [sys.executable, "-m", "uv"]
    what = ["-e", f"{ROOT}[all]", "--group", f"{ROOT}/pyproject.toml:dev", *wanted]
    for command in (
        [*uv, "venv", "-q", "--python", python, folder / "venv"],
        [*uv, "pip", "install", "-q", "--python", inside, "-c", kept, *what],
    ):
        subprocess.run(command, check=True, env={**settings, **os.environ})
    return inside


@pytest.fixture
def open_to_all():
    """A folder that another user may enter: some tests run as one."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("python", "wanted", "free", "rooms", "told"),
    [
        ("3.12", [], "", ROOMS, r"3\.12 .*"),
        (HERE, ["harbor>0.24"], ".*", ROOMS, r".* 0\.(2[5-9]|[3-9]\d)\.\S+ \S+"),
        (HERE, ["pandas==2.2.*"], "|".join(WITH_PANDAS), ["results"], r".* 2\.2\.\d+"),
    ],
    ids=["oldest Python", "newest of everything", "oldest pandas"],
)
def test_other_versions_pass_the_same_tests(python, wanted, free, rooms, told, open_to_all):
    found = sys.executable if python == HERE else other_python(python)
    if found is None:
        pytest.skip(f"no Python {python} here; install it, for instance with: uv python install {python}")
    inside = make_venv(open_to_all, found, wanted, free)
    code = (
        "import sys, harbor, pandas; print('{}.{}'.format(*sys.version_info), harbor.__version__, pandas.__version__)"
    )
    versions = subprocess.run([inside, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert re.fullmatch(told, versions), versions
    tests = [inside, "-m", "pytest", *(f"tests/{room}" for room in rooms), "-q", "-p", "no:cacheprovider", "-n", "2"]
    done = subprocess.run(
        [*tests, "--dist", "loadgroup", *(["-k", f"not {PINNED}"] if free else [])],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    print(versions, done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-6000:]
