"""Why trials failed: grouped, each with its cause, whose fault it is, what is so now, and the line that mends it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import clean, render
from harbor_nb.errors import BadInputError, HarborNbError
from harbor_nb.known_failures import KnownFailure, match, normalise
from harbor_nb.running.evidence import last_lines, log, raised, tail
from harbor_nb.running.stuck import watched

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["job_path", "path", "trial", "task", "environment", "agent", "model", "status", "reward", "exception",
            "failure", "fault", "message"]  # fmt: skip
_ABOUT_HERE = set(
    """key-missing key-half key-refused docker-not-found docker-no-permission docker-not-running compose-missing
buildkit-missing missing-extra local-unavailable""".split()
)
_MAYBE_LACKING = {"reward-missing", "reward-empty", "reward-unreadable", "verifier-crash", "agent-exit"}
_LIVE = ("starting", "running", "cancelling")
_LOOKED_AT = 500  # trials without an exception whose output is read


@dataclass(frozen=True)
class Group:
    """Failures of one kind; `scored` ones have a reward, and show only in what was printed."""

    name: str
    count: int
    tasks: tuple[str, ...]
    phase: str | None
    environment: str | None
    fault: str
    cause: str
    message: str
    fix: str
    options: tuple[tuple[str, str], ...] = ()
    detail: str | None = None
    now: str | None = None
    retry: bool = False
    rewards: int = 0
    reward_counts: bool = True
    scored: bool = False
    example: str = ""
    log: str = ""
    lines: tuple[str, ...] = ()
    trials: tuple[str, ...] = field(default=(), repr=False)
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """What went wrong in a job or several; reads as text, shows as HTML, and `.table` is a DataFrame."""

    headline: str
    groups: tuple[Group, ...]
    running: tuple[dict[str, Any], ...] = ()
    handle: str = ""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed and nothing looks hung."""
        return not [group for group in self.groups if not group.scored] and not any(r["hung"] for r in self.running)

    @property
    def table(self) -> "pd.DataFrame":
        """One row a group, most trials first."""
        import pandas as pd

        names = "failure trials tasks phase environment fault cause detail message fix now retry rewards reward_counts"
        rows = [
            {**vars(group), "failure": group.name, "trials": group.count, "tasks": ", ".join(group.tasks)}
            for group in self.groups
        ]
        return pd.DataFrame(rows, columns=[*names.split(), "scored", "example"])

    def __str__(self) -> str:
        return "\n".join([self.headline, *self.notes, *self._text()])

    __repr__ = __str__

    def _text(self) -> Iterator[str]:
        if self.groups and self.handle:
            yield self.handle
        for number, group in enumerate(self.groups, 1):
            facts = [
                f"{group.count} trial{'s' * (group.count != 1)}",
                group.phase,
                group.environment,
                f"fault: {group.fault}",
            ]
            yield f"\n{number}. {group.name} · {' · '.join(fact for fact in facts if fact)}"
            yield f"   {group.cause}" + (f" ({group.detail})" if group.detail else "")
            for title, text in (("Message", group.message), ("Tasks", _some(group.tasks)), ("Now", group.now)):
                if text:
                    yield f"   {title}: {text}"
            if group.rewards:
                counts = "counts" if group.reward_counts else "does not count"
                yield f"   {group.rewards} of them have a reward, which {counts}"
            yield f"   Fix: {group.fix}"
            yield from (f"   Or: {title}: {line}" for title, line in group.options if line != group.fix)
            if group.lines:
                yield f"   {group.log}:"
                yield from (f"   | {line}" for line in group.lines)
        for row in self.running:
            yield f"\n{'Looks hung' if row['hung'] else 'Running'}: {row['text']}"

    def _repr_html_(self) -> str:
        return render("diagnosis", diagnosis=self, some=_some)


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
    frame = _frame(x)
    failed = frame[frame["exception"].notna() | frame["status"].isin(["cancelled", "unreadable"])]
    groups = sorted((_group(part) for part in _parts(failed)), key=lambda group: -group.count)
    groups += _broken_jobs(x, frame)
    looked, lacking = _lacking(frame[frame["exception"].isna() & (frame["reward"] < 1)])
    groups += lacking
    running = tuple(watched(frame))
    paths = sorted(set(frame["job_path"].dropna())) or [group.example for group in groups]
    broken = sorted(set(failed["job_path"].dropna())) or paths
    groups = [_mended(group, len(broken) > 1) for group in groups]
    handle = f"jobs = {broken[:20]!r}" + f"  # and {len(broken) - 20} more" * (len(broken) > 20)
    if len(broken) == 1:
        handle = f"job = harbor_nb.attach({str(broken[0])!r})"
    return Diagnosis(_headline(frame, failed, groups, paths), tuple(groups), running, clean(handle), looked)


def _frame(x: Any) -> "pd.DataFrame":
    import pandas as pd

    from harbor_nb.results.frames import trials

    if not isinstance(x, pd.DataFrame):
        return trials(x, columns=_COLUMNS)
    if absent := [name for name in _COLUMNS if name not in x.columns]:
        raise BadInputError(
            f"the frame has no column {absent[0]!r}; give a whole trials(...) frame, or the job's folder"
        )
    return x


def _parts(failed: "pd.DataFrame") -> Iterator["pd.DataFrame"]:
    text = failed["message"].where(failed["failure"].isna(), failed["failure"])
    keys = [
        text.fillna(""),
        failed["exception"].where(failed["failure"].isna()).fillna(""),
        failed["environment"].fillna(""),
    ]
    yield from (part for _, part in failed.groupby(keys, sort=False))


def _group(part: "pd.DataFrame") -> Group:
    row = part.iloc[0]
    found, phase, step = raised(row["path"])
    exception = found.exception_type if found else _text(row["exception"])
    message = (found.exception_message if found else _text(row["message"])) or ""
    environment = _text(row["environment"])
    known = match(exception, message, phase=phase, environment=environment)
    name, text = log(Path(row["path"]), phase, step)
    if known is not None and known.name in _MAYBE_LACKING:
        known = match(None, text, output=True) or known  # what the output tells is nearer to the cause
        message = message if not known.output else text
    shown = "" if known and known.output else normalise(message)
    if step:
        shown = f"in the step {step}: {shown}"
    detail = known.detail(message) if known else None
    title = known.name if known else exception or _text(row["status"]) or "unknown"
    return _made(
        title, known, part, shown, (phase, environment), detail=detail, fault=_text(row["fault"]), log=name, text=text
    )


def _made(
    name: str,
    known: KnownFailure | None,
    part: "pd.DataFrame",
    message: str,
    place: tuple[str | None, str | None],
    **more: Any,
) -> Group:
    row = part.iloc[0]
    unknown = "print(job.diagnose())  # harbor_nb.register_failure(...) gives it a name, once you know its cause"
    return Group(
        name=clean(name, 80), count=len(part), tasks=tuple(clean(t, 80) for t in dict.fromkeys(part["task"].dropna())),
        phase=place[0], environment=place[1], fault=(known.fault if known else more["fault"]) or "unknown",
        cause=known.cause if known else "Not a failure that harbor_nb knows", message=clean(message, 400),
        fix=known.fix if known else unknown, options=known.options if known else (), detail=more["detail"],
        now=_now(name, place[1]), retry=bool(known and known.retry),
        rewards=int(part["reward"].notna().sum()) if not more.get("scored") else 0,
        reward_counts=known.reward_counts if known else True, scored=bool(more.get("scored")),
        example=str(row["path"]), log=more["log"], lines=last_lines(more["text"]), trials=tuple(part["trial"].dropna()),
        jobs=tuple(dict.fromkeys(part["job_path"])),
    )  # fmt: skip


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _some(names: tuple[str, ...], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _lacking(low: "pd.DataFrame") -> tuple[tuple[str, ...], list[Group]]:
    """Return what the output of trials that were scored below 1 tells of things that the image lacks."""
    if low.empty:
        return (), []
    seen: dict[tuple[Any, ...], list[int]] = {}
    told: dict[tuple[Any, ...], tuple[KnownFailure, str | None, str, str]] = {}
    for place, path in enumerate(low["path"].head(_LOOKED_AT)):
        name, text = log(Path(path), "verifier")
        known = match(None, text, phase="verifier", output=True) if "verifier" in name else None
        if known is not None:
            key = (known.name, known.detail(text), _text(low["environment"].iloc[place]))
            seen.setdefault(key, []).append(place)
            told.setdefault(key, (known, known.detail(text), name, text))
    groups = [
        _made(key[0], known, low.iloc[seen[key]], "", ("verifier", key[2]), detail=detail, log=name, text=text,
              scored=True)
        for key, (known, detail, name, text) in told.items()
    ]  # fmt: skip
    note = f"{len(low)} scored below 1 without an error: the agent's result" + (
        f"; the output of {_LOOKED_AT} of them was read" if len(low) > _LOOKED_AT else ""
    )
    return (note,), sorted(groups, key=lambda group: -group.count)


def _headline(frame: "pd.DataFrame", failed: "pd.DataFrame", groups: list[Group], paths: list[str]) -> str:
    what = clean(paths[0]) if len(paths) == 1 else f"{len(paths)} jobs"
    passed, scored = int((frame["reward"] >= 1).sum()), int((frame["status"] == "scored").sum())
    going = int(frame["status"].isin(["running", "pending"]).sum())
    rest = f"; {going} still to come" if going else ""
    if failed.empty and not any(not group.scored for group in groups):
        if frame.empty:
            return f"{what}: no trial has begun"
        return f"{what}: nothing failed: {scored} of {len(frame)} trials scored, {passed} passed{rest}"
    return f"{what}: {len(failed)} of {len(frame)} trials failed, {passed} passed{rest}"


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


def _mended(group: Group, many: bool) -> Group:
    """Return the group with a fix that can be typed: for several jobs, and never to where it failed or can't run."""
    from dataclasses import replace

    from harbor_nb.backends.readiness import check

    fix, options = group.fix, [*group.options]
    for target, other in (("docker", "local"), ("local", "docker")):
        if f'environment="{target}"' in fix and (group.environment == target or not check(target).ready):
            fix = fix.replace(f'environment="{target}"', f'environment="{other}"')
            break
    lines = [(title, line) for title, line in options if f'environment="{group.environment}"' not in line]
    if many:
        fix, lines = _plural(fix), [(title, _plural(line)) for title, line in lines]
    return replace(group, fix=fix, options=tuple(lines))


def _plural(line: str) -> str:
    line = line.replace("job.repair(", "harbor_nb.repair(jobs, ").replace(", )", ")")
    return f"for job in map(harbor_nb.attach, jobs): {line}" if "job." in line else line


def _broken_jobs(x: Any, frame: "pd.DataFrame") -> Iterator[Group]:
    """Yield jobs that ended before any trial began: what their runner wrote of it."""
    import pandas as pd

    from harbor_nb.results.reading import find_jobs
    from harbor_nb.running.owner import OwnerRecord

    if isinstance(x, pd.DataFrame):
        return
    begun = set(frame["job_path"])
    for job in find_jobs(x):
        owner = OwnerRecord.read(Path(job.path))
        if owner is None or job.alive or not (owner.error or (job.path not in begun and owner.state in _LIVE)):
            continue
        exception, _, message = (owner.error or "").partition(": ")
        lost = not owner.error
        known = match(None if lost else exception, "the runner is gone" if lost else message)
        row = {"path": job.path, "job_path": job.path, "task": None, "trial": None, "reward": None}
        name, text = "harbor_nb.log", tail(Path(job.file("harbor_nb.log")))
        yield _made(known.name if known else exception, known, pd.DataFrame([row]), normalise(message),
                    (None, owner.environment), detail=None, fault=None, log=name, text=text)  # fmt: skip
