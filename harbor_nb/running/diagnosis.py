"""Why trials failed: grouped, each with its cause, whose fault it is, what is so now, and the line that mends it."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import Shown, clean, render
from harbor_nb.errors import BadInputError, HarborNbError
from harbor_nb.known_failures import KnownFailure, match, normalise
from harbor_nb.running.evidence import last_lines, log, printed, raised, read, tail
from harbor_nb.running.stuck import watched

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = "job_path path trial task environment phase status reward exception failure fault message".split()
_TABLE = """failure trials tasks phase environment fault cause detail message fix now retry rewards reward_counts scored
example""".split()
_MAYBE_LACKING = {"reward-missing", "reward-empty", "reward-unreadable", "verifier-crash", "agent-exit"}
_CHAINED = ("verifier-transfer-failed",)  # their cause stands in the traceback
_OF_A_PHASE = ("agent-crash", "verifier-crash")  # what was raised tells these apart
_OTHER = {"docker": "local", "local": "docker"}
_LOOKED_AT = 500  # trials without an exception whose output is read


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
            yield from (f"   {key}: {text}" for key, text in _facts(group))
            if group["lines"]:
                yield f"   {group['log']} of {group['example']}:"
                yield from (f"   | {line}" for line in group["lines"])
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
        raise BadInputError(f"the frame has no column {absent[0]!r}; give a whole trials(...) frame, or a folder")
    frame = _without_dead(frame)
    failed = frame[frame["exception"].notna() | frame["status"].isin(["cancelled", "unreadable"])]
    groups = _most_first(map(_group, _parts(failed)))
    groups += [] if isinstance(x, pd.DataFrame) else _broken_jobs(x, frame)
    low = frame[frame["exception"].isna() & (frame["reward"] < 1)]
    groups += _most_first(_lacking(low))
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


def _most_first(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(groups, key=lambda group: -int(group["trials"]))


def _without_dead(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the trials, those of a runner that is gone cancelled; a frame takes them for running for a minute more."""
    from harbor_nb.running.job import Job

    going = frame["status"].isin(["running", "pending"])
    dead = [job for job in frame["job_path"][going].unique() if Job(Path(job)).state == "lost"]
    lost = going & frame["job_path"].isin(dead)
    told = frame.assign(status=frame["status"].mask(lost, "cancelled"))
    told["message"] = told["message"].mask(lost, "the runner is gone")
    return told[~(lost & frame["trial"].isna())]


def _parts(failed: "pd.DataFrame") -> Iterator["pd.DataFrame"]:
    """Split by what failed and where: the known failure, else the exception and its message."""
    unknown = failed["failure"].isna() | failed["failure"].isin(_OF_A_PHASE)
    text = failed["failure"].mask(unknown, failed["message"]).fillna("")
    keys = [text, failed["exception"].where(unknown), failed["environment"], failed["phase"]]
    yield from (part for _, part in failed.groupby([key.fillna("") for key in keys], sort=False))


def _group(part: "pd.DataFrame") -> dict[str, Any]:
    row = part.iloc[0].dropna()
    path, environment = Path(row["path"]), row.get("environment")
    found, phase, step = raised(row["path"], row.get("phase"))
    exception = found.exception_type if found else row.get("exception")
    said = (found.exception_message if found else row.get("message")) or ""
    known, told = match(exception, said, phase=phase, environment=environment), said
    name, text = log(path, phase, step)
    if not exception or (known and known.name in _CHAINED):
        nearer = match(exception and "RuntimeError", text, phase=phase, environment=environment)
        if nearer is not None and nearer.name not in _OF_A_PHASE:
            known, told = nearer, text  # the log of a trial without a result, or the cause of what was raised
    if known is not None and known.name in _MAYBE_LACKING:  # what the output tells is nearer to the cause
        lacking = printed(path, step, exception) if phase == "verifier" else read(name, text)
        if lacking is not None:
            known, name, text = lacking
            told = text
    known = known or _unknown(exception or row.get("status"), row.get("fault"))
    message = ": ".join(word for word in (step and f"in the step {step}", exception, normalise(said)) if word)
    return _made(part, known, told, (name, text), phase=phase, message=clean(message, 400))


def _made(part: "pd.DataFrame", known: KnownFailure, told: str, log: tuple[str, str], **more: Any) -> dict[str, Any]:
    """Return the group of some trials; the failure's detail is quoted from what `told` of it."""
    tasks = list(dict.fromkeys(part["task"].dropna()))
    row = part.iloc[0].dropna()
    environment = row.get("environment")
    return {
        "failure": known.name, "trials": len(part), "names": list(part["trial"].dropna()), "phase": None,
        "tasks": clean(", ".join(tasks[:6])) + f" and {len(tasks) - 6} more" * (len(tasks) > 6),
        "environment": environment, "fault": known.fault, "cause": known.cause, "detail": known.detail(told),
        "message": "", "fix": known.fix, "options": known.options,
        "now": _now(environment) if known.about_here else None,
        "retry": known.retry, "scored": False, "reward_counts": known.reward_counts,
        "rewards": int(part["reward"].notna().sum()), "example": clean(row["path"]), "log": log[0],
        "lines": last_lines(log[1]), "jobs": list(part["job_path"].unique()),
    } | more  # fmt: skip


def _unknown(title: str | None, fault: str | None) -> KnownFailure:
    to_name = "harbor_nb.register_failure(...)  # gives it a name, a cause and a fix"
    return KnownFailure(
        clean(title or "unknown", 80), "Not a failure that harbor_nb knows", to_name, fault or "unknown"
    )


def _lacking(low: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Yield what the output of trials that were scored below 1 tells of things that the image lacks."""
    seen = low.head(_LOOKED_AT)
    seen = seen.assign(said=seen["path"].map(lambda path: printed(Path(path)))).dropna(subset="said")
    keys = [(known.name, known.detail(text)) for known, _, text in seen["said"]]
    for _, part in seen.groupby([seen["environment"].fillna(""), keys], sort=False):
        known, name, text = part["said"].iloc[0]
        yield _made(part, known, text, (name, text), phase="verifier", scored=True, rewards=0)


def _broken_jobs(x: Any, frame: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Yield jobs that ended before their trials did: what their runner wrote of it."""
    import pandas as pd

    from harbor_nb.results.reading import find_jobs
    from harbor_nb.running.owner import LIVE, OwnerRecord

    for job in find_jobs(x):
        owner = None if job.alive else OwnerRecord.read(Path(job.path))
        if owner and (owner.error or (owner.state in LIVE and job.path not in set(frame["job_path"]))):
            exception, _, said = (owner.error or ": the runner is gone").partition(": ")
            known = match(exception or None, said, environment=owner.environment or None) or _unknown(exception, None)
            row = {"path": job.path, "job_path": job.path, "environment": owner.environment or None}
            log = "harbor_nb.log", tail(Path(job.file("harbor_nb.log")))
            part = pd.DataFrame([row], columns=_COLUMNS)
            yield _made(part, known, said, log, trials=0, message=clean(normalise(said), 400))


def _now(environment: str | None) -> str | None:
    """Return what readiness says now of what was missing then."""
    from harbor_nb.backends.readiness import check

    with suppress(HarborNbError):  # an environment that is not known here
        readiness = check(environment or "")
        return (
            str(readiness) if not readiness.ready else f"{environment} is ready: what was missing then is there since"
        )
    return None


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
    if frame.empty and not groups:
        return f"{what}: no trial has begun"
    told = f"{len(failed)} of {len(frame)} trials failed"
    if all(group["scored"] for group in groups):
        told = f"nothing failed: {scored} of {len(frame)} trials scored"
    return f"{what}: {told}, {passed} passed{rest}"
