"""What a look at an environment or agent can find, from `findings.csv`, and the readiness made of it."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from harbor_nb._display import Shown, clean, render
from harbor_nb.credentials._known import read_table

Level = Literal["blocks", "warns"]
LIMIT_SEC = 9.0  # with what is done before and after, no answer takes longer than 10 s
SDK_LIMIT_SEC = 8


@dataclass(frozen=True)
class Finding:
    """One thing that was found: certain to block, or a doubt that warns."""

    level: Level
    reason: str
    fix: str


def _table() -> dict[str, dict[str, str]]:
    return read_table("harbor_nb.backends", "findings.csv")


def finding(kind: str, **values: Any) -> Finding:
    """Make the finding of a row of the table."""
    row = _table()[kind]
    level: Level = "blocks" if row["level"] == "blocks" else "warns"
    return Finding(level, row["reason"].format(**values), row["fix"].format(**values))


def recognise(about: str, text: str) -> str | None:
    """Give the first kind that begins with `about` and whose pattern is seen in `text`."""
    kinds = {kind: row["seen"] for kind, row in _table().items() if kind.startswith(about) and row["seen"]}
    return next((kind for kind, seen in kinds.items() if re.search(seen, text, re.IGNORECASE)), None)


@dataclass(frozen=True)
class Readiness(Shown):
    """Whether an environment or agent can run here; reads as a sentence, and is true when it can."""

    name: str
    findings: tuple[Finding, ...] = ()
    live: bool = False  # the vendor was asked

    def __post_init__(self) -> None:
        ordered = sorted(self.findings, key=lambda finding: finding.level)  # 'blocks' before 'warns'
        safe = tuple(Finding(one.level, clean(one.reason, 600), clean(one.fix, 600)) for one in ordered)
        object.__setattr__(self, "findings", safe)

    @property
    def ready(self) -> bool:
        """True when nothing certain stands in the way."""
        return not any(finding.level == "blocks" for finding in self.findings)

    @property
    def reason(self) -> str:
        """Why not, or the first doubt; empty when all is well."""
        return self.findings[0].reason if self.findings else ""

    @property
    def fix(self) -> str:
        """What mends it."""
        return self.findings[0].fix if self.findings else ""

    def __bool__(self) -> bool:
        return self.ready

    def __str__(self) -> str:
        told = ". Also: ".join(f"{one.reason}; {one.fix}" for one in self.findings)
        if not self.ready:
            return f"{self.name} is not ready: {told}"
        return f"{self.name} looks ready, but: {told}" if told else f"{self.name} is ready"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render("readiness", readiness=self)


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
