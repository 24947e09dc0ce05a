"""A vendor's REST service on loopback: who may call, how much, and what is not served."""

import logging
import re
import time
from collections.abc import Iterable
from typing import Any, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from harbor_nb._display import clean
from harbor_nb._redaction import redact
from harbor_nb.errors import BadInputError, HarborNbError
from harbor_nb.practice_clouds.backend import (
    Backend,
    MissingError,
    QuotaError,
    RateLimitError,
    RefusedBuildError,
    StartError,
)
from harbor_nb.practice_clouds.files import MOST_BYTES

log = logging.getLogger("harbor_nb.practice")
_HOST = re.compile(r"^(127\.0\.0\.1|localhost)(:\d+)?$")
_TRANSPORTS: dict[tuple[str, int], Any] = {}


class Vendor(Protocol):
    """What a vendor's module gives."""

    backend: Backend

    def routes(self) -> list[Route]:
        """Its calls."""
        ...

    def environ(self, url: str) -> dict[str, str]:
        """What points the SDK at `url`."""
        ...

    def key(self, request: Request) -> str | None:
        """The key that a call came with."""
        ...

    def open_path(self, path: str) -> bool:
        """Whether a path needs no key of the account, since its address is secret or it checks its own."""
        ...

    def failure(self, error: Exception) -> Response:
        """The vendor's own answer to a failure."""
        ...


class UnauthorizedError(Exception):
    """The key is missing or is not this run's."""


class TooLargeError(Exception):
    """More was sent than is taken."""


class NotServedError(Exception):
    """A call that our reading of the protocol does not hold."""


class Protocol11(H11Protocol):
    """HTTP/1.1 that remembers its connections, so that a lesson can cut one."""

    def connection_made(self, transport: Any) -> None:
        """Remember it."""
        super().connection_made(transport)
        if self.client is not None:
            _TRANSPORTS[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self.client is not None:
            _TRANSPORTS.pop(self.client, None)
        super().connection_lost(exc)


def cut(scope: Scope) -> None:
    """Cut the connection of a call without an answer."""
    transport = _TRANSPORTS.get(tuple(scope["client"]))
    if transport is not None:
        transport.abort()


class Guard:
    """Stands before a vendor's app: address, size, key, faults; and logs what failed."""

    def __init__(self, app: ASGIApp, vendor: Vendor, name: str) -> None:
        self.app, self.vendor, self.name = app, vendor, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] != "http":
            return
        scope["app"] = self  # so that the router raises for a path that it does not know
        request, status, began = Request(scope), 0, time.monotonic()
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST_BYTES:
                raise TooLargeError
            return message

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        where = f"{scope['method']} {clean(scope['path'])}"
        try:
            self._admit(request)
            if self.vendor.backend.drops():
                log.info("practice %s: %s: connection cut, as asked", self.name, redact(where))
                cut(scope)
                return
            await self.app(scope, limited, counted)
        except Exception as error:
            if status:
                raise
            await self.vendor.failure(_known(error, where, self.name))(scope, receive, counted)
        level = logging.INFO if status >= 400 and status != 404 else logging.DEBUG  # SDKs ask whether things exist
        log.log(
            level,
            "practice %s: %s -> %d (%.0f ms)",
            self.name,
            redact(where),
            status,
            1000 * (time.monotonic() - began),
        )

    def _admit(self, request: Request) -> None:
        if not _HOST.match(request.headers.get("host", "")):
            raise UnauthorizedError("a practice cloud answers on 127.0.0.1 only")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            raise TooLargeError
        if not self.vendor.open_path(request.url.path) and not self.vendor.backend.knows(self.vendor.key(request)):
            raise UnauthorizedError("the key is not the one that this practice cloud was started with")


_EXPECTED = (
    MissingError, RateLimitError, QuotaError, StartError, RefusedBuildError, UnauthorizedError, TooLargeError,
    NotServedError, HarborNbError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError,
)  # fmt: skip


def _known(error: Exception, where: str, name: str) -> Exception:
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        text = f"not served by the practice cloud: {where}"
        log.warning("practice %s: %s", name, redact(text))
        return NotServedError(text)
    if isinstance(error, KeyError | ValueError | TypeError | AttributeError) and not isinstance(error, HarborNbError):
        log.warning("practice %s: %s: %s", name, redact(where), redact(repr(error)))
        return BadInputError(f"not understood by the practice cloud: {where}: {type(error).__name__}")
    if not isinstance(error, _EXPECTED):
        log.exception("practice %s: %s failed", name, redact(where))
    return error


def application(vendor: Vendor, name: str, more: Iterable[Route] = ()) -> ASGIApp:
    """Make the guarded app of a vendor."""
    return Guard(Router([*vendor.routes(), *more], redirect_slashes=False), vendor, name)


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return JSONResponse(value, status, headers)


async def save_body(request: Request, target: Any) -> int:
    """Write a call's body to a file as it comes.

    Returns:
        Its bytes.
    """
    size = 0
    with target.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            file.write(chunk)
    return size
