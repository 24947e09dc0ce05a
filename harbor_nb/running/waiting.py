"""Progress of jobs while one waits: bars in a terminal, a picture that is drawn anew in a notebook, lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harbor_nb.running.handles import Jobs

_LINE_SEC = 5


def line(jobs: "Jobs") -> str:
    """Give one line that counts, for a place that can't be drawn anew."""
    told = [(job.name, job.counts) for job in jobs]
    return "  ".join(
        f"{name} {c['completed']}/{c['total']}" + f" ({c['errored']} failed)" * (c["errored"] > 0) for name, c in told
    )


def in_notebook() -> bool:
    """Tell whether this runs in a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


@contextlib.contextmanager
def progress(jobs: "Jobs", wanted: bool) -> Iterator[Callable[[], None]]:
    """Yield what draws the progress of `jobs` as it is now."""
    if not wanted:
        yield lambda: None
    elif in_notebook():
        from IPython.display import HTML, display

        drawn = [jobs._repr_html_()]
        handle = display(HTML(drawn[0]), display_id=True)

        def draw() -> None:
            if (html := jobs._repr_html_()) != drawn[0]:
                drawn[0] = html
                handle.update(HTML(html))

        yield draw
        draw()
    elif sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
            tasks = [(job, bars.add_task(job.name, total=None)) for job in jobs]

            def advance() -> None:
                for job, task in tasks:
                    counts = job.counts
                    said = f"{job.name} {job.state}" + f", {counts['errored']} failed" * (counts["errored"] > 0)
                    bars.update(task, completed=counts["completed"], total=counts["total"] or None, description=said)

            yield advance
            advance()
    else:
        shown, next_at = [""], [0.0]

        def tell(pause: float = _LINE_SEC) -> None:
            if (said := line(jobs)) != shown[0] and time.monotonic() >= next_at[0] - _LINE_SEC + pause:
                shown[0], next_at[0] = said, time.monotonic() + _LINE_SEC
                print(said, flush=True)  # noqa: T201 - the progress that was asked for

        yield tell
        tell(0)
