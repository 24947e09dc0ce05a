"""What to run, checked before anything is written: tasks, agents and environments become Harbor JobConfigs."""

import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb.errors import BadInputError, NotReadyError

if TYPE_CHECKING:
    from harbor_nb.running.handles import Jobs

LOCAL = "harbor_nb.local:LocalEnvironment"
_OURS = frozenset({"job_name", "tasks", "datasets", "agents", "environment", "n_attempts", "jobs_dir"})


@dataclass(frozen=True)
class Plan:
    """Jobs that are ready to launch, one an environment; `configs` are Harbor's own."""

    configs: tuple[dict[str, Any], ...]
    environments: tuple[str, ...]
    n_trials: int

    def __repr__(self) -> str:
        names = ", ".join(config["job_name"] for config in self.configs)
        return f"Plan({len(self.configs)} jobs of {self.n_trials} trials: {names})"

    def launch(self, force: bool = False) -> "Jobs":
        """Start each job's runner and return at once.

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
        from harbor_nb.backends.readiness import check
        from harbor_nb.running.handles import Jobs
        from harbor_nb.running.launcher import start

        refused, started = [], []
        for config, environment in zip(self.configs, self.environments, strict=True):
            readiness = check(environment)
            if not (readiness.ready or force):
                refused.append(str(readiness))
                continue
            started.append(start(config, environment))
        if refused and not started:
            raise NotReadyError(refused[0])
        for line in refused:
            print(line)  # noqa: T201 - told where the call was made
        return Jobs(started)


def plan(
    tasks: str | Path | Sequence[str | Path],
    agents: str | Sequence[str | tuple[str, str | None]] = "oracle",
    environments: str | Sequence[str] = "local",
    attempts: int = 1,
    name: str | None = None,
    jobs_dir: str | Path = "jobs",
    exact_name: bool = False,
    **fields: Any,
) -> Plan:
    """Plan jobs: every agent on every task, `attempts` times, one job an environment.

    Args:
        tasks: a task folder, several, or a folder of tasks.
        agents: names, import paths `module:Class`, or pairs of one and a model.
        environments: one or several of `local`, `docker`, `daytona`, `e2b`, `modal`, `runloop`.
        attempts: trials of each agent on each task.
        name: the jobs are called `<name>-<environment>`; a time by default.
        jobs_dir: the jobs folder.
        exact_name: call the one job `name`, without its environment.
        **fields: other fields of Harbor's `JobConfig`, under Harbor's names.

    Returns:
        The plan; nothing is written yet.

    Raises:
        BadInputError: an argument can't be used; the message says what to do.

    Example:
        >>> import harbor_nb
        >>> plan(harbor_nb.sample_tasks(), agents=["oracle", "nop"]).n_trials
        10
    """
    from harbor import JobConfig

    from harbor_nb.backends.catalog import RECORDS

    paths = _task_folders([tasks] if isinstance(tasks, str | Path) else list(tasks))
    names = [environments] if isinstance(environments, str) else list(environments)
    for environment in names:
        if environment not in RECORDS:
            raise BadInputError(f"unknown environment {environment!r}{_nearest(environment, RECORDS)}")
    listed = [agents] if isinstance(agents, str) else list(agents)
    agent_configs = [_agent(*((agent, None) if isinstance(agent, str) else agent)) for agent in listed]
    for field in fields:
        if field not in JobConfig.model_fields or field in _OURS:
            raise BadInputError(f"unknown argument {field!r}{_nearest(field, set(JobConfig.model_fields) - _OURS)}")
    if not names or not agent_configs or attempts < 1:
        raise BadInputError("a plan needs at least one environment, one agent and one attempt")
    stem = name or time.strftime("%Y-%m-%d__%H-%M-%S")
    configs = []
    for environment in names:
        config = {
            "job_name": stem if exact_name else f"{stem}-{environment}",
            "jobs_dir": str(Path(jobs_dir).expanduser().resolve()),
            "n_attempts": attempts,
            "quiet": True,
            "agents": agent_configs,
            "tasks": [{"path": str(path), "source": path.parent.name} for path in paths],
            "environment": {"import_path": LOCAL} if environment == "local" else {"type": environment},
            **fields,
        }
        try:
            JobConfig.model_validate(config)
        except ValueError as error:
            raise BadInputError(f"Harbor refuses this plan: {str(error).splitlines()[-2].strip()}") from None
        configs.append(config)
    return Plan(tuple(configs), tuple(names), len(paths) * len(agent_configs) * attempts)


def _task_folders(paths: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for entry in paths:
        path = Path(entry).expanduser().resolve()
        if not path.exists():
            raise BadInputError(
                f"no such task: {path}; give a folder that has a task.toml, or a folder of such folders"
            )
        inside = (
            [path] if (path / "task.toml").is_file() else sorted(child.parent for child in path.glob("*/task.toml"))
        )
        if not inside:
            raise BadInputError(f"not a task folder: {path} has no task.toml, nor has a folder in it")
        found += inside
    if not found:
        raise BadInputError("the task list is empty; give a task folder, for example harbor_nb.sample_tasks()")
    return found


def _agent(name: str, model: str | None) -> dict[str, Any]:
    from harbor.models.agent.name import AgentName

    known = {agent.value for agent in AgentName}
    if ":" not in name and name not in known:
        raise BadInputError(f"unknown agent {name!r}{_nearest(name, known)}")
    return {"import_path" if ":" in name else "name": name} | ({"model_name": model} if model else {})


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(sorted(known))}"
