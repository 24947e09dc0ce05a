"""run_here in real kernels: an agent that is written in a cell stops where its author wants to look."""

import itertools
import os
import signal
import threading

import pytest

import harbor_nb
from tests.running.test_life import kernel, run_cell, slow

__all__ = ["slow"]  # the fixture
pytestmark = [pytest.mark.local, pytest.mark.timeout(240)]
CELL = """
import harbor_nb, pdb
from harbor.agents.nop import NopAgent
class Mine(NopAgent):
    async def run(self, instruction, environment, context):
        found = len(instruction) + 1000
        STOP
        await environment.exec("touch /app/done")
job = harbor_nb.plan(TASK, agents="__main__:Mine", name="stop").run_here()
"""
FOUND = len("Make /app/done.\n") + 1000


@pytest.fixture
def live_kernel():
    manager, client = kernel()
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_pdb_in_an_agents_code_asks_below_the_cell(slow, live_kernel):
    typed, heard = iter(["p found * 2", "p type(self).__name__", "c"]), []
    live_kernel.execute_interactive(
        CELL.replace("TASK", repr(str(slow))).replace("STOP", "pdb.set_trace()"), timeout=90, allow_stdin=True,
        stdin_hook=lambda _: live_kernel.input(next(typed)),
        output_hook=lambda message: heard.append(message["content"].get("text", "")),
    )  # fmt: skip
    told = "".join(heard)
    assert str(FOUND * 2) in told, told
    assert "'Mine'" in told
    assert next(typed, None) is None
    assert "finished [1.0]" in run_cell(live_kernel, "print(job.state, job.trials()['reward'].tolist())")


def test_an_interrupt_cancels_the_job_and_an_error_is_raised_in_the_cell(slow, live_kernel, tmp_path):
    wait = CELL.replace("TASK", repr(str(slow))).replace("STOP", "await environment.exec('sleep 100')")
    timer = threading.Timer(4, lambda: os.kill(int(run_pid[0]), signal.SIGINT))
    run_pid = [run_cell(live_kernel, "import os; print(os.getpid())")]
    timer.start()
    assert "cancelled" in run_cell(live_kernel, wait)
    assert "cancelled ['cancelled']" in run_cell(live_kernel, "print(job.state, job.trials()['status'].tolist())")
    bad = wait.replace('name="stop"', 'name="bad", retry={"max_retries": 0}').replace("sleep 100", "true")
    broken = "from unittest.mock import patch\nimport harbor\nwith patch.object(harbor.Job, 'run', None):\n"
    told = run_cell(live_kernel, broken + bad.strip().replace("\n", "\n    ").join(["    ", ""]))
    assert "TypeError" in told
    assert harbor_nb.attach("jobs/bad-local").state == "failed"
    assert "TypeError: 'NoneType'" in harbor_nb.attach("jobs/bad-local").error


@pytest.mark.deep
def test_the_notebooks_debugger_stops_in_an_agents_code(slow, live_kernel):
    """As JupyterLab's debugger does it: the Debug Adapter Protocol on the kernel's control channel."""
    numbers = itertools.count(1)

    def ask(command, **arguments):
        content = {"type": "request", "seq": next(numbers), "command": command, "arguments": arguments}
        request = live_kernel.session.msg("debug_request", content)
        live_kernel.control_channel.send(request)
        while True:
            answer = live_kernel.control_channel.get_msg(timeout=60)
            if answer["parent_header"].get("msg_id") == request["header"]["msg_id"]:
                assert answer["content"]["success"], answer["content"]
                return answer["content"].get("body") or {}

    def event(name):
        while True:
            message = live_kernel.get_iopub_msg(timeout=60)
            if message["msg_type"] == "debug_event" and message["content"].get("event") == name:
                return message["content"]["body"]

    code = CELL.replace("TASK", repr(str(slow))).replace("STOP", "pass")
    line = code.splitlines().index("        pass") + 1
    ask("initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
    ask("attach")
    source = {"path": ask("dumpCell", code=code)["sourcePath"]}
    assert ask("setBreakpoints", source=source, breakpoints=[{"line": line}])["breakpoints"][0]["verified"]
    ask("configurationDone")
    live_kernel.execute(code)
    thread = event("stopped")["threadId"]
    frame = ask("stackTrace", threadId=thread)["stackFrames"][0]
    assert (frame["name"], frame["line"]) == ("run", line)
    scope = ask("scopes", frameId=frame["id"])["scopes"][0]
    values = ask("variables", variablesReference=scope["variablesReference"])["variables"]
    assert {one["name"]: one["value"] for one in values}["found"] == str(FOUND)
    ask("continue", threadId=thread)
    assert live_kernel.get_shell_msg(timeout=90)["content"]["status"] == "ok"
    assert "finished [1.0]" in run_cell(live_kernel, "print(job.state, job.trials()['reward'].tolist())")
