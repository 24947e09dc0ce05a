"""What the long table sends, and what it makes of hostile cells; no browser."""

import time

import pandas as pd
import pytest

import harbor_nb
from harbor_nb._redaction import redactor
from harbor_nb.running.handles import Jobs
from harbor_nb.running.job import Job
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


def test_folders_are_typed_as_text_and_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("attach", tmp_path / "jobs" / "first") == 'harbor_nb.attach("jobs/first")'
    jobs = harbor_nb.sample_jobs()
    several = Jobs([Job(jobs / "imperfect-docker"), Job(jobs / "imperfect-local")])
    for given in (list(several), several, [job.path for job in several]):
        assert len(eval(call("trials", given), {"harbor_nb": harbor_nb})) == 30


def test_the_static_picture_has_no_clock_of_a_trial_that_still_runs():
    table = Table(columns=[{"label": "trial", "kind": "key"}, {"label": "time", "kind": "since"}], label="Trials")
    table.show([["a", 1_764_000_000.5], ["b", 2.0]])
    assert "<td>a</td><td>running</td>" in table.value
    assert "<td>b</td><td>2.0 s</td>" in table.value
