"""The command line and the widget say what the call says."""

import pytest
from typer.testing import CliRunner

import harbor_nb
from harbor_nb.cli import app

pytestmark = pytest.mark.real_jobs


def test_the_command_line_says_what_the_call_says(real_jobs):
    jobs = real_jobs / "DESU-CLUB__beam-benchmark/jobs"
    docker, daytona = jobs / "2026-03-27__12-34-21", jobs / "2026-03-29__20-45-57"
    told = CliRunner().invoke(app, ["compare", str(docker), str(daytona), "--margin", "0.1"])
    assert told.exit_code == 0, told.output
    expected = harbor_nb.compare([docker, daytona], by="job", baseline=docker.name, margin=0.1)
    assert " ".join(expected.headline.split()) in " ".join(told.stdout.split())
    assert "also agent version (v0.6.4 | v0.6.6), environment (docker | daytona)" in told.stdout


def test_the_widget_shows_the_comparison(real_jobs):
    jobs = real_jobs / "DESU-CLUB__beam-benchmark/jobs"
    sides = [jobs / "2026-03-27__12-34-21", jobs / "2026-03-29__20-45-57"]
    view = harbor_nb.CompareView(sides)
    assert eval(view.code, {"harbor_nb": harbor_nb}).headline == view.comparison.headline
    assert view.comparison.verdict == "inconclusive"
    assert "daytona can be called neither equal to docker" in view._shown.value
    assert view._plot.value.startswith("<svg")
