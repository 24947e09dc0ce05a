"""The command line `harbor-nb`."""

import os
import subprocess
import sys

import pytest


def harbor_nb(*arguments, **environment):
    command = [sys.executable, "-c", "from harbor_nb.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def test_help_names_the_commands():
    done = harbor_nb("--help", COLUMNS="120")
    for command in ("demo", "doctor", "lab", "compare", "diagnose"):
        assert command in done.stdout


def test_lab_copies_the_lessons_once(tmp_path):
    done = harbor_nb("lab", tmp_path / "mine", "--no-start")
    assert done.returncode == 0, done.stderr
    task = tmp_path / "mine/tasks/hello-world/instruction.md"
    assert task.exists()
    task.write_text("changed by a person")
    assert harbor_nb("lab", tmp_path / "mine", "--no-start").returncode == 0
    assert task.read_text() == "changed by a person"


def test_doctor_tells_environments_and_versions_and_no_value(tmp_path):
    done = harbor_nb("doctor", DAYTONA_API_KEY="canary-doctor-value-12345")
    assert done.returncode in (0, 1), done.stderr
    assert "canary-doctor" not in done.stdout + done.stderr
    for word in ("harbor 0.", "local", "docker", "daytona"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["compare", "diagnose"])
def test_a_folder_that_is_not_there_is_one_line(command, tmp_path):
    done = harbor_nb(command, tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("harbor-nb: ")
    assert done.stderr.count("\n") == 1
