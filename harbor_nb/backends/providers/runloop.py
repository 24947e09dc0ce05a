"""Runloop, through the SDK `runloop-api-client`."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from runloop_api_client import AsyncRunloop

from harbor_nb.backends.findings import SDK_LIMIT_SEC, Found


def _client() -> AsyncRunloop:
    return AsyncRunloop(max_retries=0, timeout=SDK_LIMIT_SEC)


async def ping() -> None:
    """List at most one devbox."""
    async with _client() as client:
        page = await client.devboxes.list(limit=1)
        if not isinstance(page.devboxes, list):  # the SDK itself takes any answer
            raise ValueError("no list of devboxes")


async def sandboxes() -> AsyncIterator[Found]:
    """List running devboxes whose blueprint has a name as Harbor gives it; Harbor sets no mark of its own."""
    names: dict[str, str] = {}
    async with _client() as client:
        async for box in client.devboxes.list(limit=100, status="running"):
            if box.blueprint_id and box.blueprint_id not in names:
                names[box.blueprint_id] = (await client.blueprints.retrieve(box.blueprint_id)).name
            blueprint = re.fullmatch(r"harbor_(.+)_blueprint", names.get(box.blueprint_id or "", ""))
            if blueprint:
                created = datetime.fromtimestamp(box.create_time_ms / 1000, UTC).isoformat()
                why = "possible: its blueprint has Harbor's name, as one that you made from it would"
                yield Found("runloop", box.id, blueprint[1], "", box.status, created, why)


async def terminate(sandbox_id: str) -> None:
    """Shut one down."""
    async with _client() as client:
        await client.devboxes.shutdown(sandbox_id)
