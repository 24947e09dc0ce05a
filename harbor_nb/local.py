"""Harbor's plug-in for the environment `local`: a task runs in a bubblewrap sandbox on this machine."""

import asyncio
import codecs
import json
from pathlib import Path
from typing import Any, Literal, override

from harbor.environments.base import BaseEnvironment, ExecResult, OutputCallback
from harbor.environments.capabilities import EnvironmentCapabilities, EnvironmentResourceCapabilities
from harbor.models.task.config import TaskOS
from harbor.models.trial.config import ResourceMode

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox import Limits, Mount, Sandbox, build_image, tier
from harbor_nb.sandbox.users import EXPLAINED

_COMPOSE = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")
_USE_DOCKER = 'use environment="docker"'


class LocalEnvironment(BaseEnvironment):
    """Runs the task's Dockerfile and commands in a sandbox; the host's userland stands in for `FROM`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sandbox: Sandbox | None = None
        super().__init__(*args, **kwargs)
        # From 0.25 on Harbor tells apart what is bound to the host and what is only a folder inside.
        self._binds = [_bind(mount) for mount in getattr(self, "_host_mounts", self._mounts)]

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
        # Harbor 0.24 does not know fractional_cpus, and ignores it.
        able = ("cpu_limit", "memory_limit", "fractional_cpus")
        return EnvironmentResourceCapabilities.model_validate(dict.fromkeys(able, True))

    @classmethod
    @override
    def preflight(cls, **_settings: Any) -> None:  # from Harbor 0.26 on it is told them
        found = tier()
        if found.name == "none":
            raise SystemExit(f"local is not possible here: {found.reason}; {found.fix}")

    @override
    def _validate_definition(self) -> None:
        task, place = self.task_env_config, self.environment_dir
        compose = [name for name in _COMPOSE if (place / name).exists()]
        no_dockerfile = not (place / "Dockerfile").exists()
        networks = {policy.network_mode for policy in (self._network_policy, *self._phase_network_policies)}
        refused = {
            f"{' and '.join(compose)}: local has no compose; {_USE_DOCKER}": compose,
            f"the task names only a docker_image, which local can't pull; {_USE_DOCKER}": no_dockerfile
            and task.docker_image,
            f"{place.name}/Dockerfile is missing; add one, FROM alone is enough": no_dockerfile,
            f"the task asks for {self._effective_gpus} GPUs, which local has not; {_USE_DOCKER}": self._effective_gpus,
            f"local can't allow single hosts (network_mode = allowlist); {_USE_DOCKER}": "allowlist" in networks,
            "the task needs Windows containers, which local has not; use Docker on Windows": task.os == TaskOS.WINDOWS,
        }
        for reason, holds in refused.items():
            if holds:
                raise SandboxError(reason)

    @override
    async def start(self, force_build: bool) -> None:
        # Harbor ends the build itself, at a time that knows the job's multiplier.
        image = await build_image(self.environment_dir, force=force_build, on_line=self.logger.debug)
        limits = Limits(
            self._resource_limit_value("cpu", auto_mode=ResourceMode.LIMIT),
            self._resource_limit_value("memory", auto_mode=ResourceMode.LIMIT),
        )
        self._sandbox = await Sandbox.start(
            image, name=self.session_id, network=not self._network_disabled, mounts=self._binds, limits=limits
        )
        folders = ("/solution", "/tests", self.task_env_config.workdir or image.workdir)
        await self._sandbox.exec(["mkdir", "-p", *folders], cwd="/", user="root")
        await self.ensure_dirs(self._mount_targets(writable_only=True))
        self._tell(image.from_image)

    def _tell(self, from_image: str) -> None:
        """Say in the trial's log and in a file of its own what stood in for what, and which limits held."""
        sandbox, found = self._running(), tier()
        facts = {
            "from_image": from_image, "stand_in": _host(), "tier": found.name, "users": sandbox.users,
            "limits": sandbox.limits, "network": str(self._network_policy.network_mode.value),
        }  # fmt: skip
        said = [
            f"the host ({_host()}) stands in for FROM {from_image}",
            *([found.reason] if found.reason else []),
            EXPLAINED[sandbox.users],
            f"limits: {', '.join(sandbox.limits) or 'none asked for'}",
        ]
        self.logger.info(f"local: {'; '.join(said)}")
        (self.trial_paths.trial_dir / "harbor_nb.sandbox.json").write_text(json.dumps(facts))

    @override
    async def stop(self, delete: bool) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.stop()

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
        stream = _Stream(self._output_callback())
        try:
            done = await self._running().exec(
                command,
                cwd=cwd or self.task_env_config.workdir,
                env=self._merge_env(env),
                user=self._resolve_user(user),
                timeout_sec=timeout_sec,
                on_output=stream.take if stream.callback else None,
            )
        finally:
            await stream.end()
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


class _Stream:
    """Hands chunks to Harbor's callback in order, and as whole characters."""

    def __init__(self, callback: OutputCallback | None) -> None:
        self.callback = callback
        self._waiting: asyncio.Queue[tuple[str, Literal["stdout", "stderr"]] | None] = asyncio.Queue()
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
        self._task = asyncio.ensure_future(self._hand_on()) if callback else None

    def take(self, name: str, data: bytes) -> None:
        if text := self._decoders[name].decode(data):
            self._waiting.put_nowait((text, "stdout" if name == "stdout" else "stderr"))

    async def _hand_on(self) -> None:
        while (item := await self._waiting.get()) is not None:
            assert self.callback is not None
            await self.callback(*item)

    async def end(self) -> None:
        if self._task is not None:
            self._waiting.put_nowait(None)
            await self._task


def _host() -> str:
    lines = Path("/etc/os-release").read_text().splitlines() if Path("/etc/os-release").exists() else []
    return next((line.split("=", 1)[1].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "Linux")


def _bind(mount: Any) -> Mount:
    if mount["type"] != "bind":
        raise SandboxError(f"a mount of type {mount['type']} is not possible on local; {_USE_DOCKER}")
    return Mount(Path(mount["source"]), str(mount["target"]), bool(mount.get("read_only")))
