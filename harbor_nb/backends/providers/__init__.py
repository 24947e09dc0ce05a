"""The vendors, one module each: ping, sandboxes, terminate. They run in a child process that can be ended.

A vendor's SDK may retry for a minute, keep a refused key for the life of its process, or take seconds to import;
none of that reaches the kernel.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from harbor_nb._display import clean
from harbor_nb.backends.catalog import record
from harbor_nb.backends.child import ask_child
from harbor_nb.backends.findings import LIMIT_SEC, Finding, finding
from harbor_nb.backends.keys import where_from
from harbor_nb.backends.providers.base import Found
from harbor_nb.credentials._known import known
from harbor_nb.errors import ProviderError

NAMES = ("docker", "daytona", "e2b", "modal", "runloop")
Settings = Mapping[str, str] | None


def ping(name: str, settings: Settings = None) -> list[Finding]:
    """Ask a vendor's API whether it takes the key; nothing is found when it does."""
    _, wrong = _ask(name, "ping", (), settings)
    return [wrong] if wrong else []


def sandboxes(name: str, settings: Settings = None) -> list[Found]:
    """List what Harbor left running at one provider.

    Raises:
        ProviderError: it did not answer as it should.
    """
    value, wrong = _ask(name, "sandboxes", (), settings)
    if wrong:
        raise ProviderError(wrong.reason)
    return [Found(**one) for one in value]


def terminate(name: str, ids: list[str], settings: Settings = None) -> dict[str, str]:
    """End sandboxes; give for each id `terminated`, `gone already`, or why it failed."""
    value, wrong = _ask(name, "terminate", ids, settings)
    if wrong:
        return dict.fromkeys(ids, f"failed: {wrong.reason}")
    return {one: clean(told, 300) for one, told in value.items()}


def _ask(name: str, verb: str, ids: Iterable[str], settings: Settings) -> tuple[Any, Finding | None]:
    """Run one verb in a child process; `settings` are environment variables that stand in for the vendor's own."""
    environ = dict(os.environ)
    if settings is not None:  # a real key is never sent to a stand-in
        own = {key for key, entry in known().items() if name in entry.environments}
        environ = {key: value for key, value in environ.items() if key not in own} | dict(settings)
    limit = LIMIT_SEC if verb == "ping" else 60.0
    said, _, code = ask_child("harbor_nb.backends.providers.worker", [name, verb, *ids], environ, limit)
    last = said[-1] if said else {}
    if "value" in last:
        return last["value"], None
    kind, text = last.get("kind"), last.get("text")
    if kind is None and code is not None:
        kind, text = "vendor-strange", f"its SDK ended with code {code}"
    one = record(name)
    variable, usual = one.address or ("", "")
    address = environ.get(variable) or usual
    kind = kind or ("vendor-silent" if said else "vendor-slow")
    if address and kind in ("vendor-silent", "vendor-unreachable"):
        kind = _reach(address) or kind
    where = where_from(name for group in one.credentials for name in group) or one.docs
    wrong = finding(kind, title=one.title, address=address or one.title, where=where, docs=one.docs)
    return None, Finding(wrong.level, wrong.reason + (f" ({clean(text, 200)})" if text else ""), wrong.fix)


def _reach(address: str) -> str | None:
    """Tell why an address that gave no answer did not: no such name, refused, or nothing said."""
    parts = urlsplit(address)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        with socket.create_connection((parts.hostname or "", port), timeout=0.5):
            return None
    except socket.gaierror:
        return "vendor-unknown"
    except (OSError, ValueError):
        return "vendor-unreachable"
