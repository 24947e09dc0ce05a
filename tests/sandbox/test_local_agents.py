"""docs/local-agents.md against what is so: each of Harbor's agents is set up in a `local` sandbox.

HARBOR_NB_AGENTS=1 writes the page anew; HARBOR_NB_AGENTS=name,name tries only these.
"""

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harbor.agents.factory import AgentFactory
from harbor.models.agent.name import AgentName
from harbor.models.task.config import EnvironmentConfig
from harbor.models.trial.paths import TrialPaths

import harbor_nb
from harbor_nb._display import clean
from harbor_nb.local import LocalEnvironment

PAGE = Path(__file__).resolve().parents[2] / "docs/local-agents.md"
NAMES = sorted(set(AgentFactory.registered_names()) - {"oracle"})
TIMEOUT_SEC, AT_ONCE = 150, 3
NETWORK = re.compile(
    r"could not resolve|temporary failure|name or service not known|network is unreachable|connection refused"
    r"|getaddrinfo|could not connect|connection timed out|failed to connect|dns error|failed to fetch|EAI_AGAIN"
    r"|couldn't connect|no valid openpgp data|unable to resolve host",
    re.IGNORECASE,
)
UV = "python3 -m venv /opt/uv && /opt/uv/bin/pip install -q uv && ln -s /opt/uv/bin/uv /usr/local/bin/uv"
HEAD = """# Harbor's agents on `local`

Made by `tests/sandbox/test_local_agents.py`, which sets up each agent in a `local` sandbox and holds this page against
what it finds; `HARBOR_NB_AGENTS=1` writes it anew. The image has `uv`; Python, curl, git and node are this machine's.
*Needs the network*: its installer asked an address outside, which did not answer where this page was made. What an
agent then does with its model is not tried. The oracle is not in the table: the sample tasks run it.

## A mirror or a proxy for the agent's installer

A sandbox sees nothing of your environment, on `local` as on docker. On `local` it sees `/etc` (`/etc/pip.conf`,
`/etc/apt`, certificates), without files that hold a password. Hand on by name what else an installer needs; the value
stays out of the config:

```python
names = ("HTTPS_PROXY", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "npm_config_registry")
handed = {name: f"${{{name}}}" for name in names if name in os.environ}
harbor_nb.plan(tasks, agents="claude-code", environments="local", environment={"env": handed}).launch()
```

`SSL_CERT_FILE` and the like name files: on `local` they work when the file lies below `/etc` or `/usr`.

| agent | set-up on `local` | what it said |
|---|---|---|
"""


def machine_settings():
    """How pip, uv and npm find their packages on this machine, for a sandbox's environment; never printed."""
    found = {name: value for name, value in os.environ.items()
             if re.fullmatch(r"(?i)(?:https?|no|all)_proxy|(?:PIP|UV|NPM_CONFIG)_\w+|NODE_EXTRA_CA_CERTS|\w*SSL_CERT\w*"
                             r"|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|GIT_SSL_CAINFO", name)}  # fmt: skip
    told = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    pip = dict(re.findall(r"^(?:global|user|install)\.([\w-]+)='(.*)'$", told, re.MULTILINE))
    for key in ("index-url", "extra-index-url", "find-links", "trusted-host", "cert"):
        if key in pip:
            found.setdefault(f"PIP_{key.upper().replace('-', '_')}", pip[key])
    for key, name in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("extra-index-url", "UV_INDEX"),
        ("find-links", "UV_FIND_LINKS"),
    ):
        if key in pip:
            found.setdefault(name, pip[key])
    npm = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=False)
    if npm.returncode == 0 and npm.stdout.startswith("http"):
        found.setdefault("npm_config_registry", npm.stdout.strip())
    return found


async def set_up(name, folder):
    """Set up one agent in a sandbox of its own; give what came of it, and what it said."""
    (folder / "environment").mkdir(parents=True)
    (folder / "environment/Dockerfile").write_text("FROM python:3.13-slim\nWORKDIR /app\n")
    paths = TrialPaths(trial_dir=folder / "trial")
    paths.agent_dir.mkdir(parents=True)
    local = LocalEnvironment(
        environment_dir=folder / "environment", environment_name="agents", session_id=f"{name}__env",
        trial_paths=paths, task_env_config=EnvironmentConfig(), persistent_env=machine_settings(),
    )  # fmt: skip
    try:
        agent = AgentFactory.create_agent_from_name(
            AgentName(name), logs_dir=paths.agent_dir, model_name="anthropic/claude-sonnet-4-5"
        )
    except Exception as error:
        return "needs more settings", last_line(error)
    await local.start(force_build=False)
    try:
        assert (await local.exec(UV, user="root")).return_code == 0
        await asyncio.wait_for(agent.setup(local), TIMEOUT_SEC)
    except TimeoutError:
        return "did not end", f"in {TIMEOUT_SEC} s"
    except Exception as error:
        outside = NETWORK.search(str(error))
        return ("needs the network", outside[0]) if outside else ("fails", last_line(error))
    finally:
        await local.stop(delete=True)
    return "set up", ""


def last_line(error):
    """An error's last telling line, without addresses."""
    lines = [line.strip() for line in clean(str(error)).splitlines() if line.strip()]
    told = lines[-1] if lines else type(error).__name__
    return re.sub(r"https?://\S+|(?<![.\w])/\S+", "<path>", told).replace("|", "/")[:100]


async def set_up_all(folder):
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(name):
        async with limit:
            return name, *await set_up(name, folder / name)

    return await asyncio.gather(*(one(name) for name in NAMES))


@pytest.mark.local
@pytest.mark.deep
@pytest.mark.timeout(1200)
def test_the_page_of_agents_says_what_is_so(tmp_path, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    found = asyncio.run(set_up_all(tmp_path))
    text = HEAD + "".join(f"| {name} | {result} | {said} |\n" for name, result, said in found)
    if os.environ.get("HARBOR_NB_AGENTS"):
        PAGE.write_text(text)
    assert PAGE.read_text().startswith(HEAD)
    told = dict(re.findall(r"^\| ([\w-]+) \| ([a-z ]+) \|", PAGE.read_text(), re.MULTILINE))
    so = {name: result for name, result, _ in found}
    # where this runs the network may answer; then what asked it in vain is set up, or fails in its own way
    assert {name: so[name] for name in so if told[name] not in (so[name], "needs the network", "did not end")} == {}
    assert told.keys() == so.keys()


@pytest.mark.local
def test_a_setting_that_is_handed_on_by_name_reaches_what_runs_inside(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:a-pass-word-1@127.0.0.1:1/simple")
    path = tmp_path / "hello"
    shutil.copytree(Path(__file__).resolve().parents[2] / "notebooks/tasks/hello-world", path)
    solve = "#!/bin/bash\n[ \"${PIP_INDEX_URL#*a-pass-word-1}\" = @127.0.0.1:1/simple ] && echo 'Hello, world!'"
    (path / "solution/solve.sh").write_text(f"{solve} > /app/hello.txt\n")
    handed = {"env": {"PIP_INDEX_URL": "${PIP_INDEX_URL}"}}
    made = harbor_nb.plan(path, environments="local", environment=handed, jobs_dir=tmp_path / "jobs")
    job = made.launch()[0].wait(60, progress=False)
    assert job.trials()["reward"].tolist() == [1.0]
    assert not [file for file in job.path.rglob("*.json*") if b"a-pass-word-1" in file.read_bytes()]
