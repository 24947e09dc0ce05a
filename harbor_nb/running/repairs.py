"""Mend a job: switch its environment or settings, say what changed and why, and run it, or what failed of it, again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import Shown, clean, render
from harbor_nb.errors import BadInputError, JobError
from harbor_nb.known_failures import rows
from harbor_nb.running.configs import environment_of
from harbor_nb.running.origins import Change, Source, find_tasks, migrate, read_source, runs_of, shown, trial_configs
from harbor_nb.running.switching import apply_settings, refuse, switch

if TYPE_CHECKING:
    import pandas as pd

    from harbor_nb.running.handles import Jobs
    from harbor_nb.running.job import Job


class Repair(Shown):
    """A plan that mends one job or several; `.table` tells each changed setting, `.launch()` runs it."""

    def __init__(self, sources: list[Source], plan: Any, several: bool) -> None:
        self.plan = plan
        self.changes = tuple(change for source in sources for change in source.changes)
        self._sources, self._several = sources, several
        self._launched: list[Job] = []

    @property
    def table(self) -> "pd.DataFrame":
        """One row a changed setting: job, setting, old, new, reason."""
        import pandas as pd

        rows = [(c.job, c.setting, shown(c.old), shown(c.new), c.reason) for c in self.changes]
        return pd.DataFrame(rows, columns=["job", "setting", "old", "new", "reason"])

    def launch(self, job_name: str | None = None, force: bool = False) -> "Job | Jobs":
        """Start it as a new job beside the old one, and return at once.

        Args:
            job_name: the new job's name; `<old>-<environment>` by default.
            force: start also what certainly can't run.

        Returns:
            The new job; several as `Jobs`.

        Raises:
            BadInputError: one name for several jobs.
            NotReadyError: the environment can't run here.
        """
        if job_name is not None:
            if len(self.plan.configs) > 1:
                raise BadInputError("job_name is for one job; these are several, each is named after its old one")
            self.plan.configs[0]["job_name"] = job_name
        jobs: Jobs = self.plan.launch(force=force)
        self._launched = list(jobs)
        return jobs if self._several or len(jobs) > 1 else jobs[0]

    def combine(self) -> "pd.DataFrame":
        """Give old and new trials as one frame; `origin` says which is which, and each keeps its environment.

        An old trial that was run again, or that has no reward that counts, gives way to the new one.

        Raises:
            JobError: nothing was launched yet.
        """
        import pandas as pd

        from harbor_nb.results.frames import trials

        if not self._launched:
            raise JobError("nothing was launched yet; type repair.launch()")
        parts = [trials(job.path).assign(origin="new") for job in self._launched]
        for source in self._sources:
            if source.folder is not None:
                old = trials(source.folder)
                gone = old["trial"].isin(source.wanted) if source.wanted is not None else _again(old)
                parts.insert(0, old[~gone].assign(origin="old"))
        frame = pd.concat(parts, ignore_index=True).assign(repaired=True)
        frame.attrs["repaired"] = True  # what compare asks, so that it never calls this docker versus daytona
        return frame

    def write(self, in_place: bool = True) -> list[Path]:
        """Edit the config files: comments, order and all else stay; each old text goes to a backup beside it.

        Args:
            in_place: replace the file; False only gives the paths that would be written.

        Returns:
            The files.

        Raises:
            JobError: a config inside of a job folder, or a file that changed meanwhile or can't be written.
        """
        if inside := [source.name for source in self._sources if source.document is None]:
            raise JobError(
                f"the config of {inside[0]} lies in its job folder, and Harbor would refuse to resume a job whose "
                "config changed; type .launch(), which starts a new job"
            )
        documents = [source.document for source in self._sources if source.document is not None]
        for document in documents if in_place else ():
            document.write()
        return [document.file for document in documents]

    def __str__(self) -> str:
        names = ", ".join(config["job_name"] for config in self.plan.configs)
        lines = [f"Repair: {names} on {', '.join(dict.fromkeys(self.plan.environments))}"]
        lines += [f"  {change}" for change in self.changes] or ["  nothing is changed; it only runs again"]
        return clean("\n".join([*lines, "type .launch() to run it"]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render("repair", repair=self, shown=shown)


def repair(x: Any, environment: str | None = None, *, only: Any = None, tasks: Any = None, **settings: Any) -> Repair:
    """Plan to run a job again so that it works: on another environment, with other settings, or only what failed.

    Args:
        x: A job folder, `Job`, a config file that `harbor run -c` takes, or a list of these.
        environment: Where to run; None keeps it.
        only: `"failed"` for the trials without a reward that counts, `"errors"` for those that raised anything too, or
            names of trials; None for all.
        tasks: The tasks' folders, where those of the config are not found.
        **settings: Fields of Harbor's `JobConfig` or of its environment, such as `agent_timeout_multiplier=2`;
            `jobs_dir` for another jobs folder than the old job's.

    Returns:
        The repair: its changes with their reasons, `.launch()`, `.combine()`, and for a config file `.write()`.

    Raises:
        BadInputError: a config can't be read, its tasks are not found, or the environment can't run them: it says why.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.repair("jobs/test_auth_token_task", environment="docker").launch()  # doctest: +SKIP
    """
    from harbor_nb.running.plans import checked, free_name

    several = not isinstance(x, (str, Path)) and not hasattr(x, "path")
    sources, given, practice, chosen = [], [], None, settings.pop("jobs_dir", None)
    for item in x if several else [x]:
        source = read_source(Path(item))
        migrate(source)
        switch(source, environment)
        apply_settings(source, settings)
        find_tasks(source, tasks)
        refuse(source)
        beside = source.folder.parent if source.folder is not None else source.config.get("jobs_dir")
        jobs_dir = Path(chosen or beside or "jobs")
        suffix = environment_of(source.config).rpartition(":")[2] if environment else "again"
        stem = f"{source.name}-{suffix}"
        for number, part in enumerate(_only(source, only), 1):
            name = free_name(jobs_dir, stem if number == 1 else f"{stem}-part{number}")
            given.append({"agents": [], **part, "job_name": name, "jobs_dir": str(jobs_dir), "quiet": True})
        sources.append(source)
        practice = practice or _practised(source)
    if not given:
        raise BadInputError("no trial is left to run: none failed; leave out `only` to run all again")
    return Repair(sources, checked(given, practice=practice), several)


def find_broken(folder: Any = "jobs") -> "Jobs":
    """List the jobs that a missing key or a dead backend spoiled; `repair` takes the list.

    Args:
        folder: A jobs folder, or several.

    Returns:
        The jobs, by their paths.

    Raises:
        BadInputError: there is no such folder.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.repair(harbor_nb.find_broken("jobs"), environment="docker").launch()  # doctest: +SKIP
    """
    from harbor_nb.running.diagnosis import diagnose
    from harbor_nb.running.handles import Jobs
    from harbor_nb.running.job import Job

    spoiled = {row.name for row in rows() if row.about_here or row.name == "runner-lost"}
    found = {path for group in diagnose(folder).groups if group["failure"] in spoiled for path in group["jobs"]}
    return Jobs(Job(Path(path)) for path in sorted(found))


def _again(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Tell which trials have no reward that counts."""
    names = {row.name for row in rows() if not row.reward_counts}
    return frame["reward"].isna() | frame["failure"].isin(names)


def _only(source: Source, only: Any) -> list[dict[str, Any]]:
    """Return the configs that run just the wanted trials: one for each agent and number of attempts."""
    if only is None:
        return [source.config]
    if source.folder is None:
        raise BadInputError("only= is for a job that ran; a config file has no trials")
    from harbor_nb.results.frames import trials

    frame = trials(source.folder, columns=["trial", "reward", "exception", "failure"])
    if isinstance(only, str) and only in ("failed", "errors"):
        chosen = _again(frame) if only == "failed" else _again(frame) | frame["exception"].notna()
        wanted = set(frame["trial"][chosen])
    else:
        wanted = set(only["trial"] if hasattr(only, "columns") else [only] if isinstance(only, str) else only)
    if unknown := [name for name in wanted if name not in set(frame["trial"])]:
        raise BadInputError(
            f"no trial {unknown[0]!r} in {source.name}; only= takes 'failed', 'errors' or trials' names"
        )
    source.wanted = wanted
    found = {Path(task["path"]).name: task for task in source.config.get("tasks") or [] if task.get("path")}
    told = [config for name, config in trial_configs(source.folder) if name in wanted]
    for config in told:
        config["task"] = found.get(Path(config["task"].get("path") or "").name, config["task"])
    source.changes.append(Change(source.name, "trials", len(frame), len(wanted), "only those that you asked for"))
    alike: dict[tuple[str, int], list[Any]] = {}
    for (task, agent), attempts in runs_of(told).items():
        alike.setdefault((agent, attempts), []).append(json.loads(task))
    part = {**source.config, "datasets": []}
    return [
        part | {"tasks": tasks, "agents": [json.loads(agent)], "n_attempts": attempts}
        for (agent, attempts), tasks in alike.items()
    ]


def _practised(source: Source) -> Any:
    """Return the practice plan of a job that ran in a practice cloud, where the new one needs a cloud too."""
    from harbor_nb.running.owner import OwnerRecord

    record = OwnerRecord.read(source.folder) if source.folder is not None else None
    cloud = environment_of(source.config) not in ("local", "docker")
    return cloud and record and (record.plays or record.practice)
