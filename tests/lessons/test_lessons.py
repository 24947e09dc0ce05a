"""Every lesson runs from top to bottom with no account, its solution passes its own check, and the file stays small."""

import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
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
    return "\n".join(str(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in cell.outputs)


@pytest.mark.local
@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs_and_its_solution_is_right(path: Path, tmp_path: Path):
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
    finished = folder / "executed.ipynb"
    nbformat.write(book, finished)
    assert finished.stat().st_size <= 300_000, f"{finished.stat().st_size} bytes with outputs"


def test_every_exercise_has_a_check_and_every_check_an_exercise():
    asked = [name for path in LESSONS for name in re.findall(r'lesson_checks\.check\(\\"([\w-]+)\\"', path.read_text())]
    import sys

    sys.path.insert(0, str(ROOT / "notebooks"))
    try:
        import lesson_checks
    finally:
        sys.path.remove(str(ROOT / "notebooks"))
    assert sorted(asked) == sorted(lesson_checks.CHECKS)


def test_lessons_are_copied_whole_and_never_over_own_work(tmp_path: Path):
    folder = classroom(tmp_path / "lessons")
    names = {path.name for path in folder.iterdir()}
    assert {path.name for path in LESSONS} | {"lesson_checks.py", "tasks"} <= names
    (folder / LESSONS[0].name).write_text("mine")
    classroom(folder)
    assert (folder / LESSONS[0].name).read_text() == "mine"
    shutil.rmtree(folder)
