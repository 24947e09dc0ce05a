"""A config as the `harbor run` line and the YAML that mean the same, and a pasted command line as a config."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harbor_nb._display import clean
from harbor_nb.errors import BadInputError
from harbor_nb.running.configs import environment_of, validated

_FLAGS = {
    "n_attempts": "-k", "n_concurrent_trials": "-n", "timeout_multiplier": "--timeout-multiplier",
    "agent_timeout_multiplier": "--agent-timeout-multiplier", "jobs_dir": "-o", "job_name": "--job-name",
    "verifier_timeout_multiplier": "--verifier-timeout-multiplier",
    "agent_setup_timeout_multiplier": "--agent-setup-timeout-multiplier",
    "environment_build_timeout_multiplier": "--environment-build-timeout-multiplier",
}  # fmt: skip
_OURS = {"tasks", "datasets", "agents", "environment", "quiet"}  # quiet changes only what a terminal shows
_ON_ENVIRONMENT = {
    "force_build": "--force-build", "override_cpus": "--override-cpus", "override_memory_mb": "--override-memory-mb",
    "override_storage_mb": "--override-storage-mb", "override_gpus": "--override-gpus",
}  # fmt: skip
_REFUSED = {"--launch", "--upload", "--diff", "--dry-run", "--plugin", "--export-traces", "--print-config"}


def equivalent(config: Mapping[str, Any]) -> str:
    """Give the `harbor run` line of a config; one that options can't say is run from its YAML."""
    words = _as_options(config)
    if words is None:
        words = ["-c", f"{config['job_name']}.yaml"]
    return shlex.join(["harbor", "run", *words])


def _as_options(config: Mapping[str, Any]) -> list[str] | None:
    words = _sources(config)
    agents = config.get("agents") or [{"name": "oracle"}]
    environment = dict(config.get("environment") or {})
    same = [{key: value for key, value in agent.items() if key != "model_name"} for agent in agents]
    plain = {"name", "import_path", "env"}
    known = {"type", "import_path", *_ON_ENVIRONMENT}
    if words is None or any(agent != same[0] for agent in same) or set(same[0]) - plain or set(environment) - known:
        return None
    words += ["-a", str(same[0].get("name") or same[0].get("import_path"))]
    for agent in agents:
        words += ["-m", str(agent["model_name"])] if agent.get("model_name") else []
    for key, value in (same[0].get("env") or {}).items():
        words += ["--ae", f"{key}={value}"]
    words += ["-e", environment.get("import_path") or environment_of(config)]
    for key, flag in _ON_ENVIRONMENT.items():
        if environment.get(key) is not None and environment[key] is not False:
            words += [flag] if environment[key] is True else [flag, str(environment[key])]
    for key, value in config.items():
        if key in _FLAGS:
            words += [_FLAGS[key], str(value)]
        elif key not in _OURS and value:
            return None
    return words


def _sources(config: Mapping[str, Any]) -> list[str] | None:
    tasks, datasets = config.get("tasks") or [], config.get("datasets") or []
    if len(datasets) == 1 and not tasks:
        data = datasets[0]
        if set(data) - {"path", "name", "version", "ref", "task_names", "exclude_task_names", "n_tasks"}:
            return None
        version = data.get("version") or data.get("ref")
        words = (
            ["-p", str(data["path"])] if data.get("path") else ["-d", data["name"] + (f"@{version}" if version else "")]
        )
        for flag, names in (("-i", data.get("task_names")), ("-x", data.get("exclude_task_names"))):
            words += [word for name in names or [] for word in (flag, name)]
        return words + (["-l", str(data["n_tasks"])] if data.get("n_tasks") else [])
    folders = {str(Path(task["path"]).parent) if set(task) <= {"path", "source"} else "" for task in tasks}
    if datasets or len(folders) != 1 or "" in folders:
        return None
    folder = folders.pop()
    names = [Path(task["path"]).name for task in tasks]
    every = {child.parent.name for child in Path(folder).glob("*/task.toml")}
    return ["-p", folder] + ([] if set(names) == every else [word for name in names for word in ("-i", name)])


def as_yaml(config: Mapping[str, Any]) -> str:
    """Give a config as the YAML that `harbor run -c` takes; secrets stand as `${NAME}`."""
    import yaml

    data = validated(config).model_dump(mode="json", exclude_defaults=True) | {"job_name": config["job_name"]}
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))  # type: ignore[no-untyped-call] # PyYAML


def parse_command(text: str) -> tuple[dict[str, Any], bool, dict[str, str]]:
    """Resolve a pasted `harbor run ...` with Harbor's own option parser, in a child process.

    Returns:
        The config, whether the command named the job, and what its env file holds.
    """
    words = shlex.split(text.replace("\\\n", " ").strip().removeprefix("$ ").removeprefix("!"))
    while words and "=" in words[0] and words[0].split("=")[0].isidentifier():
        raise BadInputError(
            f"set {words[0].split('=')[0]} with load_env or os.environ, and paste the command without it"
        )
    for start in (["harbor", "run"], ["harbor", "job", "start"], ["harbor", "jobs", "start"]):
        if words[: len(start)] == start:
            words = words[len(start) :]
            break
    else:
        raise BadInputError("paste a command that begins with 'harbor run' or 'harbor jobs start'")
    if wrong := _REFUSED & {word.split("=")[0] for word in words}:
        raise BadInputError(f"{', '.join(sorted(wrong))} is for Harbor's own command line; run it in a terminal")
    environ = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(words), capture_output=True, text=True, check=False,
        env=environ, timeout=120,
    )  # fmt: skip
    head, mark, told = done.stdout.rpartition("\0")
    if not mark:
        lines = [line.strip("│╭╰╮╯─ ") for line in (head + done.stdout + done.stderr).splitlines()]
        said = [line for line in lines if line and not line.startswith(("Usage", "Try "))]
        raise BadInputError(f"Harbor refuses this command: {clean(' '.join(said[-3:]), 400)}")
    config, named, env_file = json.loads(told)
    return config, named, _env_file(env_file)


def _env_file(path: str) -> dict[str, str]:
    if not path:
        return {}
    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _resolve() -> None:
    """Run Harbor's own option parser on the words from stdin, in this child process, and print the config it makes."""
    from harbor.cli import jobs
    from typer.main import get_command

    words = json.load(sys.stdin)

    def told(config: Any, **options: Any) -> None:
        data = config.model_dump(mode="python", exclude_defaults=True) | {"job_name": config.job_name}
        parts = {"environment": config.environment, "verifier": config.verifier, "user_agent": config.user_agent}
        for name, part in parts.items():
            if part is not None and part.env:  # the dump redacts values
                data.setdefault(name, {})["env"] = dict(part.env)
        for given, agent in zip(data.get("agents", []), config.agents, strict=False):
            if agent.env:
                given["env"] = dict(agent.env)
        named = any(word.split("=")[0] in ("--job-name", "-c", "--config") for word in words)
        sys.stdout.write("\0" + json.dumps([data, named, str(options.get("env_file") or "")], default=_plain))

    jobs._execute_job = told
    get_command(jobs.jobs_app)(["start", *words])


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(getattr(value, "value", value))


if __name__ == "__main__":
    _resolve()
