"""Frames as Parquet, partitioned by job, for what does not fit in memory and for DuckDB."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from harbor_nb.errors import BadInputError
from harbor_nb.results._columns import TABLES, arrow_schema, pick
from harbor_nb.results.frames._trajectories import batches

if TYPE_CHECKING:
    import os

_GROUP_ROWS = 10_000


def to_parquet(
    x: Any, folder: "str | os.PathLike[str]", frame: str = "trajectory_steps", columns: Iterable[str] | None = None
) -> Path:
    """Write a frame as a Parquet dataset, one folder `job=<name>` a job; trajectories are streamed in flat memory.

    Args:
        x: A jobs folder, a job folder, a list of them, a glob, a `Job` or `Jobs`.
        folder: Where to write. The folders of the same jobs are replaced, others are kept.
        frame: The frame's name, such as `trials`.
        columns: The columns wanted besides `job`; None for all.

    Returns:
        The folder.

    Raises:
        BadInputError: No such frame or column, or the folder can't be written.

    Example:
        >>> import harbor_nb
        >>> harbor_nb.to_parquet(harbor_nb.sample_jobs(), "steps")  # doctest: +SKIP
        >>> duckdb.sql("SELECT job, count(*) FROM 'steps/*/*.parquet' GROUP BY job")  # doctest: +SKIP
    """
    from pyarrow import dataset

    if frame not in TABLES:
        raise BadInputError(f"No frame {frame!r}. There are: {', '.join(TABLES)}.")
    names = None if columns is None else ["job", *(name for name in columns if name != "job")]
    if frame == "trajectory_steps":
        chosen = pick(frame, names)
        schema = arrow_schema(chosen)
        data = pa.RecordBatchReader.from_batches(
            schema, (batch for table in batches(x, chosen, []) for batch in table.to_batches())
        )
    else:
        rows = getattr(import_module("harbor_nb.results.frames"), frame)(x, names)
        data = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
        schema = data.schema
    try:
        dataset.write_dataset(
            data,
            folder,
            format="parquet",
            partitioning=dataset.partitioning(pa.schema([schema.field("job")]), flavor="hive"),
            existing_data_behavior="delete_matching",
            basename_template="part-{i}.parquet",
            max_rows_per_group=_GROUP_ROWS,
            use_threads=False,
        )
    except OSError as error:
        raise BadInputError(
            f"Can't write {folder}: {error.strerror or error}. Give a folder that can be written."
        ) from error
    return Path(folder)
