"""Plans: what may be written for tasks, agents, environments and settings; and what a plan shows."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.errors import BadInputError, HarborNbError
from harbor_nb.running.configs import validated
from harbor_nb.running.plans import Plan
from tests.running.conftest import make_task


def harbor_reads(plan):
    return [validated(config) for config in plan.configs]


def test_tasks_agents_and_environments_become_harbors_configs(tasks):
    from harbor.models.trial.config import AgentConfig

    agents = ["oracle", ("claude-code", "anthropic/claude-sonnet-4-5"), AgentConfig(name="nop", kwargs={"a": 1})]
    plan = harbor_nb.plan(
        [tasks / "first", tasks], agents=agents, environments=["local", "docker"], attempts=2, name="x"
    )
    local, docker = harbor_reads(plan)
    assert [task.path.name for task in docker.tasks] == ["first", "first", "second", "third"]
    assert [agent.model_name for agent in docker.agents] == [None, "anthropic/claude-sonnet-4-5", None]
    assert docker.agents[2].kwargs == {"a": 1}
    assert local.environment.import_path == "harbor_nb.local:LocalEnvironment"
    assert (docker.environment.type.value, docker.n_attempts, docker.job_name) == ("docker", 2, "x-docker")
    assert plan.n_trials == 4 * 3 * 2


def test_tasks_are_filtered_by_name_and_number(tasks):
    def names(**filters):
        return [Path(task["path"]).name for task in harbor_nb.plan(tasks, **filters).configs[0]["tasks"]]

    assert names(task_names=["*ir*"]) == ["first", "third"]
    assert names(exclude_task_names=["first"], n_tasks=1) == ["second"]
    with pytest.raises(BadInputError, match="no task is left by the filter; there are first, second, third"):
        names(task_names=["nothing"])
    given = [{"path": "a/one", "git_url": "u"}, {"path": str(tasks)}, {"path": "b", "n_tasks": 9}, tasks]
    (config,) = harbor_nb.plan(given, task_names=["one", "s*"], n_tasks=2).configs
    assert [Path(task["path"]).name for task in config["tasks"]] == ["one", "second"]
    assert [(made["task_names"], made["n_tasks"]) for made in config["datasets"]] == [
        (["one", "s*"], 2),
        (["one", "s*"], 9),
    ]


def test_a_dataset_of_a_registry_and_a_git_task():
    plan = harbor_nb.plan(["terminal-bench@2.0", "git+https://example.org/a/b@abc123#tasks/one"], n_tasks=3)
    (config,) = harbor_reads(plan)
    dataset, task = config.datasets[0], config.tasks[0]
    assert (dataset.name, dataset.version, dataset.n_tasks) == ("terminal-bench", "2.0", 3)
    assert (task.git_url, task.git_commit_id, str(task.path)) == ("https://example.org/a/b", "abc123", "tasks/one")


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.local
def test_tasks_of_a_git_repository_are_filtered_and_run_at_their_commit(tasks, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # Harbor keeps what it cloned there
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "tasks")
    git(tmp_path, "commit", "--quiet", "-m", "tasks")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tasks / "first/solution/solve.sh").write_text("exit 1")
    git(tmp_path, "commit", "--quiet", "-am", "a solution that is wrong")
    of_git = [f"git+{tmp_path.as_uri()}@{commit}#tasks/{name}" for name in ("first", "second", "third")]
    plan = harbor_nb.plan(of_git, task_names=["f*", "s*"], n_tasks=1, name="git")
    (job,) = plan.launch().wait(60, progress=False)
    trials = job.trials()
    assert trials[["task", "reward"]].to_numpy().tolist() == [["first", 1.0]], job.log(50)
    assert json.loads((job.path / "lock.json").read_text())["trials"][0]["task"]["git_commit_id"] == commit


def test_a_plan_shows_its_command_and_yaml_once(tasks):
    from harbor_nb import JobLauncher

    plan = harbor_nb.plan(tasks, environments="docker", name="shown")
    for shown in (plan._repr_html_(), JobLauncher(str(tasks))._preview.value):
        assert shown.count("<details>") == shown.count("harbor run -p") == shown.count("n_attempts: ") + 1 == 1


def test_a_registry_file_is_counted_and_runs(tasks, tmp_path):
    entry = {
        "name": "mine",
        "version": "1.0",
        "description": "",
        "tasks": [{"name": "first", "path": str(tasks / "first")}],
    }
    (tmp_path / "registry.json").write_text(json.dumps([entry]))
    plan = harbor_nb.plan(
        [{"name": "mine", "version": "1.0", "registry_path": "registry.json"}], name="reg", attempts=2
    )
    assert plan.n_trials == 2
    (job,) = plan.launch().wait(60, progress=False)
    assert job.trials()["reward"].tolist() == [1.0, 1.0]


BAD = {
    "no such task": ({"tasks": "nowhere"}, "no such task"),
    "not a task folder": ({"tasks": "empty"}, "not a task folder"),
    "unknown agent": ({"agents": "oracl"}, "did you mean 'oracle'"),
    "unknown environment": ({"environments": "dokcer"}, "did you mean 'docker'"),
    "settings for an environment": ({"environments": {"type": "docker"}}, "name, such as environments='docker'"),
    "empty task list": ({"tasks": []}, "the task list is empty"),
    "no agent": ({"agents": []}, "at least one"),
    "no attempt": ({"attempts": 0}, "at least one"),
    "unknown field": ({"n_concurent_trials": 2}, "did you mean 'n_concurrent_trials'"),
    "unknown nested field": ({"environment": {"force_biuld": True}}, "did you mean 'force_build'"),
    "wrong type": ({"n_concurrent_trials": "many"}, "n_concurrent_trials"),
    "name that leaves the folder": ({"name": "../x"}, "another job name"),
    "task of a wrong kind": ({"tasks": 3}, "can't be a int"),
    "agent of a wrong kind": ({"agents": [3]}, "an agent can't be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_folder(case, tasks, tmp_path):
    (tmp_path / "empty").mkdir()
    given, said = BAD[case]
    with pytest.raises(BadInputError, match=said) as raised:
        harbor_nb.plan(**{"tasks": tasks, **given}).launch()
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "jobs").exists()


def test_an_unwritable_jobs_folder_is_said(tasks, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="another jobs_dir"):
        harbor_nb.launch(tasks, jobs_dir=tmp_path / "file" / "jobs")


def test_a_full_disk_is_said(tasks, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with pytest.raises(BadInputError, match="less than 100 MB are free"):
        harbor_nb.launch(tasks, job_name="full")
    assert not Path("jobs/full").exists()


@pytest.mark.parametrize("text", [
    '{"job_name": "f", "tasks": [{"path": "tasks/first"}], // said\n "environment": {"type": "docker"}}',
    "job_name: f\ntasks:\n- path: tasks/first\nenvironment:\n  type: docker  # said\n",
    '\ufeff{"job_name": "f", "orchestrator": {"n_concurrent_trials": 2}, "tasks": [{"path": "tasks/first"}]}',
])  # fmt: skip
def test_a_config_file_is_read_as_harbor_reads_it(text, tasks, tmp_path):
    file = tmp_path / ("job.yaml" if text.startswith("job_name") else "job.json")
    file.write_text(text)
    plan = Plan.from_config(file)
    (config,) = harbor_reads(plan)
    assert config.tasks[0].path == tasks / "first"
    assert plan.environments == ("docker",)


@pytest.mark.parametrize(("text", "said"), [
    ("[1, 2]", "does not hold a mapping"), ("{", "neither JSON nor YAML"),
    ('{"environment": {"type": "docker"}}', "names no tasks"),
    ('{"tasks": [{"path": "tasks/first"}], "enviroment": {}}', "did you mean 'environment'"),
])  # fmt: skip
def test_a_bad_config_file_is_one_line(text, said, tasks, tmp_path):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(BadInputError, match=said):
        Plan.from_config(tmp_path / "job.json")
    with pytest.raises(BadInputError, match="can't read"):
        Plan.from_config(tmp_path / "none.json")


def test_the_guides_command_is_resolved_by_harbors_own_parser(tasks):
    text = """harbor jobs start \\
      --env docker \\
      -p tasks/first \\
      -a claude-code \\
      -m anthropic/claude-sonnet-4-5 \\
      --job-name test_auth_token_docker_fixed"""
    plan = Plan.from_command(text)
    (config,) = harbor_reads(plan)
    assert config.job_name == "test_auth_token_docker_fixed"
    assert config.tasks[0].path == tasks / "first"
    assert (config.agents[0].name, config.agents[0].model_name) == ("claude-code", "anthropic/claude-sonnet-4-5")
    assert plan.environments == ("docker",)


@pytest.mark.parametrize(("text", "said"), [
    ("ls -l", "begins with 'harbor run'"), ("harbor run --no-such-option", "No such option"),
    ("harbor run -p tasks -e dokcer", "dokcer"), ("harbor run --launch -p tasks", "--launch"),
    ("KEY=1 harbor run -p tasks", "set KEY by load_env"),
])  # fmt: skip
def test_a_bad_command_says_what_harbor_says(text, said, tasks):
    with pytest.raises(BadInputError, match=said):
        Plan.from_command(text)


@pytest.mark.deep  # a child that loads Harbor's command line for each
@pytest.mark.parametrize("given", [
    {"agents": ["oracle"]}, {"agents": [("oracle", "a/b"), ("oracle", "a/c")], "n_concurrent_trials": 2},
    {"task_names": ["first", "third"]}, {"environment": {"force_build": True, "override_cpus": 2}},
    {"timeout_multiplier": 2.0, "attempts": 3}, {"agents": ["oracle", "nop"]}, {"environments": "local"},
    {"agents": {"name": "oracle", "env": {"MODE": "fast lane"}}}, {"artifacts": ["/app/x"]},
])  # fmt: skip
def test_the_equivalent_command_means_the_same_to_harbor(given, tasks, monkeypatch):
    plan = harbor_nb.plan(tasks, **{"environments": "docker", "name": "same", **given})
    words = shlex.split(plan.command)
    if "-c" in words:
        Path(words[-1]).write_text(plan.yaml)
    (theirs,), (ours,) = harbor_reads(Plan.from_command(plan.command)), harbor_reads(plan)

    def trials(config):
        from harbor import JobPlan

        from harbor_nb._sync import run_sync

        found = run_sync(JobPlan.from_config(config))
        return [trial.model_dump(exclude={"trial_name", "job_id"}) for trial in found.trial_configs]

    assert trials(theirs) == trials(ours)
    assert theirs.job_name == ours.job_name


def test_literal_secrets_leave_the_plan_as_names(tasks, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "what-the-shell-has")
    agent = {"name": "oracle", "env": {"API_KEY": "canary-one-77", "OTHER_KEY": "canary-two-88", "MODE": "fast"}}
    plan = harbor_nb.plan(tasks, agents=[agent], environment={"env": {"DB_PASSWORD": "canary-three-99"}})
    shown = "\n".join((repr(plan), plan.yaml, plan.command, plan._repr_html_(), json.dumps(plan.configs)))
    assert "canary" not in shown
    assert plan.configs[0]["agents"][0]["env"] == {
        "API_KEY": "${API_KEY}",
        "OTHER_KEY": "${OTHER_KEY_2}",
        "MODE": "fast",
    }
    assert plan.secrets["OTHER_KEY_2"] == "canary-two-88"


def test_harbors_own_configs_keep_their_secrets_and_their_place(tasks):
    from harbor.models.trial.config import EnvironmentConfig, VerifierConfig

    verifier = VerifierConfig(env={"JUDGE_API_KEY": "canary-four-123"})
    settings = EnvironmentConfig(type="daytona", force_build=True, env={"DB_PASSWORD": "canary-five-456"})
    plan = harbor_nb.plan(tasks, environments=["docker", "local"], environment=settings, verifier=verifier)
    assert plan.environments == ("docker", "local")
    assert [config["environment"]["env"] for config in plan.configs] == [{"DB_PASSWORD": "${DB_PASSWORD}"}] * 2
    assert plan.configs[0]["verifier"] == {"env": {"JUDGE_API_KEY": "${JUDGE_API_KEY}"}}
    assert plan.secrets == {"JUDGE_API_KEY": "canary-four-123", "DB_PASSWORD": "canary-five-456"}
    assert harbor_reads(plan)[0].environment.force_build


def test_the_preview_tells_trials_readiness_history_and_more(tasks, monkeypatch):
    monkeypatch.delenv("HARBOR_TELEMETRY")
    monkeypatch.delenv("DAYTONA_API_KEY", raising=False)
    plan = harbor_nb.plan(tasks, environments=["local", "daytona"], name="p")
    shown = repr(plan)
    assert "p-local: 3 trials, oracle on local" in shown
    assert "no history" in shown
    assert "not ready" in shown
    assert shown.count("oracle is ready") == plan._repr_html_().count("oracle is ready") == 1
    assert "HARBOR_TELEMETRY" in shown
    assert "side by side, with the same agent version" in shown
    monkeypatch.setenv("HARBOR_TELEMETRY", "off")
    harbor_nb.plan(tasks, name="p").launch().wait(60, progress=False)
    again = harbor_nb.plan(tasks, environments=["local", "docker"], agents=["oracle"], name="p")
    assert "3 similar trials took" in repr(again)
    assert "a job of this name exists already" in repr(again)
    assert "HARBOR_TELEMETRY" not in repr(again)
    assert "fast_stop=False" in repr(again)
    assert "<table>" in again._repr_html_()
    loose = harbor_nb.plan(tasks, agents="claude-code", environments=["local", "docker"])
    assert "claude-code is installed in its newest version" in repr(loose)


@pytest.mark.parametrize(
    ("name", "told"),
    [("JUPYTERHUB_USER", "JupyterHub"), ("BINDER_SERVICE_HOST", "Binder"), ("COLAB_RELEASE_TAG", "Colab")],
)
def test_a_hosted_notebook_is_told_what_ends_the_job(name, told, tasks, monkeypatch, capsys):
    monkeypatch.setenv(name, "x")
    harbor_nb.plan(tasks / "first", name="hosted").launch().wait(60, progress=False)
    assert told in capsys.readouterr().out


def test_what_certainly_cannot_run_is_refused_and_the_others_start(tasks, monkeypatch, capsys):
    monkeypatch.delenv("DAYTONA_API_KEY", raising=False)
    monkeypatch.delenv("DAYTONA_JWT_TOKEN", raising=False)
    jobs = harbor_nb.plan(tasks / "first", environments=["daytona", "local"], name="mixed").launch()
    assert [job.name for job in jobs] == ["mixed-local"]
    assert "daytona is not ready" in capsys.readouterr().out
    with pytest.raises(harbor_nb.HarborNbError, match="daytona is not ready"):
        harbor_nb.plan(tasks / "first", environments="daytona", name="alone").launch()
    assert not Path("jobs/alone-daytona").exists()
    jobs.wait(60, progress=False)


def test_importing_and_planning_stays_free_of_vendor_sdks(tasks):
    found = "[name for name in ('daytona', 'e2b', 'modal', 'litellm') if name in sys.modules]"
    code = f"import sys, harbor_nb; harbor_nb.plan({str(tasks)!r}); print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


def test_a_job_is_planned_once_more_from_its_folder(tasks):
    (job,) = harbor_nb.plan(tasks / "first", name="once", n_concurrent_trials=2).launch().wait(60, progress=False)
    plan = Plan.from_job(job)
    assert plan.configs[0]["job_name"] == "once-local-2"
    assert plan.configs[0]["n_concurrent_trials"] == 2
    assert plan.launch().wait(60, progress=False).trials()["reward"].tolist() == [1.0]
    (job.path / "config.json").write_text('{"environment": {"type": "docker"}}')
    with pytest.raises(HarborNbError, match="names no tasks"):
        Plan.from_job(job.path)
    make_task(Path("tasks"), "unused")


def test_plans_of_one_second_are_all_launched_under_names_of_their_own(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("harbor_nb.running.planning.time.strftime", lambda _: "2026-01-01__00-00-00")
    made = [("oracle", 1), ("nop", 1), ("nop", 2), ("oracle", 1)]
    first, second, _, again = (
        harbor_nb.plan(tasks, agent, ["local", "docker"], attempts, jobs_dir=tmp_path) for agent, attempts in made
    )
    names = [config["job_name"] for plan in (first, second) for config in plan.configs]
    stem = "2026-01-01__00-00-00"
    assert names == [f"{stem}-local", f"{stem}-docker", f"{stem}-2-local", f"{stem}-2-docker"]
    assert again.configs == first.configs  # a cell that runs again shows the same
    (tmp_path / f"{stem}-docker").mkdir()  # launched, or of another kernel
    fourth = harbor_nb.plan(tasks, environments=["local", "docker"], jobs_dir=tmp_path)
    assert fourth.configs[0]["job_name"] == f"{stem}-4-local"
