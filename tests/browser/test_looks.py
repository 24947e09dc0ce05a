"""Hostile content as text, light and dark, narrow windows, and the accessibility of the app's page."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

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
    hostile_job(lab.folder / "hostile-jobs")
    cells = (
        "import harbor_nb",
        "harbor_nb.ResultsExplorer('hostile-jobs')",
        "harbor_nb.JobMonitor('hostile-jobs/hostile')",
        "harbor_nb.diagnose('hostile-jobs/hostile')",
        "harbor_nb.trials('hostile-jobs')",
        "harbor_nb.CompareView('hostile-jobs', by='agent')",
        "harbor_nb.attach('hostile-jobs/hostile')",
    )
    lab.notebook("hostile", *cells)
    lab.open(page, "hostile")
    lab.run_all(page)
    explorer = page.locator(".hnb-panel").filter(has=page.get_by_role("heading", name="Results", exact=True))
    explorer.locator(".hnb-row").first.click()
    explorer.get_by_text("Trajectory, 2 steps").wait_for()
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


RECORDED = """
import shutil, harbor_nb
shutil.copytree(harbor_nb.sample_jobs(), "recorded", dirs_exist_ok=True)
app = harbor_nb.app("recorded")
app.monitor.watch(sorted(app._folder.glob("*-*")))
app
"""
TOO_WIDE = """() => {
  const panel = document.querySelector(".hnb-panel"), edge = panel.getBoundingClientRect().right + 1;
  const scrolls = (e) => e.closest(".hnb-scroller, [role=region], .hnb-picture, pre");
  const out = (e) => e.checkVisibility() && !scrolls(e) && e.getBoundingClientRect().right > edge;
  return [...panel.querySelectorAll("*")].filter(out).map((e) => e.outerHTML.slice(0, 150)).slice(0, 5);
}"""
LOOKS = {"light": ("Light", 1200), "dark": ("Dark", 1200), "narrow": ("Light", 480)}
READY = {
    "Launch": ".hnb-plan table",
    "Credentials": ".hnb-credentials",
    "Monitor": ".hnb-job",
    "Results": ".hnb-picture svg",
    "Compare": ".hnb-picture svg",
}


@pytest.mark.parametrize(
    "looks", [["light"], pytest.param(["dark", "narrow"], marks=pytest.mark.deep)], ids=["light", "dark and narrow"]
)
def test_the_app_is_accessible(lab, new_page, picture, looks):
    from axe_playwright_python.sync_playwright import Axe

    page = new_page()
    env = lab.folder / ".env"
    env.write_text("OPENAI_API_KEY=made-up-for-the-picture-0123456789\nE2B_API_KEY=your-e2b-key-here\n")
    env.chmod(0o600)
    lab.notebook("axe", RECORDED)
    lab.open(page, "axe")
    lab.run_all(page)
    for look in looks:
        theme, width = LOOKS[look]
        page.set_viewport_size({"width": width, "height": 2400})
        change = f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})"
        page.evaluate(change)
        page.locator(f'body[data-jp-theme-light="{str(theme == "Light").lower()}"]').wait_for(state="attached")
        for title, ready in READY.items():
            page.locator(".jp-OutputArea").get_by_role("tab", name=title, exact=True).click()
            panel = page.locator(".hnb-panel .hnb-panel").filter(
                has=page.get_by_role("heading", name=title, exact=True)
            )
            panel.first.locator(ready).first.wait_for()
            picture(page, ".hnb-panel", f"app-{title.lower()}-{look}")
            assert page.evaluate(TOO_WIDE) == [], (title, look)
            findings = Axe().run(page, ".jp-OutputArea .hnb-panel").response["violations"]
            serious = [f for f in findings if f["impact"] in ("serious", "critical")]
            assert serious == [], [(f["id"], [n["html"][:200] for n in f["nodes"]][:3]) for f in serious]
    env.unlink()
