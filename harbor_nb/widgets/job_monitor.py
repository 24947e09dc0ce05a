"""Watch jobs as they run: progress, trials, rewards and faults; cancel and resume."""

import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import clean, render
from harbor_nb.errors import HarborNbError
from harbor_nb.running.handles import attach
from harbor_nb.widgets.parts import Panel, Pulse, call, wrap
from harbor_nb.widgets.table import Table, shown
from harbor_nb.widgets.watching import Watch

_TICK_SEC = 0.5
_PICTURE_TICKS = 10  # the saved picture is drawn anew every so many ticks
_COLUMNS = {
    "trial": "key", "task": "long", "agent": "text", "state": "state", "reward": "num", "time": "since",
    "message": "long",
}  # fmt: skip


class JobMonitor(Panel):
    """Jobs side by side, live: a bar a job, a table of trials, the faults with their fix, a trial's log.

    It never blocks a cell, and the jobs do not need it: after a kernel restart, make it anew.

    Args:
        jobs: a `Job`, `Jobs`, a job folder or several; nothing means all jobs that live.

    Example:
        >>> JobMonitor(harbor_nb.attach("jobs/first"))  # doctest: +SKIP
    """

    title = "Monitor"
    about = "Trials, rewards and faults as they come. The jobs go on without this notebook."
    selected = t.Unicode("", help="The chosen trial.")

    def __init__(self, jobs: Any = None) -> None:
        self._watches: list[Watch] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pulse = Pulse()
        self._bars = ipw.HTML()
        self._faults = ipw.HTML()
        columns = [{"label": label, "kind": kind} for label, kind in _COLUMNS.items()]
        self._table = Table(columns=columns, label="Trials", noun="trial", empty="No trial has started yet")
        self._stills = [self._bars, self._faults, self._table]
        self._which = ipw.Dropdown(description="Job", layout={"width": "22em"})
        cancel, resume = partial(self._act, "cancel"), partial(self._act, "resume", retry="failed")
        self._cancel = self._button("", "Stop gracefully; sandboxes are removed", cancel, icon="stop")
        self._resume = self._button("", "Run what is missing, was cancelled or failed", resume, icon="play")
        self._kind = ipw.ToggleButtons(options=["agent", "verifier", "trial"], description="Log")
        self._log = ipw.HTML()
        self._detail = ipw.VBox([self._kind, self._log], layout={"display": "none"})
        actions = wrap(self._which, self._cancel, self._resume, self._pulse)
        self._body = ipw.VBox([actions, self._faults, self._table, self._detail])
        super().__init__(self._bars, self._body)
        t.link((self._table, "selected"), (self, "selected"))
        self.observe(lambda _: self._show_log(), "selected")
        self._kind.observe(lambda _: self._show_log(), "value")
        self._which.observe(lambda _: self._name_buttons(), "value")
        self.watch(jobs)

    def watch(self, jobs: Any = None) -> None:
        """Watch other jobs from now on."""
        self.stop()
        if jobs is None or isinstance(jobs, str) or not hasattr(jobs, "__iter__"):
            jobs = attach() if jobs is None else [jobs]
        self._watches = [Watch(attach(job)) for job in jobs]
        self._cells: dict[tuple[Watch, str], list[Any]] = {}
        self._at: dict[str, tuple[Watch, str]] = {}  # by the key as the browser names it
        names = [watch.name for watch in self._watches]
        self._which.options = names if len(names) == 1 else ["all", *names]
        self._which.value = self._which.options[0]
        self._name_buttons()
        self._body.layout.display, self._which.layout.display = ("" if len(names) > n else "none" for n in (0, 1))
        found = [watch.job for watch in self._watches]
        self._show_code(call("attach", *found) if len(found) < 2 else call("JobMonitor", found))
        self._tick(0)
        stop = self._stop = threading.Event()
        self._thread = self._behind(lambda: self._keep_looking(stop))

    def stop(self) -> None:
        """Follow no longer; the jobs go on."""
        self._stop.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(5)

    def close(self) -> None:
        """Stop following and remove the widget from the page; the jobs go on."""
        self.stop()
        super().close()

    @property
    def done(self) -> bool:
        """Whether every job has come to its end."""
        return all(watch.ended for watch in self._watches)

    def _keep_looking(self, stop: threading.Event) -> None:
        number, pause = 0, _TICK_SEC
        while not stop.wait(pause) and not self.done:
            number += 1
            started = time.thread_time()
            with self._telling():  # one bad look must not end the watching
                self._tick(number)
            pause = max(_TICK_SEC, 25 * (time.thread_time() - started))  # 4 % of a core at most

    def _tick(self, number: int) -> None:
        self._draw([(watch, trial) for watch in self._watches for trial in watch.look()])
        self._pulse.beat(final=self.done)
        if number % 2 == 0 and self.selected and not self.done:
            self._show_log()
        if number % _PICTURE_TICKS == 0 or self.done:
            self._table.keep()
            self._update_snapshot()

    def _draw(self, changed: list[tuple[Watch, str]]) -> None:
        for watch, trial in changed:
            if trial in watch.rows:
                self._cells[watch, trial] = cells = self._row(watch, trial)
                self._at[shown(cells[0])] = (watch, trial)
            else:
                self._cells.pop((watch, trial), None)
        self._table.show(list(self._cells.values()))
        self._bars.value = render("widgets_jobs", jobs=self._watches)
        faults = sum((watch.faults() for watch in self._watches), Counter[Any]())
        self._faults.value = render("widgets_faults", faults=faults.most_common(5))
        self._cancel.disabled = self.done
        undone = [watch.counts() for watch in self._watches if watch.ended]
        self._resume.disabled = not any(count["pending"] or count["unscored"] for count in undone)

    def _row(self, watch: Watch, trial: str) -> list[Any]:
        row = watch.rows[trial]
        spent = row["since"] if row["seconds"] is None else row["seconds"]
        said = ": ".join(part for part in (row["exception"], row["message"]) if part)
        key = f"{trial} · {watch.name}" if len(self._watches) > 1 else trial
        task = str(row["task"] or "").rpartition("/")[2]
        return [key, task, row["agent"], row["state"], row["reward"], spent, said or None]

    def _chosen(self) -> list[Watch]:
        return [watch for watch in self._watches if self._which.value in ("all", watch.name)]

    def _name_buttons(self) -> None:
        """Say on each button whose it is: a page may hold several monitors."""
        chosen = self._chosen()
        what = clean(chosen[0].name, 40) if len(chosen) == 1 else f"all {len(chosen)} jobs"
        self._cancel.description, self._resume.description = f"Cancel {what}", f"Resume {what}"
        self._table.label = f"Trials of {what}"

    def _act(self, verb: str, **options: Any) -> None:
        again = verb == "resume"
        (self._resume if again else self._cancel).disabled = True
        wanted = [watch for watch in self._chosen() if watch.ended == again]
        line = call(verb, **options).removeprefix("harbor_nb")
        self._show_code("; ".join(call("attach", watch.job) + line for watch in wanted))
        self._say(f"{'Resuming' if again else 'Cancelling'} {', '.join(watch.name for watch in wanted)} …")
        for watch in wanted:
            getattr(watch.job, verb)(**options)
        doubts = "; ".join(filter(None, (watch.job.told for watch in wanted)))
        self._say("Resumed." if again else f"Cancelled; {doubts or 'nothing of it is left'}.", "done")
        if again:
            self.watch([watch.job for watch in self._watches])

    def _show_log(self) -> None:
        watch, trial = self._at.get(self.selected, (None, ""))
        self._detail.layout.display = "" if watch else "none"
        if watch:
            text = ""
            with suppress(OSError, HarborNbError):
                text = str(watch.job.trial(trial).log(self._kind.value, 200))
            self._log.value = render("widgets_log", name=f"{trial}, {self._kind.value} log", text=text[-60_000:])
