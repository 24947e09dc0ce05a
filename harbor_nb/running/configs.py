"""Harbor's job configs as plain mappings: read from files, checked, with absolute paths, and free of secrets."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harbor_nb._redaction import SECRET_NAME, redact, redactor
from harbor_nb.errors import BadInputError

LOCAL = "harbor_nb.local:LocalEnvironment"
_TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}")
_SECRET_ARGUMENT = re.compile(r"(api_?key|secret|password|token|credentials?)$", re.IGNORECASE)
_LARGEST_BYTES = 10 * 2**20


def nearest(word: str, known: Iterable[str]) -> str:
    """Give the end of a message about an unknown word: the nearest known one, or all."""
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(names)}"


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a config that `harbor run -c` takes: JSON, JSON with comments, or YAML."""
    file = Path(path).expanduser()
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise BadInputError(f"{file} is larger than 10 MB; it can't be a job config")
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInputError(f"{file} is not text; give a JSON or YAML file") from None
    except OSError as error:
        raise BadInputError(f"can't read {file}: {error.strerror}") from None
    try:
        if text.lstrip().startswith(("{", "//", "/*")) and file.suffix not in (".yaml", ".yml"):
            import json5

            data = json5.loads(text)
        else:
            import yaml

            data = yaml.safe_load(text)  # type: ignore[no-untyped-call] # PyYAML has no types
    except Exception as error:  # noqa: BLE001 - each parser has its own; the text may hold a value, so only its first line
        raise BadInputError(f"{file} is neither JSON nor YAML: {redact(str(error).splitlines()[0])}") from None
    if not isinstance(data, dict):
        raise BadInputError(f"{file} does not hold a mapping; a job config has keys such as 'tasks' and 'agents'")
    return data


def validated(config: Mapping[str, Any]) -> Any:
    """Give Harbor's JobConfig, or say in a line what Harbor refuses."""
    import warnings

    from harbor import JobConfig
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old configs are read, not scolded
            return JobConfig.model_validate(config, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BadInputError(
                f"unknown field {place!r}{nearest(str(first['loc'][-1]), _fields(first['loc']))}"
            ) from None
        raise BadInputError(f"Harbor refuses {place or 'this plan'}: {redact(first['msg'])}") from None


def _fields(place: tuple[Any, ...]) -> Iterable[str]:
    from harbor.models.job import config as job
    from harbor.models.trial import config as trial

    models: dict[str, Any] = {
        "environment": trial.EnvironmentConfig, "agents": trial.AgentConfig, "verifier": trial.VerifierConfig,
        "tasks": trial.TaskConfig, "datasets": job.DatasetConfig, "retry": job.RetryConfig,
    }  # fmt: skip
    model: Any = models.get(str(place[0]), job.JobConfig) if len(place) > 1 else job.JobConfig
    return list(model.model_fields)


def absolute(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config with every path of this machine made absolute: the runner works in another folder."""

    def at(path: Any) -> str:
        return str(Path(path).expanduser().resolve())

    made = dict(config)
    made["tasks"] = [
        {**task, "path": at(task["path"])} if task.get("path") and not task.get("git_url") else task
        for task in config.get("tasks") or []
    ]
    folders = ("path", "registry_path", "download_dir")
    made["datasets"] = [
        data if data.get("repo") else {k: at(v) if k in folders and v else v for k, v in data.items()}
        for data in config.get("datasets") or []
    ]
    made["environment"] = environment = dict(config.get("environment") or {})
    if environment.get("extra_docker_compose"):
        environment["extra_docker_compose"] = [at(path) for path in environment["extra_docker_compose"]]
    if made.get("extra_instruction_paths"):
        made["extra_instruction_paths"] = [at(path) for path in made["extra_instruction_paths"]]
    made["agents"] = [_absolute_agent(agent, at) for agent in config.get("agents") or []]
    made["jobs_dir"] = at(config.get("jobs_dir") or "jobs")
    return made


def _absolute_agent(agent: Mapping[str, Any], at: Any) -> dict[str, Any]:
    made = dict(agent)
    if made.get("load_trajectory"):
        made["load_trajectory"] = at(made["load_trajectory"])
    if made.get("skills"):
        made["skills"] = [at(skill) if Path(skill).expanduser().exists() else str(skill) for skill in made["skills"]]
    return made


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each mapping of a config that may hold a secret, and whether it is an environment of a process."""
    people = [
        *(config.get("agents") or []),
        config.get("environment"),
        config.get("verifier"),
        config.get("user_agent"),
    ]
    for part in people:
        if isinstance(part, dict):
            if isinstance(part.get("env"), list):  # as old configs have it
                part["env"] = dict(item.partition("=")[::2] for item in part["env"])
            for key in ("env", "kwargs"):
                if isinstance(part.get(key), dict):
                    part[key] = dict(part[key])
                    yield part[key], key == "env"


def hide_secrets(config: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Turn each literal secret of a config into `${NAME}`, in place; return the values by name, for the child only."""
    secrets: dict[str, str] = {}
    for values, is_env in _settings(config):
        for key, value in values.items():
            named = SECRET_NAME if is_env else _SECRET_ARGUMENT
            if not isinstance(value, str) or not value or _TEMPLATE.fullmatch(value):
                continue
            if not named.search(key) and redact(value) == value:
                continue
            stem = re.sub(r"\W", "_", key if is_env else key.upper())
            name = next(
                name for name in (stem, *(f"{stem}_{number}" for number in range(2, 1000)))
                if secrets.get(name, environ.get(name, value)) == value
            )  # fmt: skip
            secrets[name], values[key] = value, f"${{{name}}}"
            redactor.remember(name, value)
    return secrets


def needed_names(config: Mapping[str, Any]) -> set[str]:
    """Give the names of the variables that a config takes from the runner's environment and has no default for."""
    found = (
        _TEMPLATE.fullmatch(value)
        for values, _ in _settings(config)
        for value in values.values()
        if isinstance(value, str)
    )
    return {match[1] for match in found if match and match[2] is None}


def environment_of(config: Mapping[str, Any]) -> str:
    """Give the name that a person uses for a config's environment."""
    environment = config.get("environment") or {}
    path = environment.get("import_path")
    if path:
        return "local" if path == LOCAL else str(path)
    return str(getattr(environment.get("type"), "value", environment.get("type")) or "docker")
