"""In the child process that asks one vendor: its answers, and what an SDK's error means."""

import asyncio
import importlib
from collections.abc import Iterator
from dataclasses import asdict
from types import ModuleType
from typing import Any

from harbor_nb.backends.findings import recognise


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
    """Say when the SDK is there, and then what the vendor answers."""
    try:
        vendor = importlib.import_module(f"harbor_nb.backends.providers.{name}")
        yield {"asking": True}
        yield {"value": asyncio.run(_run(vendor, verb, ids))}
    except BaseException as error:  # noqa: BLE001 - whatever an SDK raises is an answer
        yield {"kind": kind_of(error), "text": type(error).__name__}
