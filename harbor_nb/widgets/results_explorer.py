"""Filter, group, pivot and plot trials, and go from a row to what happened in its trial."""

import base64
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import traitlets as t

from harbor_nb._display import clean, render
from harbor_nb.widgets.parts import Panel, Table, call, clean_cells, literal

COLUMNS = {
    "trial": {"width": "minmax(18em, 2fr)"}, "job": {"width": "minmax(9em, 1fr)"},
    "task": {"width": "minmax(12em, 1fr)"}, "environment": {"width": "9em"}, "agent": {"width": "8em"},
    "model": {"width": "minmax(6em, 1fr)"}, "status": {"kind": "state", "width": "9em"},
    "reward": {"kind": "num", "width": "6em"}, "total_sec": {"kind": "sec", "width": "7em"},
    "failure": {"width": "minmax(8em, 1fr)"},
}  # fmt: skip
_GROUPS = ("environment", "agent", "model", "task", "job", "status", "failure", "fault")
_VALUES = ("reward", "total_sec", "agent_sec", "environment_setup_sec", "verifier_sec", "cost_usd", "tokens_out")
PHASES = ("environment_setup_sec", "agent_setup_sec", "agent_sec", "verifier_sec", "teardown_sec")
_FACTS = ("task", "environment", "agent", "model", "status", "reward", "exception", "message")
_IMAGES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp", ".svg": "svg+xml"}
_SHOWN_BYTES = 200_000
_IMAGE_BYTES = 4_000_000


class ResultsExplorer(Panel):
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
        self._source = trials
        self._all: Any = None
        self._at: dict[str, Any] = {}
        self._query = ipw.Text(
            description="Where", placeholder='reward < 1 and agent == "oracle"', continuous_update=False,
            layout=ipw.Layout(flex="1 1 20em"),
        )  # fmt: skip
        first = ("environment", "agent")
        self._by = {name: ipw.Checkbox(name in first, description=name, indent=False) for name in _GROUPS}
        self._across = ipw.Dropdown(options=["", *_GROUPS], description="Across", layout=ipw.Layout(width="12em"))
        self._value = ipw.Dropdown(options=_VALUES, description="Value", layout=ipw.Layout(width="14em"))
        self._again = ipw.Button(description="Refresh", tooltip="Read the jobs again")
        self._summary, self._plot = ipw.HTML(), ipw.HTML()
        self._table = Table(columns=[{"label": "trial"}], label="Trials", noun="trial", empty="No trials here")
        self._trial = ipw.HTML()
        self._file = ipw.Dropdown(description="File", layout=ipw.Layout(flex="1 1 20em"))
        self._content = ipw.HTML()
        self._view = ipw.Button(description="Open in Harbor's viewer", tooltip="harbor view")
        files = ipw.HBox([self._file, self._view]).add_class("hnb-wrap")
        self._detail = ipw.VBox([self._trial, files, self._content])
        self._detail.layout.display = "none"
        controls = ipw.HBox([self._query, self._across, self._value, self._again]).add_class("hnb-wrap")
        groups = ipw.HBox([ipw.Label("Group by"), *self._by.values()]).add_class("hnb-chips")
        self._plot.add_class("hnb-picture")
        super().__init__(controls, groups, self._summary, self._plot, self._table, self._detail)
        t.link((self._table, "selected"), (self, "selected"))
        self.observe(lambda _: self._behind(self._open), "selected")
        for field in (self._query, *self._by.values(), self._across, self._value):
            field.observe(lambda _: self._behind(self.refresh), "value")
        self._again.on_click(lambda _: self._behind(lambda: self.show(self._source)))
        self._file.observe(lambda _: self._show_file(), "value")
        self._view.on_click(lambda _: self._behind(self._open_viewer, self._show_viewer))
        if trials is not None:
            self.show(trials)

    def show(self, trials: Any) -> None:
        """Explore other trials from now on."""
        self._source, self._all = trials, self._read(trials)
        self.refresh()

    def refresh(self) -> None:
        """Filter, group and draw anew with the settings as they stand."""
        frame, boxes = self._all, self._by
        turn, (query, across, value, *on) = self._next(self._query, self._across, self._value, *boxes.values())
        by = [name for name, chosen in zip(boxes, on, strict=True) if chosen]
        if frame is None:
            return
        source = "trials" if hasattr(self._source, "columns") else call("trials", str(self._source))
        try:
            frame = frame.query(query, engine="python") if query.strip() else frame
        except Exception as error:  # noqa: BLE001 - whatever pandas makes of what a person typed
            self._say(f"can't filter by {query!r}: {error}", "error")
            return
        where = f".query({literal(query)})" if query.strip() else ""
        if across and by and across not in by:
            line = f'{source}{where}.pivot_table({literal(value)}, index={literal(by)}, columns="{across}")'
            table = frame.pivot_table(value, index=by, columns=across, observed=True).reset_index()
        else:
            line = f"harbor_nb.summary({source}{where}, by={literal(by or ['job'])})"
            table = _summary(frame, by or ["job"])
        if turn != self._turn:  # the settings have changed meanwhile
            return
        self._say("")
        self._show_code(line)
        one = self._all["job"].nunique() < 2
        told = [name for name in COLUMNS if self._all[name].notna().any() and not (one and name == "job")]
        cells = frame.reindex(columns=told or list(COLUMNS)).astype(object)
        # the first cell is the row's key, so it names the job too; the folder of each key is kept beside
        cells["trial"] = cells["trial"].astype(str) + ("" if one else " · " + frame["job"].astype(str))
        cells["task"] = cells["task"].astype(str).str.split("/").str[-1]
        self._at = dict(zip(clean_cells(list(cells["trial"])), frame.index, strict=True))
        self._table.columns = [{"label": name, **COLUMNS[name]} for name in cells]
        self._table.show(cells.where(cells.notna(), None).to_numpy().tolist())
        self.frame, self._grouped = frame, table
        self._summary.value = render("widgets_grid", columns=list(table.columns), rows=_rows(table))
        self._update_snapshot()
        draw = partial(_plot, frame, by or ["job"], value)
        self._behind(draw, lambda svg: setattr(self._plot, "value", svg) if turn == self._turn else None)

    def _open(self) -> None:
        at = self._at.get(self.selected)
        self._detail.layout.display = "none" if at is None else ""
        if at is None:
            return
        row = self._all.loc[at]
        self._folder = Path(row["path"])
        there = row.notna()
        phases = [(name[:-4].replace("_", " "), row[name]) for name in PHASES if there[name]]
        steps = _steps(self._folder)
        facts = {name: row[name] for name in _FACTS if there[name]}
        self._trial.value = render("widgets_trial", trial=row["trial"], facts=facts, phases=phases, steps=steps)
        files = sorted(path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink())
        named = [(clean(path.relative_to(self._folder), 200), str(path)) for path in files[:2000]]
        self._file.options = named
        wanted = ("verifier/test-stdout.txt", "verifier/", "agent/", "result.json")
        best = next((value for part in wanted for name, value in named if name.startswith(part)), None)
        self._file.value = best or (named[0][1] if named else None)

    def _show_file(self) -> None:
        if self._file.value:
            self._content.value = show_file(Path(self._file.value), self._folder)

    def _open_viewer(self) -> Any:
        from harbor_nb.running.handles import attach

        self._show_code(f"{call('attach', str(self._folder.parent))}.view()")
        return attach(self._folder.parent).view()

    def _show_viewer(self, frame: Any) -> None:
        told = f"Type in a terminal: harbor view {self._folder.parents[1]}"
        self._content.value = frame._repr_html_() if frame is not None else render("widgets_log", name="", text=told)

    def _picture(self) -> dict[str, Any]:
        table = getattr(self, "_grouped", None)
        if table is None:
            return {"columns": [], "rows": [], "text": "No trials here"}
        return {"columns": list(table.columns), "rows": _rows(table), "text": f"{len(self.frame)} trials"}

    def __repr__(self) -> str:
        return f"ResultsExplorer({0 if self.frame is None else len(self.frame)} trials)"


def show_file(path: Path, folder: Path) -> str:
    """Return a trial's file as safe HTML: a picture as an image, all else as bounded text."""
    name = str(path.relative_to(folder))
    try:
        size = path.stat().st_size
        kind = _IMAGES.get(path.suffix.lower())
        if kind and size <= _IMAGE_BYTES:
            # an SVG inside <img> runs no script
            data = base64.b64encode(path.read_bytes()).decode()
            return render("widgets_image", name=name, kind=kind, data=data)
        with path.open("rb") as stream:
            if size > _SHOWN_BYTES:
                stream.seek(-_SHOWN_BYTES, 2)
            text = stream.read(_SHOWN_BYTES).decode("utf-8", "replace")
    except OSError as error:
        text = f"can't be read: {error.strerror}"
        size = 0
    cut = f"… the last {_SHOWN_BYTES:,} of {size:,} bytes\n" if size > _SHOWN_BYTES else ""
    return render("widgets_log", name=name, text=cut + text)


def _steps(folder: Path) -> list[dict[str, Any]]:
    from harbor_nb.results.frames import trajectory_steps

    frame = trajectory_steps(folder).head(200).astype(object)
    return [{str(k): v for k, v in record.items()} for record in frame.where(frame.notna(), "").to_dict("records")]


def _summary(frame: Any, by: list[str]) -> Any:
    from harbor_nb.results.summaries import summary

    table = summary(frame, by=by).reset_index(drop=False).drop(columns="index", errors="ignore")
    told = table.notna() & (table.astype(str) != "")
    return table[[name for name in table if name in by or (told[name].any() and name not in PHASES)]]


def _rows(table: Any) -> list[list[Any]]:
    rows: list[list[Any]] = table.astype(object).where(table.notna(), "").to_numpy().tolist()
    return rows


def _plot(frame: Any, by: list[str], value: str) -> str:
    import altair as alt

    from harbor_nb.results.charts import Picture

    data = frame[value].astype(float).to_frame()
    data["group"] = frame[by].astype(str).agg(", ".join, axis=1).astype(object)
    data = data.dropna()
    if data.empty:
        return ""
    x, y = alt.X(f"{value}:Q", title=value.replace("_", " ")), alt.Y("group:N", title=None)
    spread = alt.Chart(data).mark_circle(opacity=0.35, size=28).transform_calculate(at="random()")
    dots = spread.encode(x=x, y=y, yOffset=alt.YOffset("at:Q", scale=alt.Scale(padding=6)))
    mean = alt.Chart(data).mark_tick(thickness=3, size=24, color="#d1495b").encode(x=f"mean({value}):Q", y=y)
    title = f"a dot a trial, a bar the mean of {value.replace('_', ' ')}"
    return Picture((dots + mean).properties(width=520, height=alt.Step(34), title=title), f"{value} by {by}").svg
