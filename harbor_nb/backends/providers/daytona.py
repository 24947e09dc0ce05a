"""Daytona, through the SDK's own API client `daytona_api_client_async`: it loads in a quarter of the SDK's time."""

import json
import os
from typing import Any

from harbor_nb.backends.catalog import record
from harbor_nb.backends.providers.base import Found, text_of

_LIMIT_SEC = 8


def _client() -> Any:
    from daytona_api_client_async import ApiClient, Configuration

    variable, usual = record("daytona").address
    client = ApiClient(Configuration(host=os.environ.get(variable) or usual))
    key, organization = os.environ.get("DAYTONA_API_KEY"), os.environ.get("DAYTONA_ORGANIZATION_ID")
    client.default_headers["Authorization"] = f"Bearer {key or os.environ.get('DAYTONA_JWT_TOKEN', '')}"
    if not key and organization:
        client.default_headers["X-Daytona-Organization-ID"] = organization
    return client


async def ping() -> None:
    """List at most one sandbox."""
    from daytona_api_client_async import SandboxApi

    async with _client() as client:
        await SandboxApi(client).list_sandboxes(limit=1, _request_timeout=_LIMIT_SEC)


async def sandboxes() -> list[Found]:
    """List the sandboxes that carry Harbor's label."""
    from daytona_api_client_async import SandboxApi

    found: list[Found] = []
    cursor: str | None = None
    async with _client() as client:
        while True:
            page = await SandboxApi(client).list_sandboxes(
                labels=json.dumps({"harbor.managed": "true"}), cursor=cursor, _request_timeout=_LIMIT_SEC
            )
            for sandbox in page.items:
                labels = sandbox.labels or {}
                found.append(
                    Found(
                        "daytona", sandbox.id, labels.get("harbor.environment_name", ""),
                        labels.get("harbor.session_id", ""), text_of(sandbox.state), text_of(sandbox.created_at),
                        "certain: label harbor.managed",
                    )
                )  # fmt: skip
            cursor = page.next_cursor or None
            if cursor is None:
                return found


async def terminate(sandbox_id: str) -> bool:
    """Delete one; False if it is gone already."""
    from daytona_api_client_async import SandboxApi
    from daytona_api_client_async.exceptions import NotFoundException

    async with _client() as client:
        try:
            await SandboxApi(client).delete_sandbox(sandbox_id, _request_timeout=_LIMIT_SEC)
        except NotFoundException:
            return False
    return True
