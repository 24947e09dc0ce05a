"""A small vendor of the tests' own, on loopback: it answers as told, or not at all."""

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "practice-key-0123456789abcdef"
SETTINGS = {
    "daytona": {"DAYTONA_API_URL": "{url}/api", "DAYTONA_API_KEY": KEY},
    "e2b": {"E2B_API_URL": "{url}", "E2B_SANDBOX_URL": "{url}", "E2B_API_KEY": f"e2b_{'0123456789abcdef' * 2}"},
    "modal": {"MODAL_SERVER_URL": "{url}", "MODAL_TOKEN_ID": "ak-0123456789", "MODAL_TOKEN_SECRET": "as-0123456789"},
    "runloop": {"RUNLOOP_BASE_URL": "{url}", "RUNLOOP_API_KEY": KEY},
}
STATUS = {"401": 16, "403": 7, "429": 8, "500": 13}  # gRPC's own codes


@dataclass
class Vendor:
    """Where the server is, what it holds, and what it was asked."""

    name: str
    url: str
    boxes: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    headers: str = ""

    @property
    def settings(self) -> dict[str, str]:
        return {name: value.format(url=self.url) for name, value in SETTINGS[self.name].items()}


@contextlib.contextmanager
def vendor(name: str, mode: str = "ok", boxes: list[dict[str, Any]] | None = None) -> Iterator[Vendor]:
    """Serve one vendor: ok, a status code, garbage, silent, or refused (nobody listens)."""
    made = Vendor(name, "", boxes or [])
    if mode == "refused":
        with _port() as port:
            made.url = f"http://127.0.0.1:{port}"
        yield made
    elif mode in ("silent", "garbage"):
        with _raw(b"" if mode == "silent" else b"\x00\x13garbage\r\n\r\n") as port:
            made.url = f"http://127.0.0.1:{port}"
            yield made
    elif name == "modal":
        with _modal(made, mode) as port:
            made.url = f"http://127.0.0.1:{port}"
            yield made
    else:
        handler = type("Handler", (_Http,), {"vendor": made, "mode": mode})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@contextlib.contextmanager
def _port() -> Iterator[int]:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


@contextlib.contextmanager
def _loop(start) -> Iterator[Any]:
    """Run an asyncio server in a thread; `start` gives the server and its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield port
    finally:

        async def stop() -> None:
            server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _raw(answer: bytes):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if answer:
                await reader.read(100)
                writer.write(answer)
                await writer.drain()
            else:
                while await reader.read(1000):
                    pass
        writer.close()

    async def start():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return server, server.sockets[0].getsockname()[1]

    return _loop(start)


class _Http(BaseHTTPRequestHandler):
    vendor: Vendor
    mode: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, code: int, body: Any = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _serve(self) -> None:
        vendor, path = self.vendor, self.path.split("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        given = self.headers.get("X-API-KEY") or (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        vendor.asked.append(f"{self.command} {path}")
        vendor.headers += str(self.headers)
        if self.mode.isdigit():
            return self._answer(int(self.mode), {"message": "no", "code": int(self.mode)})
        if self.mode == "page":
            return self._answer(200, "<html>welcome to the hotel's network</html>")
        if given not in vendor.settings.values():
            return self._answer(401, {"message": "bad key", "code": 401})
        return getattr(self, f"_{vendor.name}")(path)

    do_GET = do_POST = do_DELETE = _serve

    def _daytona(self, path: str) -> None:
        boxes = self.vendor.boxes
        if path == "/api/sandbox":
            if "cursor=" in self.path:
                return self._answer(200, {"items": boxes[1:], "nextCursor": None})
            return self._answer(200, {"items": boxes[:1], "nextCursor": "more" if boxes[1:] else None})
        box = next((one for one in boxes if path == f"/api/sandbox/{one['id']}"), None)
        if box is None:
            return self._answer(404, {"message": "not found", "statusCode": 404})
        if self.command == "DELETE":
            boxes.remove(box)
        return self._answer(200, box)

    def _e2b(self, path: str) -> None:
        boxes = self.vendor.boxes
        if path == "/v2/sandboxes":
            return self._answer(200, boxes)
        box = next((one for one in boxes if path == f"/sandboxes/{one['sandboxID']}"), None)
        if box is None:
            return self._answer(404, {"message": "not found", "code": 404})
        boxes.remove(box)
        return self._answer(204)

    def _runloop(self, path: str) -> None:
        boxes = self.vendor.boxes
        if path == "/v1/devboxes":
            return self._answer(200, {"devboxes": boxes, "has_more": False})
        if path.startswith("/v1/blueprints/"):
            ident = path.rsplit("/", 1)[1]
            blueprint = {"id": ident, "name": ident, "create_time_ms": 0, "parameters": {}, "state": "created"}
            return self._answer(200, blueprint | {"status": "build_complete"})
        box = next((one for one in boxes if path == f"/v1/devboxes/{one['id']}/shutdown"), None)
        if box is None:
            return self._answer(404, {"message": "not found"})
        boxes.remove(box)
        return self._answer(200, box | {"status": "shutdown"})


def _modal(made: Vendor, mode: str):
    from grpclib import GRPCError, Status
    from grpclib.server import Server
    from modal_proto import api_pb2
    from modal_proto.api_grpc import ModalClientBase

    async def refuse(self, stream):
        raise GRPCError(Status(STATUS.get(mode, 12)), "no")

    methods = dict.fromkeys(ModalClientBase.__abstractmethods__, refuse)

    def method(answer):
        async def serve(self, stream):
            request = await stream.recv_message()
            made.asked.append(type(request).__name__)
            if mode in STATUS:
                raise GRPCError(Status(STATUS[mode]), "no")
            if stream.metadata.get("x-modal-token-secret") != SETTINGS["modal"]["MODAL_TOKEN_SECRET"]:
                raise GRPCError(Status.UNAUTHENTICATED, "bad token")
            await stream.send_message(answer(request))

        return serve

    def listed(request):
        if request.before_timestamp:
            return api_pb2.SandboxListResponse(sandboxes=[])

        def tag(box):
            return [api_pb2.SandboxTag(tag_name=k, tag_value=v) for k, v in box["tags"].items()]

        boxes = [api_pb2.SandboxInfo(id=b["id"], created_at=b["at"], tags=tag(b)) for b in made.boxes]
        return api_pb2.SandboxListResponse(sandboxes=boxes)

    def tags(request):
        box = next(b for b in made.boxes if b["id"] == request.sandbox_id)
        return api_pb2.SandboxTagsGetResponse(
            tags=[api_pb2.SandboxTag(tag_name=k, tag_value=v) for k, v in box["tags"].items()]
        )

    def ended(request):
        before = len(made.boxes)
        made.boxes[:] = [box for box in made.boxes if box["id"] != request.sandbox_id]
        if len(made.boxes) == before:
            raise GRPCError(Status.NOT_FOUND, "no such sandbox")
        return api_pb2.SandboxTerminateResponse()

    def token(_):
        def part(data):
            return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

        return api_pb2.AuthTokenGetResponse(token=f"{part({'alg': 'none'})}.{part({'exp': 4_000_000_000})}.x")

    methods |= {
        "AuthTokenGet": method(token),
        "ClientHello": method(lambda _: api_pb2.ClientHelloResponse()),
        "AppGetOrCreate": method(lambda _: api_pb2.AppGetOrCreateResponse(app_id="ap-1")),
        "EnvironmentGetOrCreate": method(lambda _: api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1")),
        "SandboxList": method(listed),
        "SandboxListV2": method(listed),
        "SandboxTagsGet": method(tags),
        "SandboxTagsGetV2": method(tags),
        "SandboxWait": method(lambda _: api_pb2.SandboxWaitResponse()),
        "SandboxWaitV2": method(lambda _: api_pb2.SandboxWaitResponse()),
        "SandboxTerminate": method(ended),
        "SandboxTerminateV2": method(ended),
    }
    service = type("Service", (ModalClientBase,), methods)()

    async def start():
        server = Server([service])
        await server.start("127.0.0.1", 0)
        return server, server._server.sockets[0].getsockname()[1]

    return _loop(start)
