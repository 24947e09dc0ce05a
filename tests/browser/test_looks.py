"""Hostile content as text, light and dark, narrow windows, and the accessibility of the app's page."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

EVIL = '<script>window.owned=1</script>"><img src=x onerror=window.owned=1>\x1b[31mred\x1b[0m\u202egnp.exe'
NAME = "evil<img src=x onerror=window.owned=1>__a1"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="window.owned=1">
<script>window.owned=1</script></svg>"""


def hostile_job(jobs):
    """A job folder as Harbor writes it, in which every text is hostile."""
    job = jobs / "hostile"
    trial = job / NAME
    for folder in ("agent", "verifier", "artifacts"):
        (trial / folder).mkdir(parents=True)
    task = {"path": f"tasks/{EVIL}", "name": EVIL}
    environment = {"import_path": "harbor_nb.local:LocalEnvironment"}
    config = {"task": task, "trial_name": NAME, "agent": {"name": "oracle"}, "environment": environment}
    times = {"started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:09Z"}
    result = {
        "id": "1", "task_name": EVIL, "trial_name": NAME, "task_checksum": "c", "config": config, **times,
        "agent_info": {"name": EVIL, "version": EVIL},
        "exception_info": {"exception_type": "RuntimeError", "exception_message": EVIL + "x" * 1_000_000},
    }  # fmt: skip
    steps = [
        {"step_id": 1, "source": "agent", "message": EVIL},
        {"step_id": 2, "source": "user", "message": "y" * 1_000_000},
    ]
    files = {
        "config.json": json.dumps({"job_name": "hostile", "agents": [{"name": "oracle"}], "environment": environment}),
        "result.json": json.dumps({"id": "2", **times, "n_total_trials": 1, "stats": {"n_completed_trials": 1}}),
        f"{NAME}/config.json": json.dumps(config),
        f"{NAME}/result.json": json.dumps(result),
        f"{NAME}/agent/trajectory.json": json.dumps({"schema_version": "ATIF-v1.4", "steps": steps}),
        f"{NAME}/verifier/test-stdout.txt": EVIL + "\n" + "z" * 1_000_000,
        f"{NAME}/artifacts/evil.svg": SVG,
        f"{NAME}/exception.txt": EVIL,
    }
    for name, text in files.items():
        (job / name).write_text(text)
    return job


def test_hostile_texts_are_text(lab, new_page):
    page = new_page()
    hostile_job(lab.folder / "jobs")
    cells = (
        "import harbor_nb",
        "harbor_nb.ResultsExplorer('jobs')",
        "harbor_nb.JobMonitor('jobs/hostile')",
        "harbor_nb.diagnose('jobs/hostile')",
        "harbor_nb.trials('jobs')",
        "harbor_nb.CompareView('jobs', by='agent')",
        "harbor_nb.attach('jobs/hostile')",
    )
    lab.notebook("hostile", *cells)
    lab.open(page, "hostile")
    lab.run_all(page)
    explorer = page.locator(".hnb-panel").filter(has=page.get_by_role("heading", name="Results", exact=True))
    explorer.locator(".hnb-row").first.click()
    explorer.get_by_text("Trajectory").wait_for()
    explorer.get_by_label("File", exact=True).select_option(f"{'artifacts/evil.svg'}")
    explorer.locator("img[alt='artifacts/evil.svg']").wait_for()
    page.locator(".hnb-panel .hnb-row").last.click()
    assert page.evaluate("window.owned") is None
    assert page.locator(".jp-OutputArea script").count() == 0
    assert page.locator(".jp-OutputArea img[src='x']").count() == 0
    assert page.locator(".jp-OutputArea").get_by_text("<script>window.owned=1</script>").first.is_visible()
    shown = "".join(page.locator(".jp-OutputArea").all_inner_texts())
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    assert len(shown) < 400_000


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 1200), ("light", 480)])
def test_the_app_is_accessible_in(lab, new_page, picture, theme, width):
    from axe_playwright_python.sync_playwright import Axe

    lab.theme(theme == "dark")
    page = new_page(width)
    lab.notebook("axe", "import harbor_nb\napp = harbor_nb.app('axe-jobs')\napp")
    lab.open(page, "axe")
    lab.run_all(page)
    name = theme if width > 500 else "narrow"
    for title in ("Launch", "Credentials", "Monitor", "Results", "Compare"):
        page.locator(".jp-OutputArea").get_by_role("tab", name=title, exact=True).click()
        page.locator(".hnb-panel .hnb-panel").get_by_role("heading", name=title, exact=True).first.wait_for()
        picture(page, ".hnb-panel", f"app-{title.lower()}-{name}")
        findings = Axe().run(page, ".jp-OutputArea .hnb-panel").response["violations"]
        serious = [f for f in findings if f["impact"] in ("serious", "critical")]
        assert serious == [], [(f["id"], [n["html"][:200] for n in f["nodes"]][:3]) for f in serious]
