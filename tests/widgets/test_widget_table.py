"""What the long table sends, and what it makes of hostile cells; no browser."""

import time

import pandas as pd
import pytest

from harbor_nb._redaction import redactor
from harbor_nb.widgets.parts import call
from harbor_nb.widgets.table import CELL, Table, shown


@pytest.fixture
def sent(monkeypatch):
    messages = []
    monkeypatch.setattr(Table, "send", lambda self, content, buffers=None: messages.append(content))
    return messages


def test_only_changes_are_sent(sent):
    table = Table(columns=[{"label": "trial"}, {"label": "state"}], label="Trials")
    rows = [[f"t{n}", "running"] for n in range(100)]
    table.show(rows)
    assert sent.pop()["all"] == rows
    rows = [list(row) for row in rows]
    rows[7][1] = "scored"
    assert table.show(rows) == 1
    assert sent.pop()["patch"] == [[7, 1, "scored"]]
    assert table.show(rows) == 0
    assert sent == []
    table.show([*rows, ["t100", "starting"]])
    assert sent.pop()["patch"] == [[100, 0, "t100", 1, "starting"]]
    table.show(rows[:3])
    assert len(sent.pop()["all"]) == 3


def test_many_rows_travel_in_chunks_in_order(sent):
    table = Table(columns=[{"label": "trial"}], label="Trials")
    table.show([[str(n)] for n in range(5000)])
    assert [len(message.get("all") or message.get("more")) for message in sent] == [2000, 2000, 1000]
    joined = [row[0] for message in sent for row in message.get("all") or message.get("more")]
    assert joined == [str(n) for n in range(5000)]


def test_cells_are_cleaned_redacted_and_bounded():
    redactor.remember("WIDGET_CANARY_KEY", "canary-widget-table-value")
    cells = [
        "\x1b[31mred\x1b[0m",
        "a\u202eb",
        "two\nlines",
        "x" * 1_000_000,
        "see canary-widget-table-value",
        0.5,
        pd.NA,
        None,
    ]
    told = list(map(shown, cells))
    assert told[:3] == ["red", "ab", "two lines"]
    assert len(told[3]) == CELL
    assert told[4:] == ["see <WIDGET_CANARY_KEY>", 0.5, None, None]
    assert list(map(shown, [float("nan"), True, pd.NaT])) == [None, True, None]


def test_a_secret_at_the_cut_is_not_left_in_half():
    redactor.remember("WIDGET_CANARY_KEY", "canary-widget-table-value")
    assert "canary-widget" not in shown("y" * (CELL - 8) + "canary-widget-table-value")


def test_ten_thousand_unchanged_rows_cost_little(sent):
    table = Table(columns=[{"label": str(n)} for n in range(8)], label="Trials")
    rows = [[f"t{n}", "running", 0.5, "message", 1.0, 2.0, "a", "b"] for n in range(10_000)]
    table.show(rows)
    started = time.process_time()
    for number in range(20):
        rows[number] = [*rows[number][:1], "scored", *rows[number][2:]]
        table.show(rows)
    assert (time.process_time() - started) / 20 < 0.02


def test_the_line_of_python():
    assert call("plan", "tasks", agents=["oracle"], name=None) == 'harbor_nb.plan("tasks", agents=["oracle"])'
