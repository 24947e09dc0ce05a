"""What kind of failure an exception is: each distinct one is looked up once, however many trials had it."""

import pyarrow as pa
import pyarrow.compute as pc

from harbor_nb.known_failures import fault_of, match, normalise


def _one(exception: str, message: str | None, phase: str | None, environment: str | None) -> tuple[str | None, ...]:
    """Return failure, fault and the normalised message."""
    found = match(exception, message, phase=phase, environment=environment)
    return found.name if found else None, found.fault if found else fault_of(exception), normalise(message or "")


def columns(table: pa.Table) -> dict[str, pa.Array]:
    """Return failure, fault and message of each row; missing where nothing was raised.

    Args:
        table: With the columns reason, exception, exception_message, phase and environment.
    """
    places = pc.indices_nonzero(pc.is_valid(table["exception"]))
    raised = table.select(["exception", "exception_message", "phase", "environment"]).take(places)
    seen: dict[tuple[str | None, ...], tuple[str | None, ...]] = {}
    rows = []
    for key in zip(*(column.to_pylist() for column in raised.columns), strict=True):
        if key not in seen:
            seen[key] = _one(*key)
        rows.append(seen[key])
    names = ("failure", "fault", "message")
    mask = pc.is_valid(table["exception"]).combine_chunks()
    told = [pa.array(values, pa.large_string()) for values in (zip(*rows, strict=True) if rows else ([], [], []))]
    spread = pa.nulls(len(table), pa.large_string())
    result = {name: pc.replace_with_mask(spread, mask, one) for name, one in zip(names, told, strict=True)}
    result["message"] = pc.coalesce(table["reason"], result["message"])
    return result
