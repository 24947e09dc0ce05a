"""Runloop on loopback: blueprints, objects, devboxes, executions and their files."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from harbor_nb.errors import BadInputError, SandboxError
from harbor_nb.practice_clouds.backend import Backend, Box, MissingError, QuotaError, RateLimitError, StartError
from harbor_nb.practice_clouds.files import store
from harbor_nb.practice_clouds.http import NotServedError, TooLargeError, UnauthorizedError, json_answer
from harbor_nb.practice_clouds.runloop_images import Images, now_ms, page
from harbor_nb.sandbox import Image

_SHOWN_BYTES = 256 * 1024  # of an output that an answer carries; the rest comes by the stream
_LONGEST_WAIT_SEC = 30.0


@dataclass
class _Execution:
    id: str
    box: Box
    done: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    task: "asyncio.Task[Any] | None" = None

    def view(self) -> dict[str, Any]:
        out, err = self.stdout[-_SHOWN_BYTES:], self.stderr[-_SHOWN_BYTES:]
        return {
            "devbox_id": self.box.id, "execution_id": self.id, "exit_status": self.code,
            "status": "completed" if self.done.is_set() else "running",
            "stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace"),
            "stdout_truncated": len(out) < len(self.stdout), "stderr_truncated": len(err) < len(self.stderr),
        }  # fmt: skip


class Cloud(Images):
    """Its calls; the paths and bodies are those of `runloop_api_client` 3.0."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.executions: dict[str, _Execution] = {}
        self.failed: dict[str, dict[str, Any]] = {}  # devboxes that did not start

    def environ(self, url: str) -> dict[str, str]:
        """What points the SDK at `url`."""
        self.url = url
        return {"RUNLOOP_BASE_URL": url, "RUNLOOP_API_KEY": self.backend.key}

    def key(self, request: Request) -> str | None:
        """The key that a call came with."""
        return request.headers.get("authorization", "").removeprefix("Bearer ") or None

    def open_path(self, path: str) -> bool:
        """Whether a path needs no key of the account."""
        return path.startswith("/upload/")

    def failure(self, error: Exception) -> Response:
        """Runloop's own answer to a failure."""
        status, message = 500, "Internal server error"
        match error:
            case UnauthorizedError():
                status, message = 401, "Unauthorized: invalid or missing API key"
            case MissingError() | FileNotFoundError():
                status, message = 404, f"Not found: {error}"
            case NotServedError():
                status, message = 404, str(error)
            case RateLimitError():
                status, message = 429, "Too many requests: devbox creation rate limit exceeded"
            case QuotaError():
                status, message = 429, f"Account limit reached: at most {self.backend.faults.quota} concurrent devboxes"
            case TooLargeError():
                status, message = 413, "Request entity too large"
            case IsADirectoryError() | NotADirectoryError() | PermissionError() | BadInputError():
                status, message = 400, str(error)
            case SandboxError():
                message = str(error)
        return json_answer({"message": message, "status": status}, status)

    def routes(self) -> list[Route]:
        """Its calls."""
        devbox, execution = "/v1/devboxes/{id}", "/v1/devboxes/{id}/executions/{eid}"
        return [
            *super().routes(),
            Route("/v1/accounts/me", self.account),
            Route("/v1/devboxes", self.list_devboxes),
            Route("/v1/devboxes", self.create_devbox, methods=["POST"]),
            Route("/v1/devboxes/create_and_await_running", self.create_devbox, methods=["POST"]),
            Route(devbox, self.get_devbox),
            Route(f"{devbox}/wait_for_status", self.wait_devbox, methods=["POST"]),
            Route(f"{devbox}/shutdown", self.shutdown, methods=["POST"]),
            Route(f"{devbox}/execute_async", self.execute, methods=["POST"]),
            Route(f"{devbox}/upload_file", self.upload_file, methods=["POST"]),
            Route(f"{devbox}/download_file", self.download_file, methods=["POST"]),
            Route(execution, self.get_execution),
            Route(f"{execution}/wait_for_status", self.wait_execution, methods=["POST"]),
            Route(f"{execution}/kill", self.kill_execution, methods=["POST"]),
            Route(f"{execution}/stream_stdout_updates", self.stream_stdout),
            Route(f"{execution}/stream_stderr_updates", self.stream_stderr),
        ]

    async def account(self, _request: Request) -> Response:
        return json_answer({"id": "acct_practice", "name": "practice", "email": "practice@localhost"})

    @staticmethod
    def _view(box: Box) -> dict[str, Any]:
        made = {
            "id": box.id, "name": box.name, "status": "shutdown" if box.ended else "running", "capabilities": [],
            "create_time_ms": int(box.created_at.timestamp() * 1000), "metadata": box.labels, "state_transitions": [],
            "launch_parameters": box.values["launch_parameters"], "blueprint_id": box.values["blueprint_id"],
        }  # fmt: skip
        if box.ended_at is not None:
            made |= {
                "end_time_ms": int(box.ended_at.timestamp() * 1000),
                "shutdown_reason": box.values.get("reason", "keep_alive_timeout"),
            }
        return made

    async def list_devboxes(self, request: Request) -> Response:
        status = request.query_params.get("status")
        views = [self._view(box) for box in reversed(self.backend.boxes.values())]
        return page("devboxes", [view for view in views if status in (None, view["status"])], request)

    async def create_devbox(self, request: Request) -> Response:
        asked = await request.json()
        parameters = asked.get("launch_parameters") or {}
        blueprint = asked.get("blueprint_id")
        if blueprint and blueprint not in self.images:
            raise BadInputError(f"blueprint {blueprint} is not built")
        self.backend.admit()
        policy = self.policies.get(parameters.get("network_policy_id") or "")
        made = f"dbx_{secrets.token_hex(8)}"
        try:
            box = await self.backend.start(
                self.images[blueprint] if blueprint else Image(), box_id=made, name=asked.get("name") or "",
                labels=asked.get("metadata"), env=asked.get("environment_variables"), blueprint_id=blueprint,
                network=policy is None or bool(policy["egress"]["allow_all"]), launch_parameters=parameters,
                lifetime_sec=parameters.get("keep_alive_time_seconds"),
            )  # fmt: skip
        except StartError:
            self.failed[made] = {
                "id": made, "status": "failure", "failure_reason": "execution_failed", "capabilities": [],
                "create_time_ms": now_ms(), "metadata": {}, "state_transitions": [], "launch_parameters": parameters,
            }  # fmt: skip
            return json_answer(self.failed[made])
        return json_answer(self._view(box))

    def _any_box(self, request: Request) -> Box:
        box = self.backend.boxes.get(request.path_params["id"])
        if box is None:
            raise MissingError(request.path_params["id"])
        return box

    def _told(self, request: Request) -> dict[str, Any]:
        return self.failed.get(request.path_params["id"]) or self._view(self._any_box(request))

    async def get_devbox(self, request: Request) -> Response:
        return json_answer(self._told(request))

    async def wait_devbox(self, request: Request) -> Response:
        asked = await request.json()
        until = time.monotonic() + min(float(asked.get("timeout_seconds") or 10), _LONGEST_WAIT_SEC)
        while self._told(request)["status"] not in asked["statuses"]:
            if time.monotonic() >= until:
                return json_answer({"message": "timed out waiting for the status"}, 408)
            await asyncio.sleep(0.05)
        return json_answer(self._told(request))

    async def shutdown(self, request: Request) -> Response:
        box = self._any_box(request)
        box.values.setdefault("reason", "api_shutdown")
        await self.backend.stop(box)
        return json_answer(self._view(box))

    async def execute(self, request: Request) -> Response:
        asked = await request.json()
        box = self.backend.box(request.path_params["id"])
        run = _Execution(f"exec_{secrets.token_hex(8)}", box)
        self.executions[run.id] = run
        run.task = box.spawn(self._execute(run, asked["command"]))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.done.wait(), float(asked.get("optimistic_timeout") or 0.5))
        return json_answer(run.view())

    async def _execute(self, run: _Execution, command: str) -> None:
        user = (run.box.values["launch_parameters"].get("user_parameters") or {}).get("username", "root")
        try:
            done = await run.box.sandbox.exec(command, user=user)
            run.stdout, run.stderr, run.code = done.stdout, done.stderr, done.return_code
        except SandboxError as error:
            run.stderr, run.code = str(error).encode(), 1
        finally:
            run.done.set()

    def _execution(self, request: Request) -> _Execution:
        run = self.executions.get(request.path_params["eid"])
        box = self._any_box(request)
        if box.ended:
            raise BadInputError(f"Devbox {box.id} is shutdown")
        if run is None or run.box.id != box.id:
            raise MissingError(request.path_params["eid"])
        return run

    async def get_execution(self, request: Request) -> Response:
        return json_answer(self._execution(request).view())

    async def wait_execution(self, request: Request) -> Response:
        asked = await request.json()
        run = self._execution(request)
        try:
            await asyncio.wait_for(run.done.wait(), min(float(asked.get("timeout_seconds") or 10), _LONGEST_WAIT_SEC))
        except TimeoutError:
            return json_answer({"message": "timed out waiting for the status"}, 408)
        return json_answer(self._execution(request).view())

    async def kill_execution(self, request: Request) -> Response:
        run = self._execution(request)
        if run.task is not None and not run.done.is_set():
            run.code = 137
            run.task.cancel()
            await run.done.wait()
        return json_answer(run.view())

    async def stream_stdout(self, request: Request) -> Response:
        return self._stream(self._execution(request), "stdout", request)

    async def stream_stderr(self, request: Request) -> Response:
        return self._stream(self._execution(request), "stderr", request)

    @staticmethod
    def _stream(run: _Execution, name: str, request: Request) -> Response:
        offset = int(request.query_params.get("offset") or 0)

        async def events() -> AsyncIterator[str]:
            await run.done.wait()
            text = getattr(run, name).decode(errors="replace")
            for start in range(offset, len(text), 65536):
                yield f"data: {json.dumps({'output': text[start : start + 65536], 'offset': start})}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def upload_file(self, request: Request) -> Response:
        box = self.backend.box(request.path_params["id"])
        async with request.form() as form:
            await store(box.sandbox, str(form["path"]), form["file"].file)  # type: ignore[union-attr]  # a text there is a bad call
        return json_answer({})

    async def download_file(self, request: Request) -> Response:
        box = self.backend.box(request.path_params["id"])
        return Response(
            await box.sandbox.read_file((await request.json())["path"]), media_type="application/octet-stream"
        )
