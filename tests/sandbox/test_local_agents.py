"""docs/local-agents.md against what is so: each of Harbor's agents is set up in a `local` sandbox.

HARBOR_NB_AGENTS=1 writes the page anew; HARBOR_NB_AGENTS=name,name tries only these.
"""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest
from harbor.agents.factory import AgentFactory
from harbor.models.agent.name import AgentName
from harbor.models.task.config import EnvironmentConfig
from harbor.models.trial.paths import TrialPaths

from harbor_nb._display import clean
from harbor_nb.local import LocalEnvironment

PAGE = Path(__file__).resolve().parents[2] / "docs/local-agents.md"
NAMES = sorted(set(AgentFactory.registered_names()) - {"oracle"})
TIMEOUT_SEC = 240
NETWORK = re.compile(
    r"could not resolve|temporary failure|name or service not known|network is unreachable|connection refused"
    r"|getaddrinfo|could not connect|connection timed out|failed to connect|dns error|unable to locate package"
    r"|failed to fetch|EAI_AGAIN|no matching distribution|couldn't connect|no valid openpgp data|curl: \(\d+\)"
    r"|unable to access|requested url returned error|tls|certificate|gateway|proxy|50\d|40\d",
    re.IGNORECASE,
)
DOWNLOADS = re.compile(r"curl|wget|npm|pip|uv |apt-get|git clone|https?://")


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
    for key, name in (("index-url", "UV_DEFAULT_INDEX"), ("extra-index-url", "UV_INDEX"), ("find-links", "UV_FIND_LINKS")):
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
        await asyncio.wait_for(agent.setup(local), TIMEOUT_SEC)
    except TimeoutError:
        return "needs the network", f"still at it after {TIMEOUT_SEC} s"
    except Exception as error:
        told = str(error)
        return ("needs the network", asks(told)) if NETWORK.search(told) else ("fails", last_line(error))
    finally:
        await local.stop(delete=True)
    return "set up", ""


def asks(told):
    """What an installer asks the network for: the programs, no address."""
    return ", ".join(dict.fromkeys(word.strip() for word in re.findall(r"curl|wget|npm|pip|uv |apt-get|git clone", told)))


def last_line(error):
    lines = [line.strip() for line in clean(str(error)).splitlines() if line.strip()]
    told = lines[-1] if lines else type(error).__name__
    return re.sub(r"https?://\S+", "<address>", told.replace(str(Path.cwd()), ".")).replace("|", "/")[:100]


def rows():
    return {name: (result, said) for name, result, said in re.findall(r"^\| ([\w-]+) \| (.*?) \| (.*?) ?\|$", PAGE.read_text(), re.M)}


if __name__ == "__main__":
    import sys, tempfile, time
    async def main():
        limit = asyncio.Semaphore(3)
        async def one(name):
            async with limit:
                t = time.time()
                with tempfile.TemporaryDirectory() as place:
                    r = await set_up(name, Path(place))
                print(name, r, round(time.time() - t), flush=True)
        await asyncio.gather(*(one(n) for n in sys.argv[1:] or NAMES))
    asyncio.run(main())
