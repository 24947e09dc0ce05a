"""The long table in a real browser: 10,000 rows, hostile text, keyboard, what is sent (speed: monitor_bench.py)."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SETUP = r"""
import threading, time
from harbor_nb.widgets.table import Table
hostile = ["<script>window.owned=1</script>", '"><img src=x onerror="window.owned=1">', "\x1b[31mred\x1b[0m"]
hostile += ["abc\u202edef", "x" * 1_000_000]
def row(i):
    return [f"trial-{i}", "running" if i % 50 == 0 else "scored", i % 7 / 7, hostile[i % 5] if i < 10 else "fine"]
rows = [row(i) for i in range(10_000)]
columns = [{"label": "trial"}, {"label": "state", "kind": "state"}, {"label": "reward", "kind": "num"}]
columns += [{"label": "message", "kind": "long"}]
table = Table(columns=columns, label="Trials", noun="trial")
table.show(rows)
def change():
    for turn in range(8):
        for n in range(12 if turn % 2 else 13):
            at = (turn * 37 + n) % 10_000
            rows[at] = [rows[at][0], "scored" if rows[at][1] == "running" else "running", turn + n / 100, rows[at][3]]
        table.show(rows)
        time.sleep(0.25)
thread = threading.Thread(target=change)
"""


def test_ten_thousand_rows_as_text_by_keyboard_and_in_few_bytes(lab, new_page):
    page = new_page()
    received = []
    page.on("websocket", lambda ws: ws.on("framereceived", lambda data: received.append(len(data))))
    lab.notebook("table", SETUP, "table")
    lab.open(page, "table")
    lab.run_all(page)
    area = page.locator(".jp-OutputArea .hnb-table")
    area.get_by_text("10000 trials").wait_for()
    assert area.locator(".hnb-row").count() < 60

    assert page.evaluate("window.owned") is None
    assert area.locator("script, img").count() == 0
    shown = area.locator(".hnb-row .hnb-cell:nth-child(4)").all_inner_texts()
    assert shown[:4] == ["<script>window.owned=1</script>", '"><img src=x onerror="window.owned=1">', "red", "abcdef"]
    assert max(map(len, shown)) <= 300

    grid = area.get_by_role("grid", name="Trials")
    grid.locator(".hnb-row").first.click()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "grid"
    for key in ("ArrowDown", "End", "PageUp", "Home", "PageDown", "End"):
        page.keyboard.press(key)
    area.locator('.hnb-row[aria-selected="true"]').get_by_text("trial-9999", exact=True).wait_for()
    area.get_by_label("Filter Trials").fill("trial-123")
    area.get_by_text("11 of 10000 trials").wait_for()
    area.get_by_label("Filter Trials").fill("")
    area.get_by_role("button", name="reward").click()
    assert area.locator('[role="columnheader"][aria-sort="ascending"]').count() == 1

    before = len(received)
    lab.execute(page, "thread.start(); thread.join()")
    sent = sum(received[before:]) / 2  # seconds
    assert 1_000 < sent <= 20_000, "bytes a second at 50 changes a second"
