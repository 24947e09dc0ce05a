"""The names that Harbor's environments and agents read, from `known.csv`, and what looks wrong in a value."""

import csv
import difflib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

PLACEHOLDER = "a placeholder, not a key"


def read_table(package: str, name: str) -> list[dict[str, str]]:
    """Read a CSV file that a package carries; one dict a row."""
    with (files(package) / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Known(NamedTuple):
    """One known name; `kind` is secret, setting, or trap (a name that nothing reads)."""

    name: str
    kind: str
    for_environments: str
    for_agents: str
    where: str
    example: str
    note: str

    @property
    def environments(self) -> list[str]:
        """The environments that read it."""
        return self.for_environments.split()

    @property
    def used_by(self) -> str:
        """The environments and agents that read it."""
        return ", ".join([*self.environments, *self.for_agents.split()])


@cache
def known() -> dict[str, Known]:
    """Give the table by name."""
    return {row["name"]: Known(*row.values()) for row in read_table("harbor_nb.credentials", "known.csv")}


@cache
def _doubts() -> list[dict[str, str]]:
    return read_table("harbor_nb.credentials", "doubts.csv")


def value_doubts(name: str, value: str) -> list[str]:
    """Say what looks wrong in a credential's value, without a character of it."""
    kind = known()[name].kind if name in known() else "setting"
    rows = (row for row in _doubts() if row["of"] in ("any", kind))
    return [row["doubt"] for row in rows if re.search(row["seen"], value, re.IGNORECASE)]


def name_doubts(name: str) -> list[str]:
    """Say what looks wrong in a name: nothing reads it, or it is nearly a known one."""
    entry = known().get(name)
    if entry is not None:
        return [entry.note] if entry.kind == "trap" else []
    near = difflib.get_close_matches(name.upper(), known(), n=1, cutoff=0.88)
    return [f"nothing reads this name; did you mean {near[0]}?"] if near else []
