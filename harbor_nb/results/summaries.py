"""One line a group of trials: how many, how many missing, the score with its interval, times, tokens, cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harbor_nb.errors import BadInputError
from harbor_nb.results._pairing import counted
from harbor_nb.results.frames import trials
from harbor_nb.results.intervals import student

_SECONDS = [f"{phase}_sec" for phase in ("environment_setup", "agent_setup", "agent", "verifier", "teardown", "total")]
_SUMS = ["tokens_in", "tokens_cached", "tokens_out", "cost_usd"]
_NEEDED = ["status", "reward", "fault", *_SECONDS, *_SUMS]
_WHY = ["failure", "exception", "phase"]  # a frame made by hand may lack these
_UNFINISHED = ["running", "pending"]


class Summary(pd.DataFrame):
    """A DataFrame whose `.style` is ready to show; what is computed from it is a plain DataFrame."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    @property
    def style(self) -> Any:
        """A Styler: scores as percent with bars, faults in the theme's warning colour and in words."""
        return styled(self)


def interval(values: np.ndarray[Any, Any], level: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of a pass rate (Wilson 1927, score interval) or of a mean (Student's t).

    Args:
        values: Rewards, one a trial, without missing ones; all 0 or 1 for a pass rate.
        level: Confidence, between 0 and 1.

    Returns:
        Low and high end; NaN where there are too few values.

    Example:
        >>> import numpy as np
        >>> from harbor_nb.results.summaries import interval
        >>> [round(float(end), 4) for end in interval(np.array([1.0] * 8 + [0.0] * 2))]
        [0.4902, 0.9433]
    """
    from scipy import stats

    if len(values) and np.isin(values, (0.0, 1.0)).all():
        ends = stats.binomtest(int(values.sum()), len(values)).proportion_ci(level, method="wilson")
        return float(ends.low), float(ends.high)
    return student(values, level)


def _line(group: pd.DataFrame) -> dict[str, Any]:
    done = group[~group["status"].isin(_UNFINISHED)]
    fault = done["fault"].astype("object")
    values = counted(done, done["reward"].astype("float64"))[0].dropna().to_numpy()
    low, high = interval(values)
    counts = fault.dropna().value_counts(sort=True)
    return {
        "n": len(done),
        "scored": len(values),
        "missing": len(done) - len(values),
        "unfinished": len(group) - len(done),
        "score": values.mean() if len(values) else float("nan"),
        "score_low": low,
        "score_high": high,
        "score_if_missing_zero": values.sum() / len(done) if len(done) else float("nan"),
        "faults": ", ".join(f"{name} {count}" for name, count in counts.items()) or pd.NA,
        **{name: done[name].astype("float64").median() for name in _SECONDS},
        **{name: done[name].sum(min_count=1) for name in _SUMS},
    }


def summary(x: Any, by: str | Sequence[str] = ("environment", "agent")) -> Summary:
    """Summarise trials by any columns of `trials`.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job`, `Jobs`, or a trials frame.
        by: The columns to group by; none gives one line for all.

    Returns:
        One row a group: n (finished trials), scored, missing, unfinished; score (the pass rate where every reward is 0
        or 1, else the mean) with its 95 % interval; the score if missing ones counted as 0; faults; the median of each
        phase in seconds; the sums of tokens and cost in USD. docs/how-sure.md says what
        counts as 0. `.style` shows it well.

    Raises:
        BadInputError: A column that the trials do not have.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.summary(harbor_nb.sample_jobs(), by=["agent"]).style  # doctest: +SKIP
    """
    keys = [by] if isinstance(by, str) else list(by)
    frame = x if isinstance(x, pd.DataFrame) else trials(x, list(dict.fromkeys([*keys, *_NEEDED, *_WHY])))
    if absent := [name for name in [*keys, *_NEEDED] if name not in frame.columns]:
        raise BadInputError(f"The frame has no column {absent[0]!r}. Give a whole trials(...) frame, or other columns.")
    gone: dict[str, Any] = {name: pd.NA for name in _WHY if name not in frame}
    frame = frame.assign(**gone)
    groups: Any = frame.groupby(keys, dropna=False, observed=True) if keys else [((), frame)]
    lines = [dict(zip(keys, names, strict=True)) | _line(group) for names, group in groups]
    result = pd.DataFrame(lines, columns=[*keys, *_line(frame.iloc[:0])])
    text = [name for name in keys if frame[name].dtype == "string"]
    kinds = dict.fromkeys([*text, "faults"], pd.StringDtype("pyarrow")) | dict.fromkeys(_SUMS[:3], "Int64")
    return Summary(result.astype(kinds))


def styled(frame: pd.DataFrame) -> Any:
    """Return a summary as a Styler: percent bars, faults in words and in the theme's colour.

    Args:
        frame: What `summary` gave.

    Returns:
        A pandas Styler.

    Example:
        >>> from harbor_nb.results.summaries import styled
        >>> styled(frame)  # doctest: +SKIP
    """
    fraction = bool(frame["score"].dropna().between(0, 1).all())
    scores: list[Any] = [name for name in frame.columns if name.startswith("score") and name != "scored"]
    style = pd.DataFrame(frame).style.hide(axis="index")
    style = style.format("{:.0%}" if fraction else "{:.3g}", subset=scores, na_rep="–")
    style = style.format("{:.1f} s", subset=[name for name in _SECONDS if name in frame], na_rep="–")
    style = style.format("${:.2f}", subset=["cost_usd"], na_rep="–")
    style = style.format("{:,}", subset=[name for name in _SUMS[:3] if name in frame], na_rep="–")
    style = style.format("⚠ {}", subset=["faults"], na_rep="–", escape="html")
    if fraction:
        style = style.bar(subset=["score"], vmin=0, vmax=1, color="var(--jp-brand-color3, #90caf9)", width=90)
    warn = "color: var(--jp-warn-color0, currentColor); font-weight: bold"
    style = style.map(lambda value: "" if pd.isna(value) else warn, subset=["faults"])
    others: list[Any] = [name for name in frame.columns if frame[name].dtype == "string" and name != "faults"]
    return style.format(subset=others, na_rep="–", escape="html") if others else style
