"""gRPC for Modal: every call of the SDK's own stubs, ours served, the others refused by name."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.stream import recv_message

from harbor_nb._display import clean
from harbor_nb._redaction import redact
from harbor_nb.errors import BadInputError, SandboxError
from harbor_nb.practice_clouds.backend import Backend, MissingError, QuotaError, RateLimitError, StartError

log = logging.getLogger("harbor_nb.practice")
_MOST_BYTES = 16 * 2**20  # of one message; the SDK sends at most 4 MiB

Call = Callable[[Any], Awaitable[Any]]


def status(error: Exception, backend: Backend) -> GRPCError:
    """Modal's own answer to a failure."""
    match error:
        case GRPCError():
            return error
        case MissingError() | FileNotFoundError():
            return GRPCError(Status.NOT_FOUND, f"{error} not found")
        case RateLimitError():
            return GRPCError(Status.RESOURCE_EXHAUSTED, "Sandbox creation rate limit exceeded")
        case QuotaError():
            limit = backend.faults.quota
            return GRPCError(Status.RESOURCE_EXHAUSTED, f"Workspace limit of {limit} concurrent sandboxes reached")
        case StartError():
            return GRPCError(Status.INTERNAL, "Sandbox failed to start: no worker available")
        case BadInputError() | ValueError():
            return GRPCError(Status.INVALID_ARGUMENT, str(error))
        case SandboxError():
            return GRPCError(Status.INTERNAL, str(error))
    log.error("practice modal: %s", redact(repr(error)))
    return GRPCError(Status.INTERNAL, "Internal server error")


async def receive(stream: Any) -> Any:
    """Take one message, unless it says that it is too large."""
    raw = stream._stream
    taken: Callable[[int], Awaitable[bytes]] = raw.recv_data

    async def limited(size: int) -> bytes:
        if size > _MOST_BYTES:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"message larger than max ({size} vs. {_MOST_BYTES})")
        return await taken(size)

    class Limited:
        recv_data = staticmethod(limited)

    some: Any = Limited()
    return await recv_message(some, ProtoCodec(), stream._recv_type)


def unary(backend: Backend) -> Callable[[Call], Callable[[Any], Awaitable[None]]]:
    """Make a handler of a function from request to response."""

    def make(call: Call) -> Callable[[Any], Awaitable[None]]:
        async def handler(stream: Any) -> None:
            request = await receive(stream)
            if request is None:
                raise GRPCError(Status.INVALID_ARGUMENT, "no request")
            try:
                response = await call(request)
            except Exception as error:  # noqa: BLE001 - answered as the vendor does
                raise status(error, backend) from None
            await stream.send_message(response)

        return handler

    return make


def service(base: Any, handlers: dict[str, Callable[[Any], Awaitable[None]]]) -> Any:
    """Make a service of the SDK's abstract one: what has no handler is refused by its name."""

    def refuse(name: str) -> Callable[..., Awaitable[None]]:
        async def refused(_self: Any, stream: Any) -> None:
            text = f"not served by the practice cloud: POST {base.__name__.removesuffix('Base')}/{name}"
            log.warning("practice modal: %s", text)
            raise GRPCError(Status.UNIMPLEMENTED, text)

        return refused

    def give(name: str) -> Callable[..., Awaitable[None]]:
        async def given(_self: Any, stream: Any) -> None:
            await handlers[name](stream)

        return given

    names: list[str] = list(base.__abstractmethods__)
    methods = {name: give(name) if name in handlers else refuse(name) for name in names}
    return type(base.__name__.removesuffix("Base"), (base,), methods)()


class Gate:
    """Stands before every call: key, and cut connections."""

    def __init__(self, backend: Backend, token_id: str, jwt: str) -> None:
        self.backend, self.token_id, self.jwt = backend, token_id, jwt

    async def __call__(self, event: Any) -> None:
        """Let a call through, or put a refusal in its place."""
        given, where = event.metadata, clean(event.method_name)
        if "TaskCommandRouter" in event.method_name:
            right = given.get("authorization") == f"Bearer {self.jwt}"
            self.backend.foreign_keys += not right
        else:
            right = self.backend.knows(given.get("x-modal-token-secret"))
            right = right and given.get("x-modal-token-id") == self.token_id
        if not right:
            text = "Token validation failed. Token ID or secret is invalid."
            event.method_func = _raiser(GRPCError(Status.UNAUTHENTICATED, text), where)
        elif self.backend.drops():
            log.info("practice modal: %s: connection cut, as asked", redact(where))
            event.method_func = _cut


def _raiser(error: GRPCError, where: str) -> Callable[[Any], Awaitable[None]]:
    async def refuse(_stream: Any) -> None:
        log.info("practice modal: %s -> %s", redact(where), error.status.name)
        raise error

    return refuse


async def _cut(stream: Any) -> None:
    transport = stream._stream._transport
    transport.abort()
