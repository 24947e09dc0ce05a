"""E2B, through the SDK `e2b`."""

from collections.abc import AsyncIterator

from e2b import AsyncSandbox
from e2b.exceptions import NotFoundException

from harbor_nb.backends.findings import SDK_LIMIT_SEC, Found


async def ping() -> None:
    """List at most one sandbox."""
    await AsyncSandbox.list(limit=1, request_timeout=SDK_LIMIT_SEC).next_items()


async def sandboxes() -> AsyncIterator[Found]:
    """List the sandboxes whose metadata is as Harbor writes it; Harbor sets no mark of its own."""
    pages = AsyncSandbox.list(request_timeout=SDK_LIMIT_SEC)
    while pages.has_next:
        for box in await pages.next_items():
            task, session = box.metadata.get("environment_name"), box.metadata.get("session_id", "")
            if task is not None and session.endswith("__env"):
                why = "likely: metadata environment_name and session_id"
                yield Found("e2b", box.sandbox_id, task, session, box.state, box.started_at.isoformat(), why)


async def terminate(sandbox_id: str) -> None:
    """Kill one."""
    if not await AsyncSandbox.kill(sandbox_id, request_timeout=SDK_LIMIT_SEC):
        raise NotFoundException(sandbox_id)
