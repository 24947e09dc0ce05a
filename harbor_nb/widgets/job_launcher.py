"""Plan jobs by filling in a form, see the plan as it changes, and launch it."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import render
from harbor_nb.errors import HarborNbError
from harbor_nb.samples import sample_tasks
from harbor_nb.widgets.environment_picker import EnvironmentPicker
from harbor_nb.widgets.parts import Panel, call, literal, wrap

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
        on_launch: called with the `Jobs` that were started.

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
        on_launch: Callable[[Any], None] | None = None,
    ) -> None:
        self._jobs_dir = Path(jobs)
        self._on_launch = on_launch
        self._busy = threading.Lock()
        self._timer: threading.Timer | None = None
        start = Path(tasks) if tasks is not None else sample_tasks()
        wide = ipw.Layout(width="100%")
        self._tasks = ipw.Combobox(
            value=_named(start), description="Tasks", continuous_update=True, layout=wide,
            placeholder="a folder, or a dataset such as terminal-bench@2.0",
        )  # fmt: skip
        self._browse = ipw.Select(description="Browse", rows=6, layout=wide, options=[("", "")])
        self._agents = ipw.Textarea(
            value="oracle", description="Agents", rows=3, continuous_update=True, layout=wide,
            placeholder="one a line: agent, or agent and model",
        )  # fmt: skip
        self._add = ipw.Dropdown(options=["", *_AGENTS], description="Add agent")
        self.picker = EnvironmentPicker(environments)
        self.picker.layout.margin = "0"
        self.picker._code.layout.display = "none"  # the form's own line says it
        number = ipw.Layout(width="9em")
        self._fields = {
            "attempts": ipw.BoundedIntText(1, min=1, max=1000, description="Attempts", layout=number),
            "n_concurrent_trials": ipw.BoundedIntText(4, min=1, max=500, description="Concurrency", layout=number),
            "timeout_multiplier": ipw.BoundedFloatText(1.0, min=0.01, max=100, description="Timeouts ×", layout=number),
            "name": ipw.Text(description="Job name", placeholder="made for you", layout=ipw.Layout(flex="1 1 16em")),
        }
        self._practice = ipw.Checkbox(description="Practice clouds on this machine, no account", indent=False)
        self._preview = ipw.HTML()
        self._launch = ipw.Button(description="Launch", button_style="primary", icon="play", disabled=True)
        folders = ipw.Accordion(children=[self._browse], titles=("Browse folders",), selected_index=None)
        columns = [ipw.VBox([self._tasks, folders]), ipw.VBox([self._agents, self._add])]
        form = ipw.HBox(columns).add_class("hnb-form")
        numbers = wrap(*self._fields.values())
        super().__init__(form, self.picker, self._practice, numbers, self._preview, self._launch)
        for field in (self._tasks, self._agents, *self._fields.values(), self._practice, self.picker):
            field.observe(self._changed, "value")
        self._add.observe(self._add_agent, "value")
        self._browse.observe(lambda change: self._go(change["new"]) if change["new"] else None, "value")
        self._launch.on_click(lambda _: self.launch())
        self._show_folder(start if start.is_dir() else Path())
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
            **({"practice": True} if self._practice.value else {}),
            "jobs_dir": str(self._jobs_dir),
        }

    def refresh(self) -> Any:
        """Make the plan anew, show it and return it; None while it can't be made."""
        from harbor_nb.running.planning import plan

        turn, (typed,) = self._next(self._tasks)
        settings, (tasks, spelled) = self.settings, _spelled(typed.strip())
        line = call("plan", None, **settings) + ".launch()"
        self._show_code(line.replace("(None", f"({spelled}", 1))
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
        if not self._busy.acquire(blocking=False):
            return
        self._launch.disabled = True
        self._say("Starting …")

        self._behind(self._start)

    def _start(self) -> None:
        try:
            plan = self.plan or self.refresh()
            if plan is None:
                self._say("")
                return
            self.jobs = plan.launch()
        finally:
            _later(_AGAIN_SEC, self._ready)
        names = ", ".join(job.name for job in self.jobs)
        self._say(f"Launched {names}. It goes on without this notebook; harbor_nb.attach() finds it again.", "done")
        if self._on_launch:
            self._on_launch(self.jobs)

    def _ready(self) -> None:
        self._busy.release()
        self._launch.disabled = self.plan is None

    def _changed(self, _: Any) -> None:
        self.plan, self._launch.disabled = None, True  # Launch takes the form as it stands, never the plan before
        if self._timer:
            self._timer.cancel()
        self._timer = _later(_PAUSE_SEC, lambda: self._behind(self.refresh))

    def _add_agent(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self._agents.value = f"{self._agents.value.rstrip()}\n{change['new']}".lstrip()
            self._add.value = ""

    def _go(self, folder: str) -> None:
        self._tasks.value = _named(Path(folder))
        self._show_folder(Path(folder))

    def _show_folder(self, folder: Path) -> None:
        folder = folder.resolve()
        try:
            inside = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        except OSError as error:
            self._say(f"can't list {folder}: {error.strerror}", "error")
            return
        if (folder / "task.toml").exists():
            inside = []
        kinds = [(child, "  (task)" if (child / "task.toml").exists() else "/") for child in inside]
        marked = [(f"{child.name}{kind}", str(child)) for child, kind in kinds]
        self._browse.options = [(f"in {folder}", ""), ("../", str(folder.parent)), *marked[:500]]
        self._browse.value = ""
        places = [str(folder), *(path for _, path in marked[:100])]
        self._tasks.options = [_SAMPLES, *(_named(Path(place)) for place in places)]

    def _picture(self) -> dict[str, Any]:
        rows = list(map(list, self.settings.items()))
        return {"columns": ["setting", "value"], "rows": [["tasks", self._tasks.value], *rows], "text": self.about}

    def __repr__(self) -> str:
        return f"JobLauncher({self.code})"


def _later(seconds: float, work: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()
    return timer


def _named(folder: Path) -> str:
    if not folder.is_relative_to(sample_tasks()):
        return str(folder)
    return "/".join((_SAMPLES, *folder.relative_to(sample_tasks()).parts))


def _spelled(tasks: str) -> tuple[str, str]:
    if tasks != _SAMPLES and not tasks.startswith(f"{_SAMPLES}/"):
        return tasks, literal(tasks)
    inner = tasks.removeprefix(_SAMPLES).strip("/")
    spelled = "harbor_nb.sample_tasks()" + (f" / {literal(inner)}" if inner else "")
    return str(sample_tasks() / inner), spelled
