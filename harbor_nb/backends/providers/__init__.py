"""The vendors, one module each with the same verbs: ping (the cheapest call that needs a key), sandboxes, terminate.

They run in a child process that can be ended.

A vendor's SDK may retry for a minute, keep a refused key for the life of its process, or take seconds to import;
none of that reaches the kernel.
"""

import os
import socket
import threading
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
    if "kind" not in last and code is not None:
        last = {"kind": "vendor-strange", "text": f"its SDK ended with code {code}"}
    kind = last.get("kind") or ("vendor-silent" if said else "vendor-slow")
    return None, _wrong(name, kind, last.get("text"), environ)


def _wrong(name: str, kind: str, text: str | None, environ: Mapping[str, str]) -> Finding:
    one = record(name)
    variable, usual = one.address or ("", "")
    address = environ.get(variable) or usual
    if address and kind in ("vendor-silent", "vendor-unreachable"):
        kind = _reach(address) or kind
    where = where_from(name for group in one.credentials for name in group) or one.docs
    wrong = finding(kind, title=one.title, address=address or one.title, where=where, docs=one.docs)
    return Finding(wrong.level, wrong.reason + (f" ({clean(text, 200)})" if text else ""), wrong.fix)


def _reach(address: str) -> str:
    """Tell why an address that gave no answer did not: no such name, refused, or (nothing) it takes connections."""
    told = ["vendor-unknown"]  # a name server that does not answer holds the thread for longer than there is
    asking = threading.Thread(target=lambda: told.append(_connect(address)), daemon=True)
    asking.start()
    asking.join(0.7)
    return told[-1]


def _connect(address: str) -> str:
    parts = urlsplit(address)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        with socket.create_connection((parts.hostname or "", port), timeout=0.5):
            return ""
    except socket.gaierror:
        return "vendor-unknown"
    except (OSError, ValueError):
        return "vendor-unreachable"
