"""Docker, through the package `docker`, on the engine that the docker command talks to."""

from collections.abc import AsyncIterator
from pathlib import Path

import docker
from docker.client import DockerClient

from harbor_nb.backends.docker_engine import endpoint
from harbor_nb.backends.findings import SDK_LIMIT_SEC, Found

_PROJECT = "com.docker.compose.project"


def _client() -> DockerClient:
    address = endpoint()
    if address.startswith(("unix://", "npipe://")):
        return DockerClient(base_url=address, timeout=SDK_LIMIT_SEC)
    # the context's certificates are the package's to find
    return docker.from_env(timeout=SDK_LIMIT_SEC, use_ssh_client=True)


async def ping() -> None:
    """Ask the engine for a sign of life."""
    _client().ping()


async def sandboxes() -> AsyncIterator[Found]:
    """List the containers of compose projects that are named as Harbor names a trial's."""
    for box in _client().containers.list(all=True, ignore_removed=True, filters={"label": _PROJECT}):
        project = box.labels[_PROJECT]
        if not (project.endswith("__env") or "__verifier__" in project):
            continue
        trial = _trial(box.attrs.get("Mounts", []))
        task = project.rsplit("__", 2)[0] if trial is None else ""
        session = f"{trial.name}__env" if trial else project
        why = "certain: a trial's folder is mounted" if trial else "likely: the project's name"
        created = box.attrs.get("Created", "")
        yield Found("docker", box.short_id, task, session, box.status, created, why, str(trial.parent) if trial else "")


def _trial(mounts: list[dict[str, str]]) -> Path | None:
    """Give the trial's folder, below which Harbor mounts `verifier` and the like; it may be gone."""
    sources = [Path(mount["Source"]) for mount in mounts if mount.get("Source")]
    for place in (place for source in sources for place in source.parents):
        if (place / "config.json").is_file() and (place.parent / "config.json").is_file():
            return place
    return next((one.parent for one in sources if one.name in ("verifier", "agent") and len(one.parts) > 3), None)


async def terminate(sandbox_id: str) -> None:
    """Remove one container, and its project's networks when it was the last."""
    client = _client()
    container = client.containers.get(sandbox_id)
    container.remove(force=True, v=True)
    label = f"{_PROJECT}={container.labels[_PROJECT]}"
    if not client.containers.list(all=True, ignore_removed=True, filters={"label": label}):
        for network in client.networks.list(filters={"label": label}):
            network.remove()
