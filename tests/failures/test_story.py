"""The guide's story, for real: a daytona job without a key, why it failed, and the same task passing elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.running.configs import environment_of

ROOT = Path(__file__).resolve().parents[2]
HEREDOC = """{
    "environment": {
        "type": "docker",
        "force_build": false,
        "delete": true
    }
}
"""


@pytest.fixture
def failed(task):
    """The job `test_auth_token_task` as the guide has it: on daytona, and no DAYTONA_API_KEY."""
    path = task("auth-token-race-condition", to="shared_workspace/data_points/auth_token_race_condition")
    made = harbor_nb.plan(path, environments="daytona", name="test_auth_token_task", exact_name=True)
    return made.launch(force=True)[0].wait(100, progress=False)


@pytest.mark.local
def test_the_guides_story_to_a_pass_on_local(failed):
    told = failed.diagnose()
    (group,) = told.groups
    assert (group["failure"], group["phase"], group["environment"]) == ("key-missing", "environment_setup", "daytona")
    assert "DAYTONA_API_KEY" in group["cause"]
    assert group["now"].startswith("daytona is not ready")
    ways = [group["fix"], *(line for _, line in group["options"])]  # the guide's three options
    assert any('job.repair(environment="' in line for line in ways)
    assert any("load_env" in line for line in ways)
    assert any('os.environ["DAYTONA_API_KEY"]' in line for line in ways)
    assert group["example"].startswith(str(failed.path))

    mended = failed.repair(environment="local")
    assert [(change.setting, change.old) for change in mended.changes] == [
        ("environment.type", "daytona"), ("environment.import_path", None)
    ]  # fmt: skip
    again = mended.launch().wait(100, progress=False)
    assert again.name == "test_auth_token_task-local"
    assert again.trials()["reward"].tolist() == [1.0]
    assert again.diagnose().ok

    both = mended.combine()
    assert both[["environment", "origin", "reward"]].to_numpy().tolist() == [["local", "new", 1.0]]
    assert both.attrs["repaired"]
    old, new = (json.loads((job.path / "config.json").read_text()) for job in (failed, again))
    names = {key for key in set(old) | set(new) if old.get(key) != new.get(key)}
    assert names == {"environment", "job_name"}  # the environment was the only difference


@pytest.mark.docker
def test_the_guides_story_to_a_pass_on_docker_after_its_heredoc(failed):
    (failed.path / "config.json").write_text(HEREDOC)
    mended = failed.repair()
    assert environment_of(mended.plan.configs[0]) == "docker"
    again = mended.launch("test_auth_token_docker_fixed").wait(110, progress=False)
    assert again.trials()[["environment", "reward"]].to_numpy().tolist() == [["docker", 1.0]]


def test_the_page_of_failures_is_current():
    done = subprocess.run([sys.executable, ROOT / "tools/failures_docs", "--print"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "docs/failures.md").read_text() == done.stdout, "run tools/failures_docs"
