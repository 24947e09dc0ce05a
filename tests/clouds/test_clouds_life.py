"""A practice cloud lives and dies with its runner: many trials, a cancel, a kill, and questions meanwhile."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

import harbor_nb
from harbor_nb.errors import BadInputError, ProviderError
from harbor_nb.running import leavings
from harbor_nb.running.owner import OwnerRecord

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]
VENDORS = ["daytona", "e2b", "modal", "runloop"]


def until(true, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def of_runner(record: OwnerRecord) -> set[psutil.Process]:
    """Every process that the runner started, in any session: known by its private TMPDIR, or as its descendant."""
    found = set()
    for process in psutil.process_iter():
        try:
            mine = process.pid == record.pid or record.pid in [parent.pid for parent in process.parents()]
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except psutil.Error:
            continue
    return found


def mounts() -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if "harbor_nb" in line or "practice" in line)


def listed(job, number: int):
    def ask():
        try:
            frame = harbor_nb.sandboxes(practice=job)
        except ProviderError:
            return []
        return [frame] if len(frame) == number else []

    return until(ask)[0]


def running(job) -> None:
    until(lambda: any(row["event"] == "agent_start" for row in harbor_nb.events(job).to_dict("records")))


@pytest.mark.deep
@pytest.mark.parametrize(
    "environment", ["e2b", *(pytest.param(name, marks=pytest.mark.deep) for name in ("daytona", "modal", "runloop"))]
)
def test_ask_terminate_and_cancel_in_mid_trial(practised, slow_task, environment):
    (job,) = practised(environment, [slow_task], attempts=2, wait=None)
    running(job)
    frame = listed(job, 2)
    assert frame["environment"].tolist() == [environment] * 2
    assert frame.attrs["practice"] is True
    if environment != "runloop":  # Harbor gives runloop's devboxes no sign of their trial
        assert frame["owner"].tolist() == ["live"] * 2
    assert harbor_nb.check(environment, live=True, practice=job).ready
    with pytest.raises(BadInputError, match="no practice cloud of"):
        harbor_nb.check("daytona" if environment != "daytona" else "e2b", live=True, practice=job)
    one = frame.iloc[:1]
    assert harbor_nb.terminate(one, practice=job)["result"].str.startswith("refused").all()
    assert harbor_nb.terminate(one, practice=job, force=True)["result"].tolist() == ["terminated"]
    assert one["id"].item() not in harbor_nb.sandboxes(practice=job)["id"].tolist()
    record = OwnerRecord.read(job.path)
    job.cancel(60)
    assert job.state == "cancelled", job.log(100)
    until(lambda: not of_runner(record), 10)
    assert not Path(record.temporary).exists()
    with pytest.raises(ProviderError, match="lives as long as its job runs"):
        harbor_nb.sandboxes(practice=job)


@pytest.mark.parametrize(
    "environment", ["runloop", *(pytest.param(name, marks=pytest.mark.deep) for name in ("daytona", "e2b", "modal"))]
)
def test_a_killed_runner_takes_its_cloud_along(practised, slow_task, environment):
    before = mounts()
    (job,) = practised(environment, [slow_task], wait=None)
    running(job)
    record = OwnerRecord.read(job.path)
    family = of_runner(record)
    assert len(family) > 2
    os.kill(record.pid, signal.SIGKILL)
    psutil.wait_procs(family, 10)
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert mounts() == before
    until(lambda: job.state == "lost", 20)
    with pytest.raises(ProviderError):
        harbor_nb.sandboxes(practice=job)
    assert leavings.processes(record) == []
    leavings.clear(job.path, record, "local")  # as resume does first
    assert not Path(record.temporary).exists()


@pytest.mark.deep
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("environment", VENDORS)
def test_thirty_two_trials_eight_at_once_leave_nothing(practised, environment):
    before = mounts()
    (job,) = practised(environment, ["hello-world"], attempts=32, n_concurrent_trials=8, wait=900)
    frame = job.trials()
    assert len(frame) == 32
    assert frame["reward"].tolist() == [1.0] * 32, frame[["status", "reward"]]
    record = OwnerRecord.read(job.path)
    assert f"practice {environment}: closed; 32 sandboxes ran, 0 calls" in job.log(200)
    until(lambda: not of_runner(record), 20)  # it wrote its end, and ends
    assert mounts() == before
    assert not Path(record.temporary).exists()
