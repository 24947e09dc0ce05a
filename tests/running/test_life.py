"""The life of real jobs: kernels and runners die, cells run twice, jobs are cancelled and go on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import harbor_nb
from harbor_nb.errors import JobError, JobExistsError
from harbor_nb.running.owner import OwnerRecord
from tests.running.conftest import make_task, until

pytestmark = [pytest.mark.local, pytest.mark.timeout(240)]
CANARY = "canary-5e1d-literal"


def kernel():
    from jupyter_client.manager import start_new_kernel

    return start_new_kernel(kernel_name="python3", env=dict(os.environ), startup_timeout=60)


def run_cell(client, code, timeout=90):
    """Run a cell; give what it printed and displayed as text."""
    told = []

    def hear(message):
        content = message["content"]
        told.append(content.get("text") or (content.get("data") or {}).get("text/plain") or "")
        if message["msg_type"] == "error":
            told.append("\n".join(content["traceback"]))

    client.execute_interactive(code, timeout=timeout, output_hook=hear)
    return "".join(told)


@pytest.fixture
def slow(tmp_path):
    return make_task(tmp_path / "slow", "slow", solution="sleep 0.6")


def test_a_killed_kernel_takes_nothing_with_it(slow, tmp_path):
    manager, client = kernel()
    made = f"harbor_nb.plan({str(slow)!r}, name='k', attempts=6, n_concurrent_trials=2)"
    code = f"import harbor_nb; job = {made}.launch()[0]; job.state"
    try:
        assert "starting" in run_cell(client, code) or "running" in run_cell(client, "job.state")
    finally:
        client.stop_channels()
        os.kill(manager.provisioner.pid, signal.SIGKILL)
        manager.shutdown_kernel(now=True)
    again, other = kernel()
    try:
        told = run_cell(other, "import harbor_nb; jobs = harbor_nb.attach(); print([(j.name, j.state) for j in jobs])")
        assert "('k-local', 'running')" in told or "('k-local', 'starting')" in told
        told = run_cell(other, "job = jobs[0].wait(90); print(job.state, job.trials()['reward'].tolist())")
        assert "finished [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]" in told
    finally:
        other.stop_channels()
        again.shutdown_kernel(now=True)
    events = (tmp_path / "jobs/k-local/harbor_nb.events.jsonl").read_text()
    assert events.count('"job_start"') == 1


def test_a_killed_runner_is_lost_and_resume_runs_only_what_is_missing(slow, tmp_path):
    (job,) = harbor_nb.plan(slow, name="r", attempts=20, n_concurrent_trials=2).launch()
    until(lambda: job.counts["completed"] >= 7, 120)
    record = OwnerRecord.read(job.path)
    session = [p for p in psutil.process_iter() if p.pid != record.pid and os.getsid(p.pid) == record.pid]
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: job.state == "lost")
    until(lambda: "exit code -9" in job.error)  # its last thread may take a moment more
    assert "job.resume()" in repr(job)
    done = {path.parent.name: path.stat().st_mtime_ns for path in job.path.glob("*/result.json")}
    assert 7 <= len(done) <= 9
    job.resume()
    assert not [p for p in session if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    job.wait(120, progress=False)
    assert job.state == "finished"
    trials = job.trials()
    assert trials["reward"].tolist() == [1.0] * 20
    assert {
        path.parent.name: path.stat().st_mtime_ns for path in job.path.glob("*/result.json")
    }.items() >= done.items()
    assert not Path(record.temporary).exists()


def test_the_launching_cell_run_twice_is_refused(slow):
    plan = harbor_nb.plan(slow, name="twice", attempts=4)
    (job,) = plan.launch()
    until(lambda: job.counts["running"] > 0)
    before = {path.name for path in job.path.iterdir() if path.is_dir()}
    with pytest.raises(JobExistsError, match=r"still runs; type harbor_nb\.attach"):
        plan.launch()
    assert before <= {path.name for path in job.path.iterdir() if path.is_dir()}
    with pytest.raises(JobError, match="still runs"):
        job.resume()
    job.wait(60, progress=False)
    assert job.trials()["reward"].tolist() == [1.0] * 4
    with pytest.raises(JobExistsError, match="exists already"):
        plan.launch()


RACE = """
import time
from harbor_nb.errors import JobExistsError
plan = harbor_nb.plan(TASK, name="race#")
time.sleep(max(0, MOMENT - time.time()))
try: print("won", plan.launch()[0].name)
except JobExistsError: print("refused")
"""


def race(task, rounds):
    """Two kernels, started once, launch a name at the same moment, again and again."""
    kernels = [kernel(), kernel()]
    try:
        for _, client in kernels:
            run_cell(client, "import harbor_nb")
        for number in range(rounds):
            code = RACE.replace("TASK", repr(str(task))).replace("#", str(number))
            code = code.replace("MOMENT", str(time.time() + 1))
            with ThreadPoolExecutor() as pool:
                told = sorted(pool.map(lambda one: run_cell(one[1], code), kernels))  # noqa: B023 - this round's
            assert told == ["refused\n", f"won race{number}-local\n"]
            job = harbor_nb.attach(f"jobs/race{number}-local").wait(60, progress=False)
            assert (job.state, job.trials()["reward"].tolist()) == ("finished", [1.0])
    finally:
        for manager, client in kernels:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def test_of_two_kernels_that_launch_a_name_at_once_one_wins(tasks):
    race(tasks / "first", 2)


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_of_two_kernels_that_launch_a_name_at_once_one_wins_50_times(tasks):
    race(tasks / "first", 50)


def test_cancel_ends_gracefully_and_resume_goes_on(slow):
    make_task(slow.parent, "bad", **{"tests/test.sh": "#!/bin/bash\nexit 0\n"})
    (job,) = harbor_nb.plan([slow.parent], name="c", attempts=3, n_concurrent_trials=2).launch()
    until(lambda: job.counts["running"] == 2 and job.counts["completed"] >= 1)
    job.cancel()
    assert job.state == "cancelled"
    assert not OwnerRecord.read(job.path).alive()
    kept = set(job.trials().query("status != 'cancelled'")["trial"])
    assert job.cancel().state == "cancelled"  # once more changes nothing
    job.resume(retry="RewardFileNotFoundError").wait(60, progress=False)
    assert job.state == "finished"
    trials = job.trials().set_index("trial")
    assert len(trials) == 6
    assert trials[trials["task"] == "slow"]["reward"].tolist() == [1.0] * 3
    scored = {name for name in kept if trials["reward"].get(name) == 1.0}
    assert scored == {name for name in kept if name.startswith("slow")}


def test_cancel_before_it_began(slow):
    (job,) = harbor_nb.plan(slow, name="early").launch()
    job.cancel()
    assert job.state == "cancelled"
    assert job.resume().wait(60, progress=False).state == "finished"


def test_a_moved_folder_is_resumed_where_it_is_now(slow, tmp_path):
    (job,) = harbor_nb.plan(slow, name="m", attempts=4, n_concurrent_trials=1).launch()
    until(lambda: job.counts["completed"] >= 1)
    job.cancel()
    old = job.path
    (tmp_path / "elsewhere").mkdir()
    moved = old.rename(tmp_path / "elsewhere" / "renamed")
    (tmp_path / "tasks-moved-too").mkdir()
    again = harbor_nb.attach(moved)
    assert again.state == "cancelled"
    again.resume().wait(60, progress=False)
    assert again.state == "finished"
    assert again.trials()["reward"].tolist() == [1.0] * 4
    assert not old.exists()
    assert json.loads((moved / "config.json").read_text())["jobs_dir"] == str(moved.parent)


def test_why_harbor_would_refuse_is_put_in_words(slow):
    (job,) = harbor_nb.plan(slow, name="w", attempts=2, n_concurrent_trials=1).launch()
    until(lambda: job.counts["completed"] >= 1)
    job.cancel()
    config = json.loads((job.path / "config.json").read_text())
    (slow / "tests/test.sh").write_text("#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n")
    with pytest.raises(JobError, match="a task's files have changed since"):
        job.resume()
    (job.path / "config.json").write_text(json.dumps(config | {"timeout_multiplier": 3.0}))
    with pytest.raises(JobError, match="run with other settings"):
        job.resume()
    (job.path / "config.json").write_text('{"environment": {"type": "docker"}}')
    with pytest.raises(JobError, match=r"job\.repair\(\)"):
        job.resume()


def probe_agent(folder):
    """An agent that leaves in the sandbox what the variables KEY and JOBKEY hold, seen through a mirror."""
    (folder / "probe_agent.py").write_text('''
from harbor.agents.base import BaseAgent
class Probe(BaseAgent):
    @staticmethod
    def name(): return "probe"
    def version(self): return "1"
    async def setup(self, environment): pass
    async def run(self, instruction, environment, context):
        told = await environment.exec("echo ${JOBKEY} | rev")
        mine = self._extra_env.get("KEY", "")[::-1]
        ok = {"agent": mine, "job": told.stdout.strip()}
        self.logger.info(str(ok))
        await environment.exec(f"echo '{mine} {told.stdout.strip()}' > /app/done; cp /app/done /logs/agent/seen.txt")
''')  # fmt: skip


def anywhere(folder, text):
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_pasted_literal_reaches_the_agent_and_no_file(tasks, tmp_path, monkeypatch):
    probe_agent(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = "harbor run -p tasks/first -a probe_agent:Probe -e harbor_nb.local:LocalEnvironment -k 2 -n 1"
    command += f" --ae KEY={CANARY}"
    plan = harbor_nb.Plan.from_command(command + " --job-name pasted", environment={
        "import_path": "harbor_nb.local:LocalEnvironment", "env": {"JOBKEY": CANARY + "2"}})  # fmt: skip
    (job,) = plan.launch()
    argv = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert not [line for line in argv if CANARY in line and "pytest" not in line]
    job.wait(60, progress=False)
    seen = [path.read_text().split() for path in job.path.glob("*/agent/seen.txt")]
    assert seen == [[CANARY[::-1], (CANARY + "2")[::-1]]] * 2
    assert anywhere(tmp_path, CANARY) == []
    # what is resumed later needs the value again, and gets it
    trial = next(path.parent for path in job.path.glob("*/result.json"))
    for file in trial.rglob("*"):
        file.unlink() if file.is_file() else None
    with pytest.raises(JobError, match=r"uses JOBKEY, KEY, which is not set now"):
        job.resume()
    monkeypatch.setenv("KEY", CANARY)
    monkeypatch.setenv("JOBKEY", CANARY + "2")
    job.resume().wait(60, progress=False)
    seen = [path.read_text().split() for path in job.path.glob("*/agent/seen.txt")]
    assert seen == [[CANARY[::-1], (CANARY + "2")[::-1]]] * 2
    assert anywhere(job.path, CANARY) == []


EVERY_CALL = """
import harbor_nb
def calls(name):
    plan = harbor_nb.plan(TASK, name=name, attempts=2, n_concurrent_trials=1)
    repr(plan), plan.command, plan.yaml, plan._repr_html_()
    (job,) = jobs = plan.launch()
    assert [found.name for found in harbor_nb.attach()] == [job.name]
    while not job.counts["running"]: pass
    jobs.cancel()
    repr(jobs), jobs.state, job.log(), job.last_sign, job.error, job._repr_html_()
    job.resume().wait(60, progress=False)
    (one,) = harbor_nb.plan(TASK, name=name + "-2").launch().wait(60)
    trial = one.trials()["trial"].iloc[0]
    return job.state, one.trial(trial).log("verifier") is not None, jobs.trials()["reward"].tolist()
GOOD = ("finished", True, [1.0, 1.0])
"""


@pytest.mark.deep
def test_every_call_works_in_a_script(slow):
    code = EVERY_CALL.replace("TASK", repr(str(slow))) + "print(calls('script') == GOOD)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("True"), done.stdout + done.stderr


@pytest.mark.deep
def test_every_call_works_in_a_running_loop_and_await_too(slow):
    scope = {}
    exec(EVERY_CALL.replace("TASK", repr(str(slow))), scope)

    async def main():
        job = harbor_nb.launch(slow, job_name="awaited")
        assert (await job).state == "finished"
        jobs = await harbor_nb.plan(slow, name="both").launch()
        return scope["calls"]("loop"), jobs.state

    assert asyncio.run(main()) == (scope["GOOD"], {"both-local": "finished"})


@pytest.mark.deep
def test_every_call_works_in_a_thread(slow):
    scope, before = {}, set(threading.enumerate())
    exec(EVERY_CALL.replace("TASK", repr(str(slow))), scope)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(scope["calls"], "thread").result(120) == scope["GOOD"]
    left = set(threading.enumerate()) - before
    assert len(left) < 5, left


def test_every_call_works_in_a_notebook_cell_and_run_here_too(slow):
    manager, client = kernel()
    try:
        told = run_cell(client, EVERY_CALL.replace("TASK", repr(str(slow))) + "print(calls('cell') == GOOD)", 150)
        assert "True" in told, told
        assert "finished" in run_cell(client, f"j = await harbor_nb.launch({str(slow)!r}, job_name='aw'); j.state")
        code = f"""
from harbor.agents.base import BaseAgent
class Mine(BaseAgent):
    @staticmethod
    def name(): return "mine"
    def version(self): return "1"
    async def setup(self, environment): pass
    async def run(self, instruction, environment, context):
        Mine.here = True
        await environment.exec("touch /app/done")
job = harbor_nb.plan({str(slow)!r}, agents="__main__:Mine", name="here").run_here()
print(job.state, job.trials()["reward"].tolist(), Mine.here)
"""
        told = run_cell(client, code)
        assert "finished [1.0] True" in told, told
        assert "until the kernel restarts" in told
        assert "at most 5 trials" in run_cell(client, f"harbor_nb.plan({str(slow)!r}, attempts=6).run_here()")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_an_interrupt_ends_the_waiting_and_not_the_job(slow):
    manager, client = kernel()
    try:
        run_cell(
            client,
            "import harbor_nb\n"
            f"(job,) = harbor_nb.plan({str(slow)!r}, name='i', attempts=8, n_concurrent_trials=1).launch()",
        )
        threading.Timer(2, manager.interrupt_kernel).start()
        told = run_cell(client, "job.wait(); print('went on')")
        assert "stopped waiting; the jobs go on" in told
        assert "went on" in told
        assert run_cell(client, "job.state") in ("'running'", "'starting'")
        run_cell(client, "job.cancel()")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_wait_that_takes_too_long_says_so_and_the_job_goes_on(slow):
    job = harbor_nb.launch(slow, job_name="long", attempts=3)
    with pytest.raises(TimeoutError, match="long still running"):
        job.wait(0.2)
    assert job.wait(60).state == "finished"
