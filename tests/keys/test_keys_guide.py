"""Every row of the guide's tables, its three solutions and its troubleshooting: a test each, named after it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import harbor_nb

KEY = "DAYTONA_API_KEY"


@pytest.fixture
def table(monkeypatch):
    from harbor_nb.backends import preflight

    monkeypatch.setattr(preflight, "preflights", dict)  # the guide's five, and local
    return harbor_nb.environments().set_index("name")


def test_table_docker_needs_no_key_runs_locally_is_the_default(table):
    row = table.loc["docker"]
    assert (row["needs_key"], row["runs"]) == (False, "local")
    assert row["use_case"].startswith("Default, local testing, development")


def test_table_daytona_needs_daytona_api_key_runs_in_the_cloud(table):
    row = table.loc["daytona"]
    assert (row["needs_key"], row["runs"], row["missing"]) == (True, "cloud", KEY)
    assert row["credentials"].startswith(KEY)
    assert row["use_case"].startswith("Cloud execution, remote agents")


def test_table_e2b_sandboxed_execution(table):
    assert table.loc["e2b", ["needs_key", "runs", "use_case"]].tolist() == [True, "cloud", "Sandboxed execution"]


def test_table_modal_serverless_compute(table):
    assert table.loc["modal", ["needs_key", "runs", "use_case"]].tolist() == [True, "cloud", "Serverless compute"]


def test_table_runloop_runloop_platform(table):
    assert table.loc["runloop", ["needs_key", "runs", "use_case"]].tolist() == [True, "cloud", "Runloop platform"]


def test_best_practice_1_default_to_docker_for_development(table):
    for word in ("local testing", "development", "CI/CD pipelines", "don't need cloud execution"):
        assert word in table.loc["docker", "use_case"]


def test_best_practice_2_use_daytona_for_production_and_scale(table):
    for word in ("Cloud execution", "production", "scale", "remote agents"):
        assert word in table.loc["daytona", "use_case"]


@pytest.mark.parametrize("name", ["docker", "daytona", "local"])
def test_best_practice_3_configuration_files_name_the_environment(name):
    """As Harbor reads it: what stands in no file is its default, docker."""
    from harbor import JobConfig

    text = harbor_nb.plan(harbor_nb.sample_tasks() / "hello-world", environments=name).yaml
    environment = JobConfig.model_validate(yaml.safe_load(text)).environment
    assert (environment.import_path or environment.type.value) == {"local": "harbor_nb.local:LocalEnvironment"}.get(
        name, name
    )


def test_best_practice_4_keys_in_env_never_committed():
    """A `.env` that git could take is told when it is loaded, and when it is written."""
    subprocess.run(["git", "init", "-q"], check=True)
    with pytest.warns(UserWarning, match="git does not ignore"):
        harbor_nb.save_env({KEY: "dtn_0123456789"}, ".env")
    assert any("not ignored by git" in note for note in harbor_nb.load_env().notes)


def test_the_issue_is_told_before_launch_instead_of_trial_by_trial():
    readiness = harbor_nb.check("daytona")
    assert not readiness
    assert readiness.reason == f"{KEY} not set"


def test_the_launch_itself_is_refused():
    with pytest.raises(harbor_nb.HarborNbError, match=KEY):
        harbor_nb.launch(harbor_nb.sample_tasks() / "hello-world", environment="daytona", jobs_dir="jobs")
    assert not Path("jobs").exists()


def test_root_cause_the_client_reads_daytona_jwt_token_not_daytona_jwt():
    """The guide names DAYTONA_JWT; the SDK reads DAYTONA_JWT_TOKEN with DAYTONA_ORGANIZATION_ID."""
    os.environ["DAYTONA_JWT"] = "eyJ0123456789"
    assert "does not read it" in harbor_nb.check("daytona").reason
    os.environ.update(DAYTONA_JWT_TOKEN="eyJ0123456789", DAYTONA_ORGANIZATION_ID="org-1")
    assert harbor_nb.check("daytona").ready


def test_solution_1_use_the_docker_environment():
    assert 'environment="docker"' in harbor_nb.check("daytona").fix


def test_solution_2_configure_the_daytona_api_key_in_env():
    """cp .env.example .env, add the key, load it: `check` says ready and the table says where the key is from."""
    harbor_nb.env_example()
    text = Path(".env.example").read_text()
    Path(".env").write_text(text.replace("your-daytona-api-key-here", "dtn_0123456789"))
    Path(".env").chmod(0o600)
    row = next(row for row in harbor_nb.load_env() if row.name == KEY)
    assert (row.source, row.length, row.used_by, row.warnings) == (".env", 14, "daytona", ())
    assert harbor_nb.check("daytona").ready


def test_solution_2_other_ways_the_guide_loads_env_give_the_same():
    Path(".env").write_text(f"{KEY}=dtn_0123456789\nANTHROPIC_API_KEY=sk-ant-0123456789\n")
    harbor_nb.load_env()
    ours = {name: os.environ[name] for name in (KEY, "ANTHROPIC_API_KEY")}
    show = f"import os, json; print(json.dumps({{n: os.environ[n] for n in {list(ours)}}}))"
    Path("show.py").write_text(show)
    load = "from dotenv import find_dotenv, load_dotenv; load_dotenv(find_dotenv(usecwd=True))"
    Path("load_and_show.py").write_text(f"{load}\n{show}")
    clean = {"PATH": os.environ["PATH"]}
    for line in (f"export $(cat .env | xargs); {sys.executable} show.py", f"{sys.executable} load_and_show.py"):
        done = subprocess.run(["bash", "-c", line], env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == ours


def test_solution_3_set_the_environment_variable_directly(fresh):
    """export DAYTONA_API_KEY, DAYTONA_API_URL and DAYTONA_TARGET: ready, and the guide's address is doubted."""
    code = """
import harbor_nb
readiness = harbor_nb.check("daytona")
print(readiness.ready, readiness.reason)
print(harbor_nb.load_env()[0].source)
"""
    exported = {KEY: "dtn_0123456789", "DAYTONA_API_URL": "https://api.daytona.io", "DAYTONA_TARGET": "us"}
    ready, source = fresh(code, **exported).splitlines()
    told = "True DAYTONA_API_URL sends requests and the key to https://api.daytona.io instead of https://app.daytona.io/api"
    assert ready == told
    assert source == "shell"


def test_troubleshooting_api_key_or_jwt_token_is_required():
    """Cause: daytona without a key. Fix: switch to docker, or set DAYTONA_API_KEY."""
    fix = harbor_nb.check("daytona").fix
    assert f"add {KEY}=... to .env" in fix
    assert "https://app.daytona.io/dashboard/keys" in fix
    assert 'or use environment="docker"' in fix


def test_troubleshooting_docker_command_not_found(monkeypatch, tmp_path):
    """Fix: install Docker Desktop, or switch to daytona."""
    monkeypatch.setenv("PATH", str(tmp_path))
    readiness = harbor_nb.check("docker")
    assert readiness.reason.startswith("docker: command not found")
    assert "https://docs.docker.com/get-docker/" in readiness.fix
    assert 'environment="daytona"' in readiness.fix


@pytest.mark.docker
def test_troubleshooting_job_hangs_docker_ps():
    """`docker ps` of the guide: the containers of jobs, with whether their job lives."""
    assert {"id", "trial", "state", "owner"} <= set(harbor_nb.sandboxes("docker").columns)


def test_troubleshooting_job_hangs_check_api_status_and_key_validity(vendor):
    with vendor("daytona", "401") as server:
        os.environ.update(server.settings)
        assert "refuses the key (401)" in str(harbor_nb.check("daytona", live=True))


def test_troubleshooting_tests_pass_locally_environment_type_matches_the_setup(table):
    """Which environments this machine can really run, in one table."""
    assert table["ready"].dtype == bool
    assert not table.loc["daytona", "ready"]


def test_resources_daytona_docs_and_docker_installation(table):
    assert table.loc["daytona", "docs"] == "https://daytona.io/docs"
    assert table.loc["docker", "docs"] == "https://docs.docker.com/get-docker/"


def test_summary_affects_all_tasks_that_use_daytona_without_the_key():
    from harbor_nb.errors import NotReadyError

    for task in ("hello-world", "auth-token-race-condition"):
        with pytest.raises(NotReadyError):
            harbor_nb.plan(harbor_nb.sample_tasks() / task, environments="daytona").launch()


@pytest.mark.parametrize(
    ("agent", "model", "set_", "said"),
    [
        ("claude-code", None, {}, "ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN"),
        ("claude-code", "anthropic/claude-sonnet-4-5", {}, "ANTHROPIC_API_KEY"),
        ("claude-code", "anthropic/claude-sonnet-4-5", {"ANTHROPIC_API_KEY": "sk-ant-0123456789"}, ""),
        ("claude-code", None, {"ANTHROPIC_AUTH_TOKEN": "tok-0123456789"}, ""),
        ("claude-code", "anthropic/claude-sonnet-4-5", {"CLAUDE_CODE_OAUTH_TOKEN": "tok-0123456789"}, ""),
        ("claude-code", None, {"AWS_BEARER_TOKEN_BEDROCK": "tok-0123456789"}, ""),
        ("claude-code", None, {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_PROFILE": "me"}, ""),
        ("claude-code", None, {"CLAUDE_CODE_USE_BEDROCK": "1"}, "CLAUDE_CODE_USE_BEDROCK is set, but"),
        ("claude-code", "openrouter/x", {"ANTHROPIC_API_KEY": "sk-ant-0123456789"}, "OPENROUTER_API_KEY not set"),
        ("claude-code", None, {"ANTHROPIC_API_KEY": "sk-ant-your-key-here"}, "a placeholder"),
        ("terminus-2", "openai/gpt-5", {}, "OPENAI_API_KEY not set for terminus-2"),
        ("terminus-2", "gpt-5", {}, "OPENAI_API_KEY not set"),
        ("terminus-2", "gemini/gemini-2.5-pro", {"GEMINI_API_KEY": "AIza0123456789"}, ""),
        ("terminus-2", "ollama/llama3", {}, ""),
        ("terminus-2", "unheard-of/model", {}, ""),
        ("terminus-2", None, {"OPENAI_API_KEY": "sk-0123456789"}, "terminus-2 needs a model"),
        ("mini-swe-agent", "anthropic/claude-sonnet-4-5", {"ANTHROPIC_API_KEY": "sk-ant-0123456789"}, ""),
        ("mini-swe-agent", "anthropic/claude-sonnet-4-5", {}, "MSWEA_API_KEY or ANTHROPIC_API_KEY not set"),
        ("codex", "gpt-5", {"CODEX_API_KEY": "sk-0123456789"}, ""),
        ("oracle", None, {}, ""),
        ("nop", None, {}, ""),
        ("my.module:Agent", None, {}, ""),
        ("my.module:Agent", "openai/gpt-5", {}, "OPENAI_API_KEY not set"),
    ],
)
def test_agents_and_their_model_keys_warn_and_never_block(agent, model, set_, said, monkeypatch):
    for name in ("AWS_PROFILE", "CLAUDE_CODE_USE_BEDROCK", "MSWEA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_.items():
        monkeypatch.setenv(name, value)
    readiness = harbor_nb.check_agent(agent, model)
    assert readiness.ready
    assert said in readiness.reason
    assert bool(readiness.findings) == bool(said)
    assert not any(len(value) > 8 and value in str(readiness) for value in set_.values())


def test_an_unknown_agent_is_a_clear_error():
    with pytest.raises(harbor_nb.HarborNbError, match="did you mean 'claude-code'"):
        harbor_nb.check_agent("claude-coder")


def test_every_agent_of_ours_is_one_that_harbor_knows():
    from harbor.models.agent.name import AgentName

    from harbor_nb.backends.agents import _table

    assert {name for name, row in _table().items() if row["kind"] == "agent"} <= AgentName.values()


def test_every_known_name_is_read_somewhere_in_harbor_or_its_sdks():
    """No invented names: each stands in the source of Harbor or of a vendor's SDK, but for the traps."""
    from importlib.metadata import files

    from harbor_nb.credentials._known import known

    text = ""
    for package in ("harbor", "daytona", "e2b", "modal", "runloop-api-client", "boto3", "botocore", "huggingface-hub"):
        for path in files(package):
            if path.suffix == ".py" and "agents/skills" not in str(path):
                text += path.locate().read_text(errors="replace") if path.locate().stat().st_size < 400_000 else ""
    missing = [name for name, one in known().items() if one.kind != "trap" and name not in text]
    # read by SDKs that are not installed here; Harbor's own messages name them by their login command
    assert missing == []
