"""What a repair starts from: a config file, or a job's config, rebuilt from its trials where it was lost."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harbor_nb._display import clean
from harbor_nb._redaction import SECRET_NAME
from harbor_nb.errors import BadInputError
from harbor_nb.results.reading import read_mapping
from harbor_nb.running.configs import unstarred
from harbor_nb.running.documents import DELETE, Document

_MOVED = {  # where a setting stood for an older Harbor, and where today's reads it
    ("orchestrator", "n_concurrent_trials"): ("n_concurrent_trials",),
    ("orchestrator", "quiet"): ("quiet",),
    ("orchestrator", "retry"): ("retry",),
    ("environment", "mounts_json"): ("environment", "mounts"),
}


def shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return clean(value if isinstance(value, str) else json.dumps(value, default=str), 200)


@dataclass(frozen=True)
class Change:
    """One setting that a repair changes, and why."""

    job: str
    setting: str
    old: Any
    new: Any
    reason: str

    def __str__(self) -> str:
        return clean(f"{self.setting}: {shown(self.old)} -> {shown(self.new)} ({self.reason})")


@dataclass
class Source:
    name: str
    config: dict[str, Any]
    folder: Path | None = None
    document: Document | None = None
    changes: list[Change] = field(default_factory=list)
    wanted: set[str] | None = None  # the trials that are run again; None for all

    def homes(self) -> list[Path]:
        """Give the folders that relative paths may start from, besides the notebook's own."""
        if self.folder is not None:
            return [self.folder.parent.parent, self.folder.parent]
        return [self.document.file.parent] if self.document is not None else []

    def set(self, path: tuple[str, ...], value: Any, reason: str) -> None:
        """Change a setting, or drop it with DELETE, and note it when that makes a difference."""
        holder = self.config
        for key in path[:-1]:
            holder = holder.setdefault(key, {})
        old = holder.get(path[-1])
        if old == value or (value is DELETE and path[-1] not in holder):
            return
        holder[path[-1]] = new = None if value is DELETE else value
        if value is DELETE:
            del holder[path[-1]]
        if self.document is not None:
            self.document.edit(path if holder or len(path) < 3 else path[:-1], value)
        self.changes.append(Change(self.name, ".".join(path), _hidden(path[-1], old), _hidden(path[-1], new), reason))


def _hidden(name: str, value: Any) -> Any:
    """Return a value without what is secret by its name."""
    if isinstance(value, dict):
        return {key: _hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(name, item) for item in value]
    return "<hidden>" if isinstance(value, str) and SECRET_NAME.search(name) and not value.startswith("${") else value


def read_source(path: Path) -> Source:
    path = path.expanduser().resolve()
    inside = any((path.parent / name).exists() for name in ("lock.json", "job.log", "harbor_nb.json"))
    if path.is_file() and not inside:
        document = Document(path)
        return Source(path.stem, document.data, None, document)
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise BadInputError(f"no such job or config: {path}")
    source = Source(folder.name, {}, folder)
    try:
        source.config = Document(folder / "config.json").data
    except BadInputError as error:
        if not any(folder.glob("*/config.json")) and not any(folder.glob("*/result.json")):
            raise BadInputError(f"{folder} is not a job that can be repaired: {error}") from None
    if not any(source.config.get(key) for key in ("tasks", "datasets", "source_jobs")):
        _rebuild(source)
    source.config = unstarred(source.config)
    return source


def _rebuild(source: Source) -> None:
    """Take the settings that a config lost from what the trials were told, and from the lock."""
    assert source.folder is not None
    lock = read_mapping(source.folder / "lock.json")
    told = [config for _, config in trial_configs(source.folder)]
    told = told or [entry for entry in lock.get("trials") or [] if (entry.get("task") or {}).get("path")]
    if not told:
        return
    runs = runs_of(told)
    tasks, agents = ([json.loads(text) for text in dict.fromkeys(texts)] for texts in zip(*runs, strict=True))
    of_trial = {"task", "agent", "trial_name", "trials_dir", "job_id", "source_trial"}
    kept = {key: lock[key] for key in ("n_concurrent_trials", "retry") if lock.get(key)}
    kept |= {key: value for key, value in told[0].items() if key not in of_trial} | source.config
    lost = {"n_attempts": max(runs.values())} | kept | {"tasks": tasks, "agents": agents}
    for key, value in lost.items():
        source.set((key,), value, "the config names no tasks; this is what its trials were told")


def runs_of(told: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """Count the trials of each task with each agent, by their configs, both as JSON."""
    pairs = ((one["task"], one.get("agent") or {}) for one in told)
    return Counter((json.dumps(task, sort_keys=True), json.dumps(agent, sort_keys=True)) for task, agent in pairs)


def trial_configs(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for trial in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        config = read_mapping(trial / "config.json") or read_mapping(trial / "result.json").get("config") or {}
        if config.get("task"):
            yield trial.name, config


def migrate(source: Source) -> None:
    """Move settings to where today's Harbor reads them, and leave out what it does not know."""
    from harbor import JobConfig

    environment = source.config.setdefault("environment", {})
    if not isinstance(environment, dict):
        told = {"type": environment} if isinstance(environment, str) else {}
        source.set(("environment",), told, "it is a mapping today")
    for (outer, name), today in _MOVED.items():
        old = source.config.get(outer)
        if isinstance(old, dict) and name in old and today[-1] not in source.config:
            source.set(today, old[name], f"today's place of {outer}.{name}")
    for gone in (("environment", "mounts_json"), ("orchestrator",), ("plugins",)):
        source.set(gone, DELETE, "Harbor no longer uses it")
    for key in [key for key in source.config if key not in JobConfig.model_fields]:
        lost = _hidden(key, source.config.pop(key))  # the file keeps it
        source.changes.append(Change(source.name, key, lost, None, "Harbor knows no such setting"))


def find_tasks(source: Source, given: Any) -> None:
    """Make each task's path one that is there: as it is, beside the notebook, beside the jobs folder, or as given."""
    from harbor_nb.running.sources import as_list, task_folders

    known = {path.name: path for entry in (as_list(given) if given is not None else ()) for path in task_folders(entry)}
    places = [Path.cwd(), *source.homes()]
    if not source.config.get("tasks") and known and not source.config.get("datasets"):
        source.set(("tasks",), [{"path": str(path)} for path in known.values()], "as you asked; the config named none")
    for kind, marker in (("tasks", "task.toml"), ("datasets", "")):
        for entry in source.config.get(kind) or []:
            if not isinstance(entry, dict) or not entry.get("path") or entry.get("git_url") or entry.get("repo"):
                continue
            path = Path(str(entry["path"]).replace("\\", "/")).expanduser()
            tried = [known[path.name]] if path.name in known else [place / path for place in places]
            found = next((place.resolve() for place in tried if (place / marker).exists()), None)
            if found is None:
                raise BadInputError(
                    f"the task {path} is not found from {' nor '.join(map(str, places[:2]))}; give tasks="
                )
            if str(found) != str(entry["path"]):
                source.changes.append(Change(source.name, f"{kind}.path", entry["path"], str(found), "where it is"))
                entry["path"] = str(found)
    if not any(source.config.get(key) for key in ("tasks", "datasets", "source_jobs")):
        raise BadInputError(f"{source.name} names no tasks, and nothing of its trials is left; give tasks=")
