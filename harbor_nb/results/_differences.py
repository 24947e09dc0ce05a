"""What else differs between two sides: settings from config and lock, versions, dates, machines, how many jobs."""

import json
from functools import cache
from typing import Any

import pandas as pd

from harbor_nb._display import clean
from harbor_nb._redaction import SECRET_NAME
from harbor_nb.results._models import record
from harbor_nb.results.reading import read_or_none

_WHERE = ("environment.type", "environment.import_path")
_NO_SETTING = {"job_name", "jobs_dir", "trial_name", "trials_dir", "job_id", "debug", "quiet", "metrics"}
_NO_SETTING |= {"datasets", "tasks", "task", "type"}  # which tasks there were is told by the pairing
_APART_DAYS = 1.0
_FAST_STOP = "fast stop of docker"
_Lock = record("_Lock", harbor=dict[str, Any])


def flat(value: Any, path: str = "") -> dict[str, str]:
    """Return nested settings as dotted names with JSON texts; what is empty is left out, a secret's value too."""
    if isinstance(value, dict):
        return {name: text for key, item in value.items() for name, text in flat(item, f"{path}{key}.").items()}
    if value is None or value in ("", []):
        return {}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = sorted(value)  # Harbor writes its sets as lists, in any order
    name = path.rstrip(".")
    hidden = ".env." in f".{path}" or SECRET_NAME.search(name)
    return {name: f"(not shown, {hash(str(value)) & 0xFFFF:04x})" if hidden else clean(json.dumps(value), 200)}


@cache
def _defaults() -> dict[str, str]:
    from harbor.models.job.config import JobConfig

    plain = JobConfig().model_dump(mode="json")
    return flat(plain | {"agents": None, "agent": plain["agents"][0] if plain["agents"] else {}})


def _settings(job_path: str, trial_path: str) -> tuple[dict[str, Any], list[Any]]:
    """Return a job's settings without its agents, and the agents; from a trial's config where the job has none."""
    config = read_or_none(f"{job_path}/config.json", dict[str, Any])
    config = config or read_or_none(f"{trial_path}/config.json", dict[str, Any])
    lock = read_or_none(f"{job_path}/lock.json", _Lock)
    owner = read_or_none(f"{job_path}/harbor_nb.json", dict[str, Any]) or {}
    config = dict(config or {})
    agents = config.pop("agents", None) or [config.pop("agent", None) or {}]
    config |= config.pop("orchestrator", None) or {}  # where Harbor 0.1 kept concurrency and retries
    harbor = (lock.harbor if lock else None) or {}
    version = harbor.get("version") or owner.get("harbor_version")
    told = {"harbor version": version, "harbor commit": harbor.get("git_commit_hash"), "machine": owner.get("host")}
    return {key: item for key, item in config.items() if key not in _NO_SETTING} | told, agents


def _of_agent(agents: list[Any], agent: str, model: str) -> dict[str, Any]:
    """Return the configuration of the agent that a trial had; the only one, or the one of that name and model."""

    def likeness(config: Any) -> tuple[bool, bool]:
        spelled = str(config.get("model_name") or "")
        names = [config.get("name"), str(config.get("import_path") or "").rpartition(":")[2]]
        return agent.lower() in [str(name).lower() for name in names], bool(model) and spelled.endswith(model)

    found = max((config for config in agents if isinstance(config, dict)), key=likeness, default={})
    return {key: item for key, item in found.items() if key not in {"name", "import_path", "model_name"}}


def _values(part: pd.DataFrame, by: str) -> dict[str, set[str]]:
    """Return each setting's values among the trials of one side, agent and model."""
    jobs = part[part["job_path"] != ""].drop_duplicates("job_path")
    known = []
    for job_path, path, agent, model in jobs[["job_path", "path", "agent", "model"]].itertuples(index=False):
        config, agents = _settings(job_path, path)
        known.append(flat(config | {"agent": _of_agent(agents, agent, model)}))
    values = {name: {one.get(name, "") for one in known} for name in set().union(*known).difference(_WHERE)}
    for name in ("environment", "agent", "agent_version", "model"):
        if name != by:
            values[name.replace("_", " ")] = set(part[name])
    if set(part["environment"]) == {"docker"} and by != "environment":
        values[_FAST_STOP] = set(part["fast_stop"].astype(str))
    if by != "job":
        values["jobs pooled"] = {str(len(jobs))}
    return values


def _dates(sides: tuple[pd.DataFrame, pd.DataFrame]) -> list[dict[str, str]]:
    """Return a row where the sides ran more than a day apart: models and services change."""
    spans = [(part["started_at"].min(), part["started_at"].max()) for part in sides]
    if any(pd.isna(end) for span in spans for end in span):
        return []
    gap = max(spans[0][0] - spans[1][1], spans[1][0] - spans[0][1])
    if gap.total_seconds() / 86_400 <= _APART_DAYS:
        return []
    texts = [" to ".join(dict.fromkeys(f"{end:%Y-%m-%d}" for end in span)) for span in spans]
    return [{"setting": "dates", "baseline": texts[0], "side": texts[1], "kind": "date"}]


def differences(trials: pd.DataFrame, by: str, baseline: str, other: str) -> pd.DataFrame:
    """List what differs between the sides among the trials that were paired.

    Args:
        trials: The paired trials, with the column `side`.
        by: The compared column.
        baseline: The baseline's name.
        other: The compared side's name.

    Returns:
        setting, baseline, side, kind: `compared` (the first row), `version`, `setting`, `pooling` or `date`.
        An environment variable's value, or one that may be secret, is not shown; a mark tells whether it is the same.
    """
    rows = [{"setting": by, "baseline": baseline, "side": other, "kind": "compared"}]
    strata = [name for name in ("agent", "model") if name != by]
    apart: dict[str, list[set[str]]] = {}
    for _, part in trials.groupby(strata):
        found = [_values(part[part["side"] == side], by) for side in (baseline, other)]
        read = all(len(one) > 0 for one in found)
        for name in {*found[0], *found[1]} if read else ():
            if name == _FAST_STOP and not all(name in one for one in found):
                continue  # told of docker alone
            sets = [{_spelled(name, value) for value in one.get(name, {""})} for one in found]
            if sets[0] != sets[1] or (name == "jobs pooled" and sets[0] - {"0", "1"}):
                apart[name] = [before | new for before, new in zip(apart.get(name, [set(), set()]), sets, strict=True)]
    weighty = ("environment", "agent", "model", "agent version", "jobs pooled")
    for name, values in sorted(apart.items(), key=lambda item: (item[0] not in weighty, item[0])):
        texts = [clean(", ".join(sorted(value or "not set" for value in side)), 120) for side in values]
        kind = "version" if "version" in name or "commit" in name else "setting"
        kind = "pooling" if name == "jobs pooled" else kind
        rows.append({"setting": name, "baseline": texts[0], "side": texts[1], "kind": kind})
    rows += _dates((trials[trials["side"] == baseline], trials[trials["side"] == other]))
    return pd.DataFrame(rows)


def _spelled(name: str, value: str) -> str:
    """Return a setting's value; what is not set is Harbor's default, which another version may have written out."""
    return value or _defaults().get(name, "") if "." in name or "_" in name else value
