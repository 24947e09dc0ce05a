"""Runloop, through the SDK `runloop-api-client`."""

import re
from datetime import UTC, datetime

from harbor_nb.backends.providers.base import Found, text_of


async def ping() -> None:
    """List at most one devbox."""
    from runloop_api_client import AsyncRunloop

    async with AsyncRunloop(max_retries=0, timeout=8) as client:
        page = await client.devboxes.list(limit=1)
        if not isinstance(page.devboxes, list):  # the SDK itself takes any answer
            raise ValueError("no list of devboxes")


async def sandboxes() -> list[Found]:
    """List running devboxes whose blueprint has a name as Harbor gives it; Harbor sets no mark of its own."""
    from runloop_api_client import AsyncRunloop

    found = []
    async with AsyncRunloop(max_retries=0, timeout=8) as client:
        names: dict[str, str] = {}
        async for box in client.devboxes.list(limit=100, status="running"):
            if box.blueprint_id and box.blueprint_id not in names:
                names[box.blueprint_id] = (await client.blueprints.retrieve(box.blueprint_id)).name
            blueprint = re.fullmatch(r"harbor_(.+)_blueprint", names.get(box.blueprint_id or "", ""))
            if blueprint:
                created = datetime.fromtimestamp(box.create_time_ms / 1000, UTC).isoformat()
                found.append(
                    Found(
                        "runloop", box.id, blueprint[1], "", text_of(box.status), created,
                        "possible: its blueprint has Harbor's name, as one that you made from it would",
                    )
                )  # fmt: skip
    return found


async def terminate(sandbox_id: str) -> bool:
    """Shut one down; False if it is gone already."""
    from runloop_api_client import AsyncRunloop, NotFoundError

    async with AsyncRunloop(max_retries=0, timeout=8) as client:
        try:
            await client.devboxes.shutdown(sandbox_id)
        except NotFoundError:
            return False
    return True
