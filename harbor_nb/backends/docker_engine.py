"""Ask Docker as Harbor will: through the CLI's active context; what fails is told apart."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harbor_nb.backends.findings import LIMIT_SEC, Finding, finding, recognise

_OLDEST_COMPOSE = (2, 1, 1)  # the first with `up --wait`, which Harbor uses
_LEAST_FREE_BYTES = 2 * 2**30


def docker_findings() -> Iterable[Finding]:
    """Tell what stands in the way of docker: not installed, not running, no permission, compose, buildx, disk."""
    if shutil.which("docker") is None:
        yield finding("no-docker")
        return
    code, output, error = run_docker("info", "--format", "{{json .}}")
    if code is None:
        yield finding("docker-silent")
        return
    try:
        info = json.loads(output)
    except ValueError:
        info = {}
    yield from _engine(info, code, error)
    if info:
        yield from _plugins(_versions(info))


def run_docker(*arguments: str, limit_sec: float | None = None) -> tuple[int | None, str, str]:
    """Run a docker command; give its exit code (None: it took too long), output and errors."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, errors="replace", timeout=limit_sec or LIMIT_SEC,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, "", ""
    except OSError as error:
        return 1, "", error.strerror or "docker can't be started"
    return done.returncode, done.stdout, done.stderr


def _engine(info: dict[str, Any], code: int, error: str) -> Iterable[Finding]:
    said = "\n".join([*(info.get("ServerErrors") or ()), error]).strip()
    if code or info.get("ServerErrors"):
        said = said or f"docker info ended with {code}"
        yield finding(recognise("docker-", said) or "docker-else", said=said.splitlines()[0])
        return
    if info.get("OSType") == "windows":
        yield finding("windows")
    root = Path(info.get("DockerRootDir") or "/nowhere")
    if info.get("Name") == socket.gethostname() and root.is_dir():
        free = shutil.disk_usage(root).free
        if free < _LEAST_FREE_BYTES:
            yield finding("low-disk", free=free / 2**30, root=root)


def _versions(info: dict[str, Any]) -> dict[str, str]:
    """Give the versions of compose and buildx, of what is there; podman in docker's place does not list them."""
    if client := info.get("ClientInfo"):
        return {one["Name"]: one.get("Version", "") for one in client.get("Plugins") or () if not one.get("Err")}
    asked = {name: run_docker(name, "version") for name in ("compose", "buildx")}
    return {name: output for name, (code, output, _) in asked.items() if code == 0}


def _plugins(versions: dict[str, str]) -> Iterable[Finding]:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", versions.get("compose", ""))
    if found is None:
        yield finding("no-compose")
    elif tuple(int(part or 0) for part in found.groups()) < _OLDEST_COMPOSE:
        yield finding("old-compose", found=found[0])
    if "buildx" not in versions:
        yield finding("no-buildx")


def endpoint() -> str:
    """Give the address of the engine that the docker command talks to: DOCKER_HOST, else its active context."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    code, output, _ = run_docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    return output.strip() if code == 0 and output.strip() else "unix:///var/run/docker.sock"
