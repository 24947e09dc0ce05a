"""How a frame is declared: columns.csv, from which the DataFrames and their docs page are made."""

import csv
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from harbor_nb.errors import BadInputError
from harbor_nb.results._models import speakable
from harbor_nb.results.reading import parse_time

if TYPE_CHECKING:
    import pandas as pd

TEXT, FLOAT, INTEGER, BOOLEAN, TIME = "string", "float64", "Int64", "boolean", "datetime64[us, UTC]"
ARROW: dict[str, pa.DataType] = {
    TEXT: pa.large_string(),
    FLOAT: pa.float64(),
    INTEGER: pa.int64(),
    BOOLEAN: pa.bool_(),
    TIME: pa.timestamp("us", "UTC"),
}


class Column(NamedTuple):
    """One column of a frame: what it is called, its pandas dtype, where it comes from, what it means."""

    name: str
    dtype: str
    source: str
    meaning: str
    unit: str = ""


def _tables() -> dict[str, list[Column]]:
    tables: dict[str, list[Column]] = {}
    with files(__package__).joinpath("columns.csv").open(encoding="utf-8") as lines:
        for frame, *column in list(csv.reader(lines))[1:]:
            tables.setdefault(frame, []).append(Column(*column))
    return tables


TABLES = _tables()
"""The columns of each frame, by its name. `trials` has also one float column `reward_<name>` for each named reward."""


def pick(frame: str, columns: Iterable[str] | None) -> list[Column]:
    """Return the columns asked for, in that order; all of the frame's for None.

    Raises:
        BadInputError: A name that the frame does not have.
    """
    table = TABLES[frame]
    if columns is None:
        return list(table)
    names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
    known = {column.name: column for column in table}
    if frame == "trials":
        known = {name: Column(name, FLOAT, "", "") for name in names if name.startswith("reward_")} | known
    if unknown := [name for name in names if name not in known]:
        raise BadInputError(f"No column {unknown[0]!r} in this frame. There are: {', '.join(c.name for c in table)}.")
    return [known[name] for name in names]


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of these columns."""
    return pa.schema([(column.name, ARROW[column.dtype]) for column in columns])


def whole(value: int | None) -> int | None:
    """Return a number that fits 64 bits; a larger one is missing."""
    return value if value is not None and -(2**63) <= value < 2**63 else None


def arrow(values: Sequence[Any], kind: pa.DataType) -> Any:
    """Return values as an Arrow array: text that is no Unicode (a file name of another encoding) is spelled out, a
    time without a zone is taken as UTC; what is no time, no finite number or too large is missing.
    """
    if kind == ARROW[TIME]:
        try:
            return arrow(values, pa.string()).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([parse_time(value) if isinstance(value, str) else value for value in values], kind)
    if isinstance(values, pa.Array):
        return values
    try:
        array = pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([speakable(value) for value in values], kind)
    except (OverflowError, pa.ArrowInvalid):
        return pa.array([whole(value) for value in values], kind)
    return pc.if_else(pc.is_finite(array), array, None) if kind == ARROW[FLOAT] else array


def build(columns: Sequence[Column], get: Callable[[str], Any]) -> "pd.DataFrame":
    """Return the DataFrame of these columns; `get` gives the Arrow array of a name."""
    import pandas as pd

    kinds: Any = {
        pa.large_string(): pd.StringDtype("pyarrow"),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    table = pa.table({column.name: get(column.name) for column in columns}).cast(arrow_schema(columns))
    frame: pd.DataFrame = table.to_pandas(types_mapper=kinds.get)
    for column in columns:
        if column.dtype == TIME:  # a view of Arrow's memory, which nobody may write to
            frame[column.name] = frame[column.name].copy()
    return frame


def build_rows(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    """Return the DataFrame of a few rows given as dictionaries; what a row lacks is missing."""
    types = {column.name: ARROW[column.dtype] for column in columns}
    return build(columns, lambda name: arrow([row.get(name) for row in rows], types[name]))


def seconds(start: Any, end: Any) -> Any:
    """Return the seconds between two timestamp arrays; missing where either is."""
    return pc.divide(pc.subtract(end, start).cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
