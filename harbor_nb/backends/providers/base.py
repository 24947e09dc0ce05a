"""What every provider offers, and how its answers travel from the child process that asks."""

from dataclasses import dataclass
from typing import Any, Protocol


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

    async def sandboxes(self) -> list[Found]:
        """List what Harbor left."""

    async def terminate(self, sandbox_id: str) -> bool:
        """End one; False if it was gone already."""


def text_of(value: Any) -> str:
    """Give an SDK's enum or time as text."""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return str(getattr(value, "value", value) or "")
