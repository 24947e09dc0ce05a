"""The command line `harbor-nb`."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from harbor_nb import cli
from harbor_nb.samples import sample_jobs


@pytest.fixture
def harbor_nb(capsys, monkeypatch):
    """Run the command line as its console script does, in this process: one import of pandas is enough."""

    def run(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["harbor-nb", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return run


def test_the_console_script_is_there():
    done = subprocess.run([f"{sys.prefix}/bin/harbor-nb", "nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_help_names_the_commands(harbor_nb):
    done = harbor_nb("--help", COLUMNS="120")
    for command in ("demo", "doctor", "lab", "compare", "diagnose"):
        assert command in done.stdout


def test_lab_copies_the_lessons_once(harbor_nb, tmp_path):
    done = harbor_nb("lab", tmp_path / "mine", "--no-start")
    assert done.returncode == 0, done.stderr
    task = tmp_path / "mine/tasks/hello-world/instruction.md"
    assert task.exists()
    task.write_text("changed by a person")
    assert harbor_nb("lab", tmp_path / "mine", "--no-start").returncode == 0
    assert task.read_text() == "changed by a person"


def test_doctor_tells_environments_and_versions_and_no_value(harbor_nb, tmp_path):
    done = harbor_nb("doctor", DAYTONA_API_KEY="canary-doctor-value-12345")
    assert done.returncode in (0, 1), done.stderr
    assert "canary-doctor" not in done.stdout + done.stderr
    for word in ("harbor 0.", "local", "docker", "daytona"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["compare"])
def test_a_folder_that_is_not_there_is_one_line(harbor_nb, command, tmp_path):
    done = harbor_nb(command, tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("harbor-nb: ")
    assert done.stderr.count("\n") == 1


def test_compare_says_the_verdict_and_takes_the_first_job_as_the_baseline(harbor_nb):
    done = harbor_nb("compare", sample_jobs() / "imperfect-docker", sample_jobs() / "imperfect-local")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[recorded] imperfect-local")
    assert "imperfect-docker" in done.stdout.splitlines()[0]
    assert "Verdict" in done.stdout


def test_compare_takes_one_job_and_a_factor(harbor_nb):
    done = harbor_nb("compare", sample_jobs() / "oracle-and-nop-local", "--by", "agent", "--baseline", "nop")
    assert done.returncode == 0, done.stderr
    assert "oracle scores higher than nop" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compare", sample_jobs(), "--by", "agnet"), "agnet"),
        (("compare", sample_jobs(), "--margin", "-1"), "margin"),
        (("demo", "--tasks", "nowhere", "--output", "out"), "no such task"),
        (("lab", "taken/inside", "--no-start"), "taken"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(harbor_nb, arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    done = harbor_nb(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("harbor-nb: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
