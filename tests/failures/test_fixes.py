"""Each fix of the table, typed as `diagnose` prints it: real messages are raised in a real job, which it must mend."""

import ast
import getpass
import json
import os
import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from harbor import JobConfig

import harbor_nb
from harbor_nb.known_failures import match

HERE = Path(__file__).parent
FAULTY = """
import json
from pathlib import Path

import harbor.trial.trial  # loads Harbor's own exceptions
from harbor.agents.base import BaseAgent
from harbor_nb.local import LocalEnvironment


def told(trial, *phases):
    file = Path({faults!r}) / f"{{trial.rpartition('__')[0]}}.json"
    row = json.loads(file.read_text()) if file.exists() else {{}}
    return row if row.get("phase") in phases else None


def fail(trial, *phases):
    if row := told(trial, *phases):
        name = row["exception"]
        own = {{kind.__name__: kind for kind in below(Exception) if kind.__module__.startswith("harbor.")}}
        kind = SystemExit if name == "SystemExit" else own.get(name) or type(name, (Exception,), {{}})
        raise kind.__new__(kind, row["message"])


def below(kind):
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


class Agent(BaseAgent):
    @staticmethod
    def name(): return "faulty"
    def version(self): return "1"
    async def setup(self, environment): fail(self.logs_dir.parent.name, "agent_setup")
    async def run(self, instruction, environment, context):
        fail(self.logs_dir.parent.name, "agent")
        await environment.exec("echo 'Hello, world!' > /app/hello.txt")


class Environment(LocalEnvironment):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        fail(self.trial_paths.trial_dir.name, None)

    async def start(self, force_build):
        fail(self.trial_paths.trial_dir.name, "environment_setup")
        await super().start(force_build)

    async def exec(self, command, **kwargs):
        if "test.sh" in command and "/logs/verifier" in command:
            if told(self.trial_paths.trial_dir.name, "verifier"):
                (self.trial_paths.verifier_dir / "test-stdout.txt").touch()  # the tests began
            fail(self.trial_paths.trial_dir.name, "verifier")
            if row := told(self.trial_paths.trial_dir.name, "output"):
                (self.trial_paths.verifier_dir / "test-stdout.txt").write_text(row["message"])
                command = "echo 0 > /logs/verifier/reward.txt"
        return await super().exec(command, **kwargs)
"""
FOR_REAL = ("cancelled", "runner-lost", "tests-never-began")  # no exception makes these; test_provoked.py does


def known(row):
    return match(row.get("exception"), row["message"], phase=row.get("phase"), environment="faulty:Environment",
                 output=row.get("output", False))  # fmt: skip


def by_fix():
    rows = {}
    for row in tomllib.loads((HERE / "messages.toml").read_text())["message"]:
        if row["name"] not in FOR_REAL:
            rows.setdefault(known(row).fix.partition("  #")[0], []).append(row)
    return rows


@pytest.fixture
def faulty(tmp_path, monkeypatch, task):
    """Runs a job in which each trial meets the failure of a row; `mend` takes the causes away."""
    module, faults, before = f"faulty{abs(hash(tmp_path))}", tmp_path / "faults", dict(os.environ)
    faults.mkdir()
    (tmp_path / f"{module}.py").write_text(FAULTY.format(faults=str(faults)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")  # so that each fix leads to local

    def run(rows):
        for number, row in enumerate(rows):
            task(to=f"path/to/the/tasks/t{number:03d}")
            phase = "output" if row.get("output") else row.get("phase")
            (faults / f"t{number:03d}.json").write_text(json.dumps(row | {"phase": phase}))
        made = harbor_nb.plan("path/to/the/tasks", agents=f"{module}:Agent", environments=f"{module}:Environment",
                              name="job", exact_name=True)  # fmt: skip
        return made.launch(force=True)[0].wait(100, progress=False)

    def mend():
        for file in faults.iterdir():
            file.unlink()

    run.mend, run.module = mend, module
    yield run
    os.environ.clear()
    os.environ.update(before)


def typed(line, **names):
    """Run a line as a person who types it does; give what its last part is."""
    tree = ast.parse(line)
    last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "<fix>", "exec"), names)
    return eval(compile(last, "<fix>", "eval"), names)


def settings(line):
    """The settings that a line gives to repair()."""
    calls = [node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call)]
    given = [call.keywords for call in calls if getattr(call.func, "attr", "") == "repair"]
    return {word.arg: ast.literal_eval(word.value) for words in given for word in words}


@pytest.mark.local
@pytest.mark.deep
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fix", "rows"), by_fix().items(), ids=list(by_fix()))
def test_a_fix_leads_to_a_pass_or_to_what_it_promises(fix, rows, faulty, monkeypatch):
    job = faulty(rows)
    told = harbor_nb.diagnose(job)
    named = {group["failure"] for group in told.groups}
    assert named == {known(row).name for row in rows}, str(told)
    faulty.mend()
    Path(".env").write_text("A_KEY_OF_A_TEST=some-value-1234\n")
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "some-value-5678")
    wanted = fix.replace('"docker"', '"local"').partition('only="failed"')[0]
    done = set()
    for group in told.groups:
        assert group["fix"].startswith(wanted)
        for line in (group["fix"], *(line for _, line in group["options"])):
            assert f": {line}" in str(told)
            if line not in done:
                follow(line, job, group, faulty.module)
            done.add(line)
    if "load_env" in fix:
        assert os.environ["A_KEY_OF_A_TEST"] == "some-value-1234"


def follow(line, job, group, module):
    if line.startswith("%pip"):
        extra = re.search(r"harbor\[(\w+)\]", line)[1]
        assert extra in metadata("harbor").get_all("Provides-Extra")
        line = line.partition("# then ")[2]
    line = line.replace("package.module:Class", f"{module}:Agent")  # a person's own
    made = typed(line, job=job, harbor_nb=harbor_nb, tasks="path/to/the/tasks")
    if made is None:  # it printed; the words behind it say what to type then
        made = typed(line.partition("; then ")[2], job=job, harbor_nb=harbor_nb)
    if isinstance(made, harbor_nb.Job):
        frame = made.wait(100, progress=False).trials()
        assert (frame["reward"] == 1.0).all(), frame[["task", "message"]].to_dict("records")
        assert {name[:4] for name in group["names"]} <= {name[:4] for name in frame["trial"]}
        assert harbor_nb.diagnose(made).ok
        config = JobConfig.model_validate_json((made.path / "config.json").read_bytes())
        asked = settings(line)
        if target := asked.pop("environment", None):
            assert set(frame["environment"]) == {target}
        for name in set(asked) - {"only", "tasks"}:
            assert getattr(config if hasattr(config, name) else config.environment, name) == asked[name]
    elif isinstance(made, harbor_nb.Plan):
        assert str(made).startswith("Plan: 1 job")
    else:
        assert set(group["names"]) <= set(made["trial"]) or len(made) == group["trials"]
