"""Sandboxes that a killed job left running: find them, tell whose they are, end those that the user names."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import clean
from harbor_nb.backends import providers
from harbor_nb.backends.findings import Found
from harbor_nb.backends.practice import settings
from harbor_nb.backends.readiness import check
from harbor_nb.errors import BadInputError, ProviderError
from harbor_nb.results.reading import read_mapping
from harbor_nb.running.leavings import compose_name
from harbor_nb.running.owner import OwnerRecord, live_jobs

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["environment", "id", "task", "trial", "job", "state", "age_min", "owner", "certainty"]


def sandboxes(
    environments: str | Iterable[str] | None = None, jobs: str | Path = "jobs", practice: Any = None
) -> "pd.DataFrame":
    """List what Harbor left at docker, daytona, e2b, modal and runloop; a cloud sandbox bills until it is ended.

    Args:
        environments: which to ask; by default each that is ready here.
        jobs: the folder of jobs in which a cloud sandbox's trial is looked for.
        practice: a job that runs with practice: its practice cloud is asked, and no vendor.

    Returns:
        One row a sandbox: environment, id, task, trial, job (its folder, if known), state, age_min (minutes), owner
        (`live`: its job runs; `orphaned`: its job has ended; `unknown`), certainty (that it is Harbor's, and why).
        `.attrs["not_asked"]` says which providers were not asked, or did not answer, and why; `.attrs["practice"]`
        whether these are a practice cloud's.

    Raises:
        BadInputError: a name that is none of the five.
        ProviderError: an environment that was named did not answer.

    Example:
        >>> sandboxes("docker").columns.tolist()[:3]  # doctest: +SKIP
        ['environment', 'id', 'task']
    """
    import pandas as pd

    named = [environments] if isinstance(environments, str) else list(environments or ())
    stand_ins = settings(practice)
    offered = providers.NAMES if practice is None else tuple(stand_ins)
    if wrong := set(named) - set(offered):
        known = f"choose among {', '.join(offered)}"
        raise BadInputError(f"{', '.join(sorted(wrong))} leaves no sandboxes that can be listed here; {known}")
    jobs = jobs if practice is None or isinstance(practice, Mapping) else Path(practice).parent
    told: dict[str, str] = {}

    def ask(name: str) -> list[Found]:
        if name not in stand_ins and not (ready := check(name)).ready:
            told[name] = ready.reason
            return []
        try:
            return providers.sandboxes(name, stand_ins.get(name))
        except ProviderError as error:
            told[name] = str(error)
            if not named:
                warnings.warn(f"{name} was not listed: {error}", stacklevel=2)
            return []

    with ThreadPoolExecutor() as pool:
        found = [one for some in pool.map(ask, named or offered) for one in some]
    if named and told:
        raise ProviderError("; ".join(f"{name}: {reason}" for name, reason in told.items()))
    folders = _trial_folders(Path(jobs)) if any(one.session and not one.job for one in found) else {}
    frame = pd.DataFrame([_row(one, folders) for one in found], columns=_COLUMNS)
    frame.attrs |= {"not_asked": told, "practice": practice is not None}
    return frame


def _trial_folders(jobs: Path) -> dict[str, Path]:
    """Return the folders of trials, of `jobs` and of what this user launched and lives, by their compose names."""
    places = [*jobs.glob("*/*"), *(place for job in live_jobs() for place in job.iterdir())]
    return {compose_name(place.name): place for place in places if place.is_dir()}


def _row(one: Found, folders: Mapping[str, Path]) -> dict[str, Any]:
    trial, certainty = one.session.removesuffix("__env").split("__verifier__")[0], one.certainty
    job = Path(one.job) if one.job else None
    if job is None and (folder := folders.get(compose_name(trial))):
        trial, job, certainty = folder.name, folder.parent, "certain: it is named after a trial"
    task = one.task or (trial.rsplit("__", 1)[0] if trial else "")
    try:
        age = (datetime.now(UTC) - datetime.fromisoformat(one.created_at)).total_seconds() / 60
    except (ValueError, TypeError):
        age = None
    found = {"task": task, "trial": trial, "job": str(job or ""), "age_min": age and round(age, 1)}
    told = asdict(one) | found | {"owner": _owner(job), "certainty": certainty}
    return {name: clean(value, 300) if isinstance(value, str) else value for name, value in told.items()}


def _owner(job: Path | None) -> str:
    """Tell whether a sandbox's job lives: by its owner record; plain `harbor run` writes only its end."""
    if job is None:
        return "unknown"
    if not job.exists():
        return "orphaned"
    record = OwnerRecord.read(job)
    if record is not None:
        return {True: "live", False: "orphaned", None: "unknown"}[record.lives]
    return "orphaned" if read_mapping(job / "result.json").get("finished_at") else "unknown"


def terminate(which: Any, force: bool = False, jobs: str | Path = "jobs", practice: Any = None) -> "pd.DataFrame":
    """End the sandboxes that you name; they are listed anew first, and shown before anything is done.

    Args:
        which: rows of `sandboxes()`, or one id, or several.
        force: also those whose job lives, or of which that is not known.
        jobs: as for `sandboxes()`.
        practice: as for `sandboxes()`.

    Returns:
        The rows with `result`: `terminated`, `gone already`, `refused: ...` or `failed: ...`.

    Raises:
        BadInputError: `which` names no id.

    Example:
        >>> left = sandboxes()  # doctest: +SKIP
        >>> terminate(left[left["owner"] == "orphaned"])  # doctest: +SKIP
    """
    import pandas as pd

    if isinstance(which, pd.Series):
        which = which.to_frame().T
    of_frame = isinstance(which, pd.DataFrame)
    if of_frame and "id" not in which:
        raise BadInputError("the frame has no column 'id'; give rows of harbor_nb.sandboxes()")
    names = [which] if isinstance(which, str) else list(which["id"] if of_frame else which)
    if not (names or of_frame) or not all(isinstance(name, str) and name for name in names):
        raise BadInputError("name what to end: rows of harbor_nb.sandboxes(), an id, or a list of ids")
    where = sorted(set(which["environment"])) if of_frame else None
    stand_ins = settings(practice)
    there = sandboxes(where, jobs, practice) if names else pd.DataFrame(columns=_COLUMNS)
    named = there["id"].map(lambda one: any(n.startswith(one) for n in names)).astype(bool)  # docker's full or short id
    rows = there[named].copy()
    rows["result"] = [_refusal(owner, force) for owner in rows["owner"]]
    todo = rows[rows["result"] == ""]
    if len(todo) and not _agreed(todo):
        rows.loc[todo.index, "result"] = "refused: you did not agree"
        todo = todo.iloc[:0]
    for environment, group in todo.groupby("environment"):
        told = providers.terminate(str(environment), list(group["id"]), stand_ins.get(str(environment)))
        rows.loc[group.index, "result"] = [told.get(one, "failed: no answer") for one in group["id"]]
    gone = [n for n in names if not any(n.startswith(one) for one in there["id"])]
    return pd.concat([rows, pd.DataFrame({"id": gone, "result": "gone already, or not Harbor's"})], ignore_index=True)


def _refusal(owner: str, force: bool) -> str:
    if force or owner == "orphaned":
        return ""
    return f"refused: its job {'lives' if owner == 'live' else 'may live'}; to end it all the same: force=True"


def _agreed(rows: "pd.DataFrame") -> bool:
    """Show the list, and ask, where a person sits before it."""
    if not (hasattr(sys, "ps1") or getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()):
        return True
    print(rows[["environment", "id", "trial", "state", "age_min", "owner"]].to_string(index=False))  # noqa: T201 - asked for
    try:
        return input(f"End these {len(rows)}? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, RuntimeError, NotImplementedError):  # a notebook run without a person
        return True
