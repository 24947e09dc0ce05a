"""One compared side against the baseline: its pairs, estimates, and every sentence about it."""

from typing import Any

import pandas as pd

from harbor_nb.results import _measures, _pairing, verdicts
from harbor_nb.results._differences import differences

LEFT_OUT, ZERO = "left out", "counted as 0"
_NAMED = 4


class Side:
    """One compared side against the baseline."""

    def __init__(self, found: _pairing.Sides, other: str, by: str, calibration: Any = None) -> None:
        part = found.trials[found.trials["side"].isin([found.baseline, other])]
        invalid = None if calibration is None else calibration.invalid(part)
        pairs, self.excluded = _pairing.pair(found, other, invalid)
        pairs["difference"] = pairs["mean"] - pairs["mean_baseline"]
        pairs["difference_if_zero"] = pairs["if_zero"] - pairs["if_zero_baseline"]
        values = part["value"].dropna()
        self.by, self.baseline, self.other = by, found.baseline, other
        self.pairs, self.used, self._part = pairs, part[_pairing.among(part, pairs, found.key)], part
        self.low = float(min(0.0, values.min())) if len(values) else 0.0
        self.scale = (float(max(1.0, values.max())) if len(values) else 1.0) - self.low
        self.binary = bool(values.isin([0.0, 1.0]).all())
        self.differences = differences(self.used, by, found.baseline, other)
        self.read = bool((self.used["job_path"] != "").all())
        self.phases = _measures.phases(self.used, found.key, found.baseline, other)
        self.flips = _measures.flips(pairs, self.low + self.scale / 2)
        self.refused = self._refusal(repaired=found.repaired)
        self.rows: dict[str, Any] = {}
        seen = pairs.assign(n=pairs["scored"], n_baseline=pairs["scored_baseline"])
        zero = pairs.assign(mean=pairs["if_zero"], mean_baseline=pairs["if_zero_baseline"])
        left = verdicts.Estimate(seen, self.binary, self.scale)
        lost = bool(pairs[["missing", "missing_baseline"]].any(axis=None))
        self.estimates = {LEFT_OUT: left, ZERO: verdicts.Estimate(zero, self.binary, self.scale) if lost else left}

    def _refusal(self, *, repaired: bool) -> str | None:
        """Say why these trials allow no verdict at all, or None."""
        part, pairs = self._part, self.pairs
        mixed = part.groupby("job_path")["environment"].nunique().drop(index="", errors="ignore")
        if self.by == "environment" and (repaired or (mixed > 1).any()):
            return "a repaired job ran its broken trials again elsewhere, so which trials a side has is no accident"
        if part["practice"].nunique() > 1:
            return "practice trials are mixed with real ones, and a practice cloud says nothing about the vendor's"
        if part["value"].isna().all() and (part["status"] == "scored").fillna(value=False).any():
            named = ", ".join(repr(str(name)) for name in part if str(name).startswith("reward_"))
            return f"the trials have no reward of that name: choose outcome= one of {named or 'their rewards'}"
        if pairs.empty:
            return "no task could be paired"
        if pairs["difference"].notna().any():
            return None
        names = ((self.baseline, "scored_baseline"), (self.other, "scored"))
        gone = [side for side, name in names if not pairs[name].any()]
        return f"all trials are missing on {' and '.join(gone)}" if gone else "no task has a reward on both sides"

    def verdict(self, margin: float) -> str:
        """Return the sentence of the verdict, or why there is none."""
        if self.refused:
            return f"No verdict on {self.other} against {self.baseline}: {self.refused}."
        repeats = self.by == "job" and len(self.differences) == 1 and self.read
        return verdicts.sentence(self.rows[LEFT_OUT], self.baseline, margin=margin, scale=self.scale, repeats=repeats)

    def if_zero(self) -> str:
        """Say what would come of counting what is missing as 0."""
        zero = self.rows[ZERO]
        if not zero["tasks"] or not self.excluded["reason"].isin(_pairing.MISSING).any():
            return ""
        amount, tasks = verdicts.amount(zero["difference"], self.scale), verdicts.tasks(zero["tasks"])
        return f"Counted as 0, the difference is {amount} over {tasks}{'' if self.refused else ': ' + zero['verdict']}."

    def needs(self, margin: float) -> str:
        """Say what would settle it, where it is inconclusive."""
        settled = self.rows[LEFT_OUT]["verdict"] != "inconclusive"
        return "" if settled else verdicts.needs(self.estimates[LEFT_OUT], margin)

    def cause(self) -> str:
        """Say whether the compared column was the only difference, else what keeps us from calling it the cause."""
        if self.pairs.empty:
            return ""
        rest = self.differences[self.differences["kind"] != "compared"]
        if rest.empty and self.read:
            return f"The {self.by} was the only recorded difference."
        if rest.empty:
            return "What else differs is not known: there are no job folders to read it from."
        named = [f"{row.setting} ({row.baseline} | {row.side})" for row in rest.head(_NAMED).itertuples()]
        more = f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
        return f"Not the {self.by} alone: also {', '.join(named)}{more}; so this is not put down to the {self.by}."


def _left_out(sides: list[Side]) -> str:
    """Say what was left out, by reason; what several sides lack alike counts once."""
    excluded = pd.concat([side.excluded for side in sides]).sort_values("left_out", ascending=False, kind="stable")
    excluded = excluded.drop_duplicates([name for name in excluded if name != "left_out"])
    whole = excluded[excluded["left_out"]].groupby("reason")["task"].nunique()
    lost = excluded[excluded["reason"].isin(_pairing.MISSING)].groupby(["side", "reason"], as_index=False)
    told = {
        "Tasks left out": [f"{n:,} ({reason})" for reason, n in whole.items()],
        "Trials missing": [f"{row.side} {row.trials:,} ({row.reason})" for row in lost["trials"].sum().itertuples()],
    }
    said = [f"{what}: {', '.join(counts)}." for what, counts in told.items() if counts]
    return " ".join(said) or "Nothing was left out and no trial is missing."


def headline_of(sides: list[Side], margin: float) -> list[str]:
    """Return the lines: one a side, then once what was left out and what else differs; all in one for a single side."""
    if len(sides) == 1:
        (side,) = sides
        said = (side.verdict(margin), _left_out(sides), side.if_zero(), side.cause(), side.needs(margin))
        return [" ".join(filter(None, said))]
    causes: dict[str, list[str]] = {}
    for side in sides:
        causes.setdefault(side.cause(), []).append(side.other)
    shared = [text if len(of) == len(sides) else f"{', '.join(of)}: {text}" for text, of in causes.items() if text]
    return [*(f"{side.verdict(margin)} {side.if_zero()}" for side in sides), " ".join([_left_out(sides), *shared])]
