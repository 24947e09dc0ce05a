"""Do two sides give the same answer: paired by task, with what was left out, what else differs, and a verdict."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harbor_nb._display import Shown, clean, render
from harbor_nb.errors import BadInputError
from harbor_nb.results import _measures, _pairing, verdicts
from harbor_nb.results._one_side import LEFT_OUT, ZERO, Side, headline_of
from harbor_nb.results.frames import trials
from harbor_nb.results.statistics import holm

if TYPE_CHECKING:
    from harbor_nb.results.charts import Picture

_MOST_ROWS = 25


@dataclass
class Comparison(Shown):
    """A verdict on each compared side against the baseline, and everything it rests on.

    Attributes:
        table: A line a side and convention (missing trials left out, or counted as 0): means, difference, 95 % interval
            (low, high), 90 % interval for equivalence (low_90, high_90), bootstrap interval (bca_low, bca_high), exact
            p-value and that corrected for several comparisons (Holm), verdict.
        pairs: A line a paired task (and agent and model): means, attempts and missing trials of each side.
        excluded: A line for whatever was left out: side, reason, task, trials; `left_out` where the whole task was.
        differences: What else differs; the first row a side is the compared column itself.
        phases: Paired time ratios a phase, and of cost where it is reported.
        flips: The tasks fixed, broken, passed by both and by neither.
        failures: Failures of each side by fault, known failure and exception.
        pass_at_k: pass@k of each side, for pass/fail rewards.
        verdicts: The verdict by side; `none` where it is refused.
        labels: `practice` and `recorded`, where such trials take part.
    """

    by: str
    baseline: str
    margin: float
    outcome: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    excluded: pd.DataFrame
    differences: pd.DataFrame
    phases: pd.DataFrame
    flips: pd.DataFrame
    failures: pd.DataFrame
    pass_at_k: pd.DataFrame
    labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The verdict; several sides' each with its name."""
        several = len(self.verdicts) > 1
        return "; ".join(f"{side}: {verdict}" if several else verdict for side, verdict in self.verdicts.items())

    @property
    def headline(self) -> str:
        """The verdict, what was left out and what else differs; of several sides a line each, then what they share."""
        label = f"[{', '.join(self.labels)}] " if self.labels else ""
        return label + "\n".join(" ".join(clean(line).split()) for line in self.statements)

    def plot(self, kind: str = "all") -> "Picture":
        """Draw it.

        Args:
            kind: `pairs` (paired dots with the difference's interval), `phases`, `flips`, or `all` of them.

        Returns:
            A picture: shows itself as SVG, `.save("x.png")` writes it.

        Raises:
            BadInputError: Another kind.
        """
        from harbor_nb.results.charts import comparison_chart

        return comparison_chart(self, kind)

    def _sections(self) -> list[tuple[str, list[str], list[list[str]], str]]:
        """Return title, column names, rows as text and what was cut, of each table worth showing."""
        counts = ["versus", "side", "reason", "left_out"]
        excluded = self.excluded.groupby(counts, sort=False, as_index=False).agg(
            tasks=("task", "nunique"), trials=("trials", "sum"), which=("task", lambda names: _some(names.unique(), 5))
        )
        tables = {
            "Verdict": self.table.drop(columns=["sd", "bca_low", "bca_high", "method", "test"]),
            "What else differs": self.differences,
            "Left out": excluded,
            "Flips": self.flips.assign(tasks=[_some(names, 10) for names in self.flips["tasks"]]),
            "Time and cost (side / baseline)": self.phases,
            "pass@k": self.pass_at_k,
            "Failures": self.failures,
        }
        shown = []
        for title, frame in tables.items():
            names = [name for name in frame if name != "versus" or len(self.verdicts) > 1]
            rows = [[_cell(value) for value in row] for row in frame[names].head(_MOST_ROWS).itertuples(index=False)]
            more = f"… and {len(frame) - _MOST_ROWS:,} more" if len(frame) > _MOST_ROWS else ""
            if rows:
                shown.append((title, [str(name).replace("_", " ") for name in names], rows, more))
        return shown

    def __str__(self) -> str:
        blocks = [self.headline, *self.notes]
        for title, names, rows, more in self._sections():
            widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
            lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [names, *rows]]
            blocks.append("\n".join([title, *(f"  {line}" for line in lines), more]).rstrip())
        return "\n\n".join(blocks)

    def __repr__(self) -> str:
        return f"Comparison by {self.by} against {self.baseline}: {self.verdict}"

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        headline = "  \n".join(f"**{_mark(line)}**" for line in self.headline.splitlines())
        blocks = [headline, *map(_mark, self.notes)]
        for title, names, rows, more in self._sections():
            lines = [names, ["---"] * len(names), *[[_mark(cell) for cell in row] for row in rows]]
            table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            blocks.append(f"### {title}\n\n{table}\n\n{more}".rstrip())
        return "\n\n".join(blocks) + "\n"

    def _values(self) -> dict[str, Any]:
        return {"headline": self.headline, "notes": self.notes, "sections": self._sections(), "title": repr(self)}

    def _repr_html_(self) -> str:
        return render("comparison", **self._values())

    def to_html(self, file: str | Path | None = None) -> str:
        """Return the report as one HTML page with its pictures, which needs no other file; and write it to `file`."""
        from markupsafe import Markup

        text = render("comparison_report", **self._values(), picture=Markup(self.plot().svg))  # noqa: S704 - drawn by us
        if file is not None:
            Path(file).write_text(text, encoding="utf-8")
        return text


def _some(names: Any, most: int) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3g}".replace("-", "−")
    return clean("–" if value is None or value is pd.NA else value, 160)


def _mark(text: str) -> str:
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#~" else char for char in text)


def compare(
    x: Any,
    by: str = "environment",
    baseline: str | None = None,
    margin: float = 0.05,
    outcome: str = "reward",
    *,
    calibration: Any = None,
) -> Comparison:
    """Compare environments, agents, models or jobs: paired by task, with interval, verdict and all that was left out.

    Trials pair by source, task, checksum, agent and model, less the compared column. Attempts average within a task and
    tasks weigh the same (Miller 2024, "Adding error bars to evals"). A trial without reward through infrastructure or
    the user is missing; through the agent, the task or the verifier's own timeout it counts as 0. A side is
    `equivalent` where the 90 % interval lies within the margin (two one-sided tests, Schuirmann 1987), else `better`
    or `worse` where the 95 % interval leaves out 0, else `inconclusive`.

    Args:
        x: A trials frame, a jobs folder, a job folder, several, a `Job` or `Jobs`.
        by: Any column of `trials`: environment, agent, model, job, agent_version.
        baseline: The side that others are compared with; docker where it is a side, the first job for `by="job"`.
        margin: The largest difference that counts as none, in units of the outcome.
        outcome: `reward`, another reward's name, or any column of numbers.
        calibration: What `calibrate` gave; its invalid tasks are left out.

    Returns:
        The comparison; it shows itself in a notebook, and as text with `print`.

    Raises:
        BadInputError: No such column, side or outcome, or a margin that is not above 0.
        ComparisonError: There is only one side.

    Example:
        >>> import harbor_nb
        >>> print(harbor_nb.compare("jobs", by="environment").headline)  # doctest: +SKIP
    """
    if not margin > 0:
        raise BadInputError(f"The margin must be above 0, not {margin}: the largest difference that counts as none.")
    found = _pairing.sides(x if isinstance(x, pd.DataFrame) else trials(x), by, baseline, outcome)
    sides = [Side(found, other, by, calibration) for other in found.others]
    for convention in (LEFT_OUT, ZERO):
        estimates = [side.estimates[convention] for side in sides]
        words = verdicts.verdicts(estimates, margin)
        corrected = holm([estimate.test[0] for estimate in estimates])
        for side, estimate, p_holm, word in zip(sides, estimates, corrected, words, strict=True):
            row = estimate.figures | {"p_holm": p_holm, "verdict": "none" if side.refused else word}
            side.rows[convention] = pd.Series({"side": side.other, "missing": convention, **row})
    return _assemble(found, sides, margin, outcome, calibration)


def _assemble(found: _pairing.Sides, sides: list[Side], margin: float, outcome: str, calibration: Any) -> Comparison:
    """Put the parts of all sides together."""
    used = pd.concat([side.used for side in sides])
    used = used[~used.index.duplicated()]
    joined: Any = {
        name: pd.concat({side.other: getattr(side, name) for side in sides}, names=["versus", None])
        .reset_index("versus")
        .reset_index(drop=True)
        for name in ("pairs", "excluded", "differences", "phases", "flips")
    }
    counted = joined["pairs"][["versus", "scored", "scored_baseline"]].drop_duplicates()
    uneven = counted["versus"].duplicated().any() or (counted["scored"] != counted["scored_baseline"]).any()
    unknown = 0 if calibration is None else calibration.unknown(used)
    several, own_unit = len(sides) > 1, any(side.scale != 1 for side in sides)
    told = {
        f"{len(sides)} comparisons at once: verdicts and p_holm are corrected (Holm 1979), intervals not.": several,
        f"Rewards lie outside 0..1: differences and the margin of {margin:g} are in the reward's own unit.": own_unit,
        "Attempts a task differ; each task weighs the same, however many attempts it had.": uneven,
        f"{unknown:,} of the compared tasks were not calibrated on every environment.": unknown,
        **{f"{side.other}: {side.needs(margin)}": several and side.needs(margin) for side in sides},
    }
    joined["pairs"] = joined["pairs"][["versus", *found.key, *_pairing.PAIRED]]
    passes = used if all(side.binary for side in sides) else used.iloc[:0]
    return Comparison(
        by=sides[0].by, baseline=found.baseline, margin=margin, outcome=outcome, **joined,
        table=pd.DataFrame([side.rows[convention] for side in sides for convention in (LEFT_OUT, ZERO)]),
        failures=_measures.failures(found.trials), pass_at_k=_measures.pass_at_k(passes, found.key),
        labels=[name for name in ("practice", "recorded") if used[name].any()],
        notes=[clean(note) for note in (*found.notes, *(note for note, holds in told.items() if holds))],
        verdicts={side.other: side.rows[LEFT_OUT]["verdict"] for side in sides},
        statements=headline_of(sides, margin),
    )  # fmt: skip
