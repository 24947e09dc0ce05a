"""Job folders to diagnose: written as Harbor writes them."""

import json
import shutil
from pathlib import Path

import pytest

TASKS = Path(__file__).parent.parent.parent / "notebooks/tasks"
FILES = {
    "dockerfile": "environment/Dockerfile",
    "test": "tests/test.sh",
    "solve": "solution/solve.sh",
    "toml": "task.toml",
}
PHASES = ("environment_setup", "agent_setup", "agent_execution", "verifier")


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """A cache, a state folder and a working folder of the test's own, and no key of anybody's."""
    for name in ("DAYTONA_API_KEY", "DAYTONA_JWT_TOKEN", "E2B_API_KEY", "MODAL_TOKEN_ID", "RUNLOOP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARBOR_NB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


@pytest.fixture
def task(tmp_path):
    """Copies one of the sample tasks to where a test may change it."""

    def copy(name="hello-world", to=None, **texts):
        folder = Path.cwd() / (to or f"tasks/{name}")
        shutil.copytree(TASKS / name, folder)
        for file, text in texts.items():
            path = folder / FILES[file]
            path.write_text(text(path.read_text()) if callable(text) else text)
        return folder

    return copy


@pytest.fixture
def job():
    """Writes a job folder as Harbor does, each trial as told."""

    def write(name="job", trials=(), config=None, environment="docker", job_result=True):
        folder = Path.cwd() / "jobs" / name
        folder.mkdir(parents=True)
        told = {"job_name": name, "jobs_dir": "jobs", "environment": {"type": environment}, "tasks": [], "agents": []}
        (folder / "config.json").write_text(json.dumps(told if config is None else config))
        if job_result:
            (folder / "result.json").write_text('{"finished_at": "2026-01-01T01:00:00Z", "n_total_trials": 1}')
        for number, trial in enumerate(trials):
            write_trial(folder, f"{trial.get('task', 'hello-world')}__{number:07d}", environment, **trial)
        return folder

    return write


def write_trial(
    folder, name, environment, task="hello-world", exception=None, message="", phase="agent_execution", reward=None,
    files=None, result=True, agent="oracle", steps=None, path=None,
):  # fmt: skip
    trial = folder / name
    trial.mkdir()
    config = {"task": {"path": path or f"tasks/{task}"}, "trial_name": name, "agent": {"name": agent},
              "environment": {"type": environment}}  # fmt: skip
    (trial / "config.json").write_text(json.dumps(config))
    spans = {}
    for number, part in enumerate(PHASES):
        spans[part] = {"started_at": f"2026-01-01T00:0{number}:00Z", "finished_at": f"2026-01-01T00:0{number}:59Z"}
        if part == phase and exception:
            break
    last = len(spans) - 1
    data = {
        "id": name, "task_name": task, "trial_name": name, "config": config,
        "agent_info": {"name": agent, "version": "1"},
        "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:10:00Z", **spans,
        "exception_info": exception and {"exception_type": exception, "exception_message": message,
                                         "exception_traceback": "", "occurred_at": f"2026-01-01T00:0{last}:30Z"},
        "verifier_result": None if reward is None else {"rewards": {"reward": reward}}, "step_results": steps,
    }  # fmt: skip
    if result:
        (trial / "result.json").write_text(json.dumps(data))
    for file, text in (files or {}).items():
        (trial / file).parent.mkdir(parents=True, exist_ok=True)
        (trial / file).write_text(text)
    return trial
