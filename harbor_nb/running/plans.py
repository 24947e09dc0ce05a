"""What to run, checked before anything is written: tasks, agents and environments become Harbor JobConfigs."""

import os
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import Shown, render
from harbor_nb._redaction import SECRET_NAME, redactor
from harbor_nb.errors import BadInputError, JobExistsError, NotReadyError
from harbor_nb.running import configs as _configs
from harbor_nb.running.owner import OwnerRecord
from harbor_nb.running.practice import described

if TYPE_CHECKING:
    from harbor_nb.running.handles import Jobs
    from harbor_nb.running.job import Job


@dataclass(eq=False)
class Plan(Shown):
    """Jobs that are ready to launch, one an environment; `configs` are Harbor's own, with secrets as `${NAME}`."""

    configs: tuple[dict[str, Any], ...]
    fast_stop: bool = True
    practice: Any = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def environments(self) -> tuple[str, ...]:
        """The environment of each job."""
        return tuple(_configs.environment_of(config) for config in self.configs)

    @cached_property
    def n_tasks(self) -> int | None:
        """Tasks of each job; None when a dataset of a registry can't be counted now."""
        from harbor_nb.running.previews import count_tasks

        return count_tasks(self.configs[0])

    @property
    def n_trials(self) -> int | None:
        """Trials of each job; None when its tasks can't be counted now."""
        config = self.configs[0]
        return self.n_tasks and self.n_tasks * len(config["agents"]) * int(config.get("n_attempts", 1))

    @property
    def command(self) -> str:
        """The `harbor run` line of each job that means the same."""
        from harbor_nb.running.commands import equivalent

        return "\n".join(equivalent(config) for config in self.configs)

    @property
    def yaml(self) -> str:
        """Each job's config as the YAML that `harbor run -c` takes."""
        from harbor_nb.running.commands import as_yaml

        return "---\n".join(as_yaml(config) for config in self.configs)

    def __repr__(self) -> str:
        from harbor_nb.running.previews import preview, text

        return text(preview(self))

    def _repr_html_(self) -> str:
        from harbor_nb.running.previews import preview

        return render("plan", **preview(self), command=self.command, yaml=self.yaml)

    @classmethod
    def from_config(cls, file: str | Path, **fields: Any) -> "Plan":
        """Plan the job of a file that `harbor run -c` takes: JSON, JSON with `//` comments, or YAML.

        Args:
            file: the config file.
            **fields: fields of Harbor's `JobConfig` to use instead of the file's, and `fast_stop`, `practice`.

        Returns:
            The plan; a job that the file does not name is named after the file.

        Raises:
            BadInputError: the file can't be read, or Harbor refuses it.

        Example:
            >>> Plan.from_config("job.yaml").launch()  # doctest: +SKIP
        """
        config = {"job_name": Path(file).stem, **_configs.read_config(file)}
        return _of_config(config, fields)

    @classmethod
    def from_command(cls, text: str, **fields: Any) -> "Plan":
        """Plan the job of a pasted `harbor run ...` or `harbor jobs start ...` line; its literal secrets go to no file.

        Args:
            text: the command line, as the guide writes it.
            **fields: fields of Harbor's `JobConfig` to use instead, and `fast_stop`, `practice`.

        Returns:
            The plan.

        Raises:
            BadInputError: it is no such command, or Harbor refuses it.

        Example:
            >>> Plan.from_command("harbor run --env docker -p tasks/hello-world -a oracle")  # doctest: +SKIP
        """
        from harbor_nb.running.commands import parse_command

        config, named, loaded = parse_command(text)
        if not named:
            config["job_name"] = free_name(Path(config.get("jobs_dir") or "jobs"), config["job_name"])
        return _of_config(config, fields, loaded)

    @classmethod
    def from_job(cls, folder: "str | Path | Job", **fields: Any) -> "Plan":
        """Plan the job of a folder once more, under a new name.

        Args:
            folder: the job's folder, or its handle.
            **fields: fields of Harbor's `JobConfig` to use instead, and `fast_stop`, `practice`.

        Returns:
            The plan, for the same jobs folder.

        Raises:
            BadInputError: the folder has no config that can be used.

        Example:
            >>> Plan.from_job("jobs/first").launch()  # doctest: +SKIP
        """
        path = Path(folder)
        config = _configs.unstarred(_configs.read_config(path / "config.json"))
        if not (config.get("tasks") or config.get("datasets") or config.get("source_jobs")):
            raise BadInputError(f"{path / 'config.json'} names no tasks; harbor_nb.repair({str(path)!r}) rebuilds it")
        config["jobs_dir"] = str(path.resolve().parent)
        record = OwnerRecord.read(path)
        fields = {"practice": record and (record.plays or record.practice)} | fields  # never at a vendor unasked
        return _of_config(config | {"job_name": free_name(path.resolve().parent, path.name)}, fields)

    def launch(self, force: bool = False) -> "Jobs":
        """Start each job's runner and return at once; jobs outlive this process, not the machine or the user's session.

        Args:
            force: start also what certainly can't run.

        Returns:
            The jobs' handles.

        Raises:
            NotReadyError: no environment of the plan can run here.
            JobExistsError: a job of that name is there already.

        Example:
            >>> plan("tasks").launch()  # doctest: +SKIP
        """
        from harbor_nb.running.handles import Jobs
        from harbor_nb.running.launcher import make_folder, spawn
        from harbor_nb.running.previews import home, readiness

        refused: list[NotReadyError | JobExistsError] = []
        started = []
        for config, environment in zip(self.configs, self.environments, strict=True):
            record = OwnerRecord.new(config["job_name"], environment, self.fast_stop and environment == "docker")
            try:
                if blocked := [told for told in readiness(config, self.practice) if not (told.ready or force)]:
                    raise NotReadyError(str(blocked[0]))
                started.append(spawn(make_folder(config), config, record, self.secrets, self.practice))
            except (NotReadyError, JobExistsError) as error:
                refused.append(error)
        if refused and not started:
            raise refused[0]
        for line in [*refused, *home()]:
            print(line)  # noqa: T201 - told where the call was made
        return Jobs(started)

    def run_here(self) -> "Job":
        """Run the one job inside this kernel, to debug an agent or environment class written in a cell.

        The cell waits until the job ends; breakpoints work. Event loops are patched by nest-asyncio2 until the
        kernel restarts.

        Returns:
            The ended job; an interrupt cancels it.

        Raises:
            BadInputError: more than one job, or more than 5 trials.

        Example:
            >>> plan("tasks/hello-world", agents="__main__:MyAgent").run_here()  # doctest: +SKIP
        """
        from harbor_nb.running.here import run

        return run(self)


def free_name(jobs_dir: Path, name: str, ends: Iterable[str] = ("",), given: Container[str] = ()) -> str:
    """Return the name, numbered where a folder or a plan has it already with one of the ends."""
    stems = (name, *(f"{name}-{number}" for number in range(2, 10_000)))
    return next(s for s in stems if not any(s + end in given or (jobs_dir / (s + end)).exists() for end in ends))


def _of_config(config: dict[str, Any], fields: dict[str, Any], environ: dict[str, str] | None = None) -> Plan:
    fast_stop, practice = fields.pop("fast_stop", True), fields.pop("practice", None)
    return checked([config | fields | {"quiet": True}], fast_stop, practice, environ)


def checked(
    given: list[dict[str, Any]], fast_stop: bool = True, practice: Any = None, loaded: dict[str, str] | None = None
) -> Plan:
    """Check each config with Harbor, and take this folder's relative paths and all values of secrets out of it."""
    made, secrets = [], dict(loaded or {})
    for raw in given:
        config = {"tasks": [], "datasets": [], "environment": {}} | _configs.absolute(raw)
        config["agents"] = config.get("agents") or [{"name": "oracle"}]
        config["jobs_dir"] = str(Path(config.get("jobs_dir") or "jobs").expanduser().resolve())
        secrets |= _configs.hide_secrets(config, os.environ | secrets)
        read = _configs.validated(config)
        if not read.job_name.strip() or Path(read.job_name).name != read.job_name:
            raise BadInputError(f"{read.job_name!r} can't be a folder's name; give another job name")
        if not (read.tasks or read.datasets or read.source_jobs):
            raise BadInputError("the config names no tasks; add 'tasks' or 'datasets'")
        made.append(config | {"job_name": read.job_name})
    for name, value in secrets.items():
        if SECRET_NAME.search(name):
            redactor.remember(name, value)
    practice = described(practice, map(_configs.environment_of, made))
    return Plan(tuple(made), fast_stop, practice, secrets)
