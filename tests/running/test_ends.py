"""How a job ends: told at once and only once, with what its practice plan said kept for who goes on."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.errors import JobError
from harbor_nb.running.owner import OwnerRecord, process_started
from tests.running.conftest import make_task, until

pytestmark = [pytest.mark.local, pytest.mark.timeout(240)]

LINGERING = """
import asyncio, time
from harbor.agents.nop import NopAgent
class Agent(NopAgent):
    async def run(self, *args, **kwargs):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3)  # as telemetry does without network
"""


def test_the_end_is_told_while_a_thread_still_holds_the_runner_and_a_resume_is_not_overwritten(
    tasks, tmp_path, monkeypatch
):
    (tmp_path / "lingering.py").write_text(LINGERING)
    monkeypatch.syspath_prepend(str(tmp_path))
    job = harbor_nb.launch(tasks / "first", agent="lingering:Agent", job_name="l").wait(60, progress=False)
    first = OwnerRecord.read(job.path)
    assert (job.state, first.exit) == ("finished", 0)
    assert first.alive()
    assert not Path(first.temporary).exists()
    job.resume()
    second = OwnerRecord.read(job.path)
    assert second.pid != first.pid
    until(lambda: process_started(first.pid) is None)
    assert OwnerRecord.read(job.path).pid == second.pid
    assert job.wait(60, progress=False).state == "finished"
    assert [json.loads(line)["event"] for line in (job.path / "harbor_nb.events.jsonl").open()].count("job_end") == 2


@pytest.mark.deep
def test_a_practice_job_is_finished_once_its_cloud_is_gone_and_keeps_its_faults(tasks, tmp_path):
    faults = harbor_nb.Practice(e2b={"wrong_key": True}, seed=5)
    job = harbor_nb.plan(tasks / "first", environments="e2b", practice=faults, name="p").launch(force=True)[0]
    began = time.monotonic()
    while job.state != "finished":
        assert time.monotonic() - began < 60, job.log(50)
    assert "practice e2b: closed" in job.log(200)
    assert job.trials()["status"].tolist() == ["unscored"]
    record = OwnerRecord.read(job.path)
    assert harbor_nb.Practice.of(record.plays) == faults
    job.resume(retry="failed").wait(60, progress=False)
    assert OwnerRecord.read(job.path).plays == record.plays
    assert job.trials()["exception"].tolist() == ["AuthenticationException"]  # the key is refused again
    again = harbor_nb.Plan.from_job(job)
    assert again.practice == faults
    assert harbor_nb.Plan.from_job(job, practice=None).practice is None
    assert "E2B_API_KEY" not in os.environ


@pytest.fixture
def vendor(request, monkeypatch):
    """A vendor's account as far as this process and the jobs it launches can tell: a loopback server of its API."""
    from harbor_nb.practice_clouds.server import PracticeServer

    name = request.param
    server = PracticeServer(name, harbor_nb.Practice()).start()
    for variable, value in server.environ.items():
        monkeypatch.setenv(variable, value)
    yield name, server
    server.close()


def launched(name, tmp_path):
    task = make_task(tmp_path / "slow", "slow", solution="sleep 100")
    job = harbor_nb.plan(task, environments=name, name="v").launch()[0]
    until(lambda: job.counts["agent"] == 1, 60)
    return job


@pytest.mark.deep
@pytest.mark.parametrize("vendor", ["e2b", "modal"], indirect=True)
def test_a_cancelled_cloud_job_names_what_its_vendor_still_has(vendor, tmp_path):
    name, _ = vendor
    job = launched(name, tmp_path)
    (row,) = harbor_nb.sandboxes(name).to_dict("records")
    os.kill(OwnerRecord.read(job.path).pid, signal.SIGSTOP)  # a runner that hangs
    with pytest.raises(JobError, match=f"has ended, but this is left: {name} sandbox {row['id']}; see harbor_nb.sandb"):
        job.cancel(timeout=0.5, force=True)
    assert job.state == "cancelled"
    assert harbor_nb.terminate(row["id"])["result"].tolist() == ["terminated"]
    job.resume()
    until(lambda: job.counts["agent"] == 1, 60)
    assert "left" not in repr(job.cancel())  # asked, and nothing is
    assert harbor_nb.sandboxes(name).empty


@pytest.mark.parametrize("vendor", ["runloop", pytest.param("daytona", marks=pytest.mark.deep)], indirect=True)
def test_where_it_cannot_be_told_what_is_left_of_a_cancelled_job_that_is_said(vendor, tmp_path, monkeypatch):
    name, _ = vendor
    job = launched(name, tmp_path)
    for key in ("RUNLOOP_API_KEY", "DAYTONA_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    with pytest.warns(UserWarning, match=f"whether a sandbox of it is left can't be told: {name}: .*_API_KEY not set"):
        job.cancel()
    assert "can't be told" in repr(job)
