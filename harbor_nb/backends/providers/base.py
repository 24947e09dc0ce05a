"""What every provider offers, and how a sandbox is told of."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Found:
    """One sandbox; `session` is Harbor's `<trial>__env`, `certainty` how sure we are that it is Harbor's."""

    environment: str
    id: str
    task: str
    session: str
    state: str
    created_at: str
    certainty: str
    job: str = ""


class Provider(Protocol):
    """One vendor; every call goes through its own SDK, and raises the SDK's own errors."""

    async def ping(self) -> None:
        """Make the cheapest call that needs a valid key."""

    def sandboxes(self) -> AsyncIterator[Found]:
        """List what Harbor left."""

    async def terminate(self, sandbox_id: str) -> None:
        """End one."""
