"""Every lesson runs from top to bottom with no account, its solution passes its own check, and the file stays small."""

import importlib.util
import re
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOT_HERE = re.compile("(can't|Nothing can) run here")
SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```", re.DOTALL)


def classroom(folder: Path) -> Path:
    """What `harbor-nb lab` lays out for a learner."""
    from harbor_nb.samples import copy_lessons

    copy_lessons(folder)
    return folder


def with_solutions(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """After each exercise, the folded solution and the check once more."""
    cells = []
    for cell in book.cells:
        cells.append(cell)
        if cell.cell_type == "code" and "exercise" in cell.metadata.get("tags", []):
            asked = cell
        if cell.cell_type == "markdown" and (solution := SOLUTION.search(cell.source)):
            check = asked.source.splitlines()[-1]
            solved = nbformat.v4.new_code_cell(f"{solution[1]}\n{check}")
            solved.metadata["tags"] = ["solved"]
            cells.append(solved)
    book.cells = cells
    return book


def shown(cell: nbformat.NotebookNode) -> str:
    return "\n".join(
        str(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in cell.get("outputs", ())
    )


def run_lesson(path: Path, tmp_path: Path) -> nbformat.NotebookNode:
    """Run a lesson with its solutions; each exercise says *not yet*, and each solution is right."""
    folder = classroom(tmp_path / "lessons")
    book = with_solutions(nbformat.read(path, as_version=4))
    began = time.monotonic()
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    print(f"{path.stem}: {time.monotonic() - began:.1f} s")
    exercises = [cell for cell in book.cells if "exercise" in cell.metadata.get("tags", [])]
    solved = [cell for cell in book.cells if "solved" in cell.metadata.get("tags", [])]
    assert len(exercises) == len(solved) >= 1, "an exercise needs a folded solution"
    assert all("Not yet" in shown(cell) for cell in exercises)
    assert all("Right" in shown(cell) for cell in solved), [shown(cell) for cell in solved]
    return book


@pytest.mark.local
@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs_and_its_solution_is_right(path: Path, tmp_path: Path):
    book = run_lesson(path, tmp_path)
    assert not NOT_HERE.search("".join(map(shown, book.cells)))
    size = len(nbformat.writes(book).encode())
    assert size <= 300_000, f"{size} bytes with outputs"


@pytest.mark.deep
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_where_nothing_can_run_a_lesson_goes_on_with_recorded_jobs_and_says_so(path: Path, tmp_path: Path, monkeypatch):
    """A machine without Docker and without the programs that make a sandbox, as far as the kernel can find."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "tr", "cat"):  # what a learner's own test.sh may call
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    told = "\n".join(map(shown, run_lesson(path, tmp_path).cells))
    assert not list((tmp_path / "lessons").glob("jobs/**/result.json"))
    if ".launch(" in path.read_text():
        assert NOT_HERE.search(told)
        assert "recorded" in told


@pytest.fixture(scope="module")
def checks():
    spec = importlib.util.spec_from_file_location("lesson_checks", ROOT / "notebooks/lesson_checks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lesson_checks"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["lesson_checks"]


TRIALS = pd.DataFrame(
    {
        "task": ["a", "a", "b", "b", "x/flaky-network"],
        "agent": ["oracle", "nop", "oracle", "nop", "oracle"],
        "reward": [1.0, 0.0, 1.0, 0.0, 0.0],
        "verifier_sec": [1.0, 1.0, 2.0, 2.0, 0.5],
    }
)
STEPS = pd.DataFrame({"trial": ["t", "t", "t", "u"], "source": ["user", "agent", "agent", "agent"]})
PAYS_ALL = "echo 1 > /logs/verifier/reward.txt"
FAIR = 'if [ "$(tr -d [:space:] < /app/count.txt)" = 7 ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt'
TABLE = pd.DataFrame({"name": ["local", "e2b"], "runs": ["local", "cloud"], "needs_key": [False, True]})
ROW = {"low": -0.2, "high": 0.1, "low_90": -0.1, "high_90": 0.05}
COMPARISON = SimpleNamespace(table=pd.DataFrame([ROW]))
HOLES = pd.DataFrame({"reward": [1.0, None]})
FULL = pd.DataFrame({"agent": ["oracle"] * 3, "environment": ["a", "b", "b"], "reward": [1.0, 1.0, 0.0]})
ANSWERS = [
    (
        "01-cloud",
        (TABLE,),
        ["e2b"],
        [(["local", "e2b"], "not a first-class"), ([], "is missing"), (3, "list of names")],
    ),
    (
        "02-interval",
        (COMPARISON,),
        (-0.2, 0.1),
        [((-0.1, 0.05), "90 %"), ((0.1, -0.2), "comes first"), (0, "two numbers")],
    ),
    ("03-missing", (HOLES,), (1, False), [((1, True), "never ran"), ((0, False), "not the number"), (1, "a tuple")]),
    (
        "04-full-marks",
        (FULL,),
        {"a"},
        [({"a", "b"}, "not every trial"), (set(), "is missing"), ("a", "a set of names")],
    ),
    ("00-oracle-mean", (TRIALS,), 1.0, [(0.5, "both agents"), (2 / 3, "leave out flaky"), ("1", "a number is wanted")]),
    ("05-fair-test", (), FAIR, [(PAYS_ALL, "still gets paid"), ("true", "never writes"), (7, "the text of test.sh")]),
    (
        "06-agent-steps",
        (STEPS,),
        STEPS[STEPS["source"] == "agent"].groupby("trial").size(),
        [(STEPS.groupby("trial").size(), "counts the user's"), (3, "a Series is wanted")],
    ),
    ("07-slowest-verifier", (TRIALS,), "b", [("a", "another task"), ("c", "no task of this frame"), (2.0, "a string")]),
    (
        "08-verdict",
        (),
        "inconclusive",
        [("equivalent", "past the margin"), ("worse", "chance"), ("same", "choose one")],
    ),
]


@pytest.mark.parametrize(("name", "given", "right", "wrong"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_a_check_takes_the_right_answer_and_says_what_is_wrong_with_others(checks, name, given, right, wrong):
    assert checks.check(name, right, *given).right
    for answer, told in [(None, "in place of None"), *wrong]:
        verdict = checks.check(name, answer, *given)
        assert not verdict.right, answer
        assert told in verdict.text
        assert "Not yet" in repr(verdict)
        assert "<script" not in checks.check(name, "<script>", *given)._repr_html_()


def test_every_exercise_has_a_check_and_answers_in_this_file(checks):
    asked = [name for path in LESSONS for name in re.findall(r'lesson_checks\.check\(\\"([\w-]+)\\"', path.read_text())]
    assert sorted(asked) == sorted(checks.CHECKS) == sorted(row[0] for row in ANSWERS)


def test_lessons_are_copied_whole_and_never_over_own_work(tmp_path: Path):
    folder = classroom(tmp_path / "lessons")
    names = {path.name for path in folder.iterdir()}
    assert {path.name for path in LESSONS} | {"lesson_checks.py", "tasks"} <= names
    (folder / LESSONS[0].name).write_text("mine")
    classroom(folder)
    assert (folder / LESSONS[0].name).read_text() == "mine"
