"""What a killed job leaves: listed, told apart from what lives, and ended only when named."""

import json
import os
import shutil
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import psutil
import pytest

import harbor_nb
from harbor_nb.backends import providers
from harbor_nb.errors import BadInputError, ProviderError
from harbor_nb.running import leftovers
from harbor_nb.running.owner import OwnerRecord


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.3)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def sleeper(tmp_path):
    """A task whose solution sleeps, so that a job on it lives as long as the test needs."""
    task = tmp_path / "sleeper"
    shutil.copytree(harbor_nb.sample_tasks() / "hello-world", task)
    (task / "solution/solve.sh").write_text("#!/bin/bash\nsleep 300\n")
    return task


@pytest.mark.docker
@pytest.mark.timeout(180)
def test_a_runner_killed_with_9_leaves_a_container_that_is_listed_and_terminated(sleeper, tmp_path):
    jobs = tmp_path / "jobs"
    job = harbor_nb.launch(sleeper, environment="docker", job_name="killed", jobs_dir=jobs)
    record = OwnerRecord.read(job.path)
    children: list[psutil.Process] = []

    def mine() -> pd.DataFrame:
        frame = harbor_nb.sandboxes("docker", jobs=jobs)
        return frame[frame["job"] == str(job.path.resolve())]

    try:
        (live,) = until(lambda: [rows for rows in [mine()] if len(rows)], 90)
        assert live["owner"].tolist() == ["live"]
        assert live["task"].tolist() == ["sleeper"]
        assert live["certainty"].iloc[0].startswith("certain")
        refused = harbor_nb.terminate(live, jobs=jobs)
        assert refused["result"].iloc[0].startswith("refused: its job lives")
        assert len(mine()) == 1

        children = psutil.Process(record.pid).children(recursive=True)
        os.kill(record.pid, signal.SIGKILL)
        until(lambda: job.state == "lost", 10)
        orphan = mine()
        assert orphan["owner"].tolist() == ["orphaned"]
        assert (orphan["age_min"] >= 0).all()
        assert (orphan["age_min"] < 5).all()

        done = harbor_nb.terminate(list(orphan["id"]), jobs=jobs)
        assert done["result"].tolist() == ["terminated"]
        assert len(mine()) == 0
        again = harbor_nb.terminate(list(orphan["id"]), jobs=jobs)
        assert again["result"].iloc[0].startswith("gone already")
    finally:
        if record.alive():
            os.kill(record.pid, signal.SIGKILL)
        for child in children:
            if child.is_running():
                child.kill()
        for ident in mine()["id"]:
            harbor_nb.terminate(ident, force=True, jobs=jobs)


@pytest.mark.deep
@pytest.mark.docker
def test_a_live_container_can_be_ended_when_told(tmp_path):
    """A container as Harbor makes it, whose job this process says it runs."""
    import docker

    trial = tmp_path / "jobs/mine/hello-world__abc"
    (trial / "verifier").mkdir(parents=True)
    for place in (trial, trial.parent):
        (place / "config.json").write_text("{}")
    record = OwnerRecord.new("mine", "docker")
    record.own(os.getpid())
    record.state = "running"
    record.write(trial.parent)
    client = docker.from_env()
    network = client.networks.create("hnb-keys-test", labels={"com.docker.compose.project": "hello-world__abc__env"})
    box = client.containers.run(
        "python:3.13-slim", ["sleep", "200"], detach=True, network=network.name,
        labels={"com.docker.compose.project": "hello-world__abc__env"},
        volumes={str(trial / "verifier"): {"bind": "/logs/verifier"}},
    )  # fmt: skip
    try:
        rows = harbor_nb.sandboxes("docker")
        row = rows[rows["id"] == box.short_id].iloc[0]
        assert (row["owner"], row["trial"], row["job"]) == ("live", "hello-world__abc", str(trial.parent))
        assert harbor_nb.terminate(row)["result"].iloc[0].startswith("refused")
        assert harbor_nb.terminate(box.id, force=True)["result"].tolist() == ["terminated"]
        assert client.networks.list(names=["hnb-keys-test"]) == []
    finally:
        for one in client.containers.list(all=True, filters={"id": box.id}):
            one.remove(force=True)
        for one in client.networks.list(names=["hnb-keys-test"]):
            one.remove()
        client.close()


NOW = "2026-01-01T00:00:00Z"
HARBORS = {
    "harbor.managed": "true",
    "harbor.environment_name": "hello",
    "harbor.session_id": "hello__a__env",
}
SIZE = {"cpu": 1, "gpu": 0, "memory": 1, "disk": 1}
BOXES = {
    "daytona": [
        SIZE
        | {"id": ident, "organizationId": "o", "name": ident, "user": "root", "env": {}, "labels": HARBORS}
        | {"public": False, "networkBlockAll": False, "kvm": False, "target": "us", "state": "started"}
        | {"toolboxProxyUrl": "http://127.0.0.1:9", "createdAt": NOW}
        for ident in ("dt-1", "dt-2")
    ],
    "e2b": [
        {"templateID": "t", "sandboxID": ident, "clientID": "c", "startedAt": NOW, "endAt": NOW, "cpuCount": 1}
        | {"memoryMB": 1, "diskSizeMB": 1, "state": "running", "envdVersion": "0.6.4", "metadata": marks}
        for ident, marks in (
            ("eb1", {"environment_name": "hello", "session_id": "hello__a__env"}),
            ("eb2", {"mine": "yes"}),
        )
    ],
    "modal": [{"id": "sb-1", "at": 1.0, "tags": HARBORS}],
    "runloop": [
        {"id": ident, "capabilities": [], "create_time_ms": 1, "launch_parameters": {}, "metadata": {}}
        | {"state_transitions": [], "status": "running", "blueprint_id": blueprint}
        for ident, blueprint in (("db-1", "harbor_hello_blueprint"), ("db-2", "mine"))
    ],
}


@pytest.mark.deep
@pytest.mark.parametrize(("name", "harbors"), [("daytona", 2), ("e2b", 1), ("modal", 1), ("runloop", 1)])
def test_cloud_sandboxes_through_the_vendors_sdk(name, harbors, tmp_path, vendor):
    """Only Harbor's are listed, page by page; an orphan is ended; what may live is refused unless told."""
    boxes = json.loads(json.dumps(BOXES[name]))
    others = len(boxes) - harbors
    with vendor(name, boxes=boxes) as server:
        practice = {name: server.settings}
        trial = "" if name == "runloop" else "hello__a"
        refused = harbor_nb.terminate([box.get("sandboxID", box.get("id")) for box in boxes], practice=practice)
        seen = refused[refused["environment"] == name]
        assert seen[["task", "owner", "trial"]].to_numpy().tolist() == [["hello", "unknown", trial]] * harbors
        assert seen["result"].str.startswith("refused: its job may live").all()
        assert (refused["result"] == "gone already, or not Harbor's").sum() == others
        assert len(boxes) == others + harbors
        if trial:  # the trial's folder says that the job has ended
            (tmp_path / "jobs/old" / trial).mkdir(parents=True)
            (tmp_path / "jobs/old/result.json").write_text('{"finished_at": "2026-01-01T00:00:00Z"}')
        done = harbor_nb.terminate(seen, force=not trial, jobs=tmp_path / "jobs", practice=practice)
        assert done["result"].tolist() == ["terminated"] * harbors
        assert len(boxes) == others


@pytest.mark.parametrize("name", BOXES)
def test_terminating_what_is_gone_says_so(name, vendor):
    from harbor_nb.backends import providers

    with vendor(name) as server:
        assert providers.terminate(name, ["sb-gone"], server.settings) == {"sb-gone": "gone already"}


def test_a_real_key_is_never_sent_to_a_stand_in(monkeypatch, vendor):
    monkeypatch.setenv("DAYTONA_JWT_TOKEN", "a-real-token-000")
    monkeypatch.setenv("DAYTONA_API_KEY", "a-real-key-00000")
    with vendor("daytona") as server:
        settings = {"DAYTONA_API_URL": server.settings["DAYTONA_API_URL"]}
        with pytest.raises(ProviderError):
            harbor_nb.sandboxes("daytona", practice={"daytona": settings})
        assert "a-real" not in server.headers


def test_who_owns_a_sandbox(tmp_path):
    job = tmp_path / "job"
    assert leftovers._owner(None) == "unknown"
    assert leftovers._owner(job) == "orphaned"
    job.mkdir()
    assert leftovers._owner(job) == "unknown"
    (job / "result.json").write_text('{"finished_at": null}')
    assert leftovers._owner(job) == "unknown"
    (job / "result.json").write_text('{"finished_at": "2026-01-01"}')
    assert leftovers._owner(job) == "orphaned"
    record = OwnerRecord.new("job", "docker")
    record.own(os.getpid())
    record.write(job)
    assert leftovers._owner(job) == "live"
    record.host, record.boot_id = "elsewhere", "another"
    record.write(job)
    assert leftovers._owner(job) == "unknown"


def test_what_was_not_asked_is_said():
    told = harbor_nb.sandboxes().attrs["not_asked"]
    assert told["daytona"] == "DAYTONA_API_KEY not set"
    with pytest.raises(ProviderError, match="E2B_API_KEY not set"):
        harbor_nb.sandboxes("e2b")
    with pytest.raises(BadInputError, match="choose among docker"):
        harbor_nb.sandboxes("local")


@pytest.mark.parametrize("which", ["", [], [1], [""], pd.DataFrame({"x": [1]})])
def test_terminate_without_a_name_ends_nothing(which):
    with pytest.raises(BadInputError):
        harbor_nb.terminate(which)


def test_terminate_of_no_rows_does_nothing():
    frame = pd.DataFrame(columns=leftovers._COLUMNS)
    assert len(harbor_nb.terminate(frame)) == 0


@pytest.mark.parametrize(("answer", "result"), [("y", "terminated"), ("", "refused: you did not agree")])
def test_a_person_is_shown_the_list_and_asked(monkeypatch, capsys, vendor, answer, result):
    import sys

    boxes = json.loads(json.dumps(BOXES["e2b"]))
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    with vendor("e2b", boxes=boxes) as server:
        done = harbor_nb.terminate("eb1", force=True, practice={"e2b": server.settings})
    assert done["result"].tolist() == [result]
    assert "eb1" in capsys.readouterr().out
    assert len(boxes) == (1 if answer else 2)


def test_hostile_names_are_cleaned():
    from harbor_nb.backends.findings import Found

    row = leftovers._row(Found("e2b", "x", "\x1b[31mred", "a__env", "running", "garbage", "likely"), {})
    assert row["task"] == "red"
    assert row["age_min"] is None


def test_a_container_that_goes_while_it_is_listed_is_not_there(monkeypatch):
    """The engine names it, and no longer knows it a moment later."""

    class Engine(BaseHTTPRequestHandler):
        def do_GET(self):
            listed = "/containers/json" in self.path
            self.send_response(200 if listed or "/version" in self.path else 404)
            self.end_headers()
            self.wfile.write(b'[{"Id": "abc"}]' if listed else b'{"ApiVersion": "1.41", "message": "no such thing"}')

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        try:
            assert providers.sandboxes("docker") == []
        finally:
            server.shutdown()
