"""One line a group of trials: how many, how many missing, the score with its interval, times, tokens, cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from harbor_nb.errors import BadInputError
from harbor_nb.results._pairing import counted
from harbor_nb.results.frames import trials
from harbor_nb.results.frames._trials import PHASES
from harbor_nb.results.intervals import student

SECONDS = {f"{phase}_sec": phase.replace("_", " ") for phase in (*PHASES, "total")}
_SUMS = ["tokens_in", "tokens_cached", "tokens_out", "cost_usd"]
_NEEDED = ["status", "reward", "fault", *SECONDS, *_SUMS]
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
        fraction = bool(self["score"].dropna().between(0, 1).all())
        scores = [name for name in self.columns if name.startswith("score") and name != "scored"]
        formats = dict.fromkeys(scores, "{:.0%}" if fraction else "{:.3g}") | dict.fromkeys(SECONDS, "{:.1f} s")
        formats |= dict.fromkeys(_SUMS, "{:,}") | {"cost_usd": "${:.2f}", "faults": "⚠ {}"}
        known: Any = {name: text for name, text in formats.items() if name in self}
        style = pd.DataFrame(self).style.hide(axis="index").format(known, na_rep="–", escape="html")
        if fraction:
            style = style.bar(subset=["score"], vmin=0, vmax=1, color="var(--jp-brand-color3, #90caf9)", width=90)
        warn = "color: var(--jp-warn-color0, currentColor); font-weight: bold; white-space: nowrap"
        return style.map(lambda value: "" if pd.isna(value) else warn, subset=["faults"])


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
        **{name: done[name].astype("float64").median() for name in SECONDS},
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
        phase in seconds; the sums of tokens and cost in USD. docs/how-sure.md says what counts as 0.

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
    frame = frame.reindex(columns=frame.columns.union(_WHY, sort=False))
    groups: Any = frame.groupby(keys, dropna=False, observed=True) if keys else [((), frame)]
    lines = [dict(zip(keys, names, strict=True)) | _line(group) for names, group in groups]
    result = pd.DataFrame(lines, columns=[*keys, *_line(frame.iloc[:0])])
    text = [name for name in keys if frame[name].dtype == "string"]
    kinds = dict.fromkeys([*text, "faults"], pd.StringDtype("pyarrow")) | dict.fromkeys(_SUMS[:3], "Int64")
    return Summary(result.astype(kinds))
