"""The vendors, one module each: ping, sandboxes, terminate. They run in a child process that can be ended.

A vendor's SDK may retry for a minute, keep a refused key for the life of its process, or take seconds to import;
none of that reaches the kernel.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from harbor_nb._display import clean
from harbor_nb.backends.catalog import record
from harbor_nb.backends.child import ask_child
from harbor_nb.backends.providers.base import Found
from harbor_nb.backends.readiness import LIMIT_SEC, Finding
from harbor_nb.credentials._known import known, read_table
from harbor_nb.errors import ProviderError

NAMES = ("docker", "daytona", "e2b", "modal", "runloop")


def ping(name: str, settings: Mapping[str, str] | None = None) -> list[Finding]:
    """Ask a vendor's API whether it takes the key; nothing is found when it does."""
    answer = _ask(name, "ping", (), settings)
    return [] if answer["kind"] == "ok" else [_finding(name, answer, settings)]


def sandboxes(name: str, settings: Mapping[str, str] | None = None) -> list[Found]:
    """List what Harbor left running at one provider.

    Raises:
        ProviderError: it did not answer as it should.
    """
    answer = _ask(name, "sandboxes", (), settings)
    if answer["kind"] != "ok":
        raise ProviderError(_finding(name, answer, settings).reason)
    return [Found(**one) for one in answer["value"]]


def terminate(name: str, ids: list[str], settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """End sandboxes; give for each id `terminated`, `gone already`, or why it failed."""
    answer = _ask(name, "terminate", ids, settings)
    if answer["kind"] == "ok":
        return {one: clean(told, 300) for one, told in answer["value"].items()}
    return dict.fromkeys(ids, f"failed: {_finding(name, answer, settings).reason}")


def _ask(name: str, verb: str, ids: Any, settings: Mapping[str, str] | None) -> dict[str, Any]:
    """Run one verb in a child process; `settings` are environment variables that stand in for the vendor's own."""
    environ = dict(os.environ)
    if settings is not None:  # a real key is never sent to a stand-in
        own = {key for key, entry in known().items() if name in entry.environments}
        environ = {key: value for key, value in environ.items() if key not in own} | dict(settings)
    limit = LIMIT_SEC if verb == "ping" else 60.0
    said, _, code = ask_child("harbor_nb.backends.providers.worker", [name, verb, *ids], environ, limit)
    if said and "kind" in said[-1]:
        return said[-1]
    if code is not None:
        return {"kind": "strange", "text": f"its SDK ended with code {code}"}
    return {"kind": "silent" if said else "slow", "text": ""}


def _finding(name: str, answer: dict[str, Any], settings: Mapping[str, str] | None) -> Finding:
    one, kind = record(name), answer["kind"]
    address = _address(name, settings)
    if kind in ("silent", "unreachable") and address:
        kind = _reach(address) or kind
    row = next(row for row in read_table(__name__, "answers.csv") if row["kind"] == kind)
    where = next((known()[n].where for group in one.credentials for n in group if n in known()), one.docs)
    values = {"title": one.title, "address": address or one.title, "where": where, "docs": one.docs}
    detail = f" ({clean(answer['text'], 200)})" if answer.get("text") else ""
    level = "blocks" if row["level"] == "blocks" else "warns"
    return Finding(level, row["reason"].format(**values) + detail, row["fix"].format(**values))  # type: ignore[arg-type]


def _address(name: str, settings: Mapping[str, str] | None) -> str:
    variable, usual = record(name).address or ("", "")
    return (settings or {}).get(variable) or os.environ.get(variable) or usual


def _reach(address: str) -> str | None:
    """Tell why an address that gave no answer did not: no such name, refused, or nothing said."""
    parts = urlsplit(address)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        with socket.create_connection((parts.hostname or "", port), timeout=1):
            return None
    except socket.gaierror:
        return "unknown"
    except (OSError, ValueError):
        return "unreachable"
