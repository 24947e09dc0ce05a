"""A running sandbox: one long-lived init in namespaces of its own; every exec enters it."""

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, override

from harbor_nb.errors import SandboxError
from harbor_nb.sandbox import limits, places, users
from harbor_nb.sandbox.files import SandboxFiles
from harbor_nb.sandbox.images import PATH, Image
from harbor_nb.sandbox.limits import Limits, watch
from harbor_nb.sandbox.mounts import Mount, other_arguments, overlay_arguments
from harbor_nb.sandbox.processes import UMASK, ExecResult, OnOutput, SandboxProcess, Streams, exit_code, run
from harbor_nb.sandbox.tiers import bwrap, tier

_INIT = "echo ready; exec /bin/sleep infinity"
# The loader's own variables would act on the host's nsenter.
_LOADER = ("LD_", "GLIBC_", "GCONV_")
_CHUNK = 1 << 16
_END_SEC = 5.0
_LONGEST = 120_000  # bytes of one argument, a little below the kernel's limit


class Sandbox(SandboxFiles):
    r"""Started with `Sandbox.start`; dies whole with `stop`, or with the process that started it.

    Example:
        >>> sandbox = await Sandbox.start(Image(), name="try")  # doctest: +SKIP
        >>> (await sandbox.exec("echo hello")).stdout  # doctest: +SKIP
        b'hello\n'
        >>> await sandbox.stop()  # doctest: +SKIP
    """

    def __init__(self, image: Image, env: dict[str, str], held: places.Held) -> None:
        self.image = image
        self.workdir = image.workdir
        self.env = env
        self.users = users.mode()
        self.network = True
        self._held = held
        self._init: asyncio.subprocess.Process | None = None
        self._pid = 0
        self._pipes: set[asyncio.BaseTransport] = set()
        self._mounts: list[Mount] = []
        self._layers: list[IO[str]] = []
        self._running: set[int] = set()
        self._spawned: list[asyncio.Future[int]] = []
        self._limits = limits.Held()
        self._watch: asyncio.Task[None] | None = None

    @property
    def limits(self) -> list[str]:
        """Which limits hold, and by what."""
        return self._limits.told

    @property
    def folder(self) -> Path:
        """The host folder that holds what the sandbox writes; gone after `stop`."""
        return self._held.path

    @classmethod
    async def start(
        cls,
        image: Image,
        *,
        name: str,
        network: bool = True,
        mounts: Sequence[tuple[Path, str] | Mount] = (),
        env: dict[str, str] | None = None,
        limits: Limits | None = None,
        parent: Path | None = None,
    ) -> "Sandbox":
        """Start a sandbox.

        Args:
            image: what `build_image` gave, or `Image()` for the host's userland alone.
            name: a part of its folder's name on the host.
            network: whether it has the host's network; without, only its own loopback.
            mounts: host folders and the paths inside where they are bound, writable; or `Mount`s.
            env: variables that each command gets.
            limits: what it may use at most.
            parent: the host folder for what it writes.

        Returns:
            The running sandbox.

        Raises:
            SandboxError: no sandbox is possible here, or it did not start.
        """
        found, program = tier(), bwrap()
        if found.name == "none" or program is None:
            raise SandboxError(f"the local sandbox is not possible here: {found.reason}; {found.fix}")
        _sweep_once()
        held = places.Held(parent or places.run_folder(), name)
        self = cls(image, {"PATH": PATH, "LANG": "C.UTF-8", **image.env, **(env or {})}, held)
        self._mounts, self.network = [Mount(*mount) for mount in mounts], network
        try:
            arguments = await asyncio.to_thread(self._arguments)
            self._limits = await asyncio.to_thread(_hold, limits, self.folder)
            await self._boot(program, arguments)
            if self._limits.watched_bytes:
                self._watch = asyncio.ensure_future(watch(self._limits.watched_bytes, self._roots, self._kill))
        except BaseException:
            await self.stop()
            raise
        return self

    def _arguments(self) -> list[str]:
        overlays, self._layers = overlay_arguments(self.folder, self.users, self.image.layers)
        proc = tier().name == "full"
        return overlays + other_arguments(self.folder, self.users, self._mounts, proc=proc, network=self.network)

    async def _boot(self, program: str, arguments: list[str]) -> None:
        read_end, write_end = os.pipe()
        block_end, go_end = os.pipe()
        # By a descriptor, since pid 1's command line can be read inside.
        told = os.memfd_create("arguments")
        os.write(told, "\0".join(arguments).encode() + b"\0")
        os.lseek(told, 0, os.SEEK_SET)
        block = ["--userns-block-fd", str(block_end)] if self.users == "ranges" else []
        streams = await Streams.open(self._pipes)
        try:
            self._init = await asyncio.create_subprocess_exec(
                "bwrap", "--args", str(told), *block, "--info-fd", str(write_end), "--", "/bin/sh", "-c", _INIT,
                stdin=asyncio.subprocess.DEVNULL, stdout=streams.theirs[1], stderr=streams.theirs[2],
                pass_fds=(told, write_end, block_end), env={}, executable=program, umask=UMASK,
            )  # fmt: skip
        finally:
            streams.close_theirs()
            for descriptor in (write_end, told, block_end):
                os.close(descriptor)
        try:
            # Written before the mounts are made; init's own line comes after.
            self._pid = await asyncio.to_thread(_child, read_end)
            if block and self._pid:
                await asyncio.to_thread(users.write_maps, self._pid)
                os.write(go_end, b"1")
        finally:
            os.close(read_end)
            os.close(go_end)
        line = await asyncio.wait_for(streams.stdout.readline(), 60)
        if line != b"ready\n":
            reason = (await streams.stderr.read()).decode(errors="replace").strip()
            raise SandboxError(f"the sandbox did not start: {reason or 'no reason was given'}; type: harbor-nb doctor")

    def _enter(
        self, command: Sequence[str], cwd: str | None, env: dict[str, str] | None, user: str | int | None
    ) -> tuple[list[str], dict[str, str]]:
        if self._init is None or self._init.returncode is not None:
            raise SandboxError("the sandbox does not run; start it first")
        variables = {**self.env, **(env or {})}
        for text in (*command, *variables.values()):
            if "\0" in text or len(text) > _LONGEST:
                raise SandboxError(
                    "a command or value is longer than 120 kB or holds a zero byte; hand it in as a file"
                )
        loader = {key: variables.pop(key) for key in list(variables) if key.startswith(_LOADER)}
        inner = ["/usr/bin/env", "-C", cwd or self.workdir, *(f"{key}={value}" for key, value in loader.items())]
        inner += users.become(self.users, self.image.user if user is None else user, variables)
        return [
            *self._limits.prefix,
            *users.enter(self.users, self._pid, network=self.network),
            "--",
            *inner,
            *command,
        ], variables

    @override
    async def _run_inside(self, command: Sequence[str], stdin: int, *, output: int | None = None) -> ExecResult:
        words, variables = self._enter(command, "/", {"PATH": PATH, "LC_ALL": "C"}, "root")
        return await run(
            words, variables, stdin, end=self._end, pipes=self._pipes, running=self._running, output=output
        )

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | int | None = None,
        timeout_sec: float | None = None,
        stdin: bytes | None = None,
        on_output: OnOutput | None = None,
    ) -> ExecResult:
        """Run a command inside; background processes it leaves go on until `stop`.

        Args:
            command: a string, run by `bash -c`, or a list of words.
            cwd: the folder it starts in; the image's when not given.
            env: variables above those of the sandbox.
            user: a name or number, `user:group` too; the image's when not given.
            timeout_sec: seconds after which it is ended with all that it started.
            stdin: what it reads; nothing when not given.
            on_output: called with `stdout` or `stderr` and each chunk as it comes.

        Returns:
            What it printed and how it ended.

        Raises:
            SandboxError: the sandbox does not run, or the command can't be handed in.
        """
        words = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        entered, variables = self._enter(words, cwd, env, user)
        given = os.memfd_create("stdin")
        try:
            await asyncio.to_thread(_fill, given, stdin or b"")
            return await run(
                entered,
                variables,
                given,
                end=self._end,
                pipes=self._pipes,
                running=self._running,
                timeout_sec=timeout_sec,
                on_output=on_output,
            )
        finally:
            os.close(given)

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | int | None = None,
    ) -> SandboxProcess:
        """Start a command inside and return at once; arguments as in `exec`.

        Returns:
            The process: its pid inside, its streams, `wait` and `signal`.
        """
        words = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        self._enter(words, cwd, env, user)  # what can't be handed in is told before a pipe is open
        read_end, write_end = os.pipe()
        # A session of its own, so that a signal reaches all that it starts; and its number as it is inside.
        tell = ["/usr/bin/setsid", "/bin/bash", "-c", f'echo $$ >&{write_end}; exec {write_end}>&-; exec "$@"', "spawn"]
        entered, variables = self._enter([*tell, *words], cwd, env, user)
        streams = await Streams.open(self._pipes)
        try:
            process = await asyncio.create_subprocess_exec(
                *entered, stdin=streams.theirs[0], stdout=streams.theirs[1], stderr=streams.theirs[2],
                pass_fds=(write_end,), start_new_session=True, env=variables, umask=UMASK,
            )  # fmt: skip
        finally:
            streams.close_theirs()
            os.close(write_end)
        with os.fdopen(read_end) as told:
            line = await asyncio.to_thread(told.readline)
        if not line:
            code = exit_code(await process.wait())
            told_why = (await streams.stderr.read()).decode(errors="replace").strip()
            raise SandboxError(f"the command did not start (exit code {code}): {told_why}")
        self._running.add(process.pid)
        waiting = asyncio.ensure_future(process.wait())
        waiting.add_done_callback(lambda _done: self._running.discard(process.pid))
        self._spawned.append(waiting)
        return SandboxProcess(process, int(line), streams, self._signal)

    async def _signal(self, pid: int, number: int) -> None:
        await self.exec(f"kill -s {signal.Signals(number).name[3:]} -- -{pid}", cwd="/", user="root")

    def _roots(self) -> list[int]:
        return [*self._running, *([self._init.pid] if self._init is not None else [])]

    def _kill(self, pid: int) -> None:
        """End one process, of whichever user of the sandbox."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.users == "ranges":
                users.kill(self._pid, pid)
            else:
                os.kill(pid, signal.SIGKILL)

    def _end(self, group: int) -> None:
        """End a process group, with processes of other users in it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.users == "ranges":
                users.kill(self._pid, -group)
            os.killpg(group, signal.SIGKILL)

    async def end_processes(self) -> None:
        """End every process of the sandbox; its files stay until `stop`."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        init, self._init = self._init, None
        if init is not None:
            if self.users == "ranges" and init.returncode is None:
                await self._give_back(init)
            await _end_init(init)
            for waiting in self._spawned:
                await waiting
        for transport in list(self._pipes):
            transport.close()

    async def stop(self) -> None:
        """End every process of the sandbox and remove its files; a second call does nothing."""
        await self.end_processes()
        await asyncio.to_thread(places.remove_groups, self._limits.groups)
        enter = None
        if self.users == "ranges":
            enter = await asyncio.to_thread(users.mapped)
        await asyncio.to_thread(self._held.remove, enter)
        for layer in self._layers:
            layer.close()

    async def _give_back(self, init: asyncio.subprocess.Process) -> None:
        """What other users of the sandbox wrote into mounted folders becomes the caller's own."""
        self._init = init
        for mount in self._mounts:
            with contextlib.suppress(SandboxError):
                await self.exec(["/bin/chown", "-hR", "0:0", mount.target], cwd="/", user="root", timeout_sec=60)
        self._init = None


def _child(descriptor: int) -> int:
    """Read the pid that bwrap tells of its child; 0 when it failed before."""
    told = b""
    while not told.rstrip().endswith(b"}"):
        more = os.read(descriptor, _CHUNK)
        if not more:
            return 0
        told += more
    return int(json.loads(told)["child-pid"])


async def _end_init(init: asyncio.subprocess.Process) -> None:
    """Kill bwrap's child, which is the sandbox's pid 1: bwrap ends when that is gone with all its processes."""
    if init.returncode is None:
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        try:
            await asyncio.wait_for(init.wait(), _END_SEC)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                init.kill()
            await init.wait()


def _fill(descriptor: int, content: bytes) -> None:
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)


def _hold(asked: Limits | None, folder: Path) -> limits.Held:
    held = limits.hold(asked, folder.name)
    # A sweep removes the groups of a sandbox whose process was killed.
    (folder / places.GROUPS).write_text("".join(f"{group}\n" for group in held.groups))
    return held


_swept = threading.Event()


def _sweep_once() -> None:
    if not _swept.is_set():
        _swept.set()
        enter = users.mapped if users.mode() == "ranges" else lambda: None
        threading.Thread(target=places.sweep, args=(places.run_folder(), enter), daemon=True).start()
