"""Charts drawn as SVG and PNG without a network and without scripts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_PHASES = {
    "environment_setup_sec": "environment setup", "agent_setup_sec": "agent setup", "agent_sec": "agent",
    "verifier_sec": "verifier", "teardown_sec": "teardown",
}  # fmt: skip


class Picture:
    """An Altair chart that shows itself as SVG wherever it is displayed."""

    def __init__(self, chart: Any, text: str = "chart") -> None:
        self.chart = chart
        self._text = text

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self.chart.to_json()))

    def save(self, path: str | Path) -> Path:
        """Write the picture; the ending (png, svg or html) chooses the format."""
        self.chart.save(str(path), scale_factor=2) if str(path).endswith("png") else self.chart.save(str(path))
        return Path(path)

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
    frame = known.groupby(["side", "task"], as_index=False)[["reward"]].mean()
    chart = alt.Chart(frame.astype({"side": object, "task": object}), width=160, height=90).mark_bar().encode(
        x=alt.X("reward:Q", title="mean reward", scale=alt.Scale(domain=[0, 1])), y=alt.Y("task:N", title=None),
    )  # fmt: skip
    return Picture(chart.facet(facet=alt.Facet("side:N", title=None), columns=4), "mean reward per task")


def phases_chart(trials: "pd.DataFrame") -> Picture:
    """Draw the median seconds of each phase, stacked, per environment and agent."""
    import altair as alt

    present = [column for column in _PHASES if column in trials]
    long = _side(trials).melt(["side"], present, "phase", "seconds").dropna()
    long["phase"], long["seconds"] = long["phase"].map(_PHASES), long["seconds"].astype(float)
    frame = long.groupby(["side", "phase"], as_index=False)[["seconds"]].median()
    chart = alt.Chart(frame.astype({"side": object, "phase": object}), width=420).mark_bar().encode(
        x=alt.X("seconds:Q", title="median seconds a trial, phases stacked"), y=alt.Y("side:N", title=None),
        color=alt.Color("phase:N", sort=list(_PHASES.values())), tooltip=["side", "phase", "seconds"],
    )  # fmt: skip
    return Picture(chart, "median seconds per phase")


def overview_chart(trials: "pd.DataFrame") -> Picture:
    """Draw rewards above phase times."""
    import altair as alt

    return Picture(alt.vconcat(rewards_chart(trials).chart, phases_chart(trials).chart), "rewards and phase times")
