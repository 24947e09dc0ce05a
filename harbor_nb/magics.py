"""`%load_ext harbor_nb`: Harbor's command line in a cell, `.env`, and tasks and agents written in cells."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from harbor_nb._display import clean
from harbor_nb.errors import BadInputError, HarborNbError

_SECTIONS = {
    "instruction": "instruction.md",
    "dockerfile": "environment/Dockerfile",
    "solution": "solution/solve.sh",
    "test": "tests/test.sh",
    "tests": "tests/test.sh",
}
_DEFAULTS = {
    "task.toml": 'schema_version = "1.4"\n\n[agent]\ntimeout_sec = 120.0\n\n[verifier]\ntimeout_sec = 120.0\n',
    "environment/Dockerfile": "FROM python:3.13-slim\nWORKDIR /app\n",
}
_HEADING = re.compile(r"^===\s*(\S+)\s*(?:===)?\s*$", re.MULTILINE)


def task_files(cell: str) -> dict[str, str]:
    r"""Split a cell into a task's files; a line `=== NAME` begins each.

    Args:
        cell: text whose sections are `instruction`, `Dockerfile`, `solution`, `test`, or paths inside the task.

    Returns:
        Text by path, with a `task.toml` and a Dockerfile where the cell has none.

    Raises:
        BadInputError: no instruction, no test, or a path that leaves the task.

    Example:
        >>> sorted(task_files("Say hello.\n=== test\necho 1 > /logs/verifier/reward.txt\n"))
        ['environment/Dockerfile', 'instruction.md', 'task.toml', 'tests/test.sh']
    """
    parts = _HEADING.split(cell)
    files = dict(_DEFAULTS)
    if parts[0].strip():
        files["instruction.md"] = parts[0].strip() + "\n"
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        path = PurePosixPath(_SECTIONS.get(name.lower(), name))
        if path.is_absolute() or ".." in path.parts:
            raise BadInputError(f"section {name!r} leaves the task's folder; name a path inside it")
        files[str(path)] = text.strip("\n") + "\n"
    for needed, section in (("instruction.md", "instruction"), ("tests/test.sh", "test")):
        if needed not in files:
            raise BadInputError(f"the task has no {section}; add a line '=== {section}' and its text below")
    return files


def _folder_and_name(line: str, default: str) -> tuple[Path, str]:
    words = shlex.split(line)
    if len(words) not in (1, 2):
        raise BadInputError(f"give a name, and a folder if it is not {default!r}, as in: %%magic my-name {default}")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", words[0]):
        raise BadInputError(f"{words[0]!r} can't be a name; use letters, digits, '-' and '_'")
    return Path(words[1] if len(words) == 2 else default), words[0]


@magics_class
class HarborMagics(Magics):
    """The magics; each is thin over a public call."""

    @line_magic
    def harbor(self, line: str) -> Any:
        """Run Harbor's own command line; a job that it starts runs detached, and its live `Job` is returned."""
        words = shlex.split(line)
        if words[:1] == ["run"] or words[:2] in (["job", "start"], ["jobs", "start"]):
            from harbor_nb.running.plans import Plan

            jobs = Plan.from_command(f"harbor {line}").launch()
            return jobs[0] if len(jobs) == 1 else jobs
        command = [sys.executable, "-c", "from harbor.cli.main import app; app()", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=600
        )
        sys.stdout.write(clean(done.stdout))
        sys.stderr.write(clean(done.stderr))
        return None

    @line_magic
    def harbor_env(self, line: str) -> Any:
        """Load `.env`, or the file that is named, and show what is in force: `%harbor_env [PATH] [--override]`."""
        from harbor_nb.credentials import load_env

        words = shlex.split(line)
        paths = [word for word in words if word != "--override"]
        return load_env(paths[0] if paths else None, override="--override" in words)

    @cell_magic
    def harbor_task(self, line: str, cell: str) -> Path:
        """Write a task from a cell: `%%harbor_task NAME [FOLDER]`, sections begin with `=== NAME`."""
        folder, name = _folder_and_name(line, "tasks")
        files = task_files(cell)
        for path, text in files.items():
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            if target.suffix == ".sh":
                target.chmod(0o755)
        return folder / name

    @cell_magic
    def harbor_agent(self, line: str, cell: str) -> str:
        """Write an agent class to a file that the detached runner can import: `%%harbor_agent NAME [FOLDER]`."""
        folder, name = _folder_and_name(line, "harbor_agents")
        if not name.isidentifier():
            raise BadInputError(f"{name!r} can't be imported; use letters, digits and '_'")
        try:
            classes = [node.name for node in ast.parse(cell).body if isinstance(node, ast.ClassDef)]
        except SyntaxError as error:
            raise BadInputError(f"line {error.lineno} of the cell is not Python: {error.msg}") from None
        if not classes:
            raise BadInputError("the cell holds no class; write one that extends harbor.agents.base.BaseAgent")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(cell, encoding="utf-8")
        sys.modules.pop(name, None)
        place = str(folder.resolve())
        # the runner is a child of this kernel and finds the module by this path
        known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != place]
        os.environ["PYTHONPATH"] = os.pathsep.join([place, *known])
        if place not in sys.path:
            sys.path.insert(0, place)
        if self.shell is not None:
            self.shell.run_cell(cell)
        return f"{name}:{classes[-1]}"


def register(ipython: Any) -> None:
    """Register the magics, and show harbor_nb's own errors as one line instead of a traceback."""
    ipython.register_magics(HarborMagics)

    def one_line(shell: Any, kind: Any, error: BaseException, trace: Any, tb_offset: int | None = None) -> None:
        sys.stderr.write(f"{kind.__name__}: {clean(error)}\n")

    ipython.set_custom_exc((HarborNbError,), one_line)
