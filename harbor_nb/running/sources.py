"""What a person may write for tasks and agents, as the parts of Harbor's JobConfig."""

import re
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from harbor_nb.errors import BadInputError, nearest
from harbor_nb.running.configs import LOCAL

_DATASET = re.compile(r"([\w.-]+(?:/[\w.-]+)?)@([\w.:+-]+)")
_GIT = re.compile(r"git\+(?P<git_url>[a-z]+://[^#@]+(?:@[^#@/]+/[^#@]+)?)(?:@(?P<git_commit_id>[^#]+))?#(?P<path>.+)")


def as_list(value: Any) -> list[Any]:
    """Give one thing or several as a list; a pair (agent, model) is one thing."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def task_sources(
    tasks: Any, names: Sequence[str] | None = None, exclude: Sequence[str] | None = None, limit: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Give a JobConfig's `tasks` and `datasets` from folders, `name@version`, `git+URL@COMMIT#PATH` or Harbor's own."""
    given = {"task_names": names, "exclude_task_names": exclude, "n_tasks": limit}
    filters = {key: value for key, value in given.items() if value is not None}
    found: dict[str, list[dict[str, Any]]] = {"tasks": [], "datasets": []}
    for entry in as_list(tasks):
        data = plain(entry)
        if data is not None and ("git_url" in data or "source" in data or _is_task(Path(data.get("path") or ""))):
            found["tasks"].append(data)
        elif data is not None:
            found["datasets"].append(filters | data)
        elif match := _GIT.fullmatch(str(entry)):
            found["tasks"].append({key: value for key, value in match.groupdict().items() if value})
        elif not Path(str(entry)).exists() and (match := _DATASET.fullmatch(str(entry))):
            name, version = match.groups()
            found["datasets"].append({"name": name, "ref" if "/" in name else "version": version, **filters})
        elif isinstance(entry, str | Path):
            found["tasks"] += [{"path": str(path), "source": path.parent.name} for path in task_folders(entry)]
        else:
            kind = type(entry).__name__
            raise BadInputError(f"a task can't be a {kind}; give a folder, or a dataset as 'name@version'")
    called = [Path(str(task.get("path") or task.get("name"))).name for task in found["tasks"]]
    kept = [
        task for task, name in zip(found["tasks"], called, strict=True)
        if any(fnmatch(name, pattern) for pattern in names or "*")
        and not any(fnmatch(name, pattern) for pattern in exclude or ())
    ][:limit]  # fmt: skip
    if called and not kept:
        raise BadInputError(f"no task is left by the filter; there are {', '.join(called[:5])}")
    if not kept and not found["datasets"]:
        raise BadInputError("the task list is empty; give a task folder, for example harbor_nb.sample_tasks()")
    return found | {"tasks": kept}


def _is_task(path: Path) -> bool:
    return (path / "task.toml").is_file()


def task_config(folder: Path) -> Any:
    """Give Harbor's TaskConfig of a task folder; None where it is absent or can't be read."""
    from harbor.models.task.config import TaskConfig

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old tasks are read, not scolded
            return TaskConfig.model_validate_toml((folder / "task.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return None


def task_folders(entry: str | Path) -> list[Path]:
    """Give the task folders at a path: itself, or those in it."""
    path = Path(entry).expanduser().resolve()
    if not path.exists():
        raise BadInputError(f"no such task: {path}; give a folder that has a task.toml, or a folder of such folders")
    if _is_task(path):
        return [path]
    inside = sorted(child.parent for child in path.glob("*/task.toml"))
    if not inside:
        raise BadInputError(f"not a task folder: {path} has no task.toml, nor has a folder in it")
    return inside


def agent_config(agent: Any) -> dict[str, Any]:
    """Give one agent's config: a name, an import path, a pair with a model, a mapping, or Harbor's AgentConfig."""
    from harbor.models.agent.name import AgentName

    data = plain(agent)
    if data is None:
        name, model = agent if len(as_list(agent)) == 2 else (agent, None)
        if not isinstance(name, str) or not name:
            raise BadInputError(f"an agent can't be {agent!r}; give a name, or (name, model)")
        data = {"import_path" if ":" in name else "name": name} | ({"model_name": model} if model else {})
    known = {item.value for item in AgentName}
    name = data.get("name")
    if name and ":" not in name and name not in known:
        raise BadInputError(f"unknown agent {name!r}{nearest(name, known)}")
    return data


def environment_config(name: Any, settings: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Give an environment's name and config: one that Harbor knows, `local`, or an import path `module:Class`."""
    from harbor.models.environment_type import EnvironmentType

    if plain(name) is not None:
        raise BadInputError(
            "give an environment's name, such as environments='docker'; settings go to environment={...}"
        )
    known = ["local", *(kind.value for kind in EnvironmentType)]
    kind = str(getattr(name, "value", name))
    if ":" not in kind and kind not in known:
        raise BadInputError(f"unknown environment {kind!r}{nearest(kind, known)}")
    if kind in ("local", LOCAL):
        return "local", {**(settings or {}), "import_path": LOCAL}
    return kind, {**(settings or {}), "import_path" if ":" in kind else "type": kind}


def plain(item: Any) -> dict[str, Any] | None:
    """Give a mapping or a pydantic model of Harbor as a mapping with the values it holds, not redacted ones."""
    if isinstance(item, Mapping):
        return dict(item)
    if not hasattr(item, "model_dump"):
        return None
    data: dict[str, Any] = item.model_dump(mode="json", exclude_defaults=True)
    return data | ({"env": dict(item.env)} if getattr(item, "env", None) else {})
