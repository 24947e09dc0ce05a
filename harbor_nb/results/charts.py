"""Charts drawn as SVG and PNG without a network and without scripts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harbor_nb._display import clean, render
from harbor_nb.errors import BadInputError

if TYPE_CHECKING:
    import pandas as pd

_PHASES = {
    "environment_setup_sec": "environment setup", "agent_setup_sec": "agent setup", "agent_sec": "agent",
    "verifier_sec": "verifier", "teardown_sec": "teardown",
}  # fmt: skip
_MOST_TASKS = 40
"""A picture of more tasks could not be read; those that differ most are drawn, and the title says so."""


def _clean_all(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _clean_all(item) for name, item in value.items()}
    return [_clean_all(item) for item in value] if isinstance(value, list) else value


class Picture:
    """An Altair chart that shows itself as SVG wherever it is displayed."""

    def __init__(self, chart: Any, text: str = "chart") -> None:
        self.chart = chart
        self._text = text

    @property
    def _spec(self) -> Any:
        # cleaned: a terminal's control character in a task's name makes the SVG writer abort the whole process
        spec = _clean_all(self.chart.to_dict())
        texts = [text for rows in spec["datasets"].values() for row in rows for text in row.values()]
        longest = max((len(text) for text in texts if isinstance(text, str)), default=0)
        # room at the left: where the reader lacks our font, the usual other ones are up to a sixth wider
        spec["padding"] = {"left": 5 + min(longest, 80), "right": 5, "top": 5, "bottom": 5}
        for part, limit in {"axisY": 440, "legend": 300, "header": 250}.items():
            spec["config"].setdefault(part, {})["labelLimit"] = limit
        return spec

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self._spec))

    def save(self, path: str | Path) -> Path:
        """Write the picture; the ending (png, svg or html) chooses the format. None needs a network or runs scripts."""
        import vl_convert

        file = Path(path)
        if file.suffix not in {".png", ".svg", ".html"}:
            raise BadInputError(f"Can't write a picture as {file.name!r}; end its name in .png, .svg or .html.")
        if file.suffix == ".png":
            file.write_bytes(vl_convert.vegalite_to_png(self._spec, scale=2))
        elif file.suffix == ".svg":
            file.write_text(self.svg, encoding="utf-8")
        else:
            page = render("comparison_picture", text=self._text, svg=Markup(self.svg))  # noqa: S704 - drawn from cleaned text
            file.write_text(page, encoding="utf-8")
        return file

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": self._text}

    def __repr__(self) -> str:
        return self._text


def _side(trials: "pd.DataFrame") -> "pd.DataFrame":
    frame = trials.copy()
    frame["task"] = frame["task"].astype(str).str.split("/").str[-1]
    frame["side"] = frame["environment"].astype(str) + ", " + frame["agent"].astype(str)
    return frame


def rewards_chart(trials: "pd.DataFrame") -> Picture:
    """Draw the mean reward per task, a row of bars for each environment and agent."""
    import altair as alt

    known = _side(trials).dropna(subset=["reward"]).astype({"reward": float})
    means = known.pivot_table("reward", "task", "side")
    most = means.loc[means.max(axis=1).sub(means.min(axis=1)).nlargest(_MOST_TASKS).index.sort_values()]
    frame = most.melt(ignore_index=False, value_name="reward").dropna().reset_index()
    chart = alt.Chart(frame.astype({"side": object, "task": object}), width=180, height=alt.Step(18)).mark_bar().encode(
        x=alt.X("reward:Q", title="mean reward", scale=alt.Scale(domain=[0, 1])), y=alt.Y("task:N", title=None),
    )  # fmt: skip
    faceted = chart.facet(facet=alt.Facet("side:N", title=None), columns=4)
    if len(most) < len(means):
        faceted = faceted.properties(title=f"{len(most):,} of {len(means):,} tasks, those that differ most")
    return Picture(faceted, "mean reward per task")


def phases_chart(trials: "pd.DataFrame") -> Picture:
    """Draw the median seconds of each phase, stacked, per environment and agent."""
    import altair as alt

    present = [column for column in _PHASES if column in trials]
    long = _side(trials).melt(["side"], present, "phase", "seconds").dropna()
    long["phase"], long["seconds"] = long["phase"].map(_PHASES), long["seconds"].astype(float)
    frame = long.groupby(["side", "phase"], as_index=False)[["seconds"]].median()
    chart = alt.Chart(frame.astype({"side": object, "phase": object}), width=420).mark_bar().encode(
        x=alt.X("seconds:Q", title="median seconds a trial, phases stacked"), y=alt.Y("side:N", title=None),
        color=alt.Color("phase:N", sort=list(_PHASES.values())), order="color_phase_sort_index:Q",
    )  # fmt: skip
    return Picture(chart, "median seconds per phase")


def overview_chart(trials: "pd.DataFrame") -> Picture:
    """Draw rewards above phase times."""
    import altair as alt

    both = alt.vconcat(rewards_chart(trials).chart, phases_chart(trials).chart).resolve_scale(color="independent")
    return Picture(both, "rewards and phase times")


def _pairs_chart(comparison: Any) -> Any:
    import altair as alt

    known = comparison.pairs.dropna(subset=["difference"])
    sides = known["versus"].nunique()
    most = known.reindex(known["difference"].abs().sort_values(ascending=False, kind="stable").index)
    shown = most.head(_MOST_TASKS * sides).copy()
    for name in ("agent", "model"):
        if name in shown and shown[name].nunique() > 1:
            shown["task"] = shown["task"] + ", " + shown[name]
    tasks = {"task": shown["task"].astype(object), "versus": shown["versus"].astype(object)}
    frame = shown[["mean_baseline", "mean"]].astype(float).assign(**tasks)
    title = (
        f"{len(shown):,} of {len(known):,} pairs, those that differ most" if len(known) > len(shown) else "every pair"
    )
    dots = frame.melt(["task", "versus"], ["mean_baseline", "mean"], "which", "score")
    dots["side"] = dots["versus"].where(dots["which"] == "mean", comparison.baseline)
    y = alt.Y("task:N", title=None, sort=list(dict.fromkeys(frame["task"])))
    rule = alt.Chart(frame).mark_rule(color="#888").encode(x="mean_baseline:Q", x2="mean:Q", y=y)
    points = alt.Chart(dots).mark_point(size=70, filled=True, opacity=0.8).encode(
        x=alt.X("score:Q", title=f"mean {comparison.outcome} of the attempts"), y=y,
        color=alt.Color("side:N", title=comparison.by), shape=alt.Shape("side:N", title=comparison.by),
    )  # fmt: skip
    return alt.layer(rule, points, data=dots).properties(width=360, title=title)


def _interval_chart(frame: Any, x: str, y: str, title: str, marks: list[float], *, log: bool = False) -> Any:
    import altair as alt
    import pandas as pd

    scale = alt.Scale(type="log" if log else "linear", zero=False)
    labels = alt.Y(f"{y}:N", title=None, sort=None)
    base = alt.Chart(frame.astype({y: object}))
    line = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=scale, title=title), x2="high:Q", y=labels)
    dot = base.mark_point(filled=True, size=80).encode(x=alt.X(f"{x}:Q", scale=scale), y=labels)
    rules = [
        alt.Chart(pd.DataFrame({"at": [mark]})).mark_rule(strokeDash=[4, 4], color="#888").encode(x="at:Q")
        for mark in marks
    ]
    return alt.layer(line, dot, *rules).properties(width=360)


def _difference_chart(comparison: Any) -> Any:
    frame = comparison.table.dropna(subset=["difference"])
    frame = frame.assign(line=frame["side"] + ", missing " + frame["missing"])
    frame = frame[["line", "difference", "low", "high"]].astype({"difference": float, "low": float, "high": float})
    marks = [-comparison.margin, 0.0, comparison.margin]
    title = f"difference from {comparison.baseline}, 95 % interval; dashed: 0 and the margin"
    return _interval_chart(frame, "difference", "line", title, marks)


def _ratio_chart(comparison: Any) -> Any:
    frame = comparison.phases[["phase", "versus", "ratio", "low", "high"]].copy()
    several = frame["versus"].nunique() > 1
    frame["line"] = frame["phase"] + (", " + frame["versus"] if several else "")
    title = f"time or cost over {comparison.baseline}'s, paired, 95 % interval (log scale)"
    columns = frame[["line", "ratio", "low", "high"]].fillna({"low": frame["ratio"], "high": frame["ratio"]})
    return _interval_chart(columns, "ratio", "line", title, [1.0], log=True)


def _flips_chart(comparison: Any) -> Any:
    import altair as alt

    frame = comparison.flips[["versus", "flip", "pairs"]].astype({"versus": object, "flip": object})
    bars = alt.Chart(frame).mark_bar().encode(x=alt.X("pairs:Q"), y=alt.Y("flip:N", title=None, sort=None))
    header = alt.Header(labelOrient="top", labelAnchor="start")
    return bars.properties(width=360).facet(row=alt.Row("versus:N", title=None, header=header))


def comparison_chart(comparison: Any, kind: str = "all") -> Picture:
    """Draw a comparison.

    Args:
        comparison: What `compare` gave.
        kind: `pairs`, `phases`, `flips`, or `all`.

    Returns:
        The picture.

    Raises:
        BadInputError: Another kind.

    Example:
        >>> comparison_chart(compare("jobs"), "pairs").save("pairs.png")  # doctest: +SKIP
    """
    import altair as alt
    import pandas as pd

    kinds = {"pairs": [_difference_chart, _pairs_chart], "phases": [_ratio_chart], "flips": [_flips_chart]}
    if kind not in {*kinds, "all"}:
        raise BadInputError(f"No picture {kind!r}; there are 'pairs', 'phases', 'flips' and 'all'.")
    empty = {
        "pairs": not comparison.pairs["difference"].notna().any(),
        "phases": comparison.phases.empty,
        "flips": not comparison.flips["pairs"].any(),
    }
    drawn = [draw for name, draws in kinds.items() if kind in {name, "all"} and not empty[name] for draw in draws]
    title = clean(", ".join([*comparison.labels, repr(comparison)]), 120)
    if not drawn:
        return Picture(
            alt.Chart(pd.DataFrame({"at": [0]})).mark_text().encode(text=alt.value("no pair to draw")), title
        )
    chart = alt.vconcat(*(draw(comparison) for draw in drawn), title=title).resolve_scale(
        color="independent", shape="independent"
    )
    return Picture(chart, title)
