"""How a sandbox is told of."""

from dataclasses import dataclass


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
