"""What kind of failure an exception is: each distinct one is looked up once, however many trials had it."""

from importlib import import_module
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def _one(
    exception: str | None, message: str | None, phase: str | None, environment: str | None
) -> tuple[Any, Any, Any]:
    """Return failure, fault and the normalised message."""
    known_failures: Any = import_module("harbor_nb.known_failures")

    if not hasattr(known_failures, "match"):
        return None, "unknown", " ".join((message or "").split())[:300]
    found = known_failures.match(exception, message, phase=phase, environment=environment)
    fault = found.fault if found else known_failures.fault_of(exception)
    return found.name if found else None, fault, known_failures.normalise(message or "")


def columns(table: pa.Table) -> dict[str, pa.Array]:
    """Return failure, fault and message of each row; missing where nothing was raised.

    Args:
        table: With the columns reason, exception, exception_message, phase and environment.
    """
    places = pc.indices_nonzero(pc.is_valid(table["exception"]))
    raised = table.select(["exception", "exception_message", "phase", "environment"]).take(places)
    seen: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}
    rows = []
    for key in zip(*(column.to_pylist() for column in raised.columns), strict=True):
        if key not in seen:
            seen[key] = _one(*key)
        rows.append(seen[key])
    result = {}
    for name, values in zip(
        ("failure", "fault", "message"), zip(*rows, strict=True) if rows else ((), (), ()), strict=True
    ):
        spread = pa.nulls(len(table), pa.large_string())
        mask = pc.is_valid(table["exception"]).combine_chunks()
        result[name] = pc.replace_with_mask(spread, mask, pa.array(values, pa.large_string())) if rows else spread
    result["message"] = pc.coalesce(table["reason"], result["message"])
    return result
