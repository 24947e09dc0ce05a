"""Modal, through the SDK `modal`."""

from collections.abc import AsyncIterator
from typing import Any

import modal
from modal.config import config

from harbor_nb.backends.findings import Found


async def ping() -> None:
    """Say hello with the token."""
    connect: Any = modal.Client.from_credentials  # untyped in the SDK
    client = await connect.aio(config["token_id"], config["token_secret"])
    await client.hello.aio()


async def sandboxes() -> AsyncIterator[Found]:
    """List the sandboxes of Harbor's app that carry its tag."""
    try:
        app = await modal.App.lookup.aio("__harbor__")
    except modal.exception.NotFoundError:
        return
    async for box in modal.Sandbox.list.aio(app_id=app.app_id, tags={"harbor.managed": "true"}):
        tags: dict[str, Any] = await box.get_tags.aio()
        task, session = tags.get("harbor.environment_name", ""), tags.get("harbor.session_id", "")
        state = "running" if await box.poll.aio() is None else "ended"
        yield Found("modal", box.object_id, task, session, state, "", "certain: tag harbor.managed")


async def terminate(sandbox_id: str) -> None:
    """Terminate one."""
    sandbox = await modal.Sandbox.from_id.aio(sandbox_id)
    await sandbox.terminate.aio()
