"""The names that Harbor's environments and agents read, from `known.csv`, and what looks wrong in a value."""

import csv
import difflib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_PLACEHOLDER = re.compile(
    r"your[-_ ].*|<.*>|\{\{.*\}\}|\.\.\.|.*\.\.\.$|x{3,}|\*{3,}|change[-_ ]?me|replace[-_ ]?me|todo|.*[-_]here"
    r"|placeholder|insert[-_ ].*|paste[-_ ].*|none|null|undefined",
    re.IGNORECASE,
)
_QUOTES = "'\"`“”‘’„«»"


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


def is_placeholder(value: str) -> bool:
    """Tell whether a value is a stand-in that was never replaced."""
    return _PLACEHOLDER.fullmatch(value.strip().strip(_QUOTES)) is not None


def value_doubts(name: str, value: str) -> list[str]:
    """Say what looks wrong in a credential's value, without a character of it."""
    if not value:
        return ["empty"]
    doubts = []
    if is_placeholder(value):
        doubts.append("a placeholder, not a key")
    if value != value.strip():
        doubts.append("white space at its start or end")
    if value.strip()[:1] in _QUOTES or value.strip()[-1:] in _QUOTES:
        doubts.append("a quote is part of the value")
    entry = known().get(name)
    if entry is not None and entry.kind == "secret":
        if re.search(r"\s", value.strip()):
            doubts.append("white space inside")
        if not value.isascii() or not value.strip().isprintable():
            doubts.append("characters that no key has (a copy from a web page?)")
        if value[-1] in ";,":
            doubts.append("ends with a comma or semicolon")
    return doubts


def name_doubts(name: str) -> list[str]:
    """Say what looks wrong in a name: nothing reads it, or it is nearly a known one."""
    entry = known().get(name)
    if entry is not None:
        return [entry.note] if entry.kind == "trap" else []
    near = difflib.get_close_matches(name.upper(), known(), n=1, cutoff=0.88)
    return [f"nothing reads this name; did you mean {near[0]}?"] if near else []
