"""Move a job's config to another environment: what changes, what is dropped and why, and what can't be."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from harbor_nb.errors import BadInputError
from harbor_nb.running.configs import environment_of, nearest
from harbor_nb.running.documents import DELETE
from harbor_nb.running.origins import Source

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
    from harbor_nb.running.sources import environment_config

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
    if environment.get("stream") and not can.get("stream"):
        source.set(("environment", "stream"), DELETE, f"{name} has no stream mode")
    if environment.get("mounts") and not can.get("mounts"):
        source.set(("environment", "mounts"), DELETE, f"{name} can't mount folders of this machine")


def apply_settings(source: Source, settings: Mapping[str, Any]) -> None:
    from harbor import JobConfig
    from harbor.models.trial.config import EnvironmentConfig

    for key, value in settings.items():
        if key in JobConfig.model_fields and key not in ("environment", "tasks", "job_name"):
            source.set((key,), value, "as you asked")
        elif key in EnvironmentConfig.model_fields:
            source.set(("environment", key), value, "as you asked")
        else:
            raise BadInputError(
                f"unknown setting {key!r}{nearest(key, {*JobConfig.model_fields, *EnvironmentConfig.model_fields})}"
            )


def refuse(source: Source) -> None:
    """Refuse what the environment can't give, with the reason, before anything runs."""
    name, environment = environment_of(source.config), source.config["environment"]
    can = abilities().get(name)
    if can is None:
        return
    asked = {"compose": bool(environment.get("extra_docker_compose")), "gpus": bool(environment.get("override_gpus")),
             "tpus": bool(environment.get("override_tpu"))}  # fmt: skip
    reasons = [f"the job asks for {key}" for key, wanted in asked.items() if wanted and not can.get(key)]
    for entry in source.config.get("tasks") or []:
        folder = Path(str(entry.get("path") or ""))
        needs = _needs(folder) if (folder / "task.toml").is_file() and not entry.get("git_url") else set()
        reasons += [f"the task {folder.name} needs {need}" for need in sorted(needs) if not can.get(need)]
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        able = [
            other
            for other, abilities_ in abilities().items()
            if other != name and abilities_.get(reasons[0].split()[-1])
        ]
        raise BadInputError(
            f"{name} can't run {source.name}: {reasons[0]}{more}; choose {' or '.join(able) or 'another'}"
        )


def _needs(task: Path) -> set[str]:
    try:
        data = tomllib.loads((task / "task.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return set()
    parts = [data.get(part) or {} for part in ("environment", "agent", "verifier")]
    environment, modes = parts[0], {part.get("network_mode") for part in parts}
    wanted = {
        "gpus": environment.get("gpus"), "tpus": environment.get("tpu"), "windows": environment.get("os") == "windows",
        "no_network": "no-network" in modes or environment.get("allow_internet") is False,
        "allowlist": "allowlist" in modes,
        "compose": any((task / "environment" / f"docker-compose.{end}").exists() for end in ("yaml", "yml")),
    }  # fmt: skip
    return {need for need, asked in wanted.items() if asked}
