"""The child process that asks one vendor: `python -m harbor_nb.backends.providers.worker VENDOR VERB [ID ...]`."""

import asyncio
import importlib
import json
import os
import re
import sys
from dataclasses import asdict
from typing import Any

_KINDS = {401: "refused", 402: "unpaid", 403: "forbidden", 429: "limited"}
_NAMES = {
    "AuthError": "refused", "AuthenticationException": "refused", "PermissionDeniedError": "forbidden",
    "ResourceExhaustedError": "limited", "RateLimitException": "limited", "InternalError": "broken",
    "InternalFailure": "broken", "ServiceError": "broken",
}  # fmt: skip


def kind_of(error: BaseException) -> str:
    """Tell what an SDK's error means: by its status code, its name, or what lies beneath it."""
    chain: list[BaseException] = [error]
    while len(chain) < 10 and (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(deeper)
    for one in chain:
        code = next((c for n in ("status_code", "status") if isinstance(c := getattr(one, n, None), int)), None)
        if code in _KINDS:
            return _KINDS[code]
        if code is not None and code >= 500:
            return "broken"
        for name in (kind.__name__ for kind in type(one).__mro__):
            if name in _NAMES:
                return _NAMES[name]
    names = " ".join(f"{type(one).__module__}.{type(one).__name__}" for one in chain)
    if any(isinstance(one, TimeoutError) for one in chain) or "Timeout" in names:
        return "silent"
    if any(isinstance(one, ConnectionRefusedError | FileNotFoundError | PermissionError) for one in chain):
        return "unreachable"
    if re.search(r"Protocol|Decode|Validation|BadStatus|InvalidHeader", names):
        return "strange"
    if any(isinstance(one, OSError) for one in chain) or "Connect" in names:
        return "unreachable"
    return "strange"


async def _run(vendor: Any, verb: str, ids: list[str]) -> Any:
    if verb == "ping":
        return await vendor.ping()
    if verb == "sandboxes":
        return [asdict(one) for one in await vendor.sandboxes()]
    told = {}
    for one in ids:
        try:
            told[one] = "terminated" if await vendor.terminate(one) else "gone already"
        except Exception as error:  # noqa: BLE001 - each id gets its own answer
            told[one] = f"failed: {kind_of(error)}, {type(error).__name__}"
    return told


def main(name: str, verb: str, ids: list[str]) -> None:
    """Print a line once the SDK is there, and the answer."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an SDK prints is no answer
    sdk = {"runloop": "runloop_api_client", "daytona": "daytona_api_client_async"}.get(name, name)
    try:
        importlib.import_module(sdk)
        vendor = importlib.import_module(f"harbor_nb.backends.providers.{name}")
        answers.write('{"asking": true}\n')
        answer = {"kind": "ok", "value": asyncio.run(_run(vendor, verb, ids))}
    except BaseException as error:  # noqa: BLE001 - whatever an SDK raises is an answer
        answer = {"kind": kind_of(error), "text": type(error).__name__}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    os._exit(0)  # an SDK's threads and exit handlers keep nobody waiting


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
