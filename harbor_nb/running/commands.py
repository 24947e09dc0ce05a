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
from harbor_nb.running.sources import plain

_PLAIN = set(
    "job_name jobs_dir n_attempts n_concurrent_trials timeout_multiplier agent_timeout_multiplier"
    " verifier_timeout_multiplier agent_setup_timeout_multiplier environment_build_timeout_multiplier".split()
)  # each is an option of the same name
_ON_ENVIRONMENT = set("force_build override_cpus override_memory_mb override_storage_mb override_gpus".split())
_FILTERS = {"task_names": "-i", "exclude_task_names": "-x", "n_tasks": "-l"}
_PARTS = {"tasks", "datasets", "agents", "environment", "quiet"}  # quiet changes only what a terminal shows
_STARTS = (["harbor", "run"], ["harbor", "job", "start"], ["harbor", "jobs", "start"])
_REFUSED = {"--launch", "--upload", "--diff", "--dry-run", "--plugin", "--export-traces", "--print-config"}


def equivalent(config: Mapping[str, Any]) -> str:
    """Give the `harbor run` line of a config; one that options can't say is run from its YAML."""
    return shlex.join(["harbor", "run", *(_as_options(config) or ["-c", f"{config['job_name']}.yaml"])])


def _as_options(config: Mapping[str, Any]) -> list[str] | None:
    agents, environment = [{**agent} for agent in config["agents"]], {**config["environment"]}
    models = [agent.pop("model_name", None) for agent in agents]
    where = environment.pop("import_path", None) or str(environment.pop("type", "docker"))
    settings = {key: value for key, value in config.items() if key not in _PARTS}
    words = _sources(config["tasks"], config["datasets"])
    if not words or any(agent != agents[0] for agent in agents) or set(agents[0]) - {"name", "import_path", "env"}:
        return None
    if set(environment) - _ON_ENVIRONMENT or set(settings) - _PLAIN:
        return None
    words += ["-a", str(agents[0].get("name") or agents[0].get("import_path"))]
    words += [word for model in models if model for word in ("-m", model)]
    words += [word for key, value in (agents[0].get("env") or {}).items() for word in ("--ae", f"{key}={value}")]
    words += ["-e", where]
    for key, value in (environment | settings).items():
        flag = "--" + key.removesuffix("_trials").replace("_", "-")
        words += [] if value in (None, False) else [flag] if value is True else [flag, str(value)]
    return words


def _sources(tasks: list[dict[str, Any]], datasets: list[dict[str, Any]]) -> list[str] | None:
    data = dict(datasets[0]) if len(datasets) == 1 and not tasks else {}
    folders = {Path(task["path"]).parent if set(task) == {"path", "source"} else None for task in tasks}
    if len(folders) == 1 and not datasets and (folder := folders.pop()):
        names = [Path(task["path"]).name for task in tasks]
        every = {path.parent.name for path in folder.glob("*/task.toml")}
        data = {"path": str(folder), "task_names": [] if set(names) == every else names}
    version = data.pop("version", None) or data.pop("ref", None)
    path, name = data.pop("path", None), data.pop("name", None)
    if not (path or name) or set(data) - set(_FILTERS):
        return None
    given = [(_FILTERS[key], value if isinstance(value, list) else [value]) for key, value in data.items() if value]
    words = ["-p", path] if path else ["-d", f"{name}@{version}" if version else name]
    return words + [str(word) for flag, values in given for value in values for word in (flag, value)]


def as_yaml(config: Mapping[str, Any]) -> str:
    """Give a config as the YAML that `harbor run -c` takes; secrets stand as `${NAME}`."""
    import yaml

    data = validated(config).model_dump(mode="json", exclude_defaults=True) | {"job_name": config["job_name"]}
    where = data.setdefault("environment", {})
    if not where.get("import_path"):  # named also where it is Harbor's default, as the guide asks
        where.setdefault("type", environment_of(config))
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))  # type: ignore[no-untyped-call] # PyYAML


def parse_command(text: str) -> tuple[dict[str, Any], bool, dict[str, str]]:
    """Resolve a pasted `harbor run ...` with Harbor's own option parser, in a child process.

    Returns:
        The config, whether the command named the job, and what its env file holds.
    """
    from dotenv import dotenv_values

    words = shlex.split(text.replace("\\\n", " ").strip().removeprefix("$ ").removeprefix("!"))
    if words and "=" in words[0]:
        raise BadInputError(f"set {words[0].split('=')[0]} by load_env or os.environ, and paste the command without it")
    given = next((len(start) for start in _STARTS if words[: len(start)] == start), 0)
    if not given:
        raise BadInputError("paste a command that begins with 'harbor run' or 'harbor jobs start'")
    words = words[given:]
    if wrong := _REFUSED & {word.split("=")[0] for word in words}:
        raise BadInputError(f"{', '.join(sorted(wrong))} is for Harbor's own command line; run it in a terminal")
    environ = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(words), capture_output=True, text=True, check=False,
        env=environ, timeout=120,
    )  # fmt: skip
    _, mark, told = done.stdout.rpartition("\0")
    if not mark:
        lines = [line.strip("│╭╰╮╯─ ") for line in (done.stdout + done.stderr).splitlines()]
        said = [line for line in lines if line and not line.startswith(("Usage", "Try "))]
        raise BadInputError(f"Harbor refuses this command: {clean(' '.join(said[-3:]), 400)}")
    config, named, env_file = json.loads(told)
    loaded = dotenv_values(env_file) if env_file else {}
    return config, named, {name: value for name, value in loaded.items() if value is not None}


def _resolve() -> None:
    """Run Harbor's own option parser on the words from stdin, in this child process, and print the config it makes."""
    from harbor.cli import jobs
    from typer.main import get_command

    words = json.load(sys.stdin)

    def told(config: Any, **options: Any) -> None:
        parts = {name: getattr(config, name, None) for name in ("environment", "verifier", "user_agent")}
        data: dict[str, Any] = {"job_name": config.job_name, "agents": [plain(agent) for agent in config.agents]}
        data = (plain(config) or {}) | data | {name: plain(part) for name, part in parts.items() if part is not None}
        named = any(word.split("=")[0] in ("--job-name", "-c", "--config") for word in words)
        sys.stdout.write("\0" + json.dumps([data, named, str(options.get("env_file") or "")]))

    jobs._execute_job = told
    get_command(jobs.jobs_app)(["start", *words])


if __name__ == "__main__":
    _resolve()
