"""Pair trials like with like; what can't be paired is listed with its reason, never dropped in silence."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harbor_nb.errors import BadInputError, ComparisonError
from harbor_nb.known_failures import rows

TASK = ["source", "task", "task_checksum"]
_TEXT = (*TASK, "environment", "agent", "agent_version", "model", "provider", "job", "job_path", "path")
_TOLD = ("status", "fault", "failure", "exception", "phase", "started_at")
_LABELS = ("practice", "recorded", "fast_stop")
_UNFINISHED = "not finished"
_OWN = {
    "infrastructure": "infrastructure failure",
    "user": "failure of the user's set-up",
    "unknown": "failure of unknown cause",
    **dict.fromkeys(("agent", "task"), "failure before the agent began"),
}
_BEFORE = ("environment_setup", "agent_setup")
MISSING = [*dict.fromkeys(_OWN.values()), "no reward and no failure recorded", "cancelled", "unreadable result"]
PAIRED = ["n_baseline", "n", "missing_baseline", "missing", "mean_baseline", "mean", "difference", "difference_if_zero"]
COLUMNS = ["side", "reason", *TASK, "agent", "model", "trials", "left_out"]


class Sides(NamedTuple):
    """Trials with their side, pairing key, `value`, `zero` (value if missing counts as 0) and `reason` if missing."""

    trials: pd.DataFrame
    baseline: str
    others: list[str]
    key: list[str]
    notes: list[str]
    repaired: bool


def _text(column: Any) -> Any:
    return column.astype(object).where(column.notna(), "").astype(str)


def _complete(x: pd.DataFrame, by: str, outcome: str) -> pd.DataFrame:
    """Return the frame with every column that is read; what a hand-made frame lacks is missing."""
    if absent := [name for name in ("task", by) if name not in x]:
        raise BadInputError(f"The trials have no column {absent[0]!r}. There are: {', '.join(map(str, x.columns))}.")
    frame = x.reset_index(drop=True).reindex(columns=x.columns.union([*_TEXT, *_TOLD, *_LABELS], sort=False))
    frame["side"] = frame[by].astype(object)
    for name in _TEXT:
        frame[name] = _text(frame[name])
    for name in _LABELS:
        frame[name] = frame[name].fillna(value=False).astype(bool)
    try:
        value = pd.to_numeric(frame[outcome].astype(object).where(frame[outcome].notna(), np.nan)).astype(float)
    except (TypeError, ValueError):
        raise BadInputError(f"The column {outcome!r} holds no numbers; give a reward or another measure.") from None
    return frame.assign(value=value.where(np.isfinite(value)))


def _outcome(frame: pd.DataFrame, outcome: str) -> str:
    if outcome in frame:
        return outcome
    if f"reward_{outcome}" in frame:
        return f"reward_{outcome}"
    known = [str(name) for name in frame.columns if str(name).startswith(("reward", "passed"))]
    raise BadInputError(f"No outcome {outcome!r} in these trials. There are: {', '.join(known) or 'none'}.")


def counted(frame: pd.DataFrame, value: Any) -> tuple[Any, Any]:
    """Return what each trial counts, NaN where it is missing, and where a reward is void (DESIGN.md, decision 6)."""
    void = frame["failure"].isin([row.name for row in rows() if not row.reward_counts]) & value.notna()
    status, value = _text(frame["status"]).mask(void, "unscored"), value.mask(void)
    own = frame["fault"].isin(["agent", "task"]) | (frame["exception"] == "VerifierTimeoutError").fillna(value=False)
    own &= ~frame["phase"].isin(_BEFORE) & ~status.isin(["running", "pending", "scored"])
    return value.mask(value.isna() & own, 0.0), void


def _score(frame: pd.DataFrame, outcome: str) -> None:
    """Fill `value`, `zero` and `reason` in place."""
    frame["value"], void = counted(frame, frame["value"])
    status, fault = _text(frame["status"]).mask(void, "unscored"), _text(frame["fault"])
    absent = frame["value"].isna()
    cause = fault.map(_OWN).fillna("no reward and no failure recorded")
    cause = cause.mask(status == "cancelled", "cancelled").mask(status == "unreadable", "unreadable result")
    cause = cause.mask(status.isin(["running", "pending"]), _UNFINISHED).mask(status == "scored", f"no {outcome}")
    frame["reason"] = cause.where(absent, None)
    lasting = frame["reason"].isin([_UNFINISHED, f"no {outcome}"])
    frame["zero"] = frame["value"].fillna(0.0).where(~lasting)


def _know_checksums(frame: pd.DataFrame) -> None:
    """Give a trial without result its task's checksum, where the trials know only one."""
    known = frame[frame["task_checksum"] != ""].groupby(["source", "task"])["task_checksum"].agg(["nunique", "first"])
    lone = known.loc[known["nunique"] == 1, "first"]
    blank = frame["task_checksum"] == ""
    if blank.any() and len(lone):
        found = lone.reindex(pd.MultiIndex.from_frame(frame.loc[blank, ["source", "task"]])).fillna("")
        frame.loc[blank, "task_checksum"] = found.to_numpy()


def _name_sides(frame: pd.DataFrame, by: str) -> None:
    """Spell a side so that no two settings share a name: jobs by their folder, models by their provider."""
    spelled = frame["provider"].where(frame["provider"] == "", frame["provider"] + "/") + frame["model"]
    frame["model"] = spelled.where(frame["model"] != "", "")
    for name, longer in (("job", "job_path"), ("model", "model")):
        if by == name and (frame.groupby("side")[longer].nunique() > 1).any():
            tails = frame[longer].str.split("/").str[-2:].str.join("/")
            same = tails.nunique() == frame[longer].nunique()
            frame["side"] = (tails if same else frame[longer]).where(frame["side"].notna())


def _baseline(frame: pd.DataFrame, by: str, baseline: str | None) -> str:
    levels = list(frame["side"].unique())
    if len(levels) < 2:
        found = f"only one {by}: {levels[0]}" if levels else f"no trial with a known {by}"
        raise ComparisonError(f"Nothing to compare: there is {found}. Give trials of two, or another `by`.")
    if baseline is not None:
        near = [level for level in levels if str(level) == str(baseline)]
        near = near or [level for level in levels if str(level).rpartition("/")[2] == str(baseline)]
        near = near or [level for level in levels if str(baseline).endswith(f"/{level}")]  # a job by its path
        if len(near) != 1:
            raise BadInputError(f"No {by} {baseline!r} in these trials. Choose baseline from: {_names(levels)}.")
        return str(near[0])
    if "docker" in levels:
        return "docker"
    if by == "job":
        began = frame["started_at"].groupby(frame["side"]).min()
        return str(began.sort_values(kind="stable").index[0]) if began.notna().any() else str(min(levels))
    raise BadInputError(f"Say which {by} is the baseline, for example baseline={str(levels[0])!r}: {_names(levels)}.")


def _names(levels: list[Any]) -> str:
    return ", ".join(repr(str(level)) for level in sorted(levels, key=str)[:20])


def sides(x: pd.DataFrame, by: str, baseline: str | None, outcome: str) -> Sides:
    """Return the trials with their sides, values and the columns that pair them."""
    repaired = bool(x.attrs.get("repaired")) or ("repaired" in x and bool(x["repaired"].fillna(value=False).any()))
    if x.empty:
        raise ComparisonError("There are no trials here. Give a folder, a Job or a frame that has some.")
    chosen = _outcome(x, outcome)
    frame = _complete(x, by, chosen)
    notes = []
    twice = frame["path"].ne("") & frame["path"].duplicated()
    if twice.any():
        frame = frame[~twice].copy()
        notes.append(f"{twice.sum()} trials were given twice and count once.")
    _score(frame, chosen)
    _know_checksums(frame)
    _name_sides(frame, by)
    if unsided := int(frame["side"].isna().sum()):
        notes.append(f"{unsided:,} trials have no {by} and take no part.")
    frame = frame[frame["side"].notna()].astype({"side": str})
    first = _baseline(frame, by, baseline)
    key = [name for name in (*TASK, "agent", "model") if name != by]
    places = list(frame.groupby("side")["environment"].agg(frozenset))
    if by not in {"environment", "job"} and frozenset.intersection(*places) and len(frozenset().union(*places)) > 1:
        key.append("environment")
    if not frame["task_checksum"].any():
        notes.append("No checksums are recorded: tasks pair by name, whether or not their content is the same.")
    named = sorted(str(name) for name in x if str(name).startswith("reward_"))
    if named and chosen == "reward":
        choice = ", ".join(repr(name) for name in named[:5])
        notes.append(f"The trials carry {len(named)} other rewards; choose with outcome={choice}.")
    others = sorted(side for side in frame["side"].unique() if side != first)
    return Sides(frame, first, others, key, notes, repaired)


def _cells(trials: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    groups = trials.groupby(key, sort=True)
    cells = groups.agg(mean=("value", "mean"), if_zero=("zero", "mean"), scored=("value", "count"), n=("value", "size"))
    return cells.assign(missing=cells["n"] - cells["scored"])


def among(part: pd.DataFrame, others: pd.DataFrame, names: list[str]) -> Any:
    """Tell which rows of `part` have these columns' values in a row of `others`."""
    return pd.MultiIndex.from_frame(part[names]).isin(pd.MultiIndex.from_frame(others[names]))


def _why_unpaired(lone: pd.DataFrame, there: pd.DataFrame, key: list[str], other: str) -> pd.Series:
    """Say why each key of `lone` has no partner among the keys `there` of the side `other`."""
    reason = pd.Series(f"not on {other}", index=lone.index)
    who = " and ".join(name for name in ("agent", "model", "environment") if name in key)
    reason[among(lone, there, ["source", "task"])] = f"not with this {who} on {other}"
    if "model" in key:
        bare, near = (side.assign(model=side["model"].str.split("/").str[-1].str.lower()) for side in (lone, there))
        reason[among(bare, near, key)] = "model spelled with another provider prefix: a near miss, not merged"
    reason[among(lone, there, [name for name in key if name != "task_checksum"])] = f"other checksum on {other}"
    return reason


def pair(found: Sides, other: str, invalid: pd.DataFrame | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pair the baseline with one side.

    Args:
        found: What `sides` gave.
        other: The side compared with the baseline.
        invalid: Tasks (source, task, task_checksum, reason) to leave out, of a calibration.

    Returns:
        One row a pair; and what was left out, one row a task, side and reason.
    """
    frame = found.trials[found.trials["side"].isin([found.baseline, other])]
    here = {side: _cells(frame[frame["side"] == side], found.key) for side in (found.baseline, other)}
    pairs = here[found.baseline].add_suffix("_baseline").join(here[other], how="inner").reset_index()
    rows = []
    for side, against in ((found.baseline, other), (other, found.baseline)):
        keys, there = here[side].reset_index(), here[against].reset_index()
        lone = keys[~among(keys, there, found.key)]
        if len(lone):
            reason = _why_unpaired(lone, there, found.key, against)
            rows.append(lone.assign(side=side, reason=reason, trials=lone["n"], left_out=True))
    lost = frame[frame["reason"].notna() & among(frame, pairs, found.key)]
    lost = lost.groupby([*found.key, "side", "reason"]).size().rename("trials").reset_index()
    lost["left_out"] = among(lost, pairs[(pairs["scored"] == 0) | (pairs["scored_baseline"] == 0)], found.key)
    if invalid is not None and len(invalid):
        bad = pairs.merge(invalid, on=TASK)
        rows.append(bad.assign(side=other, trials=bad["n"] + bad["n_baseline"], left_out=True))
        pairs = pairs[~among(pairs, bad, TASK)]
    return pairs.reset_index(drop=True), pd.concat([*rows, lost], ignore_index=True).reindex(columns=COLUMNS)
