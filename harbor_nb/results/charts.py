"""Charts drawn as SVG and PNG without a network and without scripts."""

import math
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert
from markupsafe import Markup

from harbor_nb._display import clean, render
from harbor_nb.errors import BadInputError
from harbor_nb.results.summaries import SECONDS

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
        texts = [text for rows in spec.get("datasets", {}).values() for row in rows for text in row.values()]
        longest = max((len(text) for text in texts if isinstance(text, str)), default=0)
        # room at both sides: where the reader lacks our font, the usual other ones are up to a sixth wider
        spec["padding"] = {"left": 5 + min(longest, 80), "right": 25, "top": 5, "bottom": 5}
        for part, limit in {"axisY": 440, "legend": 300, "header": 250}.items():
            spec.setdefault("config", {}).setdefault(part, {})["labelLimit"] = limit
        return spec

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        return str(vl_convert.vegalite_to_svg(self._spec))

    def save(self, path: str | Path) -> Path:
        """Write the picture; the ending (png, svg or html) chooses the format. None needs a network or runs scripts."""
        file = Path(path)
        if file.suffix == ".png":
            content = vl_convert.vegalite_to_png(self._spec, scale=2)
        elif file.suffix == ".svg":
            content = self.svg.encode()
        elif file.suffix == ".html":
            content = render("comparison_picture", text=self._text, svg=Markup(self.svg)).encode()  # noqa: S704 - cleaned
        else:
            raise BadInputError(f"Can't write a picture as {file.name!r}; end its name in .png, .svg or .html.")
        file.write_bytes(content)
        return file

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": self._text}

    def __repr__(self) -> str:
        return self._text


def _side(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.assign(side=trials["environment"].astype(str) + ", " + trials["agent"].astype(str))


def rewards_chart(trials: pd.DataFrame) -> Picture:
    """Draw the mean reward per task, a row of bars for each environment and agent."""
    known = _side(trials).dropna(subset=["reward"]).astype({"reward": float})
    means = known.pivot_table("reward", "task", "side")
    most = means.loc[means.max(axis=1).sub(means.min(axis=1)).nlargest(_MOST_TASKS).index.sort_values()]
    frame = most.melt(ignore_index=False, value_name="reward").dropna().reset_index()
    chart = alt.Chart(frame.astype({"side": object, "task": object}), width=180, height=alt.Step(18)).mark_bar().encode(
        x=alt.X("reward:Q", title="mean reward", scale=alt.Scale(domain=[0, 1])), y=alt.Y("task:N", title=None),
    )  # fmt: skip
    sides = frame["side"].nunique()
    across = math.ceil(sides / math.ceil(sides / 4)) if sides else 1  # even rows: a gap would have an axis of nothing
    faceted = chart.facet(facet=alt.Facet("side:N", title=None), columns=across)
    if len(most) < len(means):
        faceted = faceted.properties(title=f"{len(most):,} of {len(means):,} tasks, those that differ most")
    return Picture(faceted, "mean reward per task")


def phases_chart(trials: pd.DataFrame) -> Picture:
    """Draw the median seconds of each phase, stacked, per environment and agent."""
    phases = {name: words for name, words in SECONDS.items() if name in trials and name != "total_sec"}
    long = _side(trials).melt(["side"], list(phases), "phase", "seconds").dropna()
    long["phase"], long["seconds"] = long["phase"].map(phases), long["seconds"].astype(float)
    frame = long.groupby(["side", "phase"], as_index=False)[["seconds"]].median()
    chart = alt.Chart(frame.astype({"side": object, "phase": object}), width=420).mark_bar().encode(
        x=alt.X("seconds:Q", title="median seconds a trial, phases stacked"), y=alt.Y("side:N", title=None),
        color=alt.Color("phase:N", sort=list(phases.values())), order="color_phase_sort_index:Q",
    )  # fmt: skip
    return Picture(chart, "median seconds per phase")


def overview_chart(trials: pd.DataFrame) -> Picture:
    """Draw rewards above phase times."""
    both = alt.vconcat(rewards_chart(trials).chart, phases_chart(trials).chart).resolve_scale(color="independent")
    return Picture(both, "rewards and phase times")


def _pairs_chart(comparison: Any) -> Any:
    known = comparison.pairs.dropna(subset=["difference"])
    most = known.loc[known["difference"].abs().sort_values(ascending=False, kind="stable").index]
    shown = most.head(_MOST_TASKS * known["versus"].nunique()).astype({"mean_baseline": float, "mean": float})
    title = f"{len(shown):,} of {len(known):,} pairs, those that differ most"
    for name in ("agent", "model"):
        if name in shown and shown[name].nunique() > 1:
            shown["task"] = shown["task"] + ", " + shown[name]
    frame = shown[["task", "versus", "mean_baseline", "mean"]].astype({"task": object, "versus": object})
    dots = frame.melt(["task", "versus"], var_name="which", value_name="score")
    dots["side"] = dots["versus"].where(dots["which"] == "mean", comparison.baseline)
    y = alt.Y("task:N", title=None, sort=list(dict.fromkeys(frame["task"])))
    rule = alt.Chart(frame).mark_rule(color="#888").encode(x="mean_baseline:Q", x2="mean:Q", y=y)
    points = alt.Chart(dots).mark_point(strokeWidth=2).encode(  # where sides agree, one is inside the other
        size=alt.Size("which:N", scale=alt.Scale(domain=["mean_baseline", "mean"], range=[120, 40]), legend=None),
        x=alt.X("score:Q", title=f"mean {comparison.outcome} of the attempts"), y=y,
        color=alt.Color("side:N", title=comparison.by), shape=alt.Shape("side:N", title=comparison.by),
    )  # fmt: skip
    layers = alt.layer(rule, points, data=dots)
    return layers.properties(width=360, title=title if len(shown) < len(known) else "every pair")


def _interval_chart(frame: Any, x: str, title: str, marks: list[float], scale: Any = "linear") -> Any:
    frame = frame[["line", x, "low", "high"]].astype({"line": object, x: float, "low": float, "high": float})
    across = alt.X("low:Q", scale=alt.Scale(type=scale, zero=False), title=title, axis=alt.Axis(labelSeparation=10))
    base = alt.Chart(frame).encode(y=alt.Y("line:N", title=None, sort=None))
    line, dot = base.mark_rule(strokeWidth=2).encode(x=across, x2="high:Q"), base.mark_point(filled=True, size=80)
    rule = alt.Chart(pd.DataFrame({"at": marks})).mark_rule(strokeDash=[4, 4], color="#888").encode(x="at:Q")
    return alt.layer(line, dot.encode(x=f"{x}:Q"), rule).properties(width=360)


def _difference_chart(comparison: Any) -> Any:
    frame = comparison.table.dropna(subset=["difference"])
    frame = frame.assign(line=frame["side"] + ", missing " + frame["missing"])
    title = f"difference from {comparison.baseline}, 95 % interval; dashed: 0 and the margin"
    return _interval_chart(frame, "difference", title, [-comparison.margin, 0.0, comparison.margin])


def _ratio_chart(comparison: Any) -> Any:
    frame = comparison.phases
    frame = frame.assign(line=frame["phase"] + (", " + frame["versus"] if frame["versus"].nunique() > 1 else ""))
    title = f"time or cost over {comparison.baseline}'s, paired, 95 % interval (log scale)"
    return _interval_chart(frame.fillna({"low": frame["ratio"], "high": frame["ratio"]}), "ratio", title, [1.0], "log")


def _flips_chart(comparison: Any) -> Any:
    frame = comparison.flips[["versus", "flip", "pairs"]].astype({"versus": object, "flip": object})
    frame = frame[frame.groupby("versus")["pairs"].transform("sum") > 0]
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
    drawable = {
        "pairs": ([_difference_chart, _pairs_chart], comparison.pairs["difference"].notna().any()),
        "phases": ([_ratio_chart], len(comparison.phases)),
        "flips": ([_flips_chart], comparison.flips["pairs"].any()),
    }
    if kind not in {*drawable, "all"}:
        raise BadInputError(f"No picture {kind!r}; there are 'pairs', 'phases', 'flips' and 'all'.")
    chosen = [draws for name, (draws, some) in drawable.items() if kind in {name, "all"} and some]
    title = clean(", ".join([*comparison.labels, repr(comparison)]), 120)
    charts = [draw(comparison) for draws in chosen for draw in draws]
    if not charts:
        charts = [alt.Chart(pd.DataFrame({"at": [0]})).mark_text().encode(text=alt.value("no pair to draw"))]
    return Picture(alt.vconcat(*charts, title=title).resolve_scale(color="independent", shape="independent"), title)
