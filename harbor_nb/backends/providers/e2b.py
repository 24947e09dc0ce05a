"""E2B, through the SDK `e2b`."""

from harbor_nb.backends.providers.base import Found, text_of


async def ping() -> None:
    """List at most one sandbox."""
    from e2b import AsyncSandbox

    await AsyncSandbox.list(limit=1, request_timeout=8).next_items()


async def sandboxes() -> list[Found]:
    """List the sandboxes whose metadata is as Harbor writes it; Harbor sets no mark of its own."""
    from e2b import AsyncSandbox

    found = []
    pages = AsyncSandbox.list(request_timeout=8)
    while pages.has_next:
        for sandbox in await pages.next_items():
            marks = sandbox.metadata or {}
            session = marks.get("session_id", "")
            if "environment_name" in marks and session.endswith("__env"):
                found.append(
                    Found(
                        "e2b", sandbox.sandbox_id, marks["environment_name"], session, text_of(sandbox.state),
                        text_of(sandbox.started_at), "likely: metadata environment_name and session_id",
                    )
                )  # fmt: skip
    return found


async def terminate(sandbox_id: str) -> bool:
    """Kill one; False if it is gone already."""
    from e2b import AsyncSandbox

    return await AsyncSandbox.kill(sandbox_id, request_timeout=8)
