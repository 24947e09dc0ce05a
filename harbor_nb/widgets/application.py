"""All widgets as tabs."""

from pathlib import Path
from typing import Any

import ipywidgets as ipw

from harbor_nb.widgets.compare_view import CompareView
from harbor_nb.widgets.credentials_panel import CredentialsPanel
from harbor_nb.widgets.job_launcher import JobLauncher
from harbor_nb.widgets.job_monitor import JobMonitor
from harbor_nb.widgets.parts import Panel, call
from harbor_nb.widgets.results_explorer import ResultsExplorer

_TABS = ("Launch", "Credentials", "Monitor", "Results", "Compare")


class App(Panel):
    """Everything in one place: `launcher`, `credentials`, `monitor`, `results` and `comparison`, as tabs."""

    title = "Harbor"
    about = "Run agent tasks in sandboxes, watch them, and compare the results."

    def __init__(self, jobs: str | Path = "jobs", tasks: str | Path | None = None) -> None:
        self._folder = Path(jobs)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.launcher = JobLauncher(tasks, jobs)
        self.launcher.observe(self._launched, "jobs")
        self.credentials = CredentialsPanel()
        self.monitor = JobMonitor()
        self._stills = self.monitor._stills
        self.results = ResultsExplorer(None)
        self.comparison = CompareView(None)
        parts = [self.launcher, self.credentials, self.monitor, self.results, self.comparison]
        self._tabs = ipw.Tab(children=parts, titles=_TABS, selected_index=0)
        super().__init__(self._tabs)
        self._tabs.observe(lambda change: self._behind(lambda: self._opened(change["new"])), "selected_index")
        self._code.layout.display = "none"  # each part shows its own line
        self._show_code(call("app", str(jobs), **({"tasks": str(tasks)} if tasks else {})))

    def _launched(self, change: Any) -> None:
        self.monitor.watch(change["new"])
        self._tabs.selected_index = _TABS.index("Monitor")

    def _opened(self, index: int) -> None:
        # results and comparison read the folder when they come into sight, not behind the user's back
        if _TABS[index] == "Results":
            self.results.show(self._folder)
        elif _TABS[index] == "Compare":
            self.comparison.show(self._folder)


def app(jobs: str | Path = "jobs", tasks: str | Path | None = None) -> App:
    """Open everything as tabs: launch, credentials, monitor, results, compare.

    Args:
        jobs: the folder that jobs are written to and read from; made if it is missing.
        tasks: a task or dataset folder to begin with; the sample tasks by default.

    Returns:
        The widget; its parts are `launcher`, `credentials`, `monitor`, `results` and `comparison`.

    Example:
        >>> app()  # doctest: +SKIP
    """
    return App(jobs, tasks)
