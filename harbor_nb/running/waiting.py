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
_Draw = Callable[[], None]


def wait(jobs: "Sequence[Job]", timeout: float | None, progress: bool) -> None:
    """Wait until all have ended; an interrupt stops the waiting, not the jobs."""
    end = None if timeout is None else time.monotonic() + timeout
    place, every_sec = (
        (_notebook, 1.0) if in_notebook() else (_bars, POLL_SEC) if sys.stdout.isatty() else (_lines, 5.0)
    )
    next_at = 0.0
    try:
        with place(jobs) if progress else contextlib.nullcontext(lambda: None) as draw:
            while any(job.state in LIVE for job in jobs):
                if end is not None and time.monotonic() > end:
                    raise TimeoutError(f"{', '.join(job.name for job in jobs)} still running after {timeout} s")
                if time.monotonic() >= next_at:
                    draw()
                    next_at = time.monotonic() + every_sec
                time.sleep(POLL_SEC)
            draw()
    except KeyboardInterrupt:
        print("stopped waiting; the jobs go on. harbor_nb.attach() finds them again")  # noqa: T201


def in_notebook() -> bool:
    """Tell whether this runs in a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def table(jobs: "Sequence[Job]") -> str:
    """Give jobs as an HTML table, a row each."""
    shown = [{name: getattr(job, name) for name in ("name", "state", "counts", "told")} for job in jobs[:SHOWN]]
    return render("jobs", jobs=shown, more=max(0, len(jobs) - SHOWN))


def _step(job: "Job") -> tuple[int, int, str]:
    counts = job.counts
    done, total = counts["completed"], counts["total"]
    failed = f" ({counts['errored']} failed)" * (counts["errored"] > 0)
    return done, total, f"{clean(job.name, 120)} {done}/{total}{failed}"


def _line(jobs: "Sequence[Job]") -> str:
    return "  ".join(_step(job)[2] for job in jobs)


@contextlib.contextmanager
def _notebook(jobs: "Sequence[Job]") -> Iterator[_Draw]:
    """Show a widget, with HTML for front ends that have none; what stays in the notebook is the HTML alone."""
    import ipywidgets as ipw
    from IPython.display import display

    progress = ipw.HTML()
    model = {"version_major": 2, "version_minor": 0, "model_id": progress.model_id}
    view = {"application/vnd.jupyter.widget-view+json": model}

    def picture() -> dict[str, Any]:
        progress.value = table(jobs)
        return {"text/html": progress.value, "text/plain": _line(jobs)}

    shown = [picture()]
    handle = display(shown[0] | view, raw=True, display_id=True)

    def draw() -> None:
        if (fresh := picture()) != shown[0]:
            shown[0] = fresh
            handle.update(fresh | view, raw=True)

    try:
        yield draw
    finally:
        handle.update(picture(), raw=True)
        for widget in (progress, progress.layout, progress.style):  # a saved notebook needs no model
            widget.close()


@contextlib.contextmanager
def _bars(jobs: "Sequence[Job]") -> Iterator[_Draw]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()) as bars:
        tasks = [(job, bars.add_task(job.name, total=None)) for job in jobs]

        def draw() -> None:
            for job, task in tasks:
                done, total, told = _step(job)
                bars.update(task, completed=done, total=total or None, description=f"{told}, {job.state}")

        yield draw


@contextlib.contextmanager
def _lines(jobs: "Sequence[Job]") -> Iterator[_Draw]:
    shown = [""]

    def draw() -> None:
        if (said := _line(jobs)) != shown[0]:
            shown[0] = said
            print(said, flush=True)  # noqa: T201 - the progress that was asked for

    yield draw
