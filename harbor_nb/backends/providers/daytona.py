"""Daytona, through the SDK's own API client `daytona_api_client_async`: it loads in a quarter of the SDK's time."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daytona_api_client_async import ApiClient, Configuration, SandboxApi

from harbor_nb.backends.catalog import record
from harbor_nb.backends.findings import SDK_LIMIT_SEC, Found


@asynccontextmanager
async def _api() -> AsyncIterator[SandboxApi]:
    variable, usual = record("daytona").address
    key, organization = os.environ.get("DAYTONA_API_KEY"), os.environ.get("DAYTONA_ORGANIZATION_ID")
    async with ApiClient(Configuration(host=os.environ.get(variable) or usual)) as client:
        client.default_headers["Authorization"] = f"Bearer {key or os.environ.get('DAYTONA_JWT_TOKEN', '')}"
        if not key and organization:
            client.default_headers["X-Daytona-Organization-ID"] = organization
        yield SandboxApi(client)


async def ping() -> None:
    """List at most one sandbox."""
    async with _api() as api:
        await api.list_sandboxes(limit=1, _request_timeout=SDK_LIMIT_SEC)


async def sandboxes() -> AsyncIterator[Found]:
    """List the sandboxes that carry Harbor's label."""
    wanted, cursor = json.dumps({"harbor.managed": "true"}), None
    async with _api() as api:
        while True:
            page = await api.list_sandboxes(labels=wanted, cursor=cursor, _request_timeout=SDK_LIMIT_SEC)
            for box in page.items:
                task = box.labels.get("harbor.environment_name", "")
                session = box.labels.get("harbor.session_id", "")
                why = "certain: label harbor.managed"
                yield Found("daytona", box.id, task, session, box.state or "", box.created_at or "", why)
            cursor = page.next_cursor
            if not cursor:
                return


async def terminate(sandbox_id: str) -> None:
    """Delete one."""
    async with _api() as api:
        await api.delete_sandbox(sandbox_id, _request_timeout=SDK_LIMIT_SEC)
