"""Modal, through the SDK `modal`."""

from typing import Any

from harbor_nb.backends.providers.base import Found


async def ping() -> None:
    """Say hello with the token."""
    import modal
    from modal.config import config

    connect: Any = modal.Client.from_credentials  # untyped in the SDK
    client = await connect.aio(config["token_id"], config["token_secret"])
    await client.hello.aio()


async def sandboxes() -> list[Found]:
    """List the sandboxes of Harbor's app that carry its tag."""
    import modal

    try:
        app = await modal.App.lookup.aio("__harbor__")
    except modal.exception.NotFoundError:
        return []
    found = []
    async for sandbox in modal.Sandbox.list.aio(app_id=app.app_id, tags={"harbor.managed": "true"}):
        tags: dict[str, Any] = await sandbox.get_tags.aio()
        state = "running" if await sandbox.poll.aio() is None else "ended"
        found.append(
            Found(
                "modal", sandbox.object_id, tags.get("harbor.environment_name", ""), tags.get("harbor.session_id", ""),
                state, "", "certain: tag harbor.managed",
            )
        )  # fmt: skip
    return found


async def terminate(sandbox_id: str) -> bool:
    """Terminate one; False if it is gone already."""
    import modal

    try:
        sandbox = await modal.Sandbox.from_id.aio(sandbox_id)
        await sandbox.terminate.aio()
    except modal.exception.NotFoundError:
        return False
    return True
