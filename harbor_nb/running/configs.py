"""Harbor's job configs as plain mappings: read from files, checked, with absolute paths, and free of secrets."""

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harbor_nb._redaction import SECRET_NAME, redact, redactor
from harbor_nb.errors import BadInputError, nearest
from harbor_nb.running.documents import Document

LOCAL = "harbor_nb.local:LocalEnvironment"
_PATHS = "path registry_path download_dir extra_docker_compose extra_instruction_paths load_trajectory skills".split()
_REDACTED = re.compile(r"\*{4}|.{4}\*{4}.{3}")  # how Harbor writes a literal secret into a config
_TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}")
_SECRET_ARGUMENT = re.compile(r"(api_?key|secret|password|token|credentials?)$", re.IGNORECASE)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a config that `harbor run -c` takes: JSON, JSON with comments, or YAML."""
    return Document(path).data


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
            raise BadInputError(f"unknown field {place!r}{nearest(str(first['loc'][-1]), _known_fields())}") from None
        raise BadInputError(f"Harbor refuses {place or 'this plan'}: {redact(first['msg'])}") from None


def _known_fields() -> set[str]:
    from harbor import JobConfig

    schema = JobConfig.model_json_schema()
    return {name for part in (schema, *schema["$defs"].values()) for name in part.get("properties", ())}


def absolute(part: Any, key: str = "", base: Path | None = None) -> Any:
    """Return a config with each path to something at `base`, or here, made absolute; all of it is a copy."""
    if isinstance(part, Mapping):
        remote = part.get("git_url") or part.get("repo")
        return {name: absolute(value, "" if remote else name, base) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [absolute(value, key, base) for value in part]
    if key in _PATHS and isinstance(part, str | Path):
        path = (base or Path()) / Path(part).expanduser()
        return str(path.resolve()) if path.exists() else str(part)
    return part


def _settings(part: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each mapping of a config that may hold a secret, and whether it is the environment of a process."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if key == "env" and isinstance(value, list):  # as old configs have it
            part[key] = dict(item.partition("=")[::2] for item in value)
        if key in ("env", "kwargs") and isinstance(part[key], dict):
            yield part[key], key == "env"
        else:
            yield from _settings(value)


def hide_secrets(config: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Turn each literal secret of a config into `${NAME}`, in place; return the values by name, for the child only."""
    secrets: dict[str, str] = {}
    for values, is_env in _settings(config):
        for key, value in values.items():
            if not isinstance(value, str) or _TEMPLATE.fullmatch(value):
                continue
            named = (SECRET_NAME if is_env else _SECRET_ARGUMENT).search(key) and value
            if not named and redact(value) == value:
                continue
            stem = re.sub(r"\W", "_", key if is_env else key.upper())
            names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
            name = next(name for name in names if secrets.get(name, environ.get(name, value)) == value)
            secrets[name], values[key] = value, f"${{{name}}}"
            redactor.remember(name, value)
    return secrets


def unstarred(part: Any, inside: str = "") -> Any:
    """Return a config with `${NAME}` where Harbor kept a literal secret as stars, which it would use as the value."""
    if isinstance(part, dict):
        return {
            key: unstarred(value, key if inside == "env" else "env" * (key == "env")) for key, value in part.items()
        }
    if isinstance(part, list):
        return [unstarred(value, inside) for value in part]
    if inside in ("", "env") or not isinstance(part, str) or not _REDACTED.fullmatch(part):
        return part
    if inside not in os.environ:
        raise BadInputError(f"the job had a literal {inside}, of which Harbor kept stars; set os.environ[{inside!r}]")
    return f"${{{inside}}}"


def needed_names(config: Mapping[str, Any]) -> set[str]:
    """Give the names of the variables that a config takes from the runner's environment and has no default for."""
    return set(re.findall(r'"\$\{([^}:"]+)\}"', json.dumps(config, default=str)))


def environment_of(config: Mapping[str, Any]) -> str:
    """Give the name that a person uses for a config's environment."""
    environment = config.get("environment") or {}
    path = environment.get("import_path")
    if path:
        return "local" if path == LOCAL else str(path)
    return str(getattr(environment.get("type"), "value", environment.get("type")) or "docker")
