"""The long table: any number of rows, of which the browser is sent only what changed."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t

from harbor_nb._display import clean, render

_HERE = Path(__file__).parent
CELL = 300  # characters of a cell that travel to the browser


def shown(cell: Any) -> Any:
    """Return a cell ready to be shown: a number as it is, text redacted, in one line, bounded; missing as None."""
    if isinstance(cell, str):
        return clean(cell)[:CELL].replace("\n", " ")
    if cell is None or type(cell).__name__ in ("NAType", "NaTType") or cell != cell:  # noqa: PLR0124 - NaN
        return None
    return cell if isinstance(cell, bool | int | float) else clean(cell, CELL)


class Table(anywidget.AnyWidget):
    """A table of any length that sends the browser only what changed.

    Args:
        columns: a dict each: `label`, and `kind` (key, text, long, state, num, sec, or since: seconds, or the moment
            when it began in epoch seconds); the first is the key.
        label: what a screen reader calls it.

    Example:
        >>> table = Table(columns=[{"label": "trial"}], label="Trials")
        >>> table.show([["a"], ["b"]])
        2
        >>> table.show([["a"], ["c"]])
        1
    """

    _esm = _HERE / "table.js"
    _css = _HERE / "theme.css"
    columns: t.List[dict[str, str]] = t.List().tag(sync=True)
    label = t.Unicode("Rows").tag(sync=True)
    noun = t.Unicode("row").tag(sync=True)
    empty = t.Unicode("Nothing here yet").tag(sync=True)
    visible_rows = t.Int(12).tag(sync=True)
    selected = t.Unicode("").tag(sync=True)
    saved: t.List[list[Any]] = t.List().tag(sync=True)  # the first rows, for a saved notebook without a kernel

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._raw: list[list[Any]] = []
        self._rows: list[list[Any]] = []
        self._guard = threading.RLock()
        self.on_msg(lambda _, message, __: self._send_all() if message.get("want") == "all" else None)

    @property
    def rows(self) -> list[list[Any]]:
        """The rows as the browser has them."""
        return self._rows

    @property
    def value(self) -> str:
        """The first rows as static HTML."""
        return render("widgets_table", columns=self.columns, rows=self._rows)

    def show(self, rows: Sequence[Sequence[Any]]) -> int:
        """Make these the rows and send what differs from before.

        Args:
            rows: cells in the order of `columns`; the first is the row's key.

        Returns:
            The number of rows that were sent.
        """
        with self._guard:
            before, self._raw = self._raw, [list(row) for row in rows]
            # rows that are equal to what was shown are neither cleaned nor sent again
            changed = [at for at, row in enumerate(self._raw) if at >= len(before) or row != before[at]]
            self._rows = self._rows[: len(rows)] + [[]] * (len(rows) - len(before))
            patch = []
            for at in changed:
                old, new = self._rows[at], [shown(cell) for cell in rows[at]]
                old = old or [None] * len(new)
                self._rows[at] = new
                patch.append([at, *(x for n, cell in enumerate(new) if cell != old[n] for x in (n, cell))])
            if len(rows) < len(before) or (rows and not before):
                self.keep()
                self._send_all()
            elif changed:
                self.send({"patch": patch, "now": round(time.time(), 2)})
            return len(changed)

    def keep(self, count: int = 200) -> None:
        """Put the first rows into the saved state; a page also starts from them while a cell blocks the kernel."""
        self.saved = self._rows[:count]

    def _send_all(self) -> None:
        with self._guard:
            self.send({"all": self._rows[:2000], "now": round(time.time(), 2)})
            for at in range(2000, len(self._rows), 2000):
                self.send({"more": self._rows[at : at + 2000]})
