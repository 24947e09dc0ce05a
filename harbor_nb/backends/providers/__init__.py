"""The vendors, one module each with the same verbs: ping (the cheapest call that needs a key), sandboxes, terminate.

They run in a child process that can be ended.

A vendor's SDK may retry for a minute, keep a refused key for the life of its process, or take seconds to import;
none of that reaches the kernel.
"""

import asyncio
import importlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from harbor_nb._display import clean
from harbor_nb.backends.catalog import record
from harbor_nb.backends.child import ask_child
from harbor_nb.backends.findings import LIMIT_SEC, Finding, Found, finding, recognise
from harbor_nb.backends.keys import where_from
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
    said, _, code = ask_child(__name__, [name, verb, *ids], environ, limit)
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
    told = ["vendor-unknown"]

    def connect() -> None:
        parts = urlsplit(address)
        try:
            port = parts.port or (80 if parts.scheme == "http" else 443)
            with socket.create_connection((parts.hostname or "", port), timeout=0.5):
                told.append("")
        except (OSError, ValueError) as error:
            told.append("vendor-unknown" if isinstance(error, socket.gaierror) else "vendor-unreachable")

    asking = threading.Thread(target=connect, daemon=True)
    asking.start()
    asking.join(0.7)  # a name server that does not answer holds the thread for longer than there is
    return told[-1]


def kind_of(error: BaseException) -> str:
    """Tell what an SDK's error means: by the status codes and names of it and of what lies beneath it."""
    chain: list[BaseException] = [error]
    while len(chain) < 10 and (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(deeper)
    codes = [str(getattr(one, name, "")) for one in chain for name in ("status_code", "status")]
    names = [kind.__name__ for one in chain for kind in type(one).__mro__]
    return recognise("vendor-", " ".join(codes + names)) or "vendor-strange"


async def _terminate(vendor: ModuleType, sandbox_id: str) -> str:
    try:
        await vendor.terminate(sandbox_id)
    except Exception as error:  # noqa: BLE001 - each id gets its own answer
        kind = kind_of(error).removeprefix("vendor-")
        return "gone already" if kind == "gone" else f"failed: {kind}, {type(error).__name__}"
    return "terminated"


async def _run(vendor: ModuleType, verb: str, ids: tuple[str, ...]) -> Any:
    if verb == "ping":
        return await vendor.ping()
    if verb == "sandboxes":
        return [asdict(one) async for one in vendor.sandboxes()]
    return {one: await _terminate(vendor, one) for one in ids}


def answers(name: str, verb: str, *ids: str) -> Iterator[dict[str, Any]]:
    """In the child: say when the SDK is there, and then what the vendor answers."""
    try:
        vendor = importlib.import_module(f"harbor_nb.backends.providers.{name}")
        yield {"asking": True}
        yield {"value": asyncio.run(_run(vendor, verb, ids))}
    except BaseException as error:  # noqa: BLE001 - whatever an SDK raises is an answer
        yield {"kind": kind_of(error), "text": type(error).__name__}
