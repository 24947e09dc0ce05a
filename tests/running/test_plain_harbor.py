"""Jobs of plain `harbor run`: resumed from another folder, moved, with a literal that Harbor kept as stars."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.errors import HarborNbError, JobError
from tests.running.test_life import probe_agent

pytestmark = [pytest.mark.local, pytest.mark.deep, pytest.mark.timeout(400)]
LITERAL = "sk-literal-of-a-kind-1234"


@pytest.fixture
def folder(tasks, tmp_path, monkeypatch):
    """A job of two trials that `harbor run` started with relative paths; one trial has no result."""
    probe_agent(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    harbor = Path(sys.executable).parent / "harbor"
    words = ["-p", "tasks/first", "-a", "probe_agent:Probe", "-e", "harbor_nb.local:LocalEnvironment", "-k", "2"]
    command = [harbor, "run", "-y", "-q", *words, "--job-name", "plain", "--ae", f"KEY={LITERAL}"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=os.environ)
    folder = tmp_path / "jobs" / "plain"
    next(folder.glob("*/result.json")).unlink()
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"finished_at": None}))
    return folder


def test_it_is_resumed_from_another_folder_with_its_literal_given_again(folder, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    job = harbor_nb.attach(folder)
    assert job.state == "unknown"
    with pytest.raises(JobError, match=r"may still run; last sign of life .* job\.resume\(force=True\)"):
        job.resume()
    with pytest.raises(HarborNbError, match=r"set os\.environ\['KEY'\]"):
        job.resume(force=True)
    with pytest.raises(HarborNbError, match=r"set os\.environ\['KEY'\]"):
        harbor_nb.Plan.from_job(folder)
    monkeypatch.setenv("KEY", LITERAL)
    job.resume(force=True).wait(90, progress=False)
    assert job.state == "finished"
    assert job.trials()["reward"].tolist() == [1.0, 1.0]
    assert {path.read_text().split()[0] for path in folder.glob("*/agent/seen.txt")} == {LITERAL[::-1]}
    assert not [path for path in folder.rglob("*") if path.is_file() and LITERAL in path.read_text(errors="replace")]


def test_a_moved_one_is_resumed_where_it_is_now(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", LITERAL)
    before = shutil.copytree(folder, tmp_path / "before")
    moved = folder.rename(tmp_path / "jobs" / "moved")
    before.rename(folder)  # another copy stands in the old place
    old = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    job = harbor_nb.attach(moved).resume(force=True).wait(90, progress=False)
    assert job.trials()["reward"].tolist() == [1.0, 1.0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == old
