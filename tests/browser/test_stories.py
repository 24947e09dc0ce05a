"""Whole stories, clicked through in a real JupyterLab with real jobs on `local`."""

import json
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.local, pytest.mark.timeout(300)]

APP = """
import harbor_nb
app = harbor_nb.app("jobs", tasks=harbor_nb.sample_tasks() / "hello-world")
app
"""
SCRIBE = """%%harbor_agent scribe
import json
from harbor.agents.base import BaseAgent

class Scribe(BaseAgent):
    @staticmethod
    def name():
        return "scribe"
    def version(self):
        return "1"
    async def setup(self, environment):
        pass
    async def run(self, instruction, environment, context):
        await environment.exec("echo 'Hello, world!' > /app/hello.txt")
        call = {"tool_call_id": "1", "function_name": "bash", "arguments": {"command": "echo Hello > /app/hello.txt"}}
        steps = [
            {"step_id": 1, "source": "user", "message": instruction},
            {"step_id": 2, "source": "agent", "message": "I write the greeting.", "tool_calls": [call]},
        ]
        told = {"schema_version": "ATIF-v1.4", "session_id": "s", "agent": {"name": "scribe", "version": "1"}}
        (self.logs_dir / "trajectory.json").write_text(json.dumps(told | {"steps": steps}))
"""
SLOW = {
    "task.toml": 'schema_version = "1.4"\n[task]\nname = "harbor-nb/slow"\n[agent]\ntimeout_sec = 120.0\n',
    "instruction.md": "Wait.\n",
    "environment/Dockerfile": "FROM python:3.13-slim\nWORKDIR /app\n",
    "solution/solve.sh": "#!/bin/bash\necho waiting; sleep 100\n",
    "tests/test.sh": "#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n",
}
CONVERT = """
import sys
from pathlib import Path
import nbformat
from nbconvert import HTMLExporter
from nbclient import NotebookClient
book, executed, page = map(Path, sys.argv[1:])
read = nbformat.read(book, 4)
page.write_text(HTMLExporter().from_notebook_node(read)[0])
NotebookClient(read, resources={"metadata": {"path": str(book.parent)}}).execute()
nbformat.write(read, executed)
page.with_suffix(".2.html").write_text(HTMLExporter().from_notebook_node(read)[0])
"""
CANARY = "canary-Qx7!-pasted-in-the-panel-93214"


@pytest.fixture
def jobs(lab):
    shutil.rmtree(lab.folder / "jobs", ignore_errors=True)
    return lab.folder / "jobs"


def write_slow_task(folder):
    for name, text in SLOW.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def tab(page, name):
    page.locator(".jp-OutputArea").get_by_role("tab", name=name, exact=True).click()


def panel(page, title):
    return page.locator(".hnb-panel .hnb-panel").filter(has=page.get_by_role("heading", name=title, exact=True)).first


def launch(page):
    button = page.get_by_role("button", name=re.compile("Launch$"))  # its icon is part of its name
    page.wait_for_function(
        "() => [...document.querySelectorAll('button')].some(b => b.textContent.trim() === 'Launch' && !b.disabled)"
    )
    button.dblclick()  # the second click is harmless


def wait_state(page, *states):
    page.wait_for_function(
        "(states) => { const jobs = document.querySelectorAll('.hnb-panel .hnb-job');"
        "const all = [...jobs].map((job) => job.querySelector('.hnb-badge:not([data-state=label])'));"
        "return all.length && all.every(b => states.includes(b.dataset.state)) }",
        arg=list(states),
        timeout=60_000,
    )


def test_pick_launch_watch_cancel_launch_again_explore_compare(lab, new_page, picture, jobs):
    page = new_page(height=2200)
    lab.notebook("story", "%load_ext harbor_nb", SCRIBE, APP)
    lab.open(page, "story")
    page.errors.clear()  # what the front end says of itself when it starts
    lab.run_all(page)
    assert page.get_by_label("local", exact=True).first.is_checked()

    launch(page)
    wait_state(page, "finished")
    assert "1 passed" in panel(page, "Monitor").inner_text()
    assert len([path for path in jobs.iterdir() if path.is_dir()]) == 1
    picture(page, ".hnb-panel", "app-monitor-light")

    tab(page, "Launch")
    slow = write_slow_task(lab.folder / "slow")
    page.get_by_label("Tasks", exact=True).fill(str(slow))
    page.get_by_label("Tasks", exact=True).press("Tab")
    page.get_by_label("The same in Python").filter(has_text=str(slow)).wait_for()
    launch(page)
    wait_state(page, "starting", "running")
    page.locator('.hnb-row .hnb-badge[data-state="agent"]').wait_for()
    panel(page, "Monitor").get_by_role("button", name="Cancel").click()
    wait_state(page, "cancelled")

    tab(page, "Launch")
    page.get_by_label("Tasks", exact=True).fill(
        lab.execute(page, "print(harbor_nb.sample_tasks() / 'hello-world')").strip()
    )
    page.get_by_label("Agents", exact=True).fill("nop\nscribe:Scribe")
    page.get_by_label("Agents", exact=True).press("Tab")
    page.get_by_label("The same in Python").filter(has_text="scribe:Scribe").wait_for()
    launch(page)
    wait_state(page, "finished")

    tab(page, "Results")
    results = panel(page, "Results")
    results.locator(".hnb-row", has_text="scribe").click()
    results.get_by_text("Trajectory, 2 steps").wait_for()
    results.get_by_text("I write the greeting.").wait_for()
    results.locator(".hnb-picture svg").wait_for()
    assert results.get_by_label("File", exact=True).locator("option").count() > 3
    picture(page, ".hnb-panel", "app-results-light")

    tab(page, "Compare")
    compare = panel(page, "Compare")
    compare.get_by_label("Compare by").select_option("agent")
    compare.get_by_label("Baseline").select_option("nop")
    compare.get_by_text("scribe can be called neither equal to nop").first.wait_for()
    compare.locator(".hnb-picture svg").wait_for()
    picture(page, ".hnb-panel", "app-compare-light")
    assert page.errors == []


def test_a_pasted_key_is_in_no_file(lab, new_page, picture, jobs, tmp_path):
    page = new_page()
    book = lab.notebook(
        "canary",
        "import harbor_nb\nharbor_nb.CredentialsPanel()",
        "harbor_nb.JobLauncher(harbor_nb.sample_tasks() / 'hello-world')",
    )
    lab.open(page, "canary")
    lab.run_all(page)
    page.get_by_label("Name", exact=True).fill("DAYTONA_API_KEY")
    page.get_by_label("Value", exact=True).fill(CANARY)
    page.get_by_role("button", name="Save to .env").click()
    page.locator(".hnb-says", has_text="DAYTONA_API_KEY is in").wait_for()
    assert page.get_by_label("Value", exact=True).input_value() == ""
    assert lab.execute(page, "import os; print(len(os.environ['DAYTONA_API_KEY']))").strip() == str(len(CANARY))
    env = lab.folder / ".env"
    assert CANARY in env.read_text()
    assert env.stat().st_mode & 0o077 == 0
    picture(page, ".hnb-panel", "credentials-light")
    launch(page)
    page.locator(".hnb-says", has_text="Launched").wait_for()
    lab.execute(page, "for job in harbor_nb.attach(): job.wait(60)")
    lab.save(page)

    saved = json.loads(book.read_text())
    assert saved["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    env.unlink()
    executed = tmp_path / "executed.ipynb"
    subprocess.run([sys.executable, "-c", CONVERT, str(book), str(executed), str(tmp_path / "page.html")], check=True)
    places = [*lab.folder.rglob("*"), *tmp_path.rglob("*"), lab.log]
    assert executed in places
    assert [str(path) for path in places if path.is_file() and CANARY.encode() in path.read_bytes()] == []


def test_the_monitor_is_stale_after_a_restart_and_true_after_its_cell_runs_again(lab, new_page, picture, jobs):
    page = new_page()
    slow = write_slow_task(lab.folder / "slow-restart")
    first = f"""
import harbor_nb, pathlib
if not pathlib.Path('jobs/lasting').exists():
    harbor_nb.launch({str(slow)!r}, job_name='lasting', jobs_dir='jobs')
"""
    lab.notebook("restart", first, "harbor_nb.JobMonitor('jobs/lasting')")
    lab.open(page, "restart")
    lab.run_all(page)
    page.locator('.hnb-row .hnb-badge[data-state="agent"]').wait_for()
    lab.save(page)
    lab.restart_kernel("restart")
    page.locator('.hnb-pulse[data-stale="true"]').wait_for(timeout=30_000)

    page.goto("about:blank")
    lab.open(page, "restart")
    page.locator(".jp-OutputArea").get_by_text(re.compile("stale")).locator("visible=true").first.wait_for(
        timeout=30_000
    )
    lab.run_all(page)
    page.locator('.hnb-panel .hnb-job .hnb-badge[data-state="running"]').wait_for()
    assert page.locator('.hnb-pulse[data-stale="false"]').count() == 1
    page.get_by_role("button", name="Cancel").click()
    wait_state(page, "cancelled")


@pytest.mark.deep
def test_practice_is_ticked_launched_on_daytona_and_named_in_monitor_and_comparison(lab, new_page, jobs):
    page = new_page(height=2200)
    lab.notebook("practice", APP)
    lab.open(page, "practice")
    lab.run_all(page)
    for box in ("daytona", "Practice clouds on this machine"):
        page.locator(".hnb-panel label", has_text=box).first.click()
    page.get_by_label("The same in Python").filter(has_text='environments=["local", "daytona"]').filter(
        has_text="practice=True"
    ).wait_for()
    launch(page)
    wait_state(page, "finished")
    played = panel(page, "Monitor").locator(".hnb-job", has_text="-daytona")
    assert played.get_by_text("practice", exact=True).count() == 1
    tab(page, "Compare")
    panel(page, "Compare").get_by_text("[practice]").first.wait_for()
