"""`harbor_nb.plan`: what a person names becomes a plan."""

import time
from pathlib import Path
from typing import Any

from harbor_nb.errors import BadInputError, nearest
from harbor_nb.running.plans import Plan, checked, free_name
from harbor_nb.running.sources import agent_config, as_list, environment_config, plain, task_sources

_GIVEN: dict[str, int] = {}  # names of plans, by content: one not launched yet has no folder that tells of its name
_OURS = frozenset({"job_name", "tasks", "agents", "n_attempts", "jobs_dir", "quiet"})


def plan(
    tasks: Any,
    agents: Any = "oracle",
    environments: Any = "local",
    attempts: int = 1,
    name: str | None = None,
    *,
    practice: Any = None,
    jobs_dir: str | Path = "jobs",
    exact_name: bool = False,
    fast_stop: bool = True,
    task_names: list[str] | None = None,
    exclude_task_names: list[str] | None = None,
    n_tasks: int | None = None,
    **fields: Any,
) -> Plan:
    """Plan jobs: every agent on every task, `attempts` times, one job an environment.

    Args:
        tasks: a task folder, a folder of tasks, a dataset `name@version`, `git+URL@COMMIT#PATH`, or several of these.
        agents: names, import paths `module:Class`, pairs of one and a model, or Harbor's `AgentConfig`s.
        environments: one or several of `local`, `docker`, `daytona`, `e2b`, `modal`, `runloop` and others Harbor knows.
        attempts: trials of each agent on each task.
        name: the jobs are called `<name>-<environment>`; a time by default.
        practice: True or a `Practice`: clouds are played by loopback servers.
        jobs_dir: the jobs folder.
        exact_name: call the one job `name`, without its environment.
        fast_stop: end docker sandboxes at once after a trial; False waits 10 s for each as Harbor does.
        task_names: patterns; only tasks with such a name.
        exclude_task_names: patterns; no task with such a name.
        n_tasks: at most so many tasks of the folders, and of each dataset.
        **fields: other fields of Harbor's `JobConfig`, under Harbor's names; `environment` holds settings for all.

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

    for key in fields:
        if key not in JobConfig.model_fields or key in _OURS:
            raise BadInputError(f"unknown argument {key!r}{nearest(key, set(JobConfig.model_fields) - _OURS)}")
    settings = plain(fields.pop("environment", {}))
    pair = isinstance(agents, tuple) and len(agents) == 2 and isinstance(agents[0], str) and "/" in str(agents[1])
    listed = [agent_config(agent) for agent in ([agents] if pair else as_list(agents))]
    kinds = [environment_config(kind, settings) for kind in as_list(environments)]
    if not kinds or not listed or not isinstance(attempts, int) or attempts < 1:
        raise BadInputError("a plan needs at least one environment, one agent and one attempt")
    if exact_name and len(kinds) > 1:
        raise BadInputError("exact_name is for one environment; each job needs a name of its own")
    sources = task_sources(tasks, task_names, exclude_task_names, n_tasks)
    sources["datasets"] += fields.pop("datasets", [])
    shared = {key: value if (data := plain(value)) is None else data for key, value in fields.items()}
    shared |= {"jobs_dir": str(jobs_dir), "n_attempts": attempts, "quiet": True, "agents": listed, **sources}
    content = hash(repr((kinds, shared, practice)))
    others = {other for other, held in _GIVEN.items() if held != content}
    ends = [""] if exact_name else [f"-{kind}" for kind, _ in kinds]
    stem = name or free_name(Path(jobs_dir).expanduser(), time.strftime("%Y-%m-%d__%H-%M-%S"), ends, others)
    names = [stem + end for end in ends]
    _GIVEN.update(dict.fromkeys(names, content))
    given = [{"job_name": name, "environment": kind[1], **shared} for name, kind in zip(names, kinds, strict=True)]
    return checked(given, fast_stop, practice)
