"""Where the sample tasks and the recorded jobs are: in the wheel, or in the checkout beside the package."""

import shutil
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    for folder in (_PACKAGE / "_shipped" / name, _PACKAGE.parent / "notebooks" / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"harbor_nb's {name!r} folder is missing; reinstall with: pip install --force-reinstall harbor-nb"
    )


def sample_tasks() -> Path:
    """Give the folder of the five sample tasks, which need only bash and python3 and run offline.

    Returns:
        A dataset folder: `hello-world`, `auth-token-race-condition`, `two-steps`, `report-artifact`, `flaky-network`.

    Raises:
        FileNotFoundError: the installation is incomplete.

    Example:
        >>> sorted(task.name for task in sample_tasks().iterdir())[0]
        'auth-token-race-condition'
    """
    return _shipped("tasks")


def sample_jobs() -> Path:
    """Give the jobs folder of the recorded jobs: real runs of the sample tasks, to learn from where nothing can run.

    Every frame made from it says so in its column `recorded`.

    Returns:
        A jobs folder, read only.

    Raises:
        FileNotFoundError: the installation is incomplete.

    Example:
        >>> sample_jobs().is_dir()
        True
    """
    return _shipped("recorded")


def copy_lessons(folder: str | Path) -> Path:
    """Copy the lessons, their checks and the sample tasks to a folder; files that are there already stay as they are.

    Args:
        folder: where to; made when missing.

    Returns:
        The folder.

    Example:
        >>> copy_lessons("harbor-lessons")  # doctest: +SKIP
    """
    source, target = _shipped("tasks").parent, Path(folder)
    for path in [*source.glob("*.ipynb"), *source.glob("*.py"), *(source / "tasks").rglob("*")]:
        copy = target / path.relative_to(source)
        if path.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    return target
