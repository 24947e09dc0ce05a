"""How a job ends: told at once and only once, with what its practice plan said kept for who goes on."""

import json
import os
import time
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.running.owner import OwnerRecord, process_started
from tests.running.conftest import until

pytestmark = [pytest.mark.local, pytest.mark.timeout(240)]

LINGERING = """
import asyncio, time
from harbor.agents.nop import NopAgent
class Agent(NopAgent):
    async def run(self, *args, **kwargs):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 6)  # as telemetry does without network
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


def test_a_practice_job_is_finished_once_its_cloud_is_gone_and_keeps_its_faults(tasks, tmp_path):
    faults = harbor_nb.Practice(e2b={"wrong_key": True}, seed=5)
    job = harbor_nb.plan(tasks / "first", environments="e2b", practice=faults, name="p").launch(force=True)[0]
    began = time.monotonic()
    while job.state != "finished":
        assert time.monotonic() - began < 60, job.log(50)
        log = job.log(200)  # read before the state is: what is there then was there when the job had ended
    log = job.log(200)
    assert "practice e2b: closed" in log
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
