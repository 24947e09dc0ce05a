"""What a sandbox of a practice cloud does between calls; asked as runloop's SDK asks, which is plain HTTP."""

import base64
import json
import time
import urllib.request

import pytest

from harbor_nb.practice_clouds.description import Practice
from harbor_nb.practice_clouds.server import PracticeServer

pytestmark = pytest.mark.local


class Asker:
    def __init__(self, server, address: str, **headers: str) -> None:
        self.url, self.headers = server.environ[address], headers

    def __call__(self, method: str, path: str, body=None, **headers: str):
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, self.headers | headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, text


@pytest.fixture
def runloop():
    server = PracticeServer("runloop", Practice()).start()
    yield Asker(server, "RUNLOOP_BASE_URL", Authorization=f"Bearer {server.backend.key}")
    server.close()


def devbox(ask, **fields) -> str:
    status, made = ask("POST", "/v1/devboxes/create_and_await_running", {"name": "x"} | fields)
    assert (status, made["status"]) == (200, "running")
    return made["id"]


def run(ask, box: str, command: str) -> dict:
    _, made = ask("POST", f"/v1/devboxes/{box}/execute_async", {"command": command})
    while made["status"] != "completed":
        where = f"/v1/devboxes/{box}/executions/{made['execution_id']}/wait_for_status"
        status, told = ask("POST", where, {"statuses": ["completed"], "timeout_seconds": 10})
        made = told if status == 200 else made
    return made


def test_processes_live_from_call_to_call_and_die_with_the_sandbox(runloop):
    box = devbox(runloop)
    assert run(runloop, box, "sleep 300 & echo $!; printf a > /tmp/kept")["exit_status"] == 0
    told, end = [], time.monotonic() + 10
    while told != ["2", "a"] and time.monotonic() < end:  # init sleeps too; the new one is a shell for a moment
        told = run(runloop, box, "pgrep -c sleep; cat /tmp/kept")["stdout"].split()
    assert told == ["2", "a"]
    assert run(runloop, box, "echo no >&2; exit 7") | {"execution_id": "", "devbox_id": ""} == {
        "devbox_id": "", "execution_id": "", "status": "completed", "exit_status": 7, "stdout": "", "stderr": "no\n",
        "stdout_truncated": False, "stderr_truncated": False,
    }  # fmt: skip
    _, long = runloop("POST", f"/v1/devboxes/{box}/execute_async", {"command": "sleep 300"})
    assert long["status"] == "running"
    where = f"/v1/devboxes/{box}/executions/{long['execution_id']}"
    assert runloop("POST", f"{where}/wait_for_status", {"statuses": ["completed"], "timeout_seconds": 0.2})[0] == 408
    assert runloop("POST", f"{where}/kill")[1]["exit_status"] == 137
    assert runloop("POST", f"/v1/devboxes/{box}/shutdown")[1]["status"] == "shutdown"
    assert runloop("POST", f"/v1/devboxes/{box}/execute_async", {"command": "true"})[0] == 404
    assert runloop("GET", f"/v1/devboxes/{box}")[1]["status"] == "shutdown"
    assert runloop("GET", "/v1/devboxes/none")[0] == 404


def test_a_long_output_is_cut_and_comes_whole_by_the_stream(runloop):
    box = devbox(runloop)
    done = run(runloop, box, "head -c 600000 /dev/zero | tr '\\0' x")
    assert done["stdout_truncated"] is True
    assert len(done["stdout"]) == 256 * 1024
    where = f"/v1/devboxes/{box}/executions/{done['execution_id']}/stream_stdout_updates"
    status, text = runloop("GET", where)
    assert status == 200
    chunks = [json.loads(line[6:]) for line in text.decode().splitlines() if line.startswith("data: ")]
    assert "".join(chunk["output"] for chunk in chunks) == "x" * 600_000


def test_lists_come_in_pages(runloop):
    made = [devbox(runloop) for _ in range(3)]
    _, first = runloop("GET", "/v1/devboxes?status=running&limit=2")
    assert [one["id"] for one in first["devboxes"]] == made[:0:-1]
    assert first["has_more"] is True
    _, rest = runloop("GET", f"/v1/devboxes?status=running&limit=2&starting_after={made[1]}")
    assert [one["id"] for one in rest["devboxes"]] == made[:1]
    assert rest["has_more"] is False


def test_a_lifetime_ends_a_sandbox_by_itself(runloop):
    box = devbox(runloop, launch_parameters={"keep_alive_time_seconds": 1})
    time.sleep(1.5)
    _, told = runloop("GET", f"/v1/devboxes/{box}")
    assert (told["status"], told["shutdown_reason"]) == ("shutdown", "keep_alive_timeout")


def test_a_build_says_what_failed(runloop):
    _, made = runloop("POST", "/v1/blueprints", {"name": "b", "dockerfile": "FROM x\nRUN echo hello; exit 3"})
    assert (made["status"], made["failure_reason"]) == ("failed", "build_failed")
    _, logs = runloop("GET", f"/v1/blueprints/{made['id']}/logs")
    assert "exit code 3" in "\n".join(line["message"] for line in logs["logs"])


def test_e2b_keeps_users_modes_and_empty_folders():
    server = PracticeServer("e2b", Practice()).start()
    try:
        control = Asker(server, "E2B_API_URL", **{"X-API-KEY": server.backend.key})
        _, made = control("POST", "/v3/templates", {"name": "t"})
        build = f"/v2/templates/{made['templateID']}/builds/{made['buildID']}"
        assert (
            control(
                "POST", build, {"steps": [{"type": "RUN", "args": ["mkdir -m 700 -p /data/empty"], "force": False}]}
            )[0]
            == 202
        )
        status, box = control("POST", "/v2/sandboxes", {"templateID": "t", "timeout": 60})
        assert status == 201
        inside = Asker(
            server, "E2B_SANDBOX_URL", **{"E2b-Sandbox-Id": box["sandboxID"], "X-Access-Token": box["envdAccessToken"]},
            Authorization="Basic " + base64.b64encode(b"root:").decode(),
        )  # fmt: skip
        _, found = inside("POST", "/filesystem.Filesystem/ListDir", {"path": "/data", "depth": 1})
        assert [(one["name"], one["type"], one["permissions"]) for one in found["entries"]] == [
            ("empty", "FILE_TYPE_DIRECTORY", "rwx------")
        ]
        status, told = inside("POST", "/filesystem.Filesystem/Stat", {"path": "/none"})
        assert (status, told["code"]) == (404, "not_found")
        assert inside("GET", "/files?path=/none")[0] == 404
        assert control("GET", "/v2/sandboxes?limit=1")[1][0]["sandboxID"] == box["sandboxID"]
        wrong = Asker(server, "E2B_SANDBOX_URL", **{"E2b-Sandbox-Id": box["sandboxID"], "X-Access-Token": "other"})
        assert wrong("GET", "/health")[0] == 401
        assert control("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204
        assert control("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 404
        assert inside("GET", "/health")[0] == 502
    finally:
        server.close()
