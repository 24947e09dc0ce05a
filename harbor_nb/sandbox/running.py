"""A running sandbox: one long-lived init in namespaces of its own; every exec enters it."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox.images import Image
from harbor_nb.sandbox.tiers import bwrap, tier

OVERLAID = ("usr", "etc", "opt")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Docker's default capabilities but for device nodes and raw sockets: root inside may not mount the host's disk.
_CAPABILITIES = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot audit_write setfcap"
)
_HIDDEN = ("shadow", "gshadow", "shadow-", "gshadow-", "ssh", "ssl/private", "sudoers")


@dataclass(frozen=True)
class ExecResult:
    """What a command printed and how it ended; `return_code` is 124 after a timeout."""

    stdout: bytes
    stderr: bytes
    return_code: int
    timed_out: bool = False


@dataclass
class Sandbox:
    """Started with `Sandbox.start`; dies whole with `stop`, or with the process that started it."""

    image: Image
    folder: Path
    env: dict[str, str]
    _init: asyncio.subprocess.Process | None = None
    _pid: int = 0
    _groups: set[int] = field(default_factory=set)

    @classmethod
    async def start(
        cls,
        image: Image,
        *,
        name: str,
        network: bool = True,
        mounts: Sequence[tuple[Path, str]] = (),
        env: dict[str, str] | None = None,
    ) -> "Sandbox":
        """Start a sandbox from an image; `mounts` are host folders bound writable at paths inside."""
        found = tier()
        program = bwrap()
        if found.name == "none" or program is None:
            raise SandboxError(f"the local sandbox is not possible here: {found.reason}; {found.fix}")
        folder = Path(tempfile.mkdtemp(prefix=f"harbor_nb-{name[:40].replace('/', '_')}-"))
        self = cls(image, folder, {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **image.env, **(env or {})})
        try:
            await self._boot(program, network, mounts)
        except BaseException:
            await self.stop()
            raise
        return self

    def _arguments(self, program: str, network: bool, mounts: Sequence[tuple[Path, str]]) -> list[str]:
        root = self.folder / "root"
        if self.image.layer is not None:
            shutil.copytree(self.image.layer / "root", root, symlinks=True)
        for name in ("root", "tmp", "home", "run", "var/tmp", "var/lib", "var/log", "mnt", "srv"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        command = [program, "--bind", str(root), "/"]
        for name in OVERLAID:
            if not Path("/", name).is_dir():
                continue
            upper, work = self.folder / name, self.folder / f"{name}.work"
            upper.mkdir()
            work.mkdir()
            command += ["--overlay-src", f"/{name}"]
            if self.image.layer is not None and (self.image.layer / name).is_dir():
                command += ["--overlay-src", str(self.image.layer / name)]
            command += ["--overlay", str(upper), str(work), f"/{name}"]
        for secret in _HIDDEN:
            path = Path("/etc", secret)
            if path.is_dir():
                command += ["--tmpfs", str(path)]
            elif path.exists():
                command += ["--ro-bind", "/dev/null", str(path)]
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if Path("/", name).is_symlink():
                command += ["--symlink", str(Path("/", name).readlink()), f"/{name}"]
        command += ["--proc", "/proc", "--dev", "/dev", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
        if not network:
            command += ["--unshare-net"]
        elif Path("/etc/resolv.conf").is_symlink():
            command += ["--ro-bind-try", str(Path("/etc/resolv.conf").resolve()), "/etc/resolv.conf"]
        if os.geteuid() != 0:
            command += ["--unshare-user", "--uid", "0", "--gid", "0"]
        for source, target in mounts:
            command += ["--bind", str(source), target]
        return command

    async def _boot(self, program: str, network: bool, mounts: Sequence[tuple[Path, str]]) -> None:
        read_end, write_end = os.pipe()
        command = self._arguments(program, network, mounts)
        try:
            self._init = await asyncio.create_subprocess_exec(
                *command, "--info-fd", str(write_end), "--", "/bin/sh", "-c", "echo ready; exec /bin/sleep infinity",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                pass_fds=(write_end,), env={},
            )  # fmt: skip
        finally:
            os.close(write_end)
        assert self._init.stdout is not None
        assert self._init.stderr is not None
        # The info is written before the mounts are made; init's own line comes after.
        line = await asyncio.wait_for(self._init.stdout.readline(), 30)
        with os.fdopen(read_end) as info:
            told = info.read()
        if line != b"ready\n":
            reason = (await self._init.stderr.read()).decode(errors="replace").strip()
            raise SandboxError(f"the sandbox did not start: {reason or 'no reason was given'}; type: harbor-nb doctor")
        self._pid = json.loads(told)["child-pid"]

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | int | None = None,
        timeout_sec: float | None = None,
    ) -> ExecResult:
        """Run a command inside (a string by `bash -c`); background processes it leaves go on until `stop`.

        Raises:
            SandboxError: the sandbox does not run, or the user can't be become here.
        """
        if self._init is None or self._init.returncode is not None:
            raise SandboxError("the sandbox does not run; start it first")
        words = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        enter = [
            shutil.which("nsenter") or "/usr/bin/nsenter",
            "-t",
            str(self._pid),
            "-m",
            "-p",
            "-i",
            "-u",
            "-n",
            "-r",
        ]
        if os.geteuid() != 0:
            enter += ["-U", "--preserve-credentials"]
        variables = {**self.env, **(env or {})}
        # Values go by the environment, where `ps` does not show them; the loader's own would act on the host's nsenter.
        loader = {key: variables.pop(key) for key in list(variables) if key.startswith(("LD_", "GLIBC_", "GCONV_"))}
        inner = ["/usr/bin/env", "-C", cwd or self.image.workdir, *(f"{key}={value}" for key, value in loader.items())]
        inner += self._as_user(user if user is not None else self.image.user)
        with tempfile.TemporaryFile(dir=self.folder) as out, tempfile.TemporaryFile(dir=self.folder) as err:
            # Files, not pipes: a background process that keeps the output open does not hold the exec.
            process = await asyncio.create_subprocess_exec(
                *enter, "--", *inner, *words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True, env=variables,
            )  # fmt: skip
            self._groups.add(process.pid)
            timed_out = False
            try:
                await asyncio.wait_for(process.wait(), timeout_sec)
            except TimeoutError:
                timed_out = True
                await self._end(process)
            except asyncio.CancelledError:
                await asyncio.shield(self._end(process))
                raise
            finally:
                self._groups.discard(process.pid)
            out.seek(0)
            err.seek(0)
            code = 124 if timed_out else (process.returncode or 0)
            return ExecResult(out.read(), err.read(), code, timed_out)

    def _as_user(self, user: str | int | None) -> list[str]:
        bounded = ["setpriv", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in _CAPABILITIES.split())])]
        if user in (None, "", "root", "0", 0):
            return [*bounded, "--"] if os.geteuid() == 0 else []
        if os.geteuid() != 0:
            raise SandboxError(f'user {user!r} needs harbor_nb to run as root here; use environment="docker"')
        # The user's own group is known only inside; a number without an account is its own group.
        find = 'u=$1; shift; g=$(id -g "$u" 2>/dev/null) && how=--init-groups || { g=$u; how=--clear-groups; }; '
        enter = f'exec {" ".join(bounded)} --reuid="$u" --regid="$g" "$how" -- "$@"'
        return ["/bin/sh", "-c", find + enter, "sh", str(user)]

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def stop(self) -> None:
        """End every process of the sandbox and remove its files."""
        if self._init is not None and self._init.returncode is None:
            for pid in (self._pid, self._init.pid):
                if pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await self._init.wait()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
