"""Why trials failed: grouped, each with its cause, whose fault it is, what is so now, and the line that mends it."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import Shown, clean, render
from harbor_nb.errors import BadInputError, HarborNbError
from harbor_nb.known_failures import KnownFailure, match, normalise
from harbor_nb.running.evidence import last_lines, log, printed, raised, tail
from harbor_nb.running.stuck import watched

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = "job_path path trial task environment phase status reward exception failure fault message".split()
_TABLE = """failure trials tasks phase environment fault cause detail message fix now retry rewards reward_counts scored
example""".split()
_ABOUT_HERE = frozenset(
    """key-missing key-half key-refused docker-not-found docker-no-permission docker-not-running
compose-missing buildkit-missing missing-extra local-unavailable""".split()
)
_MAYBE_LACKING = {"reward-missing", "reward-empty", "reward-unreadable", "verifier-crash", "agent-exit"}
_CHAINED = ("verifier-transfer-failed",)  # their cause stands in the traceback
_OF_A_PHASE = ("agent-crash", "verifier-crash")  # what was raised tells these apart
_OTHER = {"docker": "local", "local": "docker"}
_LOOKED_AT = 500  # trials without an exception whose output is read
_TO_NAME = "harbor_nb.register_failure(...)  # gives it a name, a cause and a fix"
_UNKNOWN = KnownFailure("", "Not a failure that harbor_nb knows", _TO_NAME, "unknown")


@dataclass(frozen=True)
class Diagnosis(Shown):
    """What went wrong in a job or several; reads as text, shows as HTML, and `.table` is a DataFrame.

    `groups` are dicts with the columns of the table, `names` of the trials, `jobs`, `options` and the log's `lines`;
    `running` tells of each trial that runs; `handle` is the line that gives `job`, or `jobs`.
    """

    headline: str
    groups: tuple[dict[str, Any], ...]
    running: tuple[dict[str, Any], ...] = ()
    handle: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing failed and nothing looks hung."""
        return all(group["scored"] for group in self.groups) and not any(row["hung"] for row in self.running)

    @property
    def table(self) -> "pd.DataFrame":
        """One row a group, most trials first."""
        import pandas as pd

        return pd.DataFrame(list(self.groups), columns=_TABLE)

    def __str__(self) -> str:
        return "\n".join([self.headline, *self.notes, *([self.handle] if self.groups else []), *self._text()])

    __repr__ = __str__

    def _text(self) -> Iterator[str]:
        for number, group in enumerate(self.groups, 1):
            yield f"\n{number}. {_title(group)}"
            told = [(None if key == "Cause" else key, text) for key, text in _facts(group)]
            yield from (f"   {key}: {text}" if key else f"   {text}" for key, text in told)
            if group["lines"]:
                yield f"   {group['log']} of {group['example']}:\n" + textwrap.indent(
                    "\n".join(group["lines"]), "   | "
                )
        for row in self.running:
            yield f"\n{'Looks hung' if row['hung'] else 'Running'}: {row['text']}"

    def _repr_html_(self) -> str:
        return render("diagnosis", diagnosis=self, title=_title, facts=_facts)


def _title(group: dict[str, Any]) -> str:
    count = f"{group['trials']} trial{'s' * (group['trials'] != 1)}" if group["trials"] else "the job itself"
    parts = (group["failure"], count, group["phase"], group["environment"], f"fault: {group['fault']}")
    return " · ".join(part for part in parts if part)


def _facts(group: dict[str, Any]) -> list[tuple[str, str]]:
    rewards = "counts" if group["reward_counts"] else "does not count"
    rewards = f"{group['rewards']} of them have one, which {rewards}" if group["rewards"] else ""
    told = [
        ("Cause", group["cause"] + (f" ({group['detail']})" if group["detail"] else "")),
        *((key, group[key.lower()]) for key in ("Message", "Tasks", "Now")),
        ("Rewards", rewards), ("Fix", group["fix"]),
        *(("Or", f"{title}: {line}") for title, line in group["options"] if line != group["fix"]),
    ]  # fmt: skip
    return [(key, text) for key, text in told if text]


def diagnose(x: Any) -> Diagnosis:
    """Say why trials failed: grouped, whose fault, the cause, and the next line of Python that mends it.

    Args:
        x: A job folder, a folder of jobs, a list of them, a `Job`, `Jobs`, or a trials frame.

    Returns:
        The diagnosis; for a job that runs also which phase each trial is in, for how long, and what looks hung.

    Raises:
        BadInputError: `x` does not exist, or is a frame without the columns that `trials` gives.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.diagnose(harbor_nb.sample_jobs()).table[["failure", "trials", "fix"]]  # doctest: +SKIP
    """
    import pandas as pd

    from harbor_nb.results.frames import trials

    frame = x if isinstance(x, pd.DataFrame) else trials(x, columns=_COLUMNS)
    if absent := [name for name in _COLUMNS if name not in frame.columns]:
        raise BadInputError(
            f"the frame has no column {absent[0]!r}; give a whole trials(...) frame, or the job's folder"
        )
    frame = _without_dead(frame)
    failed = frame[frame["exception"].notna() | frame["status"].isin(["cancelled", "unreadable"])]
    groups = sorted((_group(part) for part in _parts(failed)), key=lambda group: -int(group["trials"]))
    groups += [] if isinstance(x, pd.DataFrame) else _broken_jobs(x, frame)
    low = frame[frame["exception"].isna() & (frame["reward"] < 1)]
    groups += _lacking(low)
    notes = [f"{len(low)} scored below 1 without an error: the agent's result"] if len(low) else []
    if len(low) > _LOOKED_AT:
        notes.append(f"the output of {_LOOKED_AT} of them was read")
    jobs = list(dict.fromkeys(job for group in groups for job in group["jobs"])) or list(frame["job_path"].unique())
    handle = f"jobs = {jobs[:20]!r}" + f"  # and {len(jobs) - 20} more" * (len(jobs) > 20)
    if len(jobs) == 1:
        handle = f"job = harbor_nb.attach({str(jobs[0])!r})"
    for group in groups:
        _make_typable(group, many=len(jobs) > 1)
    running = tuple(watched(frame))
    return Diagnosis(_headline(frame, failed, groups, running), tuple(groups), running, clean(handle), tuple(notes))


def _without_dead(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the trials, those of a runner that is gone cancelled; a frame takes them for running for a minute more."""
    from harbor_nb.running.job import Job

    going = frame["status"].isin(["running", "pending"])
    dead = [job for job in frame["job_path"][going].unique() if Job(Path(job)).state == "lost"]
    lost = going & frame["job_path"].isin(dead)
    told = frame.assign(
        status=frame["status"].mask(lost, "cancelled"), message=frame["message"].mask(lost, "the runner is gone")
    )
    return told[~(lost & frame["trial"].isna())]


def _parts(failed: "pd.DataFrame") -> Iterator["pd.DataFrame"]:
    """Split by what failed and where: the known failure, else the exception and its message."""
    unknown = failed["failure"].isna() | failed["failure"].isin(_OF_A_PHASE)
    text = failed["failure"].mask(unknown, failed["message"]).fillna("")
    keys = [text, failed["exception"].where(unknown), failed["environment"], failed["phase"]]
    yield from (part for _, part in failed.groupby([key.fillna("") for key in keys], sort=False))


def _group(part: "pd.DataFrame") -> dict[str, Any]:
    row = part.iloc[0]
    found, phase, step = raised(row["path"], _text(row["phase"]))
    exception = found.exception_type if found else _text(row["exception"])
    message = (found.exception_message if found else _text(row["message"])) or ""
    said, known = message, match(exception, message, phase=phase, environment=_text(row["environment"]))
    name, text = log(Path(row["path"]), phase, step)
    nearer = None if exception and (known is None or known.name not in _CHAINED) else match(
        exception and "RuntimeError", text, phase=phase, environment=_text(row["environment"]))  # fmt: skip
    if nearer is not None and nearer.name not in _OF_A_PHASE:
        known, message = nearer, text  # the log of a trial without a result, or the cause of what was raised
    shown = ": ".join(part for part in (step and f"in the step {step}", exception, normalise(said)) if part)
    if known is not None and known.name in _MAYBE_LACKING:  # what the output tells is nearer to the cause
        own = phase != "verifier" and (match(None, text, output=True), name, text)
        lacking = own or printed(Path(row["path"]), step)
        if lacking and lacking[0]:
            known, name, text = lacking
            message = text
    title = exception or _text(row["status"]) or "unknown"
    return _made(part, known, phase, shown, title=title, detail=known and known.detail(message), log=name, text=text)


def _made(
    part: "pd.DataFrame", known: KnownFailure | None, phase: str | None, message: str, **more: Any
) -> dict[str, Any]:
    row, told = part.iloc[0], known or _UNKNOWN
    tasks = list(dict.fromkeys(part["task"].dropna()))
    scored = bool(more.get("scored"))
    name, environment = told.name or clean(more["title"], 80), _text(row["environment"])
    return {
        "failure": name, "trials": len(part), "names": list(part["trial"].dropna()), "phase": phase,
        "tasks": clean(", ".join(tasks[:6])) + f" and {len(tasks) - 6} more" * (len(tasks) > 6),
        "environment": environment, "fault": told.fault if known else _text(row["fault"]) or "unknown",
        "cause": told.cause, "detail": more.get("detail"), "message": clean(message, 400), "fix": told.fix,
        "options": told.options, "now": _now(name, environment), "retry": told.retry, "scored": scored,
        "reward_counts": told.reward_counts, "rewards": 0 if scored else int(part["reward"].notna().sum()),
        "example": clean(row["path"]), "log": more["log"], "lines": last_lines(more["text"]),
        "jobs": list(part["job_path"].unique()),
    }  # fmt: skip


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _lacking(low: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return what the output of trials that were scored below 1 tells of things that the image lacks."""
    seen: dict[tuple[Any, ...], list[int]] = {}
    told: dict[tuple[Any, ...], tuple[KnownFailure, str, str]] = {}
    for place, (path, environment) in enumerate(zip(low["path"][:_LOOKED_AT], low["environment"], strict=False)):
        if said := printed(Path(path)):
            key = (said[0].name, said[0].detail(said[2]), environment)
            seen.setdefault(key, []).append(place)
            told.setdefault(key, said)
    made = [
        _made(low.iloc[seen[key]], known, "verifier", "", detail=key[1], log=name, text=text, scored=True)
        for key, (known, name, text) in told.items()
    ]
    return sorted(made, key=lambda group: -int(group["trials"]))


def _broken_jobs(x: Any, frame: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Yield jobs that ended before their trials did: what their runner wrote of it."""
    import pandas as pd

    from harbor_nb.results.reading import find_jobs
    from harbor_nb.running.owner import LIVE, OwnerRecord

    begun = set(frame["job_path"])
    for job in find_jobs(x):
        owner = None if job.alive else OwnerRecord.read(Path(job.path))
        if owner is None or not (owner.error or (job.path not in begun and owner.state in LIVE)):
            continue
        exception, _, message = (owner.error or ": the runner is gone").partition(": ")
        known = match(exception or None, message, environment=owner.environment or None)
        row = dict.fromkeys(_COLUMNS) | {"path": job.path, "job_path": job.path, "environment": owner.environment}
        text = tail(Path(job.file("harbor_nb.log")))
        more = {"title": exception, "log": "harbor_nb.log", "text": text, "detail": known and known.detail(message)}
        yield _made(pd.DataFrame([row]), known, None, normalise(message), **more) | {"trials": 0}


def _now(name: str, environment: str | None) -> str | None:
    """Return what readiness says now of what was missing then."""
    from harbor_nb.backends.readiness import check

    if name not in _ABOUT_HERE or environment is None:
        return None
    try:
        readiness = check(environment)
    except HarborNbError:
        return None
    return str(readiness) if not readiness.ready else f"{environment} is ready: what was missing then is there since"


def _make_typable(group: dict[str, Any], many: bool) -> None:
    """Make the fix a line that works when typed: for several jobs, and never to where it failed or can't run."""
    from harbor_nb.backends.readiness import check

    def works(line: str) -> bool:
        named = [target for target in ("docker", "local") if f'environment="{target}"' in line]
        return all(group["environment"] != target and check(target).ready for target in named)

    fix = group["fix"]
    if not works(fix):
        fix = re.sub('environment="(docker|local)"', lambda found: f'environment="{_OTHER[found[1]]}"', fix)
    options = [(title, line) for title, line in group["options"] if works(line)]
    if group["rewards"] and group["reward_counts"]:  # these are not failed to `repair`
        fix = fix.replace('only="failed"', 'only="errors"')
    if group["scored"]:  # nor did these raise anything
        fix = fix.replace('only="failed"', f"only={group['names'][:20]!r}")
    group["fix"] = _plural(fix) if many else fix
    group["options"] = [(title, _plural(line) if many else line) for title, line in options]


def _plural(line: str) -> str:
    line = line.replace("job.repair(", "harbor_nb.repair(jobs, ").replace(", )", ")")
    return f"for job in map(harbor_nb.attach, jobs): {line}" if "job." in line else line


def _headline(frame: "pd.DataFrame", failed: "pd.DataFrame", groups: list[Any], running: tuple[Any, ...]) -> str:
    jobs = list(frame["job_path"].unique()) or [job for group in groups for job in group["jobs"]]
    what = clean(jobs[0]) if len(jobs) == 1 else f"{len(jobs)} jobs"
    passed, scored = int((frame["reward"] >= 1).sum()), int((frame["status"] == "scored").sum())
    going = int(frame["status"].isin(["running", "pending"]).sum())
    rest = f"; {going} still to come" if going else ""
    if hung := sum(row["hung"] for row in running):
        rest += f", of which {hung} look hung"
    if all(group["scored"] for group in groups):
        if frame.empty:
            return f"{what}: no trial has begun"
        return f"{what}: nothing failed: {scored} of {len(frame)} trials scored, {passed} passed{rest}"
    return f"{what}: {len(failed)} of {len(frame)} trials failed, {passed} passed{rest}"
