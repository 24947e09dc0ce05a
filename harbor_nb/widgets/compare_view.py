"""Compare environments, agents, models or jobs by picking the factor and the baseline."""

import threading
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import clean, render
from harbor_nb.errors import HarborNbError
from harbor_nb.widgets.parts import TrialsPanel, call, wrap

FACTORS = ("environment", "agent", "model", "job")


class CompareView(TrialsPanel):
    """The comparison with its verdict, exclusions, flips and plots; pick factor, baseline and margin.

    Args:
        trials: a jobs folder, a job, several, or a trials frame; None to begin empty.
        by: the factor at first.
        margin: the largest difference in reward that counts as none.

    Example:
        >>> CompareView("jobs", by="environment")  # doctest: +SKIP
    """

    title = "Compare"
    about = "Do two settings give the same answer? Trials are paired; what can't be paired is listed."
    comparison = t.Any(None, allow_none=True, help="The Comparison that is shown.")

    def __init__(self, trials: Any = "jobs", by: str = "environment", margin: float = 0.05) -> None:
        self._choosing = threading.RLock()
        narrow = ipw.Layout(width="16em")
        self._by = ipw.Dropdown(options=FACTORS, value=by, description="Compare by", layout=narrow)
        self._baseline = ipw.Dropdown(options=[("automatic", None)], description="Baseline", layout=narrow)
        self._margin = ipw.BoundedFloatText(
            margin, min=0.001, max=1, step=0.01, description="Margin", layout=ipw.Layout(width="8em")
        )
        self._again = self._button("Refresh", "Read the jobs again", lambda: self.show(self._source))
        self._shown, self._plot = ipw.HTML(), ipw.HTML().add_class("hnb-picture")
        self._stills = [self._shown]
        self._by.observe(lambda _: self._opened(), "value")
        self._follow(self.refresh, self._by, self._baseline, self._margin)
        controls = wrap(self._by, self._baseline, self._margin, self._again)
        super().__init__(trials, controls, self._shown, self._plot)

    def refresh(self) -> None:
        """Compare anew with the settings as they stand."""
        from harbor_nb.results.comparison import compare

        turn, (by, baseline, margin) = self._next(self._by, self._baseline, self._margin)
        line = call("compare", self._trials_code, by=by, baseline=baseline, margin=margin if margin != 0.05 else None)
        try:
            made = compare(self._all, by=by, baseline=baseline, margin=margin)
            shown, plot = made._repr_html_(), made.plot().svg
        except HarborNbError as error:
            made, shown, plot = None, render("widgets_says", text=str(error), kind="note"), ""
        if turn == self._turn:  # else the settings have changed meanwhile
            self._show_code(line)
            self.comparison, self._shown.value, self._plot.value = made, shown, plot
            self._update_snapshot()

    def _opened(self) -> None:
        with self._choosing:  # the folder is read behind; what a person has chosen meanwhile stays
            if self._all is not None and self._by.value in self._all:
                levels = sorted(str(level) for level in self._all[self._by.value].dropna().unique())
                chosen = self._baseline.value
                self._baseline.options = [("automatic", None), *((clean(level, 80), level) for level in levels)]
                first = 0 if "docker" in levels or not levels else 1
                self._baseline.index = levels.index(chosen) + 1 if chosen in levels else first
