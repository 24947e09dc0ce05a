"""What else differs, told from the files of real jobs that ran on local; and repeats of one setting."""

import json
import shutil

import pandas as pd
import pytest

import harbor_nb

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """One real job on local, two agents, two tasks."""
    folder = tmp_path_factory.mktemp("jobs")
    tasks = [harbor_nb.sample_tasks() / name for name in ("hello-world", "auth-token-race-condition")]
    job = harbor_nb.launch(tasks, agent="oracle", environment="local", job_name="real", jobs_dir=folder)
    job.wait(100, progress=False)
    assert job.trials()["reward"].tolist() == [1.0, 1.0]
    return job.path


@pytest.fixture
def copy(real, tmp_path):
    """Copy the real job under another name, with its settings changed where Harbor writes them."""

    def make(name, environment=None, **changes):
        target = tmp_path / name
        shutil.copytree(real, target)
        for file in target.rglob("*.json"):
            if file.name not in {"config.json", "result.json", "lock.json", "harbor_nb.json"}:
                continue
            text = file.read_text()
            for old, new in changes.items():
                text = text.replace(*new) if isinstance(new, tuple) else text.replace(old, new)
            content = json.loads(text)
            _set_environment(content, environment)
            file.write_text(json.dumps(content))
        return target

    return make


def _set_environment(content, environment):
    if environment is None or not isinstance(content, dict):
        return
    for key, value in content.items():
        if key == "environment" and isinstance(value, dict):
            value.update(type=environment, import_path=None)
        elif isinstance(value, dict):
            _set_environment(value, environment)
        elif isinstance(value, list):
            for item in value:
                _set_environment(item, environment)


def edit(job, file, change):
    path = job / file
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_guides_pair_differs_by_its_environment_alone(copy):
    found = harbor_nb.compare([copy("on-docker", "docker"), copy("on-daytona", "daytona")])
    assert found.differences.to_dict("records") == [
        {"versus": "daytona", "setting": "environment", "baseline": "docker", "side": "daytona", "kind": "compared"}
    ]
    assert "The environment was the only recorded difference." in found.headline
    assert "not put down to" not in found.headline


def test_every_other_setting_is_named_and_stops_the_claim(copy):
    docker, daytona = copy("on-docker", "docker"), copy("on-daytona", "daytona")

    def change(config):
        config["timeout_multiplier"] = 2.0
        config["environment"]["override_cpus"] = 4
        config["environment"]["env"] = {"MY_TOKEN": "sk-very-secret-value"}
        config["agents"] = [{"name": "oracle", "kwargs": {"temperature": 0.3, "api_key": "sk-other-secret"}}]
        config["n_attempts"] = 3

    edit(daytona, "config.json", change)
    edit(daytona, "lock.json", lambda lock: lock["harbor"].update(version="0.0.1"))
    found = harbor_nb.compare([docker, daytona])
    differ = found.differences.set_index("setting")
    assert differ.loc["timeout_multiplier", ["baseline", "side"]].tolist() == ["1.0", "2.0"]
    assert differ.loc["environment.override_cpus", "side"] == "4"
    assert differ.loc["agent.kwargs.temperature", ["baseline", "side"]].tolist() == ["not set", "0.3"]
    assert differ.loc["harbor version", "side"] == '"0.0.1"'
    assert differ.loc["harbor version", "kind"] == "version"
    assert "n_attempts" in differ.index
    assert "Not the environment alone: also" in found.headline
    assert "so this is not put down to the environment" in found.headline
    for text in (found.headline, str(found), found.to_html(), found.to_markdown(), str(differ)):
        assert "secret" not in text.replace("not shown", "")
    assert "agent.kwargs.api_key" in differ.index


def test_a_default_that_another_version_left_out_is_no_difference(copy):
    docker, daytona = copy("on-docker", "docker"), copy("on-daytona", "daytona")
    edit(docker, "config.json", lambda config: config.update(timeout_multiplier=1.0, retry={"max_retries": 0}))
    edit(docker, "config.json", lambda config: config.update(agents=[{"name": "oracle", "kwargs": {}}]))
    assert len(harbor_nb.compare([docker, daytona]).differences) == 1


def test_pooled_jobs_dates_and_agent_versions(copy):
    jobs = [copy("one", "docker"), copy("two", "docker"), copy("three", "daytona")]
    frame = harbor_nb.trials(jobs)
    late = frame["environment"] == "daytona"
    frame["started_at"] = frame["started_at"].where(~late, frame["started_at"] + pd.Timedelta(days=3))
    frame.loc[late, "agent_version"] = "2.0"
    found = harbor_nb.compare(frame)
    differ = found.differences.set_index("setting")
    assert differ.loc["jobs pooled", ["baseline", "side", "kind"]].tolist() == ["2", "1", "pooling"]
    assert differ.loc["dates", "kind"] == "date"
    assert differ.loc["agent version", "side"] == "2.0"
    assert all(name in found.headline for name in ("jobs pooled (2 | 1)", "dates (", "agent version ("))


def test_repeats_of_one_setting_are_chance(copy):
    found = harbor_nb.compare([copy("first"), copy("second")], by="job")
    assert found.baseline == "first"
    assert found.headline.startswith(
        "Between the repeats first and second the difference is +0.0 points, 95 % interval"
    )
    assert "this is how far repeats of one setting come apart by chance" in found.headline
    changed = copy("third")
    edit(changed, "config.json", lambda config: config.update(timeout_multiplier=3.0))
    other = harbor_nb.compare([copy("fourth"), changed], by="job", baseline="fourth")
    assert "by chance" not in other.headline
    assert "timeout_multiplier (1.0 | 3.0)" in other.headline


def test_jobs_of_one_name_in_two_folders_stay_apart(copy, tmp_path):
    first, second = copy("a/same"), copy("b/same")
    assert harbor_nb.compare([first, second], by="job", baseline=str(second)).baseline == "b/same"
    found = harbor_nb.compare([first, second], by="job")
    assert {found.baseline, *found.verdicts} == {"a/same", "b/same"}


def test_a_job_whose_files_are_gone(copy):
    docker, daytona = copy("on-docker", "docker"), copy("on-daytona", "daytona")
    for name in ("config.json", "lock.json", "harbor_nb.json", "result.json"):
        (docker / name).unlink()
    found = harbor_nb.compare([docker, daytona])
    assert found.differences["setting"].tolist()[0] == "environment"
    assert "harbor version" in found.differences["setting"].tolist()
