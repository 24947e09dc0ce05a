"""Harbor's plug-in for the environment `local`: a task runs in a bubblewrap sandbox on this machine."""

import json
from pathlib import Path
from typing import Any, override

from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities, EnvironmentResourceCapabilities

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox import Image, Sandbox, build_image, tier
from harbor_nb.sandbox.users import EXPLAINED


class LocalEnvironment(BaseEnvironment):
    """Runs the task's Dockerfile and commands in a sandbox; the host's userland stands in for `FROM`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sandbox: Sandbox | None = None
        self._binds = [_bind(mount) for mount in kwargs.get("mounts") or []]
        super().__init__(*args, **kwargs)

    @staticmethod
    @override
    def type() -> str:
        return "local"

    @property
    @override
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(mounted=True, disable_internet=True)

    @classmethod
    @override
    def resource_capabilities(cls) -> EnvironmentResourceCapabilities:
        return EnvironmentResourceCapabilities()

    @classmethod
    @override
    def preflight(cls) -> None:
        found = tier()
        if found.name == "none":
            raise SystemExit(f"local is not possible here: {found.reason}; {found.fix}")

    @override
    def _validate_definition(self) -> None:
        for name in ("docker-compose.yaml", "docker-compose.yml"):
            if (self.environment_dir / name).exists():
                raise SandboxError(f'{name}: local has no compose; use environment="docker"')
        if not (self.environment_dir / "Dockerfile").exists() and self.task_env_config.docker_image:
            raise SandboxError('the task names only a docker_image, which local can\'t pull; use environment="docker"')

    @override
    async def start(self, force_build: bool) -> None:
        self._validate_definition()
        image = Image()
        policy = str(getattr(getattr(self, "network_policy", None), "network_mode", "public"))
        if (self.environment_dir / "Dockerfile").exists():
            image = await build_image(
                self.environment_dir, force=force_build, on_line=self.logger.debug
            )  # Harbor ends it at the task's timeout times the job's multiplier
        self._sandbox = await Sandbox.start(
            image,
            name=self.session_id,
            network="no-network" not in policy and "no_network" not in policy.lower(),
            mounts=self._binds,
        )
        for folder in ("/solution", "/tests", self.task_env_config.workdir or image.workdir):
            await self._sandbox.make_dir(folder)
        users = self._sandbox.users
        facts = {"from_image": image.from_image, "tier": tier().name, "users": users, "limits": [], "network": policy}
        self.logger.info(
            f"local: the host stands in for FROM {image.from_image}; no CPU or memory limit is set; {EXPLAINED[users]}"
        )
        (self.trial_paths.trial_dir / "harbor_nb.sandbox.json").write_text(json.dumps(facts))

    @override
    async def stop(self, delete: bool) -> None:
        if self._sandbox is not None:
            await self._sandbox.stop()
            self._sandbox = None

    def _running(self) -> Sandbox:
        if self._sandbox is None:
            raise SandboxError("the local sandbox does not run; start it first")
        return self._sandbox

    @override
    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        done = await self._running().exec(
            command,
            cwd=cwd or self.task_env_config.workdir,
            env=self._merge_env(env),
            user=self._resolve_user(user),
            timeout_sec=timeout_sec,
        )
        if done.timed_out:
            raise RuntimeError(f"Command timed out after {timeout_sec} seconds")
        return ExecResult(
            stdout=done.stdout.decode(errors="replace"),
            stderr=done.stderr.decode(errors="replace"),
            return_code=done.return_code,
        )

    @override
    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        await self._running().put(Path(source_path), target_path)

    @override
    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        await self._running().put(Path(source_dir), target_dir)

    @override
    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        await self._running().get(source_path, Path(target_path))

    @override
    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        await self._running().get(source_dir, Path(target_dir))


def _bind(mount: Any) -> tuple[Path, str]:
    if isinstance(mount, dict):
        return Path(mount["source"]), str(mount["target"])
    return Path(mount.source), str(mount.target)
