"""Are the keys set that an environment or agent needs, and do they look like keys?"""

import os
from collections.abc import Iterable

from harbor_nb.backends.findings import Finding, Level
from harbor_nb.credentials import stored_names
from harbor_nb.credentials._known import PLACEHOLDER, known, value_doubts

Groups = tuple[tuple[str, ...], ...]


def alternatives(text: str) -> Groups:
    """Read `A | B + C`: alternatives, each a group of names that are needed together."""
    return tuple(tuple(group.split(" + ")) for group in text.split(" | ") if group)


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name, "").strip())


def missing(groups: Groups) -> tuple[str, ...]:
    """Give the names that are missing from the alternative that is nearest to complete, one begun before others."""
    lacks = {group: tuple(name for name in group if not _is_set(name)) for group in groups}
    return lacks[min(lacks, key=lambda group: (len(lacks[group]), -len(group)))] if lacks else ()


def where_from(names: Iterable[str]) -> str:
    """Give the page where the first of the names that has one is made."""
    return next((one.where for name in names if (one := known().get(name)) and one.where), "")


def key_findings(groups: Groups, level: Level, names: str = "", remark: str = "", other: str = "") -> Iterable[Finding]:
    """Tell which keys are missing or look wrong.

    Args:
        groups: alternatives.
        level: what a missing key does.
        names: how to call what is missing, other than by the nearest alternative.
        remark: what to add to the reason.
        other: what to add to the fix.
    """
    lacks = missing(groups)
    there = dict.fromkeys(name for group in groups for name in group if _is_set(name))
    if lacks:
        half = [name for name in there if any(name in group and set(lacks) < set(group) for group in groups)]
        lacking = " and ".join(lacks)
        reason = f"{' and '.join(half)} is set, but {lacking} is not" if half else f"{names or lacking} not set"
        stored, where = stored_names(), where_from(lacks)
        if all(name in stored for name in lacks):
            yield Finding(level, f"{reason}{remark}, though {stored[lacks[0]]} holds it", "type: harbor_nb.load_env()")
        else:
            lines = " and ".join(f"{name}=..." for name in lacks)
            place = f" (get it at {where})" if where else ""
            yield Finding(level, reason + remark, f"add {lines} to .env{place} and type harbor_nb.load_env(){other}")
    for name in there:
        for doubt in value_doubts(name, os.environ[name]):
            wrong: Level = level if doubt == PLACEHOLDER else "warns"
            where = where_from([name])
            yield Finding(wrong, f"{name}: {doubt}", f"set {name} anew" + (f"; get one at {where}" if where else ""))
