"""One compared side against the baseline: its pairs, estimates, and every sentence about it."""

from typing import Any

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

    def says(self, margin: float) -> list[str]:
        """Return the sentences: verdict, what was left out, what else differs, what it would take."""
        row = self.rows[LEFT_OUT]
        alone = bool((self.differences["kind"] == "compared").all())
        first = f"No verdict on {self.other} against {self.baseline}: {self.refused}."
        if not self.refused:
            repeats = self.by == "job" and alone and self.read
            first = verdicts.sentence(row, self.baseline, margin=margin, scale=self.scale, repeats=repeats)
        return [
            first,
            self._left_out(),
            *([self._cause()] if len(self.pairs) else []),
            *([verdicts.needs(self.estimates[LEFT_OUT], margin)] if row["verdict"] == "inconclusive" else []),
        ]

    def _left_out(self) -> str:
        """Say what was left out, by reason, and what would come of counting what is missing as 0."""
        excluded, zero = self.excluded, self.rows[ZERO]
        whole = excluded[excluded["left_out"]].groupby("reason")["task"].nunique()
        lost = excluded[excluded["reason"].isin(_pairing.MISSING)].groupby(["side", "reason"], as_index=False)
        told = []
        if len(whole):
            told.append("Tasks left out: " + ", ".join(f"{n:,} ({reason})" for reason, n in whole.items()) + ".")
        if missing := [f"{row.side} {row.trials:,} ({row.reason})" for row in lost["trials"].sum().itertuples()]:
            told.append(f"Trials missing: {', '.join(missing)}.")
            if zero["tasks"]:
                amount, tasks = verdicts.amount(zero["difference"], self.scale), verdicts.tasks(zero["tasks"])
                verdict = "" if self.refused else f": {zero['verdict']}"
                told.append(f"Counted as 0, the difference is {amount} over {tasks}{verdict}.")
        return " ".join(told) or "Nothing was left out and no trial is missing."

    def _cause(self) -> str:
        """Say whether the compared column was the only difference, else what keeps us from calling it the cause."""
        rest = self.differences[self.differences["kind"] != "compared"]
        if rest.empty and self.read:
            return f"The {self.by} was the only recorded difference."
        if rest.empty:
            return "What else differs is not known: there are no job folders to read it from."
        named = [f"{row.setting} ({row.baseline} | {row.side})" for row in rest.head(_NAMED).itertuples()]
        more = f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
        return f"Not the {self.by} alone: also {', '.join(named)}{more}; so this is not put down to the {self.by}."
