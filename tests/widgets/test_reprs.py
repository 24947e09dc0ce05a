"""Every public object shows itself bounded: as text, as HTML whose tags are closed, and as markdown."""

from html.parser import HTMLParser

import ipywidgets
import pytest

import harbor_nb
from harbor_nb.backends.readiness import Finding, Readiness
from harbor_nb.running.handles import Jobs
from harbor_nb.running.job import Job

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[31m\u202e```' + "long " * 20_000
VOID = {"br", "img", "input", "meta", "hr", "path", "rect", "line", "circle"}


class Tags(HTMLParser):
    """Finds the tags that are open at the end, or closed without being open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.names = [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")], attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def comparison():
    jobs = harbor_nb.sample_jobs()
    return harbor_nb.compare([jobs / "imperfect-docker", jobs / "imperfect-local"])


def many_jobs():
    return Jobs([Job(harbor_nb.sample_jobs() / "imperfect-local")] * 500)


MAKERS = {
    "Readiness": lambda: Readiness("docker", tuple(Finding("blocks", EVIL, EVIL) for _ in range(9))),
    "Credentials": harbor_nb.load_env,
    "Plan": lambda: harbor_nb.plan(harbor_nb.sample_tasks(), agents=["oracle", "nop"]),
    "Job": lambda: harbor_nb.attach(harbor_nb.sample_jobs() / "test_auth_token_task"),
    "Jobs": many_jobs,
    "Trial": lambda: harbor_nb.attach(harbor_nb.sample_jobs() / "test_auth_token_task").trial(
        "auth-token-race-condition"
    ),
    "Calibration": lambda: harbor_nb.Calibration(harbor_nb.trials(harbor_nb.sample_jobs())),
    "Diagnosis": lambda: harbor_nb.diagnose(harbor_nb.sample_jobs()),
    "Repair": lambda: harbor_nb.repair(
        harbor_nb.sample_jobs() / "test_auth_token_task", environment="local", tasks=harbor_nb.sample_tasks()
    ),
    "EnvironmentPicker": harbor_nb.EnvironmentPicker,
    "CredentialsPanel": harbor_nb.CredentialsPanel,
    "JobLauncher": harbor_nb.JobLauncher,
    "JobMonitor": lambda: harbor_nb.JobMonitor(harbor_nb.sample_jobs() / "imperfect-docker"),
    "ResultsExplorer": lambda: harbor_nb.ResultsExplorer(harbor_nb.sample_jobs()),
    "CompareView": lambda: harbor_nb.CompareView(harbor_nb.sample_jobs() / "imperfect-docker", by="agent"),
    "app": harbor_nb.app,
}


def check(shown):
    for text in (str(shown), repr(shown)):
        assert 0 < len(text) <= 20_000
        assert "\x1b" not in text
    html = shown._repr_html_()
    tags = Tags(html)
    assert tags.open == []
    assert "script" not in tags.names
    assert len(html) <= 120_000
    markdown = shown._repr_markdown_()
    assert 0 < len(markdown) <= 30_000
    assert "\x1b" not in markdown
    assert "\u202e" not in html + markdown


@pytest.mark.parametrize("name", MAKERS)
def test_every_public_object_is_bounded_as(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(MAKERS[name]())
    ipywidgets.Widget.close_all()


def test_a_comparison_is_bounded_and_its_picture_is_svg(comparison):
    check(comparison)
    bundle = comparison.plot()._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert Tags(bundle["image/svg+xml"]).open == []
    assert 0 < len(bundle["text/plain"]) < 1000
