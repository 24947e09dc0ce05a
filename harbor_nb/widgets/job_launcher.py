"""Plan jobs by filling in a form, see the plan as it changes, and launch it."""

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import render
from harbor_nb.errors import HarborNbError
from harbor_nb.samples import sample_tasks
from harbor_nb.widgets.environment_picker import EnvironmentPicker
from harbor_nb.widgets.parts import Code, Panel, call, literal, wrap

_SAMPLES = "sample tasks"  # how the form names the folder that sample_tasks() gives
_PAUSE_SEC = 0.4  # of quiet typing before the plan is drawn anew
_AGAIN_SEC = 2.0  # a job starts so fast that the second half of a double click would start another
_AGENTS = "oracle nop claude-code codex gemini-cli opencode openhands terminus-2 mini-swe-agent aider goose".split()


class JobLauncher(Panel):
    """A form that makes a plan, shows what it would do as Python, command and YAML, and launches it.

    Args:
        tasks: a task, a folder of tasks, or a dataset's name; the sample tasks by default.
        jobs: the folder that new jobs are written to.
        environments: chosen at first.

    Example:
        >>> launcher = JobLauncher(environments=["local"])
        >>> launcher.code.startswith("harbor_nb.plan(")
        True
    """

    title = "Launch"
    about = "Which tasks, which agents, where. The plan below follows as you type; nothing starts before Launch."
    jobs = t.Any(None, allow_none=True, help="The Jobs that were launched last.")
    plan = t.Any(None, allow_none=True, help="The plan as the form stands, or None while it can't be made.")

    def __init__(
        self,
        tasks: str | Path | None = None,
        jobs: str | Path = "jobs",
        environments: Iterable[str] = ("local",),
    ) -> None:
        self._jobs_dir = str(jobs)
        self._busy = threading.Lock()
        wide, number = {"width": "100%"}, {"width": "9em"}
        where, hint = (
            _named(sample_tasks() if tasks is None else tasks),
            "a folder, or a dataset such as terminal-bench@2.0",
        )
        self._tasks = ipw.Combobox(where, description="Tasks", placeholder=hint, layout=wide)
        hint = "one a line: agent, or agent and model"
        self._agents = ipw.Textarea("oracle", description="Agents", placeholder=hint, rows=3, layout=wide)
        self._add = ipw.Dropdown(options=["", *_AGENTS], description="Add agent")
        self.picker = EnvironmentPicker(environments)
        self.picker._code.layout.display = "none"  # the form's own line says it
        self._fields = {
            "attempts": ipw.BoundedIntText(1, min=1, max=1000, description="Attempts", layout=number),
            "n_concurrent_trials": ipw.BoundedIntText(4, min=1, max=500, description="Concurrency", layout=number),
            "timeout_multiplier": ipw.BoundedFloatText(1.0, min=0.01, max=100, description="Timeouts ×", layout=number),
            "name": ipw.Text(description="Job name", placeholder="made for you", layout={"flex": "1 1 16em"}),
            "practice": ipw.Checkbox(description="Practice clouds on this machine, no account", indent=False),
        }
        self._preview = ipw.HTML()
        self._stills = [self._preview]
        self._launch = ipw.Button(description="Launch", button_style="primary", icon="play", disabled=True)
        form = ipw.HBox([self._tasks, ipw.VBox([self._agents, self._add])]).add_class("hnb-form")
        super().__init__(form, self.picker, wrap(*self._fields.values()), self._preview, self._launch)
        for field in (self._tasks, self._agents, *self._fields.values(), self.picker):
            field.observe(self._changed, "value")
        self._add.observe(self._add_agent, "value")
        self._launch.on_click(lambda _: self.launch())
        self.refresh()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `harbor_nb.plan` as the form stands."""
        lines = [line.split() for line in self._agents.value.splitlines() if line.strip()]
        agents: list[Any] = [words[0] if len(words) == 1 else (words[0], words[1]) for words in lines]
        told = {name: field.value for name, field in self._fields.items()}
        return {
            "agents": agents or ["oracle"],
            "environments": list(self.picker.value),
            **{name: value for name, value in told.items() if value and (name, value) != ("timeout_multiplier", 1)},
            "jobs_dir": self._jobs_dir,
        }

    def refresh(self) -> Any:
        """Make the plan anew, show it and return it; None while it can't be made."""
        from harbor_nb.running.planning import plan

        turn, (typed,) = self._next(self._tasks)
        settings, (tasks, spelled) = self.settings, _meant(typed.strip())
        self._tasks.options = [_SAMPLES, *_inside(tasks)]
        self._show_code(call("plan", spelled, **settings) + ".launch()")
        made, shown = None, ""
        try:
            made = plan(tasks, **settings)
            shown = made._repr_html_()
        except HarborNbError as error:
            shown = render("widgets_says", text=str(error), kind="error")
        if turn == self._turn:  # else a later plan is on its way
            self.plan, self._preview.value = made, shown
            self._launch.disabled = made is None or self._busy.locked()
        return made

    def launch(self) -> None:
        """Launch the plan; a second click while the first is at work, or while the job lives, starts nothing."""
        if self._busy.acquire(blocking=False):
            self._launch.disabled = True
            self._say("Starting …")
            self._behind(self._start)

    def _start(self) -> None:
        try:
            plan = self.plan or self.refresh()
            jobs = plan.launch() if plan else []
        finally:
            self._behind(self._ready)
        names = ", ".join(job.name for job in jobs)
        done = f"Launched {names}. It goes on without this notebook; harbor_nb.attach() finds it again."
        self._say(done if plan else "", "done")
        if plan:
            self.jobs = jobs

    def _ready(self) -> None:
        time.sleep(_AGAIN_SEC)
        self._busy.release()
        self._launch.disabled = self.plan is None

    def _changed(self, _: Any) -> None:
        self.plan, self._launch.disabled = None, True  # Launch takes the form as it stands, never the plan before
        turn, _ = self._next()
        self._behind(lambda: self._settle(turn))

    def _settle(self, turn: int) -> None:
        time.sleep(_PAUSE_SEC)
        if turn == self._turn:
            self.refresh()

    def _add_agent(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self._agents.value = f"{self._agents.value.rstrip()}\n{change['new']}".lstrip()
            self._add.value = ""


def _named(folder: str | Path) -> str:
    """Name a folder as the form does, which says where the sample tasks are in words."""
    return str(folder).replace(str(sample_tasks()), _SAMPLES)


def _meant(typed: str) -> tuple[str, Code]:
    """Give what the form's tasks are for `plan`, and in a line of Python."""
    name, _, inner = typed.partition("/")
    if name != _SAMPLES:
        return typed, Code(literal(typed))
    return str(sample_tasks() / inner), Code("harbor_nb.sample_tasks()" + (f" / {literal(inner)}" if inner else ""))


def _inside(typed: str) -> list[str]:
    """Give the folders in a folder, or beside what is half typed, to go on with."""
    with suppress(OSError):
        folder = Path(typed) if Path(typed).is_dir() else Path(typed).parent
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        return [_named(path) for path in inside[:500] if not (folder / "task.toml").exists()]
    return []
