"""One bad trial does not sink the others, and the event log tells what happened."""

import json

import pytest

import harbor_nb
from tests.running.conftest import make_task

pytestmark = pytest.mark.local


def run(tasks, **fields):
    job = harbor_nb.plan(tasks, name="job", exact_name=True, **fields).launch()[0]
    job.wait(timeout=60, progress=False)
    return job, job.trials().set_index(["task", "agent"])


def test_an_agent_that_cannot_be_imported_fails_its_own_trials_only(tasks):
    job, trials = run(tasks, agents=["oracle", "no_such_module:Agent"])
    assert job.state == "finished"
    good = trials[trials.index.get_level_values("agent") == "oracle"]
    bad = trials.drop(good.index)
    assert good["reward"].tolist() == [1.0, 1.0, 1.0]
    assert len(bad) == 3
    assert bad["reward"].isna().all()
    assert bad["message"].str.contains("no_such_module").all()
    result = json.loads((job.path / "result.json").read_text())
    assert result["finished_at"]
    assert result["stats"]["n_completed_trials"] == 6
    assert result["stats"]["n_errored_trials"] == 3


def test_a_task_that_its_environment_refuses_is_one_failed_row(tasks):
    make_task(
        tasks, "hungry", **{"task.toml": 'schema_version = "1.4"\n[environment]\ngpus = 1\n'}
    )  # local has no GPUs: Harbor raises while the trial is made
    job, trials = run(tasks)
    trials = trials.reset_index().set_index("task")
    assert job.state == "finished"
    assert trials["reward"].fillna(-1).to_dict() == {"first": 1, "second": 1, "third": 1, "hungry": -1}
    row = trials.loc["hungry"]
    assert row["status"] == "unscored"
    assert "gpu" in row["message"].lower()
    assert row["task_checksum"]
    # nothing is left for a resume: Harbor itself accepts the folder as complete
    from harbor import Job, JobConfig

    from harbor_nb._sync import run_sync

    again = run_sync(Job.create(JobConfig.model_validate_json((job.path / "config.json").read_text())))
    assert again._remaining_trial_configs == []
    again._close_logger_handlers()


def test_the_event_log_tells_each_phase_and_its_outcome(tasks):
    make_task(tasks, "broken", **{"tests/test.sh": "#!/bin/bash\nexit 1\n"})
    job, _ = run(tasks)
    events = [json.loads(line) for line in (job.path / "harbor_nb.events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if "trial" not in event] == ["job_start", "job_end"]
    of_first = [event["event"] for event in events if event.get("task") == "first"]
    assert of_first == "trial_start environment_start agent_start agent_end verification_start trial_end".split()
    ends = {event["task"]: event for event in events if event["event"] == "trial_end"}
    assert ends["first"]["reward"] == 1.0
    assert ends["broken"]["reward"] is None
    assert ends["broken"]["exception"] == "RewardFileNotFoundError"
    assert ends["first"]["agent"] == "oracle"


def test_the_job_beats_and_is_found_without_its_folder(tasks):
    make_task(tasks, "slow", solution="sleep 3")
    job = harbor_nb.plan(tasks / "slow", name="slow", exact_name=True).launch()[0]
    assert [found.path for found in harbor_nb.attach()] == [job.path]
    assert job.state in ("starting", "running")
    job.wait(timeout=60, progress=False)
    assert list(harbor_nb.attach()) == []
    assert harbor_nb.attach("jobs/slow").state == "finished"
