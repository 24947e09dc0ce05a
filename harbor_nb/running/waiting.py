"""Wait for jobs, and show their progress: bars in a terminal, a widget or HTML in a notebook, lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harbor_nb._display import clean, render
from harbor_nb.running.owner import LIVE

if TYPE_CHECKING:
    from harbor_nb.running.job import Job

POLL_SEC = 0.1
SHOWN = 50
_Facts = list[dict[str, Any]]
_Draw = Callable[[_Facts], None]


def wait(jobs: "Sequence[Job]", timeout: float | None, progress: bool) -> None:
    """Wait until all have ended; an interrupt stops the waiting, not the jobs."""
    end = None if timeout is None else time.monotonic() + timeout
    place, every_sec = (
        (_notebook, 1.0) if in_notebook() else (_bars, POLL_SEC) if sys.stdout.isatty() else (_lines, 5.0)
    )
    shown: _Facts = []
    next_at, live = 0.0, True
    try:
        with place(_facts(jobs)) if progress else contextlib.nullcontext(lambda _: None) as draw:
            while live:
                live = any(job.state in LIVE for job in jobs)
                if live and end is not None and time.monotonic() > end:
                    raise TimeoutError(f"{', '.join(job.name for job in jobs)} still running after {timeout} s")
                if (not live or time.monotonic() >= next_at) and (fresh := _facts(jobs)) != shown:
                    shown, next_at = fresh, time.monotonic() + every_sec
                    draw(shown)
                time.sleep(POLL_SEC * live)
    except KeyboardInterrupt:
        print("stopped waiting; the jobs go on. harbor_nb.attach() finds them again")  # noqa: T201 - who interrupts reads it


def in_notebook() -> bool:
    """Tell whether this runs in a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def table(jobs: "Sequence[Job]") -> str:
    """Give jobs as an HTML table, a row each."""
    return _table(_facts(jobs))


def _facts(jobs: "Sequence[Job]") -> _Facts:
    return [{name: getattr(job, name) for name in ("name", "state", "counts", "told")} for job in jobs]


def _table(jobs: _Facts) -> str:
    return render("jobs", jobs=jobs[:SHOWN], more=max(0, len(jobs) - SHOWN))


def _line(job: dict[str, Any]) -> str:
    counts = job["counts"]
    failed = f" ({counts['errored']} failed)" * (counts["errored"] > 0)
    done = f" {counts['completed']}/{counts['total']}{failed}," * (counts["total"] > 0)
    return f"{clean(job['name'], 120)}{done} {job['state']}"


def _text(jobs: _Facts) -> str:
    return "  ".join(map(_line, jobs))


@contextlib.contextmanager
def _notebook(jobs: _Facts) -> Iterator[_Draw]:
    """Show a widget, with HTML for front ends that have none; what stays in the notebook is the HTML alone."""
    import ipywidgets as ipw
    from IPython.display import display

    progress = ipw.HTML()
    model = {"version_major": 2, "version_minor": 0, "model_id": progress.model_id}
    view = {"application/vnd.jupyter.widget-view+json": model}

    still: dict[str, Any] = {}

    def picture(jobs: _Facts) -> dict[str, Any]:
        progress.value = _table(jobs)
        still.update({"text/html": progress.value, "text/plain": _text(jobs)})
        return still | view

    handle = display(picture(jobs), raw=True, display_id=True)
    try:
        yield lambda jobs: handle.update(picture(jobs), raw=True)
    finally:
        handle.update(still, raw=True)
        for widget in (progress, progress.layout, progress.style):  # a saved notebook needs no model
            widget.close()


@contextlib.contextmanager
def _bars(jobs: _Facts) -> Iterator[_Draw]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()) as bars:
        for job in jobs:
            bars.add_task(_line(job), total=None)

        def draw(jobs: _Facts) -> None:
            for task, job in zip(bars.task_ids, jobs, strict=True):
                done, total = job["counts"]["completed"], job["counts"]["total"]
                bars.update(task, completed=done, total=total or None, description=_line(job))

        yield draw


@contextlib.contextmanager
def _lines(_: _Facts) -> Iterator[_Draw]:
    printed = [""]

    def draw(jobs: _Facts) -> None:
        if (text := _text(jobs)) != printed[-1]:
            printed.append(text)
            print(text, flush=True)  # noqa: T201 - the progress that was asked for

    yield draw
