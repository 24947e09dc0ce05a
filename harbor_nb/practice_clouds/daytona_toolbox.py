"""Daytona's toolbox: a sandbox's sessions, commands and files, as its daemon offers them."""

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harbor_nb.errors import BadInputError, SandboxError
from harbor_nb.practice_clouds.backend import Backend, Box, MissingError
from harbor_nb.practice_clouds.files import letters, look, move, store
from harbor_nb.practice_clouds.http import json_answer
from harbor_nb.sandbox import FileStat

_HOLD_SEC = 0.5  # that the first look at a command waits for its end; saves the SDK's sleep of a second
_AT = "/toolbox/{id}"


@dataclass
class _Command:
    id: str
    command: str
    code: int | None = None
    stdout: str = ""
    stderr: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def view(self) -> dict[str, Any]:
        code = {} if self.code is None else {"exitCode": self.code}
        return {"id": self.id, "command": self.command, **code}


def _info(entry: FileStat) -> dict[str, Any]:
    when = datetime.fromtimestamp(entry.modified, UTC)
    return {
        "name": PurePosixPath(entry.path).name, "path": entry.path, "isDir": entry.kind == "folder",
        "size": entry.size, "mode": f"{'d' if entry.kind == 'folder' else '-'}{letters(entry.mode)}",
        "permissions": f"{entry.mode & 0o7777:04o}",
        "owner": entry.owner, "group": entry.group, "modTime": f"{when:%Y-%m-%d %H:%M:%S} +0000 UTC",
        "modifiedAt": when.isoformat(),
    }  # fmt: skip


def _session_view(name: str, commands: dict[str, _Command]) -> dict[str, Any]:
    return {"sessionId": name, "commands": [command.view() for command in commands.values()]}


class Toolbox:
    """The calls below `toolboxProxyUrl`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def routes(self) -> list[Route]:
        """Its calls."""
        session = f"{_AT}/process/session"
        command = f"{session}/{{sid}}/command/{{cid}}"
        return [
            Route(f"{_AT}/process/execute", self.execute, methods=["POST"]),
            Route(session, self.list_sessions, methods=["GET"]),
            Route(session, self.create_session, methods=["POST"]),
            Route(f"{session}/{{sid}}", self.get_session, methods=["GET"]),
            Route(f"{session}/{{sid}}", self.delete_session, methods=["DELETE"]),
            Route(f"{session}/{{sid}}/exec", self.session_execute, methods=["POST"]),
            Route(command, self.get_command, methods=["GET"]),
            Route(f"{command}/logs", self.logs, methods=["GET"]),
            Route(f"{_AT}/files/bulk-upload", self.bulk_upload, methods=["POST"]),
            Route(f"{_AT}/files/bulk-download", self.bulk_download, methods=["POST"]),
            Route(f"{_AT}/files/download", self.download, methods=["GET"]),
            Route(f"{_AT}/files/info", self.info, methods=["GET"]),
            Route(f"{_AT}/files/folder", self.make_folder, methods=["POST"]),
            Route(f"{_AT}/files/move", self.move, methods=["POST"]),
            Route(f"{_AT}/files/permissions", self.permissions, methods=["POST"]),
            Route(f"{_AT}/files", self.list_files, methods=["GET"]),
            Route(f"{_AT}/files", self.delete_file, methods=["DELETE"]),
            Route(f"{_AT}/work-dir", self.work_dir, methods=["GET"]),
            Route(f"{_AT}/user-home-dir", self.home, methods=["GET"]),
        ]

    def _box(self, request: Request) -> Box:
        return self.backend.box(request.path_params["id"])

    @staticmethod
    def _sessions(box: Box) -> dict[str, dict[str, _Command]]:
        sessions: dict[str, dict[str, _Command]] = box.values.setdefault("sessions", {})
        return sessions

    def _session(self, request: Request) -> dict[str, _Command]:
        found = self._sessions(self._box(request)).get(request.path_params["sid"])
        if found is None:
            raise MissingError("session not found")
        return found

    def _command(self, request: Request) -> _Command:
        found = self._session(request).get(request.path_params["cid"])
        if found is None:
            raise MissingError("command not found")
        return found

    async def execute(self, request: Request) -> Response:
        asked, box = await request.json(), self._box(request)
        done = await box.sandbox.exec(
            asked["command"], cwd=asked.get("cwd"), env=asked.get("envs"), timeout_sec=asked.get("timeout") or None
        )
        if done.timed_out:
            return json_answer(
                {"statusCode": 408, "message": "command execution timeout", "code": "REQUEST_TIMEOUT"}, 408
            )
        return json_answer(
            {"exitCode": done.return_code, "result": (done.stdout + done.stderr).decode(errors="replace")}
        )

    async def list_sessions(self, request: Request) -> Response:
        sessions = self._sessions(self._box(request))
        return json_answer([_session_view(name, commands) for name, commands in sessions.items()])

    async def create_session(self, request: Request) -> Response:
        name = (await request.json())["sessionId"]
        sessions = self._sessions(self._box(request))
        if name in sessions:
            return json_answer({"statusCode": 409, "message": "session already exists", "code": "CONFLICT"}, 409)
        sessions[name] = {}
        return Response(status_code=201)

    async def get_session(self, request: Request) -> Response:
        return json_answer(_session_view(request.path_params["sid"], self._session(request)))

    async def delete_session(self, request: Request) -> Response:
        self._session(request)
        del self._sessions(self._box(request))[request.path_params["sid"]]
        return Response(status_code=204)

    async def session_execute(self, request: Request) -> Response:
        asked, box, session = await request.json(), self._box(request), self._session(request)
        command = _Command(secrets.token_hex(8), asked["command"])
        session[command.id] = command
        box.spawn(self._run(box, command))
        if asked.get("runAsync") or asked.get("async"):
            return json_answer({"cmdId": command.id}, 202)
        await command.done.wait()
        output = {"output": command.stdout + command.stderr, "stdout": command.stdout, "stderr": command.stderr}
        return json_answer({"cmdId": command.id, "exitCode": command.code, **output})

    async def _run(self, box: Box, command: _Command) -> None:
        try:
            done = await box.sandbox.exec(command.command)
            command.stdout = done.stdout.decode(errors="replace")
            command.stderr = done.stderr.decode(errors="replace")
            command.code = done.return_code
        except SandboxError as error:
            command.stderr, command.code = str(error), 1
        finally:
            command.done.set()

    async def get_command(self, request: Request) -> Response:
        command = self._command(request)
        await asyncio.wait([asyncio.create_task(command.done.wait())], timeout=_HOLD_SEC)
        self._box(request)  # it may have ended meanwhile
        return json_answer(command.view())

    async def logs(self, request: Request) -> Response:
        command = self._command(request)
        both = {"output": command.stdout + command.stderr, "stdout": command.stdout, "stderr": command.stderr}
        return json_answer(both)

    async def bulk_upload(self, request: Request) -> Response:
        box = self._box(request)
        async with request.form(max_files=10_000, max_fields=10_000) as form:
            paths = {name.removesuffix(".path"): str(value) for name, value in form.items() if name.endswith(".path")}
            for name, value in form.items():
                if isinstance(value, UploadFile):
                    path = paths.get(name.removesuffix(".file"))
                    if path is None:
                        raise BadInputError(f"{name} has no path")
                    await store(box.sandbox, path, value.file)
        return Response(status_code=200)

    async def bulk_download(self, request: Request) -> Response:
        box, boundary = self._box(request), f"practice{secrets.token_hex(12)}"
        parts = []
        for path in (await request.json())["paths"]:
            try:
                name, kind, body = "file", "application/octet-stream", await box.sandbox.read_file(path)
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                code, text = (404, "FILE_NOT_FOUND") if missing else (400, "INVALID_FILE_PATH")
                said = {"statusCode": code, "message": str(error), "code": text}
                name, kind, body = "error", "application/json", json.dumps(said).encode()
            quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{quoted}"\r\n'
            parts += [
                head.encode(),
                f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode(),
                body,
                b"\r\n",
            ]
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        return Response(body, media_type=f"multipart/form-data; boundary={boundary}")

    async def download(self, request: Request) -> Response:
        body = await self._box(request).sandbox.read_file(request.query_params["path"])
        return Response(body, media_type="application/octet-stream")

    async def info(self, request: Request) -> Response:
        return json_answer(_info(await look(self._box(request).sandbox, request.query_params["path"])))

    async def list_files(self, request: Request) -> Response:
        asked = request.query_params
        found = await self._box(request).sandbox.list_dir(asked.get("path") or ".", int(asked.get("depth") or 1))
        return json_answer([_info(entry) for entry in found])

    async def make_folder(self, request: Request) -> Response:
        box, path = self._box(request), request.query_params["path"]
        await box.sandbox.make_dir(path, int(request.query_params.get("mode") or "755", 8))
        return Response(status_code=201)

    async def move(self, request: Request) -> Response:
        await move(self._box(request).sandbox, request.query_params["source"], request.query_params["destination"])
        return Response(status_code=200)

    async def permissions(self, request: Request) -> Response:
        box, asked = self._box(request), request.query_params
        if asked.get("mode"):
            await box.sandbox.exec(["chmod", asked["mode"], asked["path"]], cwd="/")
        if asked.get("owner") or asked.get("group"):
            await box.sandbox.exec(
                ["chown", f"{asked.get('owner', '')}:{asked.get('group', '')}", asked["path"]], cwd="/"
            )
        return Response(status_code=200)

    async def delete_file(self, request: Request) -> Response:
        await self._box(request).sandbox.remove(request.query_params["path"])
        return Response(status_code=204)

    async def work_dir(self, request: Request) -> Response:
        return json_answer({"dir": self._box(request).image.workdir})

    async def home(self, request: Request) -> Response:
        self._box(request)
        return json_answer({"dir": "/root"})
