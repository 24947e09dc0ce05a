"""Filter, group, pivot and plot trials, and go from a row to what happened in its trial."""

import base64
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import clean, render
from harbor_nb.errors import BadInputError
from harbor_nb.results.frames import trajectory_steps
from harbor_nb.results.reading import UnreadableError, open_safely
from harbor_nb.results.summaries import SECONDS, summary
from harbor_nb.widgets.parts import Code, TrialsPanel, call, literal, wrap
from harbor_nb.widgets.table import Table, shown

_COLUMNS = {
    "trial": "key", "task": "long", "environment": "text", "agent": "text", "model": "text", "status": "state",
    "reward": "num", "total_sec": "sec", "failure": "text",
}  # fmt: skip
_GROUPS = ("environment", "agent", "model", "task", "job", "status", "failure", "fault")
_VALUES = ("reward", "total_sec", "agent_sec", "environment_setup_sec", "verifier_sec", "cost_usd", "tokens_out")
_PHASES = {name: words for name, words in SECONDS.items() if name != "total_sec"}
_FACTS = ("task", "environment", "agent", "model", "status", "reward", "exception", "message")
_IMAGES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp", ".svg": "svg+xml"}
_SHOWN_BYTES = 200_000
_IMAGE_BYTES = 4_000_000


class ResultsExplorer(TrialsPanel):
    """Trials to filter, group, pivot and plot; a chosen row opens its phases, steps, files and pictures.

    Args:
        trials: a jobs folder, a job, several, or a trials frame; None to begin empty.

    Example:
        >>> ResultsExplorer("jobs")  # doctest: +SKIP
    """

    title = "Results"
    about = "Filter, group and plot trials; choose a row for its steps, files and pictures."
    selected = t.Unicode("", help="The chosen row.")
    frame = t.Any(None, allow_none=True, help="The trials that are shown, as a DataFrame.")

    def __init__(self, trials: Any = "jobs") -> None:
        self._at: dict[str, Any] = {}
        hint, grow = 'reward < 1 and agent == "oracle"', {"flex": "1 1 20em"}
        self._query = ipw.Text(description="Where", placeholder=hint, continuous_update=False, layout=grow)
        first = ("environment", "agent")
        self._by = {name: ipw.Checkbox(name in first, description=name, indent=False) for name in _GROUPS}
        self._across = ipw.Dropdown(options=["", *_GROUPS], description="Across", layout={"width": "12em"})
        self._value = ipw.Dropdown(options=_VALUES, description="Value", layout={"width": "14em"})
        again = self._button("Refresh", "Read the jobs again", lambda: self.show(self._source))
        self._summary, self._plot = ipw.HTML(), ipw.HTML().add_class("hnb-picture")
        self._table = Table(columns=[{"label": "trial"}], label="Trials", noun="trial", empty="No trials here")
        self._stills = [self._summary]
        self._trial, self._content = ipw.HTML(), ipw.HTML()
        self._file = ipw.Dropdown(description="File", layout=grow)
        view = self._button("Open in Harbor's viewer", "harbor view", self._open_viewer)
        self._detail = ipw.VBox([self._trial, wrap(self._file, view), self._content], layout={"display": "none"})
        groups = ipw.HBox([ipw.Label("Group by"), *self._by.values()]).add_class("hnb-chips")
        controls = wrap(self._query, self._across, self._value, again)
        self._follow(self.refresh, self._query, *self._by.values(), self._across, self._value)
        self._file.observe(lambda _: self._show_file(), "value")
        super().__init__(trials, controls, groups, self._summary, self._plot, self._table, self._detail)
        t.link((self._table, "selected"), (self, "selected"))
        self.observe(lambda _: self._behind(self._open), "selected")

    def refresh(self) -> None:
        """Filter, group and draw anew with the settings as they stand."""
        boxes = self._by
        turn, (query, across, value, *on) = self._next(self._query, self._across, self._value, *boxes.values())
        by = [name for name, chosen in zip(boxes, on, strict=True) if chosen] or ["job"]
        if self._all is None:
            return
        try:
            frame = self._all.query(query, engine="python") if query.strip() else self._all
        except Exception as error:  # noqa: BLE001 - whatever pandas makes of what a person typed
            raise BadInputError(f"can't filter by {query!r}: {error}") from None
        whole = hasattr(self._source, "columns")
        source = self._trials_code if whole else Code(call("trials", self._trials_code))
        if query.strip():
            source = Code(f"{source}.query({literal(query)})")
        if across and across not in by:
            line = f'{source}.pivot_table({literal(value)}, index={literal(by)}, columns="{across}")'
            table = frame.pivot_table(value, index=by, columns=across, observed=True).reset_index()
        else:
            line = call("summary", source, by=by)
            table = summary(frame, by=by)
            told = table.notna() & (table.astype(str) != "")
            table = table[[name for name in table if name in by or (told[name].any() and name not in _PHASES)]]
        if turn != self._turn:  # the settings have changed meanwhile
            return
        none = "No trials here yet: launch a job, or name a folder that holds some."
        self._say("" if len(self._all) else none)
        self._show_code(line)
        self._fill(frame)
        self.frame = frame
        self._summary.value = render("widgets_grid", columns=list(table.columns), rows=_rows(table))
        self._update_snapshot()
        self._behind(lambda: self._draw(turn, frame, by, value))

    def _draw(self, turn: int, frame: Any, by: list[str], value: str) -> None:
        """Plot a dot a trial, and a bar for the mean of each group."""
        import altair as alt

        from harbor_nb.results.charts import Picture

        frame, words = frame.dropna(subset=[value]), value.replace("_", " ")
        if frame.empty:
            self._plot.value = ""
            return
        data = frame[value].astype(float).to_frame()
        data["group"] = frame[by].astype(str).agg(", ".join, axis=1).astype(object)
        x, y = alt.X(f"{value}:Q", title=words), alt.Y("group:N", title=None)
        spread = alt.Chart(data).mark_circle(opacity=0.6, size=28).transform_calculate(at="random()")
        dots = spread.encode(x=x, y=y, yOffset=alt.YOffset("at:Q", scale=alt.Scale(padding=6)))
        mean = alt.Chart(data).mark_tick(thickness=3, size=24, color="#d1495b").encode(x=f"mean({value}):Q", y=y)
        title = f"a dot a trial, a bar the mean of {words}"
        chart = (dots + mean).properties(width=520, height=alt.Step(34), title=title)
        svg = Picture(chart).svg
        if turn == self._turn:
            self._plot.value = svg

    def _fill(self, frame: Any) -> None:
        """Put the trials into the table; the first cell is the row's key, and names the job where there are several."""
        told = [name for name in _COLUMNS if self._all[name].notna().any()]
        cells = frame.reindex(columns=told or list(_COLUMNS)).astype(object)
        if self._all["job"].nunique() > 1:
            cells["trial"] = cells["trial"].astype(str) + " · " + frame["job"].astype(str)
        cells["task"] = cells["task"].astype(str).str.split("/").str[-1]
        self._at = dict(zip(map(shown, cells["trial"]), frame.index, strict=True))
        self._table.columns = [{"label": name, "kind": _COLUMNS[name]} for name in cells]
        self._table.show(_rows(cells, None))

    def _open(self) -> None:
        at = self._at.get(self.selected)
        self._detail.layout.display = "none" if at is None else ""
        if at is None:
            return
        there = self._all.loc[at].dropna()
        self._folder = Path(there["path"])
        phases = [(words, there[name]) for name, words in _PHASES.items() if name in there]
        facts = {name: there[name] for name in _FACTS if name in there}
        told = trajectory_steps(self._folder).head(200)
        steps = [dict(zip(told, values, strict=True)) for values in _rows(told)]
        self._trial.value = render("widgets_trial", trial=there["trial"], facts=facts, phases=phases, steps=steps)
        files = sorted(path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink())
        named = [(clean(path.relative_to(self._folder), 200), str(path)) for path in files[:2000]]
        self._file.options = named
        wanted = ("verifier/test-stdout.txt", "verifier/", "agent/", "result.json", "")
        self._file.value = next((value for part in wanted for name, value in named if name.startswith(part)), None)

    def _show_file(self) -> None:
        if self._file.value:
            self._content.value = show_file(Path(self._file.value), self._folder)

    def _open_viewer(self) -> None:
        from harbor_nb.running.handles import attach

        self._show_code(f"{call('attach', self._folder.parent)}.view()")
        frame = attach(self._folder.parent).view()
        told = f"Type in a terminal: harbor view {self._folder.parents[1]}"
        self._content.value = frame._repr_html_() if frame is not None else render("widgets_log", name="", text=told)


def show_file(path: Path, folder: Path) -> str:
    """Return a trial's file as safe HTML: a picture as an image, all else as bounded text."""
    name, kind = str(path.relative_to(folder)), _IMAGES.get(path.suffix.lower())
    try:
        stream, facts = open_safely(str(path))
    except UnreadableError as error:
        return render("widgets_log", name=name, text=f"can't be read: {error}")
    with stream:
        if kind and facts.st_size <= _IMAGE_BYTES:
            # an SVG inside <img> runs no script
            return render("widgets_image", name=name, kind=kind, data=base64.b64encode(stream.read()).decode())
        stream.seek(max(0, facts.st_size - _SHOWN_BYTES))
        text = stream.read(_SHOWN_BYTES).decode("utf-8", "replace")
    cut = f"… the last {_SHOWN_BYTES:,} of {facts.st_size:,} bytes\n" if facts.st_size > _SHOWN_BYTES else ""
    return render("widgets_log", name=name, text=cut + text)


def _rows(table: Any, missing: Any = "") -> list[list[Any]]:
    rows: list[list[Any]] = table.astype(object).where(table.notna(), missing).to_numpy().tolist()
    return rows
