"""Move a job's config to another environment: what changes, what is dropped and why, and what can't be."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from harbor_nb.errors import BadInputError, nearest
from harbor_nb.running.configs import environment_of
from harbor_nb.running.documents import DELETE
from harbor_nb.running.origins import Source
from harbor_nb.running.sources import environment_config, task_config

_POLICIES = ("cpu_enforcement_policy", "memory_enforcement_policy")


@cache
def abilities() -> dict[str, dict[str, Any]]:
    """Return what each environment can do beyond running a plain task."""
    return tomllib.loads(files("harbor_nb.running").joinpath("abilities.toml").read_text("utf-8"))


def switch(source: Source, target: str | None) -> None:
    """Change the environment, and of its settings only those that mean nothing there."""
    old = environment_of(source.config)
    if target is None or target == old:
        return
    name, wanted = environment_config(target, None)
    can, why = abilities().get(name, {}), f"{old} -> {name}"
    for key in ("type", "import_path"):
        source.set(("environment", key), wanted.get(key, DELETE), why)
    environment = source.config["environment"]
    for key in [key for key in environment.get("kwargs") or {} if key not in can.get("kwargs", ())]:
        source.set(("environment", "kwargs", key), DELETE, f"only {old} knows it")
    for key in _POLICIES:
        policy = str(environment.get(key) or "auto").lower()
        if policy not in ("auto", "ignore") and policy not in can.get("policies", ()):
            source.set(("environment", key), DELETE, f"{name} can't enforce a {policy}; auto is what each can")
    for key, told in (("stream", "has no stream mode"), ("mounts", "can't mount folders of this machine")):
        if environment.get(key) and not can.get(key):
            source.set(("environment", key), DELETE, f"{name} {told}")


def apply_settings(source: Source, settings: Mapping[str, Any]) -> None:
    from harbor import JobConfig
    from harbor.models.trial.config import EnvironmentConfig

    of_job = set(JobConfig.model_fields) - {"environment", "tasks", "job_name"}
    of_environment = set(EnvironmentConfig.model_fields) - of_job
    for key, value in settings.items():
        if key not in of_job | of_environment:
            raise BadInputError(f"unknown setting {key!r}{nearest(key, of_job | of_environment)}")
        source.set((key,) if key in of_job else ("environment", key), value, "as you asked")


def refuse(source: Source) -> None:
    """Refuse what the environment can't give, with the reason, before anything runs."""
    name, environment = environment_of(source.config), source.config["environment"]
    can = abilities().get(name)
    if can is None:
        return
    of_job = {"compose": "extra_docker_compose", "gpus": "override_gpus", "tpus": "override_tpu"}
    reasons = [("the job asks for", key) for key, setting in of_job.items() if environment.get(setting)]
    for entry in source.config.get("tasks") or []:
        if entry.get("path") and not entry.get("git_url"):
            folder = Path(entry["path"])
            reasons += [(f"the task {folder.name} needs", need) for need in _needs(folder)]
    reasons = [reason for reason in reasons if not can.get(reason[1])]
    if reasons:
        able = [other for other, abilities_ in abilities().items() if abilities_.get(reasons[0][1])]
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise BadInputError(
            f"{name} can't run {source.name}: {' '.join(reasons[0])}{more}; choose {' or '.join(able) or 'another'}"
        )


def _needs(folder: Path) -> list[str]:
    """Give what a task asks of its environment, in the words of the table of abilities."""
    task = task_config(folder)
    if task is None:
        return []
    modes = {task.environment.network_mode, task.agent.network_mode, task.verifier.network_mode}
    wanted = {
        "allowlist": "allowlist" in modes, "compose": any(folder.glob("environment/docker-compose.y*ml")),
        "gpus": task.environment.gpus, "no_network": "no-network" in modes, "tpus": task.environment.tpu,
        "windows": task.environment.os == "windows",
    }  # fmt: skip
    return [need for need, asked in wanted.items() if asked]
