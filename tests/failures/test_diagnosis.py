"""What `diagnose` says of jobs of every kind."""

import json
import re
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

import harbor_nb
from harbor_nb.errors import BadInputError
from harbor_nb.running.stuck import timeout

NO_KEY = {"exception": "DaytonaError", "message": "API key or JWT token is required", "phase": "environment_setup"}
# Every failed trial of the strangers' jobs, reviewed one by one: job, task, failure, fault, phase.
REVIEWED = """
2026-03-26__23-35-42 modal_gpu_embedding_service  agent-timeout agent          agent
2026-03-29__20-14-39 modal_gpu_embedding_service  agent-timeout agent          agent
2026-03-29__20-34-16 modal_gpu_embedding_service  agent-timeout agent          agent
2026-04-08__16-04-30 managed_job_spot_failover    runner-lost   infrastructure -
2026-04-08__16-04-30 configure_sky_resources_yaml agent-exit    agent          agent
2026-04-08__16-04-30 sdk_async_stream_and_get     agent-exit    agent          agent
2026-04-08__16-04-30 stop_and_terminate_clusters  agent-exit    agent          agent
"""


@pytest.mark.real_jobs
def test_every_failed_trial_of_the_real_jobs_is_named(real_jobs):
    frame = harbor_nb.trials(real_jobs)
    failed = frame[frame["exception"].notna() | (frame["status"] != "scored")]
    found = {}
    for path in failed["path"]:
        (group,) = [group for group in harbor_nb.diagnose(path).groups if not group["scored"]]
        row = failed[failed["path"] == path].iloc[0]
        found[row["job"], row["task"]] = (group["failure"], group["fault"], group["phase"] or "-")
    reviewed = [line.split() for line in REVIEWED.strip().splitlines()]
    assert found == {(job, task): tuple(rest) for job, task, *rest in reviewed}


@pytest.mark.real_jobs
def test_a_job_that_did_well_says_so_in_a_line(real_jobs):
    told = harbor_nb.diagnose(real_jobs / "DESU-CLUB__beam-benchmark/jobs/2026-03-26__23-59-57")
    assert told.ok
    assert "nothing failed: 11 of 11 trials scored, 7 passed" in str(told).splitlines()[0]
    assert told.groups == ()


def test_groups_most_first_with_fix_example_and_log(job):
    folder = job(trials=[
        *({"exception": "AgentTimeoutError", "message": f"Agent execution timed out after {n}.0 seconds", "reward": 1.0}
          for n in (600, 900)),
        *({"exception": "OddError", "message": f"odd thing at /home/x/{n}/y", "task": f"t{n}"} for n in range(9)),
        {"exception": "VerifierTimeoutError", "message": "Verifier execution timed out after 9.0 seconds",
         "phase": "verifier", "files": {"verifier/test-stdout.txt": "one\n\x1b[31mlast line\x1b[0m\n\n"}},
        {"reward": 1.0}, {"reward": 0.0},
    ])  # fmt: skip
    told = harbor_nb.diagnose(folder)
    assert told.headline == f"{folder}: 12 of 14 trials failed, 3 passed"
    assert told.notes == ("1 scored below 1 without an error: the agent's result",)
    assert told.handle == f"job = harbor_nb.attach({str(folder)!r})"
    odd, timeout, verifier = told.groups
    assert (odd["failure"], odd["trials"], odd["fault"]) == ("agent-crash", 9, "agent")
    assert odd["message"] == "OddError: odd thing at <path>"
    assert odd["tasks"] == "t0, t1, t2, t3, t4, t5 and 3 more"
    assert (timeout["failure"], timeout["trials"], timeout["rewards"], timeout["phase"]) == (
        "agent-timeout",
        2,
        2,
        "agent",
    )
    assert timeout["fix"] == 'job.repair(only="errors", agent_timeout_multiplier=2).launch()'
    assert (verifier["detail"], verifier["log"]) == ("9.0 seconds", "verifier/test-stdout.txt")
    assert verifier["lines"] == ("one", "last line")
    table = told.table
    assert list(table["trials"]) == [9, 2, 1]
    assert isinstance(table, pd.DataFrame)
    assert not told.ok


def test_text_and_html_say_the_same_and_nothing_runs_in_them(job):
    evil = "<script>window.owned=1</script><img src=x onerror=alert(1)>\u202e"
    files = {"exception.txt": evil + "\n" + "z" * 100_000}
    told = {"exception": "OddError", "message": evil, "files": files, "phase": "agent_setup"}
    folder = job(trials=[told])
    told = harbor_nb.diagnose(folder)
    html = told._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "\u202e" not in html + str(told)
    assert len(html) < 10_000
    for word in ("OddError", "1 trial", "docker", "register_failure"):
        assert word in html
        assert word in str(told)
    assert html.count("<details") == len(told.groups)
    assert not re.search(r"#[0-9a-f]{6}\b", html)


def test_a_step_that_failed_is_named(job):
    steps = [
        {"step_name": "one", "verifier_result": {"rewards": {"reward": 1}}},
        {"step_name": "two", "exception_info": {"exception_type": "AgentTimeoutError",
         "exception_message": "Agent execution timed out after 5.0 seconds", "occurred_at": "2026-01-01T00:03:00Z"},
         "agent_execution": {"started_at": "2026-01-01T00:02:00Z", "finished_at": None}},
    ]  # fmt: skip
    (group,) = harbor_nb.diagnose(job(trials=[{"steps": steps}])).groups
    assert (group["failure"], group["phase"], group["fault"]) == ("agent-timeout", "agent", "agent")
    assert group["message"] == "in the step two: AgentTimeoutError: Agent execution timed out after <n> seconds"


@pytest.mark.parametrize(
    ("exception", "output", "name", "detail"),
    [
        ("RewardFileNotFoundError", "/tests/test.sh: line 3: uvx: command not found", "command-missing", "uvx"),
        (None, "E   ModuleNotFoundError: No module named 'numpy'", "module-missing", "numpy"),
        (None, "cat: /app/answer.txt: No such file or directory", "path-missing", "/app/answer.txt"),
        (None, "1 failed, 2 passed", None, None),
    ],
)
def test_what_the_image_lacks_is_read_from_the_tests_output(job, exception, output, name, detail):
    trial = {"exception": exception, "message": "No reward file found", "phase": "verifier",
             "reward": None if exception else 0.0, "files": {"verifier/test-stdout.txt": output}}  # fmt: skip
    told = harbor_nb.diagnose(job(trials=[trial, trial]))
    if name is None:
        assert told.groups == ()
        return
    (group,) = told.groups
    assert (group["failure"], group["detail"], group["trials"]) == (name, detail, 2)
    assert group["scored"] is (exception is None)
    assert told.ok is (exception is None)


def test_what_readiness_says_now(job, monkeypatch):
    folder = job(environment="daytona", trials=[NO_KEY])
    (group,) = harbor_nb.diagnose(folder).groups
    assert group["now"].startswith("daytona is not ready: DAYTONA_API_KEY not set")
    monkeypatch.setenv("DAYTONA_API_KEY", "dtn_0123456789abcdef")
    (group,) = harbor_nb.diagnose(folder).groups
    assert group["now"] == "daytona is ready: what was missing then is there since"
    assert "0123456789abcdef" not in str(harbor_nb.diagnose(folder))
    late = {"exception": "AgentTimeoutError", "message": "Agent execution timed out after 600.0 seconds", "reward": 0.0}
    (group,) = harbor_nb.diagnose(job(name="late", trials=[late])).groups
    assert (group["failure"], group["now"]) == ("agent-timeout", None)


def test_several_jobs_have_fixes_for_all(job):
    folders = [
        job(name, environment="daytona", trials=[NO_KEY, {"exception": "CancelledError"}]) for name in ("a", "b")
    ]
    job("c", trials=[{"reward": 1.0}])
    told = harbor_nb.diagnose("jobs")
    assert told.headline.startswith("3 jobs: 4 of 5 trials failed, 1 passed")
    assert told.handle == f"jobs = {[str(folder) for folder in folders]!r}"
    fixes = {group["failure"]: group["fix"] for group in told.groups}
    assert re.match(r'harbor_nb\.repair\(jobs, environment="(docker|local)"\)\.launch\(\)', fixes["key-missing"])
    assert fixes["cancelled"] == "for job in map(harbor_nb.attach, jobs): job.resume()"
    assert [found.name for found in harbor_nb.find_broken("jobs")] == ["a", "b"]


def test_a_fix_never_leads_to_where_it_failed(job):
    message = "network_mode='no-network' is not supported by docker environment."
    told = harbor_nb.diagnose(
        job(trials=[{"exception": "ValueError", "message": message, "phase": "environment_setup"}])
    )
    assert 'environment="docker"' not in told.groups[0]["fix"]


def test_a_job_whose_runner_died_before_any_trial(job):
    folder = job("dead", job_result=False)
    record = {"job_name": "dead", "state": "failed", "environment": "daytona", "error":
              "MissingExtraError: The 'daytona' package is required but not installed. Install it with:\n"
              "  pip install 'harbor[daytona]'"}  # fmt: skip
    (folder / "harbor_nb.json").write_text(json.dumps(record))
    (folder / "harbor_nb.log").write_text("starting\nTraceback\n")
    (group,) = harbor_nb.diagnose(folder).groups
    assert (group["failure"], group["trials"], group["detail"]) == ("missing-extra", 0, "harbor[daytona]")
    assert group["lines"] == ("starting", "Traceback")
    assert "the job itself" in str(harbor_nb.diagnose(folder))


def test_a_trial_without_a_result_is_a_lost_runner(job):
    (group,) = harbor_nb.diagnose(job(trials=[{"result": False}])).groups
    assert (group["failure"], group["fault"], group["fix"]) == ("runner-lost", "infrastructure", "job.resume()")


@pytest.mark.parametrize(
    ("exception", "message", "phase", "reward", "counts"),
    [
        ("RuntimeError", "failed to solve: dockerfile parse error on line 2", "environment_setup", None, None),
        ("HealthcheckError", "Healthcheck failed after 3 consecutive retries: x", "environment_setup", None, None),
        ("RuntimeError", "Command failed (exit 1)", "agent_setup", None, None),
        ("KeyError", "plan", "agent_execution", None, 0.0),
        ("RewardFileNotFoundError", "No reward file found", "verifier", None, 0.0),
        ("VerifierTimeoutError", "Verifier execution timed out after 9.0 seconds", "verifier", None, 0.0),
        ("AgentTimeoutError", "Agent execution timed out after 9.0 seconds", "agent_execution", 1.0, 1.0),
        ("RuntimeError", 'service "main" is not running', "agent_execution", None, None),
        ("RuntimeError", 'service "main" is not running', "agent_execution", 0.0, None),
    ],
)
def test_summary_and_compare_count_a_failure_alike(job, exception, message, phase, reward, counts):
    failed = {"exception": exception, "message": message, "phase": phase, "reward": reward}
    jobs = [job("a", environment="docker", trials=[{"reward": 1.0}]), job("b", environment="local", trials=[failed])]
    line = harbor_nb.summary(jobs[1]).iloc[0]
    assert (line["missing"], None if pd.isna(line["score"]) else line["score"]) == (counts is None, counts)
    pairs = harbor_nb.compare(jobs, by="environment", baseline="docker").pairs
    assert pairs["mean"].dropna().tolist() == ([] if counts is None else [counts])


def test_frames_trials_and_jobs_are_all_taken(job):
    folder = job(trials=[{"exception": "AgentTimeoutError", "message": "x"}])
    frame = harbor_nb.trials(folder)
    texts = {str(harbor_nb.diagnose(x)) for x in (folder, str(folder), [folder], harbor_nb.attach(folder), frame)}
    texts.add(str(harbor_nb.attach(folder).diagnose()))
    assert len(texts) == 1
    with pytest.raises(BadInputError, match="has no column 'job_path'"):
        harbor_nb.diagnose(frame[["task", "exception"]])
    with pytest.raises(BadInputError, match="No such folder"):
        harbor_nb.diagnose("nowhere")


def live(folder, events, seconds_ago):
    now = datetime.now(UTC)
    record = {"job_name": folder.name, "state": "running", "heartbeat_at": now.isoformat(), "environment": "docker"}
    (folder / "harbor_nb.json").write_text(json.dumps(record))
    then = now - timedelta(seconds=seconds_ago)
    lines = [{"t": then.isoformat(), "event": event, "trial": trial, "task": "t"} for trial, event in events]
    (folder / "harbor_nb.events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_running_trial_is_told_against_its_own_timeout_and_the_usual(job, task, monkeypatch):
    path = task(toml=lambda text: re.sub(r"timeout_sec *= *[\d.]+", "timeout_sec = 100.0", text))
    done = {"reward": 1.0}
    running = {"result": False, "path": str(path), "files": {"agent/oracle.txt": "working\rstill working\n"}}
    folder = job(trials=[done, done, running], job_result=False)
    name = "hello-world__0000002"
    live(folder, [(name, "trial_start"), (name, "agent_start")], 20)
    monkeypatch.chdir(path)  # a task that is elsewhere is not this one
    (row,) = harbor_nb.diagnose(folder).running
    assert (row["trial"], row["phase"], row["timeout_sec"], row["usual_sec"]) == (name, "agent", 100.0, 59.0)
    assert 19 < row["seconds"] < 60
    assert row["last_line"] == "still working"
    live(folder, [(name, "agent_start")], 170)
    config = folder / name / "config.json"
    kept = config.read_bytes()
    for odd in ({"task": "x"}, {"task": {"path": str(path)}, "timeout_multiplier": "x"}, {"task": {"git_url": "g"}}):
        config.write_text(json.dumps(odd))
        assert timeout(folder / name, "agent") is None
    config.write_bytes(kept)
    told = harbor_nb.diagnose(folder)
    assert told.running[0]["hung"]
    assert not told.ok
    assert "looks hung" in str(told)
    assert "looks hung" in told._repr_html_().lower()
