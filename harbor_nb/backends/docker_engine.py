"""Ask Docker as Harbor will: through the CLI's active context; what fails is told apart."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harbor_nb.backends.readiness import LIMIT_SEC, Finding, blocks, warns
from harbor_nb.credentials._known import read_table

_OLDEST_COMPOSE = (2, 1, 1)  # the first with `up --wait`, which Harbor uses
_LEAST_FREE_BYTES = 2 * 2**30
_ELSE = 'or use environment="local"'


def docker_findings() -> Iterable[Finding]:
    """Tell what stands in the way of docker: not installed, not running, no permission, compose, buildx, disk."""
    if shutil.which("docker") is None:
        yield blocks(
            "docker: command not found (Docker is not installed)",
            f'install Docker (https://docs.docker.com/get-docker/), {_ELSE} or environment="daytona"',
        )
        return
    with ThreadPoolExecutor(3) as pool:
        info = pool.submit(run_docker, "info", "--format", "{{json .}}")
        compose = pool.submit(run_docker, "compose", "version", "--short")
        buildx = pool.submit(run_docker, "buildx", "version")
    yield from _engine(*info.result())
    yield from _compose(*compose.result())
    code, _, _ = buildx.result()
    if code:
        reason = "docker buildx is missing, which newer compose needs to build images"
        yield warns(reason, "install the docker-buildx plugin")


def run_docker(*arguments: str, limit_sec: float | None = None) -> tuple[int | None, str, str]:
    """Run a docker command; give its exit code (None: it took too long), output and errors."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, errors="replace", timeout=limit_sec or LIMIT_SEC,
            check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, "", ""
    except OSError as error:
        return 1, "", error.strerror or "docker can't be started"
    return done.returncode, done.stdout, done.stderr


def _engine(code: int | None, output: str, error: str) -> Iterable[Finding]:
    if code is None:
        yield blocks("the Docker daemon did not answer in 10 s", f"restart Docker, {_ELSE}")
        return
    try:
        info = json.loads(output)
    except ValueError:
        info = {}
    said = " ".join([*(info.get("ServerErrors") or ()), error]).strip()
    if code or info.get("ServerErrors"):
        first = said.splitlines()[0] if said else f"docker info ended with {code}"
        rows = read_table("harbor_nb.backends", "docker_messages.csv")
        row = next((row for row in rows if re.search(row["pattern"], said, re.IGNORECASE)), None)
        known = row or {"reason": "docker info failed", "fix": f"look at: docker info, {_ELSE}"}
        yield blocks(f"{known['reason']}: {first}", known["fix"])
        return
    if info.get("OSType") == "windows":
        yield blocks("Docker runs Windows containers", "switch Docker Desktop to Linux containers")
    root = Path(info.get("DockerRootDir") or "/nowhere")
    if endpoint().startswith("unix://") and root.is_dir():
        free = shutil.disk_usage(root).free
        if free < _LEAST_FREE_BYTES:
            yield warns(f"only {free / 2**30:.1f} GB are free for Docker in {root}", "free room: docker image prune")


def _compose(code: int | None, output: str, error: str) -> Iterable[Finding]:
    if code is None:
        yield warns("docker compose did not answer in 10 s", "try again")
        return
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", output)
    if code or found is None:
        yield blocks("docker compose, version 2, is missing", "see https://docs.docker.com/compose/install/")
    elif tuple(int(part or 0) for part in found.groups()) < _OLDEST_COMPOSE:
        yield blocks(f"docker compose {found[0]} is too old; Harbor needs 2.1.1", "update the docker-compose plugin")


def endpoint() -> str:
    """Give the address of the engine that the docker command talks to: DOCKER_HOST, else its active context."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    code, output, _ = run_docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    return output.strip() if code == 0 and output.strip() else "unix:///var/run/docker.sock"
