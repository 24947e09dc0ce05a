"""What `repair` changes and keeps: every environment to every other, lost configs, old configs, some trials only."""

import inspect
import json
import re
import shutil
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import yaml

import harbor_nb
from harbor_nb.errors import BadInputError, JobError
from harbor_nb.running.configs import LOCAL, environment_of
from harbor_nb.running.switching import abilities

ENVIRONMENTS = ("local", "docker", "daytona", "e2b", "modal", "runloop")
HOME = {"local": {"import_path": LOCAL}} | {name: {"type": name} for name in ENVIRONMENTS[1:]}
OWN = {
    "daytona": {"snapshot_template_name": "s", "auto_stop_interval_mins": 5, "labels": {"run": "a"}},
    "modal": {"app_name": "x", "sandbox_timeout_secs": 60, "labels": {"run": "a"}},
    "docker": {"keep_containers": True},
}
POLICY = {"docker": "limit", "daytona": "request", "e2b": "request", "runloop": "request", "modal": "guarantee"}
CONFIGS = {
    "bare": {},
    "name": {"job_name": "mine", "jobs_dir": "elsewhere", "debug": True, "quiet": False},
    "timeouts": {"timeout_multiplier": 2.0, "agent_timeout_multiplier": 3.0, "verifier_timeout_multiplier": 0.5,
                 "agent_setup_timeout_multiplier": 1.5, "environment_build_timeout_multiplier": 4.0},
    "concurrency": {"n_attempts": 3, "n_concurrent_trials": 7},
    "retry": {"retry": {"max_retries": 2, "include_exceptions": ["ApiError"], "min_wait_sec": 2.5}},
    "agents": {"agents": [{"name": "oracle"}, {"name": "claude-code", "model_name": "anthropic/claude-sonnet-4-5",
                           "kwargs": {"version": "1.0"}, "override_timeout_sec": 60.0, "env": {"A": "b"}}]},
    "verifier": {"verifier": {"override_timeout_sec": 30.0, "env": {"MODE": "x"}, "disable": False}},
    "resources": {"environment": {"override_cpus": 2, "override_memory_mb": 2048, "override_storage_mb": 4096,
                                  "force_build": True, "delete": False}},
    "policies": {"environment": {"cpu_enforcement_policy": "policy", "memory_enforcement_policy": "ignore",
                                 "override_cpus": 1}},
    "own": {"environment": {"kwargs": "own", "env": {"PLAIN": "1"}}},
    "instructions": {"extra_instructions": ["Be brief."], "artifacts": ["/app/out.txt"]},
    "mounts": {"environment": {"mounts": [{"type": "bind", "source": "/tmp", "target": "/data"}]}},
}  # fmt: skip


def config_of(kind, environment, task):
    told = json.loads(json.dumps(CONFIGS[kind]))
    settings = told.setdefault("environment", {})
    settings |= HOME[environment]
    if settings.get("kwargs") == "own":
        settings["kwargs"] = OWN.get(environment, {})
    if settings.get("cpu_enforcement_policy") == "policy":
        settings["cpu_enforcement_policy"] = POLICY.get(environment, "auto")
    return {**told, "tasks": [{"path": str(task)}]}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_environment_to_every_other(kind, tmp_path, task):
    from harbor import JobConfig

    path, whole = task(), JobConfig.model_fields
    for old in ENVIRONMENTS:
        file = tmp_path / f"{old}.json"
        before = config_of(kind, old, path)
        file.write_text(json.dumps(before))
        for new in ENVIRONMENTS:
            if new == old:
                continue
            mended = harbor_nb.repair(file, environment=new)
            (after,) = mended.plan.configs
            checked = JobConfig.model_validate(after)
            assert environment_of(after) == new
            told = {change.setting for change in mended.changes}
            for key in set(before) - {"environment", "tasks", "job_name", "jobs_dir", "quiet", "agents"}:
                assert after[key] == before[key], key
                assert getattr(checked, key) is not None
                assert key in whole
            for agent, kept in zip(before.get("agents", []), after["agents"], strict=False):
                assert agent.items() <= kept.items()
            lost = set(before["environment"]) - set(after["environment"]) - {"type", "import_path"}
            gone = set(before["environment"].get("kwargs", {})) - set(after["environment"].get("kwargs", {}))
            for setting in [*lost - {"kwargs"}, *(f"kwargs.{key}" for key in gone)]:
                assert f"environment.{setting}" in told, (old, new, setting)
            same = {k: v for k, v in after["environment"].items() if k not in ("type", "import_path", "kwargs")}
            assert same.items() <= before["environment"].items()
            assert_needed(old, new, before, lost, gone)
            assert json.loads(file.read_text()) == before


def assert_needed(old, new, before, lost, gone):
    """Nothing is lost that the new environment could keep."""
    can = abilities()[new]
    policy = before["environment"].get("cpu_enforcement_policy", "auto")
    allowed = {"kwargs"} if gone else set()
    if policy != "auto" and policy not in can.get("policies", ()):
        allowed.add("cpu_enforcement_policy")
    if not can.get("mounts"):
        allowed.add("mounts")
    assert lost <= allowed, (old, new, lost)
    assert not gone & {"labels"} or new not in ("daytona", "modal")


def harbors_own(name):
    if name == "local":
        return import_module("harbor_nb.local").LocalEnvironment
    module, kind = {
        "docker": ("docker.docker", "DockerEnvironment"), "daytona": ("daytona.environment", "DaytonaEnvironment"),
        "e2b": ("e2b", "E2BEnvironment"), "modal": ("modal", "ModalEnvironment"),
        "runloop": ("runloop", "RunloopEnvironment"),
    }[name]  # fmt: skip
    return getattr(import_module(f"harbor.environments.{module}"), kind)


@pytest.mark.parametrize(
    "name", [*ENVIRONMENTS[:2], *(pytest.param(name, marks=pytest.mark.deep) for name in ENVIRONMENTS[2:])]
)  # a vendor's SDK takes seconds to import
def test_the_table_of_abilities_is_what_harbors_classes_say(name, tmp_path, task, monkeypatch):
    from harbor.models.task.config import NetworkMode, NetworkPolicy
    from harbor.models.task.task import Task
    from harbor.models.trial.paths import TrialPaths

    can, kind = abilities()[name], harbors_own(name)
    found = Task(task("hello-world", to="tasks/other"))
    places = TrialPaths(tmp_path / "trial")
    more = {"network_policy": NetworkPolicy(network_mode=NetworkMode.NO_NETWORK)} if name == "docker" else {}
    if name == "docker":  # whose kernel it is does not matter here
        monkeypatch.setattr(kind, "_egress_control_kernel_support", lambda *args: True)
    made = kind(environment_dir=found.paths.environment_dir, environment_name="x", session_id="x__env",
                trial_paths=places, task_env_config=found.config.environment, **more)  # fmt: skip
    has = made.capabilities
    assert bool(can.get("no_network")) == has.disable_internet
    assert bool(can.get("allowlist")) == has.network_allowlist
    for ours, theirs in {
        "gpus": "gpus",
        "compose": "docker_compose",
        "windows": "windows",
        "mounts": "mounted",
    }.items():
        assert bool(can.get(ours)) == getattr(has, theirs), ours
    assert bool(can.get("stream")) == (has.stream or name == "docker")  # docker's has none beside egress control
    resources = kind.resource_capabilities()
    policies = [word for word in ("limit", "request") if getattr(resources, f"cpu_{word}")]
    assert can.get("policies", []) == policies + ["guarantee"] * (len(policies) == 2)
    accepted = set(inspect.signature(kind.__init__).parameters) | {"dind_image"}
    assert set(can.get("kwargs", ())) <= accepted


@pytest.mark.parametrize(
    ("setting", "target", "told"),
    [
        ("[environment]\ngpus = 1\n", "local", "needs gpus"),
        ("[environment]\ngpus = 1\n", "e2b", "needs gpus; choose docker or daytona or modal"),
        ('[environment]\nos = "windows"\n', "modal", "needs windows"),
        ('[environment]\nnetwork_mode = "allowlist"\nallowed_hosts = ["pypi.org"]\n', "local", "needs allowlist"),
        ("compose", "local", "needs compose"),
        ("compose", "runloop", "needs compose; choose docker or daytona or modal"),
    ],
)
def test_what_the_new_environment_can_not_do_is_refused_with_the_reason(job, task, setting, target, told):
    path = task()
    if setting == "compose":
        (path / "environment/docker-compose.yaml").write_text("services: {}\n")
    else:
        path.joinpath("task.toml").write_text('version = "1.0"\n' + setting)
    other = "daytona" if target != "daytona" else "docker"
    folder = job(config={"environment": {"type": other}, "tasks": [{"path": str(path)}]})
    with pytest.raises(BadInputError, match=told) as caught:
        harbor_nb.repair(folder, environment=target)
    assert "\n" not in str(caught.value)


def test_compose_files_and_gpus_of_the_job_are_checked_too(job, task, tmp_path):
    compose = tmp_path / "more.yaml"
    compose.write_text("services: {}\n")
    for settings, told in (({"extra_docker_compose": [str(compose)]}, "compose"), ({"override_gpus": 1}, "gpus")):
        config = {"environment": {"type": "docker", **settings}, "tasks": [{"path": str(task(to=f"t/{told}"))}]}
        with pytest.raises(BadInputError, match=f"asks for {told}"):
            harbor_nb.repair(job(told, config=config), environment="e2b")


HEREDOC = """{
    "environment": {
        "type": "docker",
        "force_build": false,
        "delete": true
    }
}
"""


def test_the_folder_that_the_guides_heredoc_leaves_is_rebuilt(job, task):
    path = task("auth-token-race-condition", to="shared_workspace/data_points/auth_token_race_condition")
    trials = [{"exception": "DaytonaError", "message": "API key or JWT token is required", "phase": "environment_setup",
               "path": "shared_workspace/data_points/auth_token_race_condition", "agent": agent}
              for agent in ("oracle", "nop", "nop")]  # fmt: skip
    folder = job("test_auth_token_task", environment="daytona", trials=trials)
    (folder / "config.json").write_text(HEREDOC)
    mended = harbor_nb.repair(folder)
    (config,) = mended.plan.configs
    assert config["tasks"] == [{"path": str(path)}]
    assert [agent["name"] for agent in config["agents"]] == ["oracle", "nop"]
    assert config["n_attempts"] == 2
    assert environment_of(config) == "docker"
    assert config["environment"]["delete"] is True
    assert config["job_name"] == "test_auth_token_task-again"
    assert "the config names no tasks; this is what its trials were told" in str(mended)


@pytest.mark.parametrize("gone", ["config", "all configs"])
def test_a_lost_config_is_rebuilt_from_results_and_lock(job, task, gone):
    path = task()
    folder = job(trials=[{"path": str(path), "reward": 1.0}])
    (folder / "lock.json").write_text(json.dumps({"n_concurrent_trials": 9, "retry": {"max_retries": 4}}))
    (folder / "config.json").write_text("{ torn" if gone == "config" else "{}")
    if gone != "config":
        next(folder.glob("*/config.json")).unlink()
    (config,) = harbor_nb.repair(folder, environment="local").plan.configs
    assert config["tasks"] == [{"path": str(path)}]
    assert (config["n_concurrent_trials"], config["retry"]) == (9, {"max_retries": 4})


def test_nothing_left_to_rebuild_from_asks_for_tasks(job, task):
    folder = job(config={"environment": {"type": "docker"}})
    with pytest.raises(BadInputError, match="give tasks="):
        harbor_nb.repair(folder)
    path = task()
    (config,) = harbor_nb.repair(folder, tasks=path).plan.configs
    assert config["tasks"] == [{"path": str(path)}]
    (folder / "config.json").write_text("{ torn")
    with pytest.raises(BadInputError, match="not a job that can be repaired"):
        harbor_nb.repair(folder)


def test_relative_task_paths_are_tried_beside_the_notebook_then_beside_the_jobs_folder(
    job, task, monkeypatch, tmp_path
):
    beside, config = task(), {"tasks": [{"path": "tasks/hello-world"}]}
    folder = job(config=config)
    assert harbor_nb.repair(folder).plan.configs[0]["tasks"] == [{"path": str(beside)}]
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert harbor_nb.repair(folder).plan.configs[0]["tasks"] == [{"path": str(beside)}]
    shutil.copytree(beside, other / "tasks/hello-world")
    assert harbor_nb.repair(folder).plan.configs[0]["tasks"] == [{"path": str(other / "tasks/hello-world")}]
    shutil.move(beside, tmp_path / "hello-world")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=r"hello-world is not found from .* give tasks="):
        harbor_nb.repair(folder)
    given = harbor_nb.repair(folder, tasks=tmp_path / "hello-world")
    assert given.plan.configs[0]["tasks"] == [{"path": str(tmp_path / "hello-world")}]


def test_configs_of_old_harbor_versions_are_migrated(job, task, monkeypatch):
    path = task()
    monkeypatch.setenv("OPENAI_API_KEY", "canary-value-1234567")
    config = {
        "orchestrator": {"type": "local", "n_concurrent_trials": 3, "quiet": True, "retry": {"max_retries": 1}},
        "plugins": ["x"], "strange": {"api_key": "zzz"},
        "environment": {"type": "docker", "mounts_json": [], "env": ["A=b"]},
        "agents": [{"name": "oracle", "env": {"OPENAI_API_KEY": "sk-l****567"}}], "tasks": [{"path": str(path)}],
    }  # fmt: skip
    mended = harbor_nb.repair(job(config=config), environment="local")
    (after,) = mended.plan.configs
    assert (after["n_concurrent_trials"], after["retry"]) == (3, {"max_retries": 1})
    assert after["environment"]["mounts"] == []
    assert after["environment"]["env"] == {"A": "b"}
    assert after["agents"][0]["env"] == {"OPENAI_API_KEY": "${OPENAI_API_KEY}"}
    told = {change.setting: change.reason for change in mended.changes}
    assert told["strange"] == "Harbor knows no such setting"
    assert {"orchestrator", "plugins", "environment.mounts_json"} <= set(told)
    assert "zzz" not in str(mended) + mended._repr_html_() + mended.table.to_string()


def test_an_old_file_is_brought_up_to_date_once(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "old.yaml"
    file.write_text(
        f"# mine\norchestrator:\n  n_concurrent_trials: 3  # few\nplugins: []\ntasks:\n  - path: {task()}\n"
    )
    harbor_nb.repair(file, environment="local").write(in_place=True)
    assert not {"orchestrator", "plugins"} & set(yaml.safe_load(file.read_text()))
    assert "# mine" in file.read_text()
    again = harbor_nb.repair(file, environment="local")
    assert again.changes == ()
    assert again.plan.configs[0]["n_concurrent_trials"] == 3


def test_real_configs_of_harbor_0_1_are_repaired(real_jobs):
    for file in real_jobs.glob("*/jobs/*/config.json"):
        with pytest.raises(BadInputError, match="give tasks="):  # their tasks are not here
            harbor_nb.repair(file.parent, environment="local")


test_real_configs_of_harbor_0_1_are_repaired = pytest.mark.real_jobs(test_real_configs_of_harbor_0_1_are_repaired)


def test_only_failed_runs_the_trials_without_a_reward_that_counts(job, task):
    paths = {name: str(task(to=f"tasks/{name}")) for name in ("a", "b", "c")}
    folder = job(trials=[
        {"task": "a", "path": paths["a"], "reward": 1.0},
        {"task": "a", "path": paths["a"], "exception": "RuntimeError", "message": "Is the docker daemon running"},
        {"task": "b", "path": paths["b"], "exception": "OddError", "agent": "nop"},
        {"task": "b", "path": paths["b"], "exception": "OddError", "agent": "nop"},
        {"task": "c", "path": paths["c"], "exception": "CancelledError", "reward": 1.0},
        {"task": "c", "path": paths["c"], "exception": "AgentTimeoutError", "reward": 0.0},
        {"task": "c", "path": paths["c"], "result": False},
    ])  # fmt: skip
    config = {"environment": {"type": "docker"}, "n_attempts": 2, "tasks": [{"path": path} for path in paths.values()]}
    (folder / "config.json").write_text(json.dumps(config))
    runs = {
        (c["agents"][0]["name"], Path(task["path"]).name): c["n_attempts"]
        for c in harbor_nb.repair(folder, only="failed").plan.configs
        for task in c["tasks"]
    }
    assert runs == {("oracle", "a"): 1, ("nop", "b"): 2, ("oracle", "c"): 2}
    errors = harbor_nb.repair(folder, only="errors")
    assert sum(c["n_attempts"] * len(c["tasks"]) for c in errors.plan.configs) == 6
    named = harbor_nb.repair(folder, only=["a__0000000"])
    assert [task["path"] for task in named.plan.configs[0]["tasks"]] == [paths["a"]]
    frame = harbor_nb.trials(folder)
    assert len(harbor_nb.repair(folder, only=frame[frame["task"] == "b"]).plan.configs) == 1
    with pytest.raises(BadInputError, match="no trial 'zzz'"):
        harbor_nb.repair(folder, only="zzz")
    with pytest.raises(JobError, match="nothing was launched"):
        named.combine()


def test_nothing_failed_is_told(job, task):
    path = task()
    folder = job(trials=[{"path": str(path), "reward": 1.0}], config={"tasks": [{"path": str(path)}]})
    with pytest.raises(BadInputError, match="none failed"):
        harbor_nb.repair(folder, only="failed")


def test_settings_are_harbors_own_by_name(job, task):
    folder = job(config={"tasks": [{"path": str(task())}]})
    mended = harbor_nb.repair(folder, agent_timeout_multiplier=2, override_memory_mb=4096)
    (config,) = mended.plan.configs
    assert config["agent_timeout_multiplier"] == 2
    assert config["environment"]["override_memory_mb"] == 4096
    assert [str(change) for change in mended.changes] == [
        "agent_timeout_multiplier: nothing -> 2 (as you asked)",
        "environment.override_memory_mb: nothing -> 4096 (as you asked)",
    ]
    with pytest.raises(BadInputError, match="did you mean 'agent_timeout_multiplier'"):
        harbor_nb.repair(folder, agent_timeout_multiplyer=2)
    with pytest.raises(BadInputError, match="unknown environment 'dokcer'; did you mean 'docker'"):
        harbor_nb.repair(folder, environment="dokcer")
    with pytest.raises(BadInputError, match="no such job or config"):
        harbor_nb.repair("nowhere")


def test_a_config_file_is_written_in_place_with_its_comments(task, tmp_path):
    path = task()
    text = "# mine\nenvironment:\n  type: daytona  # the cloud\n  kwargs:\n    region: x\n  delete: true\n"
    text += f"tasks:\n  - path: {path}\n"
    file = tmp_path / "job.yaml"
    file.write_text(text)
    mended = harbor_nb.repair(file, environment="docker")
    assert mended.write(in_place=False) == [file]
    assert file.read_text() == text
    assert mended.write() == [file]
    wanted = text.replace("daytona", '"docker"').replace("  kwargs:\n    region: x\n", "")
    assert file.read_text() == wanted
    assert (tmp_path / "job.yaml.1.bak").read_text() == text
    assert yaml.safe_load(wanted)["environment"] == {"type": "docker", "delete": True}
    harbor_nb.repair(file, environment="local").write()
    assert yaml.safe_load(file.read_text())["environment"] == {"import_path": LOCAL, "delete": True}


def test_a_config_inside_of_a_job_folder_is_not_written(job, task):
    folder = job(config={"tasks": [{"path": str(task())}]})
    (folder / "job.log").write_text("")
    for place in (folder, folder / "config.json"):
        with pytest.raises(JobError, match=f"the config of {folder.name} .* refuse to resume"):
            harbor_nb.repair(place, environment="local").write()


def test_a_list_of_jobs_is_repaired_as_one(job, task):
    path = str(task())
    for name in ("a", "b"):
        no_key = {"exception": "DaytonaError", "message": "API key or JWT token is required", "path": path}
        config = {"environment": {"type": "daytona"}, "tasks": [{"path": path}]}
        job(name, [{**no_key, "phase": "environment_setup"}], config, environment="daytona")
    mended = harbor_nb.repair(harbor_nb.find_broken("jobs"), environment="docker")
    assert [config["job_name"] for config in mended.plan.configs] == ["a-docker", "b-docker"]
    with pytest.raises(BadInputError, match="job_name is for one job"):
        mended.launch(job_name="x")
    assert isinstance(mended.table, pd.DataFrame)
    assert set(mended.table["job"]) == {"a", "b"}


def test_a_repaired_practice_job_meets_the_same_faults(job, task):
    folder = job(config={"environment": {"type": "daytona"}, "tasks": [{"path": str(task())}]})
    played = harbor_nb.Practice(daytona={"quota": 2}, e2b={"start_delay": 3}, seed=7)
    record = {"job_name": "job", "state": "finished", "environment": "daytona", "practice": True}
    (folder / "harbor_nb.json").write_text(json.dumps({**record, "plays": played.to_json()}))
    assert harbor_nb.repair(folder, environment="e2b").plan.practice == played
    assert harbor_nb.repair(folder, environment="docker").plan.practice is None


def test_text_and_html_show_each_change_once(job, task):
    mended = harbor_nb.repair(job(config={"environment": {"type": "daytona"}, "tasks": [{"path": str(task())}]}),
                              environment="docker")  # fmt: skip
    assert "environment.type: daytona -> docker (daytona -> docker)" in str(mended)
    html = mended._repr_html_()
    assert html.count("<tr>") == 1 + len(mended.changes)
    assert re.search(r"<td>environment.type</td>\s*<td>daytona</td>\s*<td>docker</td>", html)
    assert repr(mended) == str(mended)
