"""A vendor's practice cloud, run in a thread of its own on a random loopback port."""

import asyncio
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn

from harbor_nb.practice_clouds.backend import Backend
from harbor_nb.practice_clouds.description import Practice
from harbor_nb.practice_clouds.http import Protocol11, application

# What any of the four SDKs reads; none of it may stay when a practice cloud is on.
PREFIXES = ("DAYTONA_", "E2B_", "MODAL_", "RUNLOOP_")


class PracticeServer:
    """Started by `start`; lives until `close`, or as long as the process."""

    def __init__(self, vendor: str, practice: Practice) -> None:
        self.vendor, self.practice = vendor, practice
        self.environ: dict[str, str] = {}
        self.backend = Backend(vendor, practice.faults(vendor), practice.seed)
        self.bundle: Path | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name=f"practice-{vendor}", daemon=True)

    def start(self) -> "PracticeServer":
        """Start it and wait until it answers."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def close(self) -> None:
        """End it with every sandbox it has."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def apply(self) -> None:
        """Point this process's SDK at the practice cloud, and take every real key of the four from its environment."""
        for name in [name for name in os.environ if name.startswith(PREFIXES)]:
            del os.environ[name]
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
        os.environ.update(self.environ)
        if self.bundle is not None:
            from harbor_nb.practice_clouds.tls import trust

            trust(self.bundle)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the thread that started it
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            run = _SERVERS[self.vendor]
            await run(self)
        finally:
            await self.backend.close()

    async def until_closed(self, environ: dict[str, str]) -> None:
        """Say that it answers, and wait for `close`."""
        self.environ = environ
        self._ready.set()
        assert self._stop is not None
        await self._stop.wait()


async def serve_http(app: Any, listener: socket.socket, **options: Any) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    """Serve an app on a socket that listens already."""
    config = uvicorn.Config(
        app, http=Protocol11, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=1, timeout_keep_alive=120, **options,
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of each websocket that it declines
    server = uvicorn.Server(config)
    return server, asyncio.create_task(server.serve(sockets=[listener]))


def loopback() -> tuple[socket.socket, int]:
    """Listen on a random port of 127.0.0.1."""
    # The protocol is named so that asyncio turns Nagle's wait off: 40 ms a call.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    return listener, listener.getsockname()[1]


async def _rest(server: PracticeServer) -> None:
    from importlib import import_module

    vendor = import_module(f"harbor_nb.practice_clouds.{server.vendor}").Cloud(server.backend)
    listener, port = loopback()
    running, task = await serve_http(application(vendor, server.vendor), listener)
    try:
        await server.until_closed(vendor.environ(f"http://127.0.0.1:{port}"))
    finally:
        running.should_exit = True
        await task


async def _daytona(server: PracticeServer) -> None:
    from harbor_nb.practice_clouds.daytona import Cloud
    from harbor_nb.practice_clouds.daytona_s3 import Storage
    from harbor_nb.practice_clouds.tls import make_certificate

    made = make_certificate(server.backend.folder)
    storage = Storage(server.backend)
    (listener, port), (store_listener, store_port) = loopback(), loopback()
    cloud = Cloud(server.backend, storage, f"https://127.0.0.1:{store_port}")
    running = [
        await serve_http(application(cloud, "daytona"), listener),
        await serve_http(
            application(storage, "daytona storage"), store_listener, ssl_certfile=made.chain, ssl_keyfile=made.key
        ),
    ]
    server.bundle = made.bundle
    try:
        await server.until_closed(cloud.environ(f"http://127.0.0.1:{port}"))
    finally:
        for one, _task in running:
            one.should_exit = True
        await asyncio.gather(*(task for _one, task in running))


async def _modal(server: PracticeServer) -> None:
    from harbor_nb.practice_clouds.modal import Cloud
    from harbor_nb.practice_clouds.modal_images import Blobs

    cloud = Cloud(server.backend)
    blobs = Blobs(cloud.images)
    (listener, port), (blob_listener, blob_port) = loopback(), loopback()
    blobs.environ(f"http://127.0.0.1:{blob_port}")
    running, task = await serve_http(application(blobs, "modal blobs"), blob_listener)
    served = cloud.server()
    await served.start(sock=listener)
    try:
        await server.until_closed(cloud.environ(f"http://127.0.0.1:{port}"))
    finally:
        running.should_exit = True
        served.close()
        await server.backend.close()  # ends the commands that calls wait for
        await task  # not for the connections: the SDK of this process keeps its own open


_SERVERS: dict[str, Any] = {"daytona": _daytona, "e2b": _rest, "modal": _modal, "runloop": _rest}
