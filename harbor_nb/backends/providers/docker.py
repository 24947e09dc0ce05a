"""Docker, through the package `docker`, on the engine that the docker command talks to."""

from pathlib import Path
from typing import Any

from harbor_nb.backends.providers.base import Found

_PROJECT = "com.docker.compose.project"


def _client() -> Any:
    import docker

    from harbor_nb.backends.docker_engine import endpoint

    address = endpoint()
    if address.startswith(("unix://", "npipe://")):
        return docker.DockerClient(base_url=address, timeout=8)
    return docker.from_env(timeout=8, use_ssh_client=True)  # the context's certificates are the package's to find


async def ping() -> None:
    """Ask the engine for a sign of life."""
    _client().ping()


async def sandboxes() -> list[Found]:
    """List the containers of compose projects that are named as Harbor names a trial's."""
    found = []
    for container in _client().containers.list(all=True, filters={"label": _PROJECT}):
        project = container.labels[_PROJECT]
        if not (project.endswith("__env") or "__verifier__" in project):
            continue
        mounts = [Path(mount["Source"]) for mount in container.attrs.get("Mounts", []) if mount.get("Source")]
        trial = next((place for mount in mounts for place in mount.parents if _is_trial(place)), None)
        # Harbor mounts <job>/<trial>/verifier and the like; the folder may be gone
        guess = next((m.parent for m in mounts if m.name in ("verifier", "agent") and len(m.parts) > 3), None)
        place = trial or guess
        found.append(
            Found(
                "docker", container.short_id, project.rsplit("__", 2)[0] if place is None else "",
                f"{place.name}__env" if place else project, container.status, container.attrs.get("Created", ""),
                "certain: a trial's folder is mounted" if place else "likely: the project's name",
                str(place.parent) if place else "",
            )
        )  # fmt: skip
    return found


def _is_trial(place: Path) -> bool:
    return (place / "config.json").is_file() and (place.parent / "config.json").is_file()


async def terminate(sandbox_id: str) -> bool:
    """Remove one container, and its project's networks when it was the last; False if it is gone already."""
    import docker.errors

    client = _client()
    try:
        container = client.containers.get(sandbox_id)
        project = container.labels.get(_PROJECT)
        container.remove(force=True, v=True)
    except docker.errors.NotFound:
        return False
    label = {"label": f"{_PROJECT}={project}"}
    if project and not client.containers.list(all=True, filters=label):
        for network in client.networks.list(filters=label):
            network.remove()
    return True
