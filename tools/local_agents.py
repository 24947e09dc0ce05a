"""Which of Harbor's agents can be set up on `local`: tries each and writes docs/local-agents.md.

    .venv/bin/python tools/local_agents.py [AGENT ...]

An agent whose set-up asked the network, and got no answer here, is told as such: whether it works is not known then.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from harbor.agents.factory import AgentFactory
from harbor.models.agent.name import AgentName
from harbor.models.task.config import EnvironmentConfig
from harbor.models.trial.paths import TrialPaths

from harbor_nb._display import clean
from harbor_nb.local import LocalEnvironment

PAGE = Path(__file__).resolve().parent.parent / "docs/local-agents.md"
TIMEOUT_SEC = 60
AT_ONCE = 4
NETWORK = re.compile(
    r"could not resolve|temporary failure|name or service not known|network is unreachable|connection refused"
    r"|getaddrinfo|could not connect|connection timed out|failed to connect|dns error|unable to locate package"
    r"|failed to fetch|EAI_AGAIN|no matching distribution|couldn't connect|no valid openpgp data",
    re.IGNORECASE,
)


async def try_agent(name: str) -> tuple[str, str]:
    """Set up one agent in a sandbox of its own; give what came of it, and what it said."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "environment").mkdir()
        (folder / "environment/Dockerfile").write_text("FROM python:3.13-slim\nWORKDIR /app\n")
        paths = TrialPaths(trial_dir=folder / "trial")
        paths.agent_dir.mkdir(parents=True)
        local = LocalEnvironment(
            environment_dir=folder / "environment", environment_name="agents", session_id=f"{name}__env",
            trial_paths=paths, task_env_config=EnvironmentConfig(),
        )  # fmt: skip
        try:
            agent = AgentFactory.create_agent_from_name(
                AgentName(name), logs_dir=paths.agent_dir, model_name="anthropic/claude-sonnet-4-5"
            )
        except Exception as error:  # noqa: BLE001 - whatever it is goes into the table
            return "can't be made without more settings", first_line(error)
        await local.start(force_build=False)
        try:
            await asyncio.wait_for(agent.setup(local), TIMEOUT_SEC)
        except TimeoutError:
            return "not known: took longer than a minute here", ""
        except Exception as error:  # noqa: BLE001 - whatever it is goes into the table
            if NETWORK.search(str(error)):
                return "not known: needs the network, which was not there", ""
            return "fails", first_line(error)
        finally:
            await local.stop(delete=True)
        return "set up", ""


def first_line(error: Exception) -> str:
    """Give an error's last telling line, cut short."""
    lines = [line.strip() for line in clean(str(error)).splitlines() if line.strip()]
    told = lines[-1] if lines else type(error).__name__
    return told.replace(str(Path.cwd()), ".").replace("|", "/")[:100]


async def main(names: list[str]) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> tuple[str, str, str]:
        async with limit:
            result, said = await try_agent(name)
            print(name, "|", result, "|", said, flush=True)
            return name, result, said

    rows = await asyncio.gather(*(one(name) for name in names))
    lines = [
        "# Harbor's agents on `local`",
        "",
        "Made by `tools/local_agents.py`, which sets up each agent in a sandbox. *Not known* means that the set-up",
        "asked the network and got no answer where this page was made; run the tool where there is one.",
        "",
        "The oracle is not in the table: the sample tasks run it.",
        "",
        "| agent | set-up on `local` | what it said |",
        "|---|---|---|",
        *(f"| {name} | {result} | {said} |" for name, result, said in rows),
        "",
    ]
    PAGE.write_text("\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or sorted(set(AgentFactory.registered_names()) - {"oracle"})))
