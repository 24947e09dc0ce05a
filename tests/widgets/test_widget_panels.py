"""The widgets' traits, lines of Python and reprs, without a browser."""

import json
import os
import threading

import ipywidgets
import pytest

import harbor_nb
from harbor_nb.running.owner import OwnerRecord
from harbor_nb.widgets.parts import Panel

CANARY = "canary-panel-value-5512907"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAYTONA_API_KEY", raising=False)
    yield
    ipywidgets.Widget.close_all()


def state_of_everything():
    return json.dumps(ipywidgets.Widget.get_manager_state(), default=str)


def test_a_choice_is_a_trait_that_others_observe():
    picker = harbor_nb.EnvironmentPicker(["local"])
    seen = []
    picker.observe(lambda change: seen.append(change["new"]), "value")
    picker._boxes["docker"].value = True
    picker._boxes["local"].value = False
    assert seen == [("local", "docker"), ("docker",)]
    assert picker.code == 'harbor_nb.check("docker")'
    picker.value = ("e2b", "modal")
    assert [name for name, box in picker._boxes.items() if box.value] == ["e2b", "modal"]


def test_one_choice_when_only_one_is_wanted():
    picker = harbor_nb.EnvironmentPicker(["local"], multiple=False)
    picker._boxes["docker"].value = True
    assert picker.value == ("docker",)
    assert not picker._boxes["local"].value


def test_what_is_not_ready_says_why_and_what_mends_it():
    picker = harbor_nb.EnvironmentPicker()
    shown = picker._facts["daytona"].value
    assert "not ready" in shown
    assert "DAYTONA_API_KEY" in shown


@pytest.mark.parametrize("action", ["use", "save"])
def test_a_typed_key_is_used_and_in_no_state(action, tmp_path, monkeypatch):
    panel = harbor_nb.CredentialsPanel(tmp_path / ".env")
    panel._typed(None, {"action": action, "name": "DAYTONA_API_KEY", "value": CANARY}, None)
    try:
        assert os.environ["DAYTONA_API_KEY"] == CANARY
        assert CANARY not in state_of_everything()
        assert CANARY not in repr(panel) + panel.snapshot() + panel.code + json.dumps(panel._repr_mimebundle_())
        assert "DAYTONA_API_KEY" in panel.snapshot()
        assert (tmp_path / ".env").exists() == (action == "save")
    finally:
        os.environ.pop("DAYTONA_API_KEY", None)


def test_a_key_without_a_name_or_value_is_refused():
    panel = harbor_nb.CredentialsPanel()
    for name, value in (("", "x" * 12), ("DAYTONA_API_KEY", " "), ("not a name", "x" * 12)):
        panel._typed(None, {"action": "use", "name": name, "value": value}, None)
        assert "Give a name" in panel._says.value


def test_the_launchers_line_makes_the_same_plan():
    launcher = harbor_nb.JobLauncher(harbor_nb.sample_tasks() / "hello-world")
    launcher._agents.value = "oracle\nnop"
    launcher._fields["attempts"].value = 2
    launcher._fields["practice"].value = True
    launcher.refresh()
    assert launcher.plan is not None, launcher._preview.value
    line = launcher.code.removesuffix(".launch()")
    assert "practice=True" in line
    again = eval(line, {"harbor_nb": harbor_nb})
    assert again.command == launcher.plan.command


def test_the_task_field_offers_the_folders_to_go_on_with(tmp_path):
    for name in ("suite/one", "suite/two", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    launcher = harbor_nb.JobLauncher(tmp_path)
    assert list(launcher._tasks.options) == ["sample tasks", f"{tmp_path}/suite"]
    launcher._tasks.value = f"{tmp_path}/suite/o"
    launcher.refresh()
    assert list(launcher._tasks.options) == ["sample tasks", f"{tmp_path}/suite/one", f"{tmp_path}/suite/two"]
    launcher._tasks.value = "sample tasks"
    launcher.refresh()
    assert "sample tasks/hello-world" in launcher._tasks.options


def test_a_monitor_that_is_opened_late_shows_what_ran_before(tmp_path):
    job = tmp_path / "late"
    job.mkdir()
    (job / "config.json").write_text('{"job_name": "late"}')
    events = [{"event": "trial_start", "trial": name, "t": "2026-01-01T00:00:00+00:00"} for name in ("a", "b")]
    (job / "harbor_nb.events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    record = OwnerRecord.new("late", "local")
    record.own(os.getpid())
    record.state = "running"
    record.write(job)
    monitor = harbor_nb.JobMonitor(job)
    assert [row[0] for row in monitor._table.rows] == ["a", "b"]
    monitor.close()


def test_a_monitor_forgets_what_ran_before_a_resume():
    """A runner that was killed left trials without an end; Harbor runs them anew under other names."""
    from harbor_nb.running.events import Trials

    trials = Trials()
    moments = (f"2026-01-01T00:00:0{n}+00:00" for n in range(9))
    for kind, name in (("trial_start", "a"), ("trial_start", "b"), ("agent_start", "b"), ("trial_end", "a")):
        told = {"reward": 1.0} if kind == "trial_end" else {}
        assert trials.take({"event": kind, "trial": name, "t": next(moments), **told}) == [name]
    assert {name: row["state"] for name, row in trials.items()} == {"a": "scored", "b": "agent"}
    assert (trials["a"]["seconds"], trials["b"]["since"]) == (3.0, 1767225601.0)
    assert trials.take({"event": "job_start", "t": next(moments)}) == ["b"]
    assert list(trials) == ["a"]


def test_an_impossible_plan_is_told_and_cannot_be_launched():
    launcher = harbor_nb.JobLauncher("no/such/folder")
    assert launcher.plan is None
    assert launcher._launch.disabled
    assert "no/such/folder" in launcher._preview.value


def test_a_click_right_after_a_change_launches_the_form_as_it_stands(monkeypatch):
    from harbor_nb.running.plans import Plan

    launched = []
    monkeypatch.setattr(Plan, "launch", lambda plan: launched.append(plan) or [])
    launcher = harbor_nb.JobLauncher(harbor_nb.sample_tasks() / "hello-world")
    launcher._fields["attempts"].value = 3
    launcher.launch()
    for thread in threading.enumerate():
        if "JobLauncher" in thread.name:
            thread.join(10)
    assert ["--n-attempts 3" in plan.command for plan in launched] == [True]


@pytest.mark.parametrize("make", [harbor_nb.ResultsExplorer, harbor_nb.CompareView])
def test_a_folder_without_trials_says_so_and_shows_what_comes_later(make, tmp_path):
    panel = make(tmp_path)
    said = panel._says.value + (panel._shown.value if make is harbor_nb.CompareView else "")
    assert "no trials here" in said.lower()
    assert "Error" not in said
    panel.show(harbor_nb.sample_jobs() / "oracle-and-nop-local")
    assert panel.code.startswith("harbor_nb.")
    assert "no trials here" not in panel._says.value.lower()


def test_buttons_of_several_monitors_say_which_job():
    jobs = harbor_nb.sample_jobs()
    one = harbor_nb.JobMonitor(jobs / "imperfect-docker")
    two = harbor_nb.JobMonitor([jobs / "imperfect-local", jobs / "test_auth_token_task"])
    assert one._cancel.description == "Cancel imperfect-docker"
    assert two._resume.description == "Resume all 2 jobs"
    two._which.value = "imperfect-local"
    assert two._cancel.description == "Cancel imperfect-local"
    assert {one._table.label, two._table.label} == {"Trials of imperfect-docker", "Trials of imperfect-local"}
    two.selected = next(key for key in two._at if key.startswith("hello-world"))
    assert "hello-world" in two._log.value
    assert "recorded" in one.snapshot()


def test_a_second_click_starts_nothing(monkeypatch):
    launcher = harbor_nb.JobLauncher(harbor_nb.sample_tasks() / "hello-world")
    started, go = [], threading.Event()

    class Plan:
        def launch(self):
            started.append(1)
            go.wait(10)
            return []

    launcher.plan = Plan()
    launcher.launch()
    launcher.launch()
    go.set()
    for thread in threading.enumerate():
        if "JobLauncher" in thread.name:
            thread.join(10)
    assert started == [1]


def test_every_panel_has_bounded_text_html_and_markdown(tmp_path):
    made = [
        harbor_nb.EnvironmentPicker(),
        harbor_nb.CredentialsPanel(),
        harbor_nb.JobLauncher(),
        harbor_nb.JobMonitor([]),
        harbor_nb.ResultsExplorer(None),
        harbor_nb.CompareView(None),
        harbor_nb.app(tmp_path / "jobs"),
    ]
    for panel in made:
        assert isinstance(panel, Panel)
        bundle = panel._repr_mimebundle_()
        assert len(repr(panel)) < 600
        assert len(bundle["text/html"]) < 30_000
        assert len(bundle["text/markdown"]) < 10_000
        assert "stale" in bundle["text/html"]
        assert "<script" not in bundle["text/html"]
        assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
        assert panel.code.startswith("harbor_nb.") or panel.code == ""
