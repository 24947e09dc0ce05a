"""A job's state stays true: whatever the clock says, whoever has the process id now, wherever the folder is."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

import harbor_nb
from harbor_nb.errors import HarborNbError, JobError
from harbor_nb.running.owner import OwnerRecord, process_started
from harbor_nb.running.resuming import resume
from tests.running.conftest import until


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "jobs" / "one"
    made.mkdir(parents=True)
    (made / "config.json").write_text('{"job_name": "one"}')
    return made


def recorded(folder, pid, **fields):
    record = OwnerRecord.new("one", "local")
    record.own(pid)
    record = record.model_copy(update={"state": "running", **fields})
    record.write(folder)
    return harbor_nb.attach(folder)


def test_a_runner_that_is_a_zombie_of_the_kernel_is_lost(folder):
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    job = recorded(folder, child.pid)
    assert job.state == "running"
    child.stdin.close()  # it ends, and nobody collects it
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert job.state == "lost"
    child.wait()
    assert job.state == "lost"


def test_a_process_id_that_another_process_has_now_is_lost(folder):
    job = recorded(folder, os.getpid(), pid_started=process_started(os.getpid()) - 5000)
    assert job.state == "lost"
    assert psutil.pid_exists(os.getpid())


def test_the_machines_time_set_back_changes_nothing(folder, monkeypatch):
    job = recorded(
        folder, os.getpid(), launched_at="2999-01-01T00:00:00+00:00", heartbeat_at="2999-01-01T00:00:00+00:00"
    )
    started = process_started(os.getpid())
    real, boot = time.time(), psutil.boot_time()
    monkeypatch.setattr(time, "time", lambda: real - 86_400)
    monkeypatch.setattr(psutil, "boot_time", lambda: boot - 86_400)  # Linux moves it with the clock
    assert process_started(os.getpid()) == started
    assert job.state == "running"


def test_this_machine_started_again_since_is_lost(folder):
    assert recorded(folder, os.getpid(), boot_id="another").state == "lost"


def test_a_job_of_another_machine_is_unknown_with_its_last_sign_of_life(folder):
    job = recorded(folder, os.getpid(), boot_id="another", host="elsewhere", heartbeat_at="2026-01-02T03:04:05+00:00")
    assert job.state == "unknown"
    assert "last sign of life 2026-01-02T03:04:05" in repr(job)
    with pytest.raises(JobError, match="not run by a process of this machine"):
        job.cancel()
    with pytest.raises(JobError, match="may still run"):
        job.resume()


def test_another_container_of_this_machine_is_unknown(folder):
    assert recorded(folder, os.getpid(), pid_namespace="pid:[1]").state == "unknown"


def test_a_job_of_plain_harbor_run(folder):
    result = {
        "updated_at": "2026-01-02T03:04:05Z",
        "finished_at": None,
        "n_total_trials": 4,
        "stats": {"n_completed_trials": 2},
    }
    (folder / "result.json").write_text(json.dumps(result))
    job = harbor_nb.attach(folder)
    assert job.state == "unknown"
    assert "2026-01-02T03:04:05" in repr(job)
    assert "2 of 4 trials done" in repr(job)
    (folder / "result.json").write_text(json.dumps(result | {"finished_at": "2026-01-02T04:04:05Z"}))
    assert job.state == "finished"


@pytest.mark.parametrize("state", ["finished", "cancelled", "failed"])
def test_an_ended_job_says_so_on_any_machine(folder, state):
    job = recorded(folder, os.getpid(), boot_id="another", host="elsewhere", state=state, error="why")
    assert job.state == state
    assert (job.error == "why") == (state == "failed")


@pytest.mark.parametrize("text", ["", "{", "[]", "\0\1", '{"job_name": 3}'])
def test_a_broken_owner_record_is_as_none(folder, text):
    (folder / "harbor_nb.json").write_text(text)
    (folder / "result.json").write_text("[1]")
    job = harbor_nb.attach(folder)
    assert job.state == "unknown"
    assert repr(job).startswith("Job(one: unknown")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[]", "does not hold a mapping"),
        (b"\xff\xfe\0", "is not text"),
        (b'{"environment": {"type": "docker"}}', "names no tasks"),
        (b'{"tasks": [], "environment": {"env": {"A_KEY": "****"}}}', "names no tasks"),
    ],
)
def test_a_config_that_can_not_be_resumed_is_told_and_left_as_it_is(folder, text, told):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(HarborNbError, match=told):
        resume(folder, ())
    assert (folder / "config.json").read_bytes() == text


def test_what_is_not_a_job_folder_is_said(tmp_path, folder):
    with pytest.raises(JobError, match="not a job folder"):
        harbor_nb.attach(tmp_path / "nowhere")
    with pytest.raises(JobError, match="folder of jobs; give one of them: one"):
        harbor_nb.attach(tmp_path / "jobs")


def test_the_list_of_live_jobs_forgets_what_ended_moved_or_broke(folder, tmp_path):
    recorded(folder, os.getpid())
    assert [job.name for job in harbor_nb.attach()] == ["one"]
    notes = tmp_path / "state/harbor_nb/jobs"
    (notes / "broken").write_bytes(b"\xff\xfe")
    (notes / "gone").write_text("/no/such/folder")
    (notes / "folder").mkdir()
    folder.rename(folder.parent / "moved")
    assert list(harbor_nb.attach()) == []
    assert harbor_nb.attach(folder.parent / "moved").state == "running"
    assert [job.name for job in harbor_nb.attach()] == ["moved"]


def test_hostile_names_are_shown_as_text(tmp_path):
    folder = tmp_path / "jobs" / "<script>alert(1)</script>\x1b[31m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    job = harbor_nb.attach(folder)
    assert "\x1b" not in repr(job)
    assert "<script>" not in job._repr_html_()


def test_logs_are_the_newest_file_of_a_kind_without_control_characters(folder):
    for path, text in {
        "t__1/trial.log": "one\ntwo",
        "t__1/agent/oracle.txt": "\x1b[31mred\x07",
        "t__1/steps/a/verifier/test-stdout.txt": "ok",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    trial = harbor_nb.attach(folder).trial("t__1")
    assert trial.log("agent") == "red"
    assert trial.log("verifier") == "ok"
    assert trial.log(lines=1) == "two"
    assert harbor_nb.attach(folder).trial("t").name == "t__1"
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("of this user")
    (folder / "t__1/agent/agent").symlink_to(outside)
    (folder / "t__1/agent/link.txt").symlink_to(outside / "mine.txt")
    assert trial.log("agent") == "red"
    with pytest.raises(JobError, match="no log 'agents'"):
        trial.log("agents")
    with pytest.raises(JobError, match="no trial 'u'"):
        harbor_nb.attach(folder).trial("u")


def test_a_forged_record_makes_resume_delete_nothing_of_the_users(folder, tmp_path):
    from harbor_nb.running import leavings

    treasure = tmp_path / "harbor_nb-treasure"
    (treasure / "file").mkdir(parents=True)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    job = recorded(folder, child.pid, temporary=str(treasure))
    child.wait()
    leavings.clear(job.path, OwnerRecord.read(job.path), "local")
    assert treasure.exists()
