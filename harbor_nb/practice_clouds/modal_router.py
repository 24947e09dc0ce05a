"""Modal's command router: commands in a sandbox with their streams, and its filesystem tool."""

import asyncio
import json
import posixpath
from dataclasses import dataclass, field
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import task_command_router_pb2 as pb

from harbor_nb.errors import BadInputError, SandboxError
from harbor_nb.practice_clouds.backend import Backend, Box, MissingError
from harbor_nb.practice_clouds.files import letters, look
from harbor_nb.practice_clouds.modal_images import Images
from harbor_nb.practice_clouds.modal_rpc import receive
from harbor_nb.sandbox import FileStat, SandboxProcess

FILES_TOOL = "/__modal/.bin/modal-sandbox-fs-tools"
_CHUNK = 1 << 20
_ERRORS: dict[type[BaseException], str] = {
    FileNotFoundError: "NotFound", NotADirectoryError: "NotDirectory", IsADirectoryError: "IsDirectory",
    PermissionError: "PermissionDenied", FileExistsError: "PathAlreadyExists",
}  # fmt: skip
_KINDS = {"file": "file", "folder": "directory", "link": "symlink"}


@dataclass
class Exec:
    """A command: what it wrote so far, and how it ended."""

    box: Box
    process: SandboxProcess | None = None
    output: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    stdin: bytearray = field(default_factory=bytearray)
    stdin_closed: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    task: "asyncio.Task[None] | None" = None

    async def tell(self) -> None:
        """Wake those who wait for output or the end."""
        async with self.changed:
            self.changed.notify_all()

    async def add(self, data: bytes, *, offset: int) -> None:
        """Take input from an offset on; what was taken before is not taken twice."""
        fresh = data[max(0, len(self.stdin) - offset) :]
        self.stdin += fresh
        if self.process is not None and fresh:
            self.process.write(fresh)
            await self.process.drain()

    def close(self) -> None:
        """End the input."""
        if not self.stdin_closed.is_set():
            self.stdin_closed.set()
            if self.process is not None:
                self.process.close_stdin()


def _entry(stat: FileStat) -> dict[str, Any]:
    made = {
        "name": posixpath.basename(stat.path), "path": stat.path, "type": _KINDS.get(stat.kind, "file"),
        "size": stat.size, "mode": stat.mode & 0o7777, "permissions": letters(stat.mode), "owner": stat.owner,
        "group": stat.group, "modified_time": stat.modified,
    }  # fmt: skip
    return made | ({"symlink_target": stat.target} if stat.target else {})


def _still_there(run: Exec) -> None:
    if run.box.ended:
        raise GRPCError(Status.NOT_FOUND, "Sandbox has already shut down")


class Router:
    """The router's calls."""

    def __init__(self, backend: Backend, images: Images) -> None:
        self.backend, self.images = backend, images
        self.execs: dict[tuple[str, str], Exec] = {}

    def box(self, task_id: str) -> Box:
        """Find the sandbox of a task."""
        found = next((box for box in self.backend.live() if box.values["task_id"] == task_id), None)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, "Sandbox has already shut down")
        return found

    def _exec(self, request: Any) -> Exec:
        found = self.execs.get((request.task_id, request.exec_id))
        if found is None:
            raise MissingError(f"Exec {request.exec_id}")
        return found

    async def start(self, request: Any) -> Any:
        """Start a command, once for each id."""
        box, key = self.box(request.task_id), (request.task_id, request.exec_id)
        if key not in self.execs:
            run = self.execs[key] = Exec(box)
            words = list(request.command_args)
            if words[:1] == [FILES_TOOL]:
                run.task = box.spawn(self._files(run, json.loads(words[1])))
            else:
                env = dict(request.env) | self.images.variables(request.secret_sources)
                run.process = await box.sandbox.spawn(words, cwd=request.workdir or None, env=env)
                joined = request.stderr_config == pb.TASK_EXEC_STDERR_CONFIG_STDOUT
                run.task = box.spawn(self._run(run, request.timeout_secs or None, 1 if joined else 2))
        return pb.TaskExecStartResponse()

    @staticmethod
    async def _pump(run: Exec, reader: asyncio.StreamReader, number: int) -> None:
        while data := await reader.read(_CHUNK):
            run.output[number] += data
            await run.tell()

    async def _run(self, run: Exec, timeout_sec: float | None, stderr: int) -> None:
        process = run.process
        assert process is not None
        pumps = [
            asyncio.create_task(self._pump(run, process.stdout, 1)),
            asyncio.create_task(self._pump(run, process.stderr, stderr)),
        ]
        try:
            try:
                code = await asyncio.wait_for(
                    asyncio.shield(waiting := asyncio.ensure_future(process.wait())), timeout_sec
                )
            except TimeoutError:
                await process.signal(9)
                code = await waiting
            # A background process may hold the pipes for ever.
            await asyncio.wait(pumps, timeout=0.2)
            run.code = code
        finally:
            for pump in pumps:
                pump.cancel()
            if run.code is None:
                run.code = 137
            await asyncio.shield(run.tell())

    async def read(self, stream: Any) -> None:
        """Stream what a command writes, from an offset, to its end."""
        request = await receive(stream)
        run, sent = self._exec(request), request.offset
        output = run.output[2 if request.file_descriptor == pb.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR else 1]
        while True:
            async with run.changed:
                while len(output) <= sent and run.code is None:
                    await run.changed.wait()
            _still_there(run)
            while len(output) > sent:
                data = bytes(output[sent : sent + _CHUNK])
                sent += len(data)
                await stream.send_message(pb.TaskExecStdioReadResponse(data=data))
            if run.code is not None and len(output) <= sent:
                return

    async def write(self, stream: Any) -> None:
        """Take a stream of input."""
        run, offset = None, 0
        while (request := await receive(stream)) is not None:
            kind = request.WhichOneof("payload") if "payload" in request.DESCRIPTOR.oneofs_by_name else None
            if request.HasField("start"):
                run, offset = self._exec(request.start), request.start.offset
            elif run is None:
                raise BadInputError("the input has no start")
            elif request.HasField("end"):
                run.close()
            elif request.data or kind:
                await run.add(request.data, offset=offset)
                offset += len(request.data)
        await stream.send_message(pb.TaskExecStdinWriteStreamResponse())

    async def write_once(self, request: Any) -> Any:
        """Take one piece of input."""
        run = self._exec(request)
        await run.add(request.data, offset=request.offset)
        if request.eof:
            run.close()
        return pb.TaskExecStdinWriteResponse()

    async def stdin_status(self, request: Any) -> Any:
        """Tell how much input was taken."""
        run = self._exec(request)
        return pb.TaskExecStdinStatusResponse(num_bytes_written=len(run.stdin), closed=run.stdin_closed.is_set())

    async def wait(self, request: Any) -> Any:
        """Wait for a command's end."""
        run = self._exec(request)
        async with run.changed:
            while run.code is None:
                await run.changed.wait()
        _still_there(run)
        return pb.TaskExecWaitResponse(code=run.code)

    async def poll(self, request: Any) -> Any:
        """Tell a command's exit code if it has ended."""
        run = self._exec(request)
        return pb.TaskExecPollResponse() if run.code is None else pb.TaskExecPollResponse(code=run.code)

    async def _files(self, run: Exec, command: dict[str, Any]) -> None:
        ((name, asked),) = command.items()
        code = 137  # of a sandbox that ended meanwhile
        try:
            run.output[1] += await self._file_call(run, name, asked)
            code = 0
        except (OSError, SandboxError, BadInputError) as error:
            said = {"error_kind": _ERRORS.get(type(error), "Other"), "message": str(error)}
            run.output[2] += json.dumps(said).encode()
            code = 1
        finally:
            run.code = code
            await asyncio.shield(run.tell())

    async def _file_call(self, run: Exec, name: str, asked: dict[str, Any]) -> bytes:
        sandbox, path = run.box.sandbox, asked["path"]
        match name:
            case "WriteFile":
                await run.stdin_closed.wait()
                await sandbox.write_file(path, bytes(run.stdin))
                return b""
            case "ReadFile":
                return await sandbox.read_file(path)
            case "ListFiles":
                return json.dumps([_entry(stat) for stat in await sandbox.list_dir(path)]).encode()
            case "Stat":
                return json.dumps(_entry(await look(sandbox, path))).encode()
            case "MakeDirectory":
                if not asked.get("parents") and await sandbox.stat(path) is not None:
                    raise FileExistsError("path already exists")
                if not asked.get("parents"):
                    await look(sandbox, posixpath.dirname(path))
                await sandbox.make_dir(path)
                return b""
            case "Remove":
                await sandbox.remove(path)
                return b""
        raise BadInputError(f"not served by the practice cloud: {FILES_TOOL} {name}")
