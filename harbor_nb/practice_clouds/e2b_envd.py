"""E2B's `envd`: a sandbox's processes by Connect's JSON streams, and its files."""

import asyncio
import base64
import contextlib
import gzip
import json
import secrets
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from harbor_nb.errors import HarborNbError, SandboxError
from harbor_nb.practice_clouds.backend import Backend, Box, MissingError
from harbor_nb.practice_clouds.files import letters, look, move, store
from harbor_nb.practice_clouds.http import json_answer
from harbor_nb.sandbox import FileStat

_RPC = ("/process.Process/", "/filesystem.Filesystem/")
_TYPES = {"file": "FILE_TYPE_FILE", "folder": "FILE_TYPE_DIRECTORY", "link": "FILE_TYPE_SYMLINK"}
_END = 2  # the flag of a stream's last message


def _frame(message: dict[str, Any], flags: int = 0) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack(">BI", flags, len(body)) + body


def _entry(entry: FileStat) -> dict[str, Any]:
    made = {
        "name": PurePosixPath(entry.path).name, "path": entry.path,
        "type": _TYPES.get(entry.kind, "FILE_TYPE_UNSPECIFIED"), "size": str(entry.size),
        "mode": entry.mode & 0o7777, "permissions": letters(entry.mode), "owner": entry.owner, "group": entry.group,
        "modifiedTime": f"{datetime.fromtimestamp(entry.modified, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
    }  # fmt: skip
    return made | ({"symlinkTarget": entry.target} if entry.target else {})


class Envd:
    """The calls that a sandbox answers; which sandbox, a header tells."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.running: dict[tuple[str, int], asyncio.Task[Any]] = {}

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path is envd's."""
        return path in ("/files", "/health", "/metrics") or path.startswith(_RPC)

    def routes(self) -> list[Route]:
        """The calls."""
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/files", self.download, methods=["GET"]),
            Route("/files", self.upload, methods=["POST"]),
            Route("/process.Process/Start", self.start, methods=["POST"]),
            Route("/process.Process/SendSignal", self.signal, methods=["POST"]),
            Route("/process.Process/List", self.list_processes, methods=["POST"]),
            Route("/filesystem.Filesystem/{call}", self.filesystem, methods=["POST"]),
        ]

    def _box(self, request: Request) -> Box | Response:
        wanted = request.headers.get("e2b-sandbox-id", "")
        try:
            box = self.backend.box(wanted)
        except MissingError:
            said = {"sandboxId": wanted, "message": "The sandbox was not found", "code": 502}
            return json_answer(said, 502)
        token = request.headers.get("x-access-token", "")
        if not secrets.compare_digest(token.encode(), box.values["token"].encode()):
            self.backend.foreign_keys += 1
            return json_answer(
                {"code": "unauthenticated", "message": "unauthorized access, missing or invalid token"}, 401
            )
        return box

    @staticmethod
    def _user(request: Request) -> str:
        named = request.query_params.get("username")
        if not named:
            scheme, _, coded = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() == "basic":
                with contextlib.suppress(ValueError):
                    named = base64.b64decode(coded).decode().split(":")[0]
        return named or "user"

    async def health(self, request: Request) -> Response:
        box = self._box(request)
        return box if isinstance(box, Response) else Response(status_code=204)

    async def _path(self, box: Box, path: str, user: str) -> str:
        """Resolve a relative path from the user's home, as envd does."""
        if path.startswith("/"):
            return path
        done = await box.sandbox.exec(
            ["sh", "-c", 'getent passwd "$1" | cut -d: -f6', "sh", user], cwd="/", user="root"
        )
        home = done.stdout.decode().strip() or "/"
        return str(PurePosixPath(home, path.removeprefix("~/")))

    async def download(self, request: Request) -> Response:
        box = self._box(request)
        if isinstance(box, Response):
            return box
        path = await self._path(box, request.query_params["path"], self._user(request))
        try:
            return Response(await box.sandbox.read_file(path), media_type="application/octet-stream")
        except IsADirectoryError:
            return json_answer({"code": 400, "message": f"path '{path}' is a directory"}, 400)
        except FileNotFoundError:
            return json_answer({"code": 404, "message": f"path '{path}' does not exist"}, 404)

    async def upload(self, request: Request) -> Response:
        box = self._box(request)
        if isinstance(box, Response):
            return box
        user, named = self._user(request), request.query_params.get("path")
        written = []
        if request.headers.get("content-type", "").startswith("multipart/"):
            async with request.form(max_files=1000) as form:
                for _name, part in form.multi_items():
                    if isinstance(part, UploadFile):
                        path = await self._path(box, named or part.filename or "", user)
                        await store(box.sandbox, path, part.file, user)
                        written.append(path)
        else:
            body = await request.body()
            if request.headers.get("content-encoding") == "gzip":
                body = await asyncio.to_thread(gzip.decompress, body)
            path = await self._path(box, named or "", user)
            await box.sandbox.write_file(path, body, 0o644, user)
            written.append(path)
        return json_answer([{"name": PurePosixPath(path).name, "type": "file", "path": path} for path in written])

    async def start(self, request: Request) -> Response:
        box = self._box(request)
        if isinstance(box, Response):
            return box
        body = await request.body()
        asked = json.loads(body[5:])["process"]
        limit = request.headers.get("connect-timeout-ms")
        every = float(request.headers.get("keepalive-ping-interval") or 50)
        return StreamingResponse(
            self._events(box, asked, self._user(request), int(limit) / 1000 if limit else None, every),
            media_type="application/connect+json",
        )

    async def _events(
        self, box: Box, asked: dict[str, Any], user: str, limit: float | None, every: float
    ) -> AsyncIterator[bytes]:
        pid = 1000 + len(box.values.setdefault("pids", []))
        box.values["pids"].append(pid)
        words = [asked["cmd"], *(asked.get("args") or [])]
        written: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()
        work = box.spawn(
            box.sandbox.exec(
                words, cwd=asked.get("cwd") or None, env=asked.get("envs"), user=user, timeout_sec=limit,
                on_output=lambda name, data: written.put_nowait((name, data)),
            )
        )  # fmt: skip
        work.add_done_callback(lambda _done: written.put_nowait(None))
        self.running[box.id, pid] = work
        yield _frame({"event": {"start": {"pid": pid}}})
        try:
            while True:
                try:
                    chunk = await asyncio.wait_for(written.get(), every)
                except TimeoutError:
                    yield _frame({"event": {"keepalive": {}}})
                    continue
                if chunk is None:
                    break
                yield _frame({"event": {"data": {chunk[0]: base64.b64encode(chunk[1]).decode()}}})
            done = work.result()
        except asyncio.CancelledError:
            if not work.cancelled():
                raise
            if box.ended:
                yield _frame({"error": {"code": "unavailable", "message": "the sandbox was ended"}}, _END)
            else:
                yield _frame({"event": {"end": {"exitCode": -1, "exited": False, "status": "signal: killed"}}})
                yield _frame({}, _END)
            return
        except SandboxError as error:
            yield _frame({"error": {"code": "internal", "message": str(error)}}, _END)
            return
        finally:
            self.running.pop((box.id, pid), None)
            work.cancel()
        if done.timed_out:
            yield _frame({"error": {"code": "deadline_exceeded", "message": "context deadline exceeded"}}, _END)
            return
        code = done.return_code
        end = {"exitCode": code, "exited": True, "status": f"exit status {code}"}
        yield _frame({"event": {"end": end}})
        yield _frame({}, _END)

    async def signal(self, request: Request) -> Response:
        box = self._box(request)
        if isinstance(box, Response):
            return box
        pid = int((await request.json())["process"]["pid"])
        work = self.running.get((box.id, pid))
        if work is None:
            return json_answer({"code": "not_found", "message": f"process with pid {pid} not found"}, 404)
        work.cancel()
        return json_answer({})

    async def list_processes(self, request: Request) -> Response:
        box = self._box(request)
        if isinstance(box, Response):
            return box
        return json_answer({"processes": [{"pid": pid} for sandbox, pid in self.running if sandbox == box.id]})

    async def filesystem(self, request: Request) -> Response:
        box = self._box(request)
        if isinstance(box, Response):
            return box
        asked, call, user = await request.json(), request.path_params["call"], self._user(request)
        path = await self._path(box, asked.get("path") or asked.get("source") or "", user)
        try:
            return json_answer(await self._filesystem(box, call, path, asked, user))
        except FileNotFoundError:
            return json_answer({"code": "not_found", "message": f"path not found: {path}"}, 404)
        except (OSError, HarborNbError) as error:
            return json_answer({"code": "invalid_argument", "message": str(error)}, 400)

    async def _filesystem(self, box: Box, call: str, path: str, asked: dict[str, Any], user: str) -> dict[str, Any]:
        sandbox = box.sandbox
        match call:
            case "Stat":
                return {"entry": _entry(await look(sandbox, path))}
            case "ListDir":
                found = await sandbox.list_dir(path, int(asked.get("depth") or 1))
                return {"entries": [_entry(entry) for entry in found]} if found else {}
            case "MakeDir":
                await sandbox.make_dir(path, user=user)
                return {"entry": _entry(await look(sandbox, path))}
            case "Move":
                target = await self._path(box, asked["destination"], user)
                await move(sandbox, path, target)
                return {"entry": _entry(await look(sandbox, target))}
            case "Remove":
                await sandbox.remove(path)
                return {}
        raise NotADirectoryError(f"not served by the practice cloud: POST /filesystem.Filesystem/{call}")
