"""Charts as `Picture`s: Altair drawn as SVG by vl-convert, offline, readable on light and dark, text beside."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harbor_nb._display import clean, render
from harbor_nb.errors import BadInputError

GREY = "#7d828a"  # at least 3.8 : 1 on white and on JupyterLab's dark
COLOURS = ["#3f7fbf", "#c46a1b", "#2a9470", "#a45fb0", "#8a8a2b"]
SHAPES = ["circle", "triangle-up", "square", "diamond", "cross"]
PHASES = ("environment_setup", "agent_setup", "agent", "verifier", "teardown")
_MOST = 40


class Picture:
    """A chart that every notebook front end draws without a script or the network.

    Args:
        chart: An Altair chart.
        text: What it shows, in words, for a terminal and a screen reader.
    """

    def __init__(self, chart: Any, text: str) -> None:
        """Keep the chart; it is drawn when it is shown."""
        self.chart, self.text = chart, clean(text)

    @property
    def svg(self) -> str:
        """The drawing as SVG, with the text as its accessible name."""
        buffer = io.StringIO()
        self.chart.save(buffer, format="svg")
        from markupsafe import escape

        drawn = buffer.getvalue()
        return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(self.text)}" ', 1)

    def save(self, file: str | Path) -> Path:
        """Write the chart as .svg, .png or .html (no script, nothing loaded).

        Args:
            file: Where to; the ending tells the format.

        Returns:
            The path.

        Raises:
            BadInputError: Another ending.
        """
        path = Path(file)
        match path.suffix:
            case ".png":
                self.chart.properties(background="white").save(str(path), format="png", scale_factor=2)
            case ".svg":
                path.write_text(self.svg, encoding="utf-8")
            case ".html":
                path.write_text(render("comparison_picture", svg=_safe(self.svg), text=self.text), encoding="utf-8")
            case other:
                raise BadInputError(f"A picture is saved as .svg, .png or .html, not {other!r}; give such a name.")
        return path

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


def _safe(svg: str) -> Any:
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 - vl-convert escapes every text in its SVG


def styled(chart: Any) -> Any:
    """Return the chart on no background, with lines and words of a grey that both themes show."""
    words = {"labelColor": GREY, "titleColor": GREY}
    return (
        chart.configure(background="transparent")
        .configure_view(stroke=None)
        .configure_axis(**words, gridColor=GREY, gridOpacity=0.25, domainColor=GREY, tickColor=GREY, labelLimit=260)
        .configure_legend(**words, labelLimit=260)
        .configure_title(color=GREY, anchor="start", fontSize=13)
        .configure_header(**words)
    )


def _named(trials: pd.DataFrame) -> pd.DataFrame:
    sides = trials["environment"].astype("object").fillna("?").map(clean)
    agents = trials["agent"].astype("object").fillna("?").map(clean)
    return trials.assign(task=trials["task"].astype("object").fillna("?").map(clean), side=sides + " · " + agents)


def _rewards(trials: pd.DataFrame) -> tuple[Any, str]:
    import altair as alt

    data = _named(trials).assign(reward=lambda frame: frame["reward"].astype("float64"))
    means = data.groupby(["task", "side"], as_index=False)["reward"].mean().dropna()
    means = means[means["task"].isin(list(dict.fromkeys(means["task"]))[:_MOST])]
    sides = sorted(means["side"].unique())
    chart = (
        alt.Chart(means, title="Reward per task")
        .mark_point(filled=True, size=70, opacity=0.9)
        .encode(
            x=alt.X("reward:Q", title="mean reward"),
            y=alt.Y("task:N", title=None),
            yOffset=alt.YOffset("side:N", sort=sides),
            color=_colour(alt, "side", sides),
            shape=alt.Shape(
                "side:N", sort=sides, scale=alt.Scale(domain=sides, range=_cycle(SHAPES, sides)), title=None
            ),
        )
        .properties(width=360, height=alt.Step(12))
    )
    totals = means.groupby("side")["reward"].mean()
    return chart, "Mean reward: " + (", ".join(f"{side} {value:.2f}" for side, value in totals.items()) or "no reward")


def _cycle(values: list[str], names: list[str]) -> list[str]:
    return [values[i % len(values)] for i in range(max(len(names), 1))]


def _colour(alt: Any, name: str, names: list[str]) -> Any:
    return alt.Color(
        f"{name}:N", title=None, sort=names, scale=alt.Scale(domain=names, range=_cycle(COLOURS, names)),
        legend=alt.Legend(orient="bottom", columns=2),
    )  # fmt: skip


def _phases(trials: pd.DataFrame) -> tuple[Any, str]:
    import altair as alt

    data = _named(trials)
    names = {f"{phase}_sec": phase.replace("_", " ") for phase in PHASES}
    long = data[["side", *names]].rename(columns=names).melt("side", list(names.values()), "phase", "seconds").dropna()
    medians = long.astype({"seconds": "float64"}).groupby(["side", "phase"], as_index=False)["seconds"].median()
    chart = (
        alt.Chart(medians, title="Median seconds per phase")
        .mark_bar()
        .encode(
            x=alt.X("seconds:Q", title="seconds"),
            y=alt.Y("phase:N", sort=list(names.values()), title=None),
            yOffset=alt.YOffset("side:N"),
            color=_colour(alt, "side", sorted(medians["side"].unique())),
        )
        .properties(width=360, height=alt.Step(11))
    )
    slow = medians.sort_values("seconds").tail(1)
    slowest = "".join(f"; longest {row.phase} on {row.side}, {row.seconds:.1f} s" for row in slow.itertuples())
    return chart, f"Median seconds per phase of {len(data)} trials{slowest}"


def rewards_chart(trials: pd.DataFrame) -> Picture:
    """Draw the mean reward per task, environment and agent.

    Args:
        trials: A trials frame.

    Returns:
        The picture; of the first 40 tasks where there are more.

    Example:
        >>> rewards_chart(harbor_nb.trials(harbor_nb.sample_jobs()))  # doctest: +SKIP
    """
    chart, text = _rewards(trials)
    return Picture(styled(chart), text)


def phases_chart(trials: pd.DataFrame) -> Picture:
    """Draw the median seconds of each phase, per environment and agent.

    Args:
        trials: A trials frame.

    Returns:
        The picture.

    Example:
        >>> phases_chart(harbor_nb.trials(harbor_nb.sample_jobs()))  # doctest: +SKIP
    """
    chart, text = _phases(trials)
    return Picture(styled(chart), text)


def overview_chart(trials: pd.DataFrame) -> Picture:
    """Draw rewards and phase times below each other.

    Args:
        trials: A trials frame.

    Returns:
        The picture.

    Example:
        >>> overview_chart(harbor_nb.trials(harbor_nb.sample_jobs()))  # doctest: +SKIP
    """
    import altair as alt

    (first, rewards), (second, phases) = _rewards(trials), _phases(trials)
    return Picture(styled(alt.vconcat(first, second).resolve_scale(color="independent")), f"{rewards}. {phases}")


def comparison_chart(pairs: pd.DataFrame, table: pd.DataFrame, phases: pd.DataFrame, baseline: str) -> Picture:
    """Draw a comparison: each task's difference with the mean and its interval, the phases' ratios, the flips.

    Args:
        pairs: `Comparison.pairs`.
        table: `Comparison.table`, the headline's rows.
        phases: `Comparison.phases`.
        baseline: The side that the others are held against.

    Returns:
        The picture.

    Example:
        >>> harbor_nb.compare(harbor_nb.sample_jobs()).plot()  # doctest: +SKIP
    """
    import altair as alt

    name = clean(baseline)
    shown = pairs.assign(task=pairs["task"].map(clean), side=pairs["side"].map(clean))
    most = (
        shown.groupby("task")["difference"].apply(lambda d: np.abs(d).max()).sort_values(ascending=False).index[:_MOST]
    )
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(color=GREY).encode(x="x:Q")
    sides = sorted(shown["side"].unique())
    colour = _colour(alt, "side", sides)
    dots = (
        alt.Chart(shown[shown["task"].isin(most)], title=f"Reward less that on {name}, per task")
        .mark_point(filled=True, size=60)
        .encode(x=alt.X("difference:Q", title=None), y=alt.Y("task:N", sort=list(most), title=None), color=colour)
        .properties(width=360, height=alt.Step(14))
    )
    head = table.assign(side=table["side"].map(clean))[["side", "difference", "low", "high"]].dropna()
    bars = (
        alt.Chart(head)
        .mark_rule(strokeWidth=3)
        .encode(x=alt.X("low:Q", title="mean difference, 95 % interval"), x2="high:Q")
    )
    bars = bars.encode(y=alt.Y("side:N", title=None), color=colour)
    means = alt.Chart(head).mark_point(filled=True, size=90).encode(x="difference:Q", y="side:N", color=colour)
    parts = [dots + zero, (bars + means + zero).properties(width=360, height=alt.Step(22))]
    ratios = phases.dropna(subset=["ratio"]).assign(side=lambda frame: frame["side"].map(clean))
    if len(ratios):
        one = alt.Chart(pd.DataFrame({"x": [1]})).mark_rule(color=GREY).encode(x="x:Q")
        base = alt.Chart(ratios, title=f"Time as a multiple of {name}").encode(
            y=alt.Y("phase:N", sort=list(dict.fromkeys(ratios["phase"])), title=None), color=colour
        )
        points = base.mark_point(filled=True, size=60).encode(
            x=alt.X("ratio:Q", title="ratio, 95 % interval", scale=alt.Scale(type="log"))
        )
        spans = base.transform_filter("isValid(datum.low)").mark_rule().encode(x="low:Q", x2="high:Q")
        parts.append((points + spans + one).properties(width=360, height=alt.Step(16)))
    if shown["flip"].notna().any():
        counts = shown.dropna(subset=["flip"]).groupby(["flip", "side"], as_index=False).size()
        bar = (
            alt.Chart(counts, title="Tasks")
            .mark_bar()
            .encode(x=alt.X("size:Q", title="tasks"), y=alt.Y("flip:N", title=None), yOffset="side:N", color=colour)
        )
        parts.append(bar.properties(width=360, height=alt.Step(12)))
    words = "; ".join(
        f"{row.side} less {name}: {row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        for row in head.itertuples()
    )
    return Picture(styled(alt.vconcat(*parts)), f"Paired differences over tasks. {words}")
