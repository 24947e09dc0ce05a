"""How a frame is declared: columns.csv, from which the DataFrames and their docs page are made."""

import csv
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from harbor_nb.errors import BadInputError
from harbor_nb.results._rows import arrow

if TYPE_CHECKING:
    import pandas as pd

TEXT, FLOAT, INTEGER, BOOLEAN, TIME = "string", "float64", "Int64", "boolean", "datetime64[us, UTC]"
_ARROW = {
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
    known = {column.name: column for column in table}
    names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
    for name in names:
        if name not in known and frame == "trials" and name.startswith("reward_"):
            known[name] = Column(name, FLOAT, "", "")
    if unknown := [name for name in names if name not in known]:
        raise BadInputError(f"No column {unknown[0]!r} in this frame. There are: {', '.join(c.name for c in table)}.")
    return [known[name] for name in names]


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of these columns."""
    return pa.schema([(column.name, _ARROW[column.dtype]) for column in columns])


def to_pandas(values: Any, dtype: str) -> Any:
    """Return an Arrow array as what pandas holds for that dtype; text and numbers are not copied where that can be."""
    import pandas as pd

    if not isinstance(values, pa.ChunkedArray):
        values = pa.chunked_array([values])
    if values.type != _ARROW[dtype]:
        values = values.cast(_ARROW[dtype])
    if dtype == FLOAT:
        return values.to_numpy()
    if dtype == TIME:
        # not values.to_pandas(), which imports much to do the same
        return pd.DatetimeIndex(values.cast(pa.timestamp("us")).to_numpy()).tz_localize("UTC").array
    extension: Any = {TEXT: pd.StringDtype("pyarrow"), INTEGER: pd.Int64Dtype(), BOOLEAN: pd.BooleanDtype()}[dtype]
    return extension.__from_arrow__(values)


def build(columns: Sequence[Column], get: Callable[[str], Any]) -> "pd.DataFrame":
    """Return the DataFrame of these columns; `get` gives the Arrow array of a name."""
    import pandas as pd

    # copy=False: each column stays the array that was read; no second copy of a hundred thousand rows
    return pd.DataFrame({column.name: to_pandas(get(column.name), column.dtype) for column in columns}, copy=False)


def build_rows(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    """Return the DataFrame of a few rows given as dictionaries; what a row lacks is missing."""
    types = arrow_schema(columns)
    return build(columns, lambda name: arrow([row.get(name) for row in rows], types.field(name).type))


def seconds(start: Any, end: Any) -> Any:
    """Return the seconds between two timestamp arrays; missing where either is."""
    from_us, to_us = (pa.chunked_array([a]) if isinstance(a, pa.Array) else a for a in (start, end))
    absent = from_us.is_null().to_numpy() | to_us.is_null().to_numpy()
    a, b = (values.cast(pa.int64()).fill_null(0).to_numpy() for values in (from_us, to_us))
    return pa.array((b - a) / 1e6, mask=absent)


def no_nan(values: np.ndarray[Any, Any]) -> pa.Array:
    """Return numpy floats as an Arrow array in which NaN is missing."""
    return pa.array(values, from_pandas=True)
