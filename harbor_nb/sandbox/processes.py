"""Commands inside a sandbox: how one is entered, streamed, signalled and waited for."""

import array
import asyncio
import contextlib
import fcntl
import os
import signal
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

OnOutput = Callable[[str, bytes], None]
UMASK = 0o022  # inside, whatever the caller has


@dataclass(frozen=True)
class ExecResult:
    """What a command printed and how it ended; `return_code` is 124 after a timeout, 128 + n after signal n."""

    stdout: bytes
    stderr: bytes
    return_code: int
    timed_out: bool = False


class _Pump(asyncio.Protocol):
    """Hands each chunk of a pipe on; goes on reading for background processes, which would die of a closed pipe."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self.sink: Callable[[bytes], None] | None = sink
        self.received = 0
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.sink is not None:
            self.sink(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass
class _Pipe:
    pump: _Pump
    transport: asyncio.ReadTransport
    descriptor: int

    @classmethod
    async def open(cls, sink: Callable[[bytes], None]) -> tuple["_Pipe", int]:
        read_end, write_end = os.pipe()
        loop = asyncio.get_running_loop()
        transport, pump = await loop.connect_read_pipe(lambda: _Pump(sink), os.fdopen(read_end, "rb", 0))
        return cls(pump, transport, read_end), write_end

    def _waiting(self) -> int:
        if self.transport.is_closing():
            return 0
        size = array.array("i", [0])
        fcntl.ioctl(self.descriptor, termios.FIONREAD, size)
        return size[0]

    async def drain(self) -> None:
        """Take what the ended command wrote; a background process may hold the pipe for ever."""
        goal = self.pump.received + self._waiting()
        while self.pump.received < goal and not self.pump.ended.done():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0)  # the loop itself brings the bytes
        self.pump.sink = None


def _forget(pipes: set[asyncio.BaseTransport], transport: asyncio.BaseTransport, _done: object) -> None:
    pipes.discard(transport)


def exit_code(returncode: int | None) -> int:
    """Give a process's return code as a shell tells it: 128 + n for signal n."""
    code = returncode or 0
    return 128 - code if code < 0 else code


async def run(
    command: list[str],
    env: dict[str, str],
    stdin: int,
    *,
    end: Callable[[int], None],
    pipes: set[asyncio.BaseTransport],
    running: set[int],
    timeout_sec: float | None = None,
    on_output: OnOutput | None = None,
    output: int | None = None,
) -> ExecResult:
    """Run a command to its end; `end` is given the process group when time is up or the caller gave up.

    Standard output goes to the descriptor `output` if there is one.
    """
    kept: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def sink(name: str) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            kept[name].append(data)
            try:
                if on_output is not None:
                    on_output(name, data)
            except Exception as error:  # noqa: BLE001 - the caller's own error goes back to the caller
                if not broken.done():
                    broken.set_exception(error)

        return take

    out, out_end = await _Pipe.open(sink("stdout"))
    err, err_end = await _Pipe.open(sink("stderr"))
    for pipe in (out, err):
        pipes.add(pipe.transport)
        pipe.pump.ended.add_done_callback(partial(_forget, pipes, pipe.transport))
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=out_end if output is None else output,
            stderr=err_end,
            start_new_session=True,
            umask=UMASK,
            env=env,
        )
    finally:
        os.close(out_end)
        os.close(err_end)
    running.add(process.pid)
    waiting: asyncio.Future[int] = asyncio.ensure_future(process.wait())
    waiting.add_done_callback(lambda _done: running.discard(process.pid))
    ends: list[asyncio.Future[Any]] = [waiting, broken]
    try:
        await asyncio.wait(ends, timeout=timeout_sec, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        end(process.pid)
        await asyncio.shield(waiting)
        raise
    timed_out = not waiting.done() and not broken.done()
    if not waiting.done():
        end(process.pid)
        await waiting
    for pipe in (out, err):
        await pipe.drain()
    if broken.done():
        broken.result()
    broken.cancel()
    code = 124 if timed_out else exit_code(process.returncode)
    return ExecResult(b"".join(kept["stdout"]), b"".join(kept["stderr"]), code, timed_out)


@dataclass
class Streams:
    """Three pipes to a process: our ends as streams, and the descriptors that it gets."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader
    theirs: tuple[int, int, int]

    @classmethod
    async def open(cls, transports: set[asyncio.BaseTransport]) -> "Streams":
        """Open them; asyncio's own would keep `wait` back until all who have them are gone."""
        loop = asyncio.get_running_loop()
        stdin, our_in = os.pipe()
        flow, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(our_in, "wb", 0))
        transports.add(flow)
        readers, ends = [], [stdin]
        for _name in ("stdout", "stderr"):
            read_end, write_end = os.pipe()
            reader = asyncio.StreamReader()
            transport, _protocol = await loop.connect_read_pipe(
                partial(asyncio.StreamReaderProtocol, reader), os.fdopen(read_end, "rb", 0)
            )
            transports.add(transport)
            readers.append(reader)
            ends.append(write_end)
        return cls(
            asyncio.StreamWriter(flow, protocol, None, loop), readers[0], readers[1], (ends[0], ends[1], ends[2])
        )

    def close_theirs(self) -> None:
        """Close the process's ends, once it has them."""
        for descriptor in self.theirs:
            os.close(descriptor)


class SandboxProcess:
    """A process inside a sandbox, started by `Sandbox.spawn`; `pid` is its number inside.

    Example:
        >>> process = await sandbox.spawn("cat")  # doctest: +SKIP
        >>> process.write(b"hello")  # doctest: +SKIP
        >>> process.close_stdin()  # doctest: +SKIP
        >>> await process.stdout.read()  # doctest: +SKIP
        b'hello'
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        pid: int,
        streams: Streams,
        kill: Callable[[int, int], Awaitable[None]],
    ) -> None:
        self.pid = pid
        self.stdout, self.stderr, self._stdin = streams.stdout, streams.stderr, streams.stdin
        self._process = process
        self._kill = kill

    @property
    def return_code(self) -> int | None:
        """The exit code, 128 + n after signal n; None while it runs."""
        return None if self._process.returncode is None else exit_code(self._process.returncode)

    def write(self, data: bytes) -> None:
        """Write bytes to its standard input; `await drain()` waits until they are taken."""
        self._stdin.write(data)

    async def drain(self) -> None:
        """Wait until what was written is on its way; a process that has ended takes nothing, which is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._stdin.drain()

    def close_stdin(self) -> None:
        """End its standard input."""
        self._stdin.close()

    async def wait(self) -> int:
        """Wait for its end; give the exit code, 128 + n after signal n."""
        return exit_code(await self._process.wait())

    async def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the process and all that it started; one that has ended gets none, which is no error."""
        if self._process.returncode is None:
            await self._kill(self.pid, number)
