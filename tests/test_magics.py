"""The magics in a real IPython shell."""

import importlib
import os
import sys

import pytest
from IPython.testing.globalipapp import start_ipython

from harbor_nb.errors import BadInputError
from harbor_nb.magics import task_files

TASK = """
Write the word hello into /app/greeting.txt.

=== Dockerfile
FROM python:3.13-slim
WORKDIR /app

=== solution
#!/bin/bash
echo hello > /app/greeting.txt

=== test
#!/bin/bash
grep -qx hello /app/greeting.txt && echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt

=== environment/data.csv
a,b
"""
AGENT = """
from harbor.agents.base import BaseAgent

class Idle(BaseAgent):
    @staticmethod
    def name():
        return "idle"
    def version(self):
        return "1"
    async def setup(self, environment):
        pass
    async def run(self, instruction, environment, context):
        pass
"""


@pytest.fixture(scope="module")
def shell():
    shell = start_ipython() or importlib.import_module("IPython").get_ipython()
    shell.run_line_magic("load_ext", "harbor_nb")
    return shell


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_cell_becomes_a_task_that_harbor_accepts(shell, tmp_path):
    from harbor.models.task.task import Task

    folder = shell.run_cell_magic("harbor_task", "greet", TASK)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "environment/Dockerfile",
        "environment/data.csv",
        "instruction.md",
        "solution/solve.sh",
        "task.toml",
        "tests/test.sh",
    ]
    assert os.access(folder / "tests/test.sh", os.X_OK)
    assert "word hello" in Task(folder).instruction


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("=== test\necho", "no instruction"),
        ("Do it.", "no test"),
        ("Do it.\n=== ../../evil\nx\n=== test\ny", "leaves the task's folder"),
        ("Do it.\n=== /etc/evil\nx\n=== test\ny", "leaves the task's folder"),
    ],
)
def test_a_cell_that_is_no_task_is_told_what_it_lacks(cell, says):
    with pytest.raises(BadInputError, match=says):
        task_files(cell)


def test_a_cell_becomes_an_agent_that_another_process_can_import(shell, tmp_path):
    import subprocess

    where = shell.run_cell_magic("harbor_agent", "my_idle", AGENT)
    assert where == "my_idle:Idle"
    code = "import my_idle; print(my_idle.Idle.name())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "idle", done.stderr


@pytest.mark.parametrize(
    ("line", "cell", "says"),
    [
        ("my-agent", AGENT, "can't be imported"),
        ("mine", "x = 1", "no class"),
        ("mine", "class A(:", "not Python"),
        ("../mine", AGENT, "can't be a name"),
        ("", AGENT, "give a name"),
    ],
)
def test_a_cell_that_is_no_agent_is_told_why(shell, line, cell, says):
    with pytest.raises(BadInputError, match=says):
        shell.magics_manager.magics["cell"]["harbor_agent"](line, cell)


def test_harbors_own_help_is_harbors_own(shell, capsys):
    shell.run_line_magic("harbor", "--version")
    from importlib.metadata import version

    assert version("harbor") in capsys.readouterr().out


def test_an_error_of_ours_is_one_line(shell, capsys):
    shell.run_cell('from harbor_nb.errors import BadInputError\nraise BadInputError("no such thing; type another")')
    said = capsys.readouterr()
    assert "BadInputError: no such thing; type another" in said.err + said.out
    assert "Traceback" not in said.err + said.out


@pytest.mark.local
def test_harbors_command_line_in_a_cell_gives_the_live_job(shell, tmp_path):
    shell.run_cell_magic("harbor_task", "greet", TASK)
    agent = shell.run_cell_magic("harbor_agent", "my_idle", AGENT)
    line = f"jobs start --env harbor_nb.local:LocalEnvironment -p tasks/greet -a {agent} --job-name first"
    job = shell.run_line_magic("harbor", line)
    assert job.path == tmp_path / "jobs/first"
    frame = job.wait(60, progress=False).trials()
    assert dict(zip(frame["agent"], frame["reward"], strict=True)) == {"idle": 0.0}


def test_a_command_that_harbor_refuses_is_told_in_its_words(shell):
    with pytest.raises(BadInputError, match="no-such-option"):
        shell.magics_manager.magics["line"]["harbor"]("run --no-such-option")


def test_env_is_loaded_and_shown_without_a_value(shell, tmp_path, monkeypatch):
    monkeypatch.delenv("DAYTONA_API_KEY", raising=False)
    (tmp_path / ".env").write_text("DAYTONA_API_KEY=canary-magic-value-88123\n")
    shown = shell.run_line_magic("harbor_env", "")
    assert os.environ["DAYTONA_API_KEY"] == "canary-magic-value-88123"
    assert "DAYTONA_API_KEY" in repr(shown)
    assert "canary" not in repr(shown) + shown._repr_html_()
    monkeypatch.delenv("DAYTONA_API_KEY")
