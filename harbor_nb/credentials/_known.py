"""The names that Harbor's environments and agents read, from `known.csv`, and what looks wrong in a value."""

import csv
import difflib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

PLACEHOLDER = "a placeholder, not a key"


@cache
def read_table(package: str, name: str) -> dict[str, dict[str, str]]:
    """Read a CSV file that a package carries; one dict a row, by what stands in its first column."""
    with (files(package) / name).open(encoding="utf-8") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


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
    return {name: Known(*row.values()) for name, row in read_table("harbor_nb.credentials", "known.csv").items()}


def value_doubts(name: str, value: str) -> list[str]:
    """Say what looks wrong in a credential's value, without a character of it."""
    kind = known()[name].kind if name in known() else "setting"
    rows = read_table("harbor_nb.credentials", "doubts.csv").items()
    applying = {doubt: row["seen"] for doubt, row in rows if row["of"] in ("any", kind)}
    return [doubt for doubt, seen in applying.items() if re.search(seen, value, re.IGNORECASE)]


def name_doubts(name: str) -> list[str]:
    """Say what looks wrong in a name: nothing reads it, or it is nearly a known one."""
    entry = known().get(name)
    if entry is not None:
        return [entry.note] if entry.kind == "trap" else []
    near = difflib.get_close_matches(name.upper(), known(), n=1, cutoff=0.88)
    return [f"nothing reads this name; did you mean {near[0]}?"] if near else []
