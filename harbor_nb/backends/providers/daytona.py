"""Daytona, through the SDK `daytona`."""

import os

from harbor_nb.backends.catalog import record
from harbor_nb.backends.providers.base import Found, text_of


async def ping() -> None:
    """List at most one sandbox, through the SDK's own API client: it loads in a quarter of the SDK's time."""
    from daytona_api_client_async import ApiClient, Configuration, SandboxApi

    variable, usual = record("daytona").address
    key, organization = os.environ.get("DAYTONA_API_KEY"), os.environ.get("DAYTONA_ORGANIZATION_ID")
    async with ApiClient(Configuration(host=os.environ.get(variable) or usual)) as client:
        client.default_headers["Authorization"] = f"Bearer {key or os.environ['DAYTONA_JWT_TOKEN']}"
        if not key and organization:
            client.default_headers["X-Daytona-Organization-ID"] = organization
        await SandboxApi(client).list_sandboxes(limit=1, _request_timeout=8)


async def sandboxes() -> list[Found]:
    """List the sandboxes that carry Harbor's label."""
    from daytona import AsyncDaytona, ListSandboxesQuery

    found = []
    async with AsyncDaytona() as client:
        async for sandbox in client.list(ListSandboxesQuery(labels={"harbor.managed": "true"}), request_timeout=8):
            labels = sandbox.labels or {}
            found.append(
                Found(
                    "daytona", sandbox.id, labels.get("harbor.environment_name", ""),
                    labels.get("harbor.session_id", ""), text_of(sandbox.state), text_of(sandbox.created_at),
                    "certain: label harbor.managed",
                )
            )  # fmt: skip
    return found


async def terminate(sandbox_id: str) -> bool:
    """Delete one; False if it is gone already."""
    from daytona import AsyncDaytona, DaytonaNotFoundError

    async with AsyncDaytona() as client:
        try:
            await (await client.get(sandbox_id)).delete()
        except DaytonaNotFoundError:
            return False
    return True
