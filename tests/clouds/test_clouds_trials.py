"""Real Harbor trials against each practice cloud, by the vendor's own SDK, as `plan(practice=True)` runs them."""

import os
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.errors import BadInputError
from harbor_nb.running.owner import OwnerRecord

pytestmark = pytest.mark.local
VENDORS = ["daytona", "e2b", "modal", "runloop"]
TASKS = ["auth-token-race-condition", "flaky-network", "hello-world", "report-artifact", "two-steps"]
SENTINELS = "DAYTONA_API_KEY E2B_API_KEY MODAL_TOKEN_ID MODAL_TOKEN_SECRET RUNLOOP_API_KEY".split()


def texts(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("environment", VENDORS)
def test_a_trial_scores_and_no_key_crosses(practised, vendor, environment):
    """Each side of the socket: no real key comes to the practice server, and nobody comes to the vendor."""
    before = dict(os.environ)
    (job,) = practised([environment], ["report-artifact"])
    assert job.state == "finished", job.log()
    (trial,) = job.trials().to_dict("records")
    assert (trial["status"], trial["reward"], trial["practice"]) == ("scored", 1.0, True)
    assert harbor_nb.jobs(job)["practice"].tolist() == [True]
    log = job.log(200)
    assert f"practice {environment}: closed; 1 sandboxes ran, 0 calls came with another key" in log
    assert "not served by the practice cloud" not in log
    assert vendor.came == []
    assert os.environ == before
    written = texts(job.path)
    for name in SENTINELS:
        assert os.environ[name] not in written
    assert "practice-" not in written.replace("practice-cloud", "")  # the throw-away key
    record = OwnerRecord.read(job.path)
    assert record is not None
    assert not Path(record.temporary).exists()


def test_a_job_on_local_in_a_rehearsal_says_practice_and_needs_no_cloud(practised):
    (job,) = practised("local", ["hello-world"])
    assert job.trials()["practice"].tolist() == [True]
    assert "practice local" not in job.log(200)


def test_what_can_not_be_practised_is_said(tmp_path):
    with pytest.raises(BadInputError, match="no practice cloud of runta"):
        harbor_nb.plan(harbor_nb.sample_tasks(), environments="runta", practice=True)
    with pytest.raises(BadInputError, match=r"harbor_nb\.Practice"):
        harbor_nb.plan(harbor_nb.sample_tasks(), environments="daytona", practice={"daytona": {}})


@pytest.mark.deep
@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_every_sample_task_scores_alike_in_all_six(practised):
    """Five tasks, oracle and nop, six environments; the coin of flaky-network is seeded."""
    everywhere = ["local", "docker", *VENDORS]
    jobs = practised(everywhere, TASKS, agents=["oracle", "nop"], wait=1500, environment={"env": {"FLAKY_SEED": "1"}})
    frame = jobs.trials()
    assert len(frame) == len(TASKS) * 2 * len(everywhere)
    assert set(frame["status"]) == {"scored"}
    table = frame.pivot_table(index=["task", "agent"], columns="environment", values="reward")
    assert table.notna().all().all()
    assert (table.nunique(axis=1) == 1).all(), table
    assert set(table.xs("nop", level="agent")["local"]) == {0.0}
    assert frame["practice"].all()  # the rehearsal as a whole, docker's part of it too
    compared = harbor_nb.compare(jobs, by="environment", baseline="docker")
    assert "practice" in compared.labels
