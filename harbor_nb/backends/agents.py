"""Are the keys there that an agent and its model need? A doubt warns; it does not block."""

import contextlib
import importlib

from harbor_nb.backends.findings import Readiness, finding
from harbor_nb.backends.keys import Groups, alternatives, key_findings
from harbor_nb.credentials._known import read_table
from harbor_nb.errors import BadInputError, nearest

_ALIASES = {"bedrock": "amazon-bedrock", "gemini": "google", "together_ai": "together"}
_NO_KEY = frozenset({"ollama", "ollama_chat", "hosted_vllm", "vllm", "lm_studio", "fake"})
_PROVIDER_TABLES = (  # Harbor 0.25, 0.24
    ("harbor.agents.agent_auth_resolution", "api_key_candidate_names"),
    ("harbor.agents.model_connection", "api_key_envs"),
)


def _table() -> dict[str, dict[str, str]]:
    return read_table("harbor_nb.backends", "agents.csv")


def check_agent(agent: str, model: str | None = None) -> Readiness:
    """Tell whether the keys that an agent and its model need are set; nothing is asked over the network.

    Args:
        agent: Harbor's name of an agent, or an import path `module:Class`.
        model: the model as Harbor takes it, such as `anthropic/claude-sonnet-4-5`.

    Returns:
        The readiness; missing keys warn, since an agent may log in by other ways.

    Raises:
        BadInputError: Harbor has no such agent.

    Example:
        >>> check_agent("oracle").ready
        True
    """
    row = _table().get(agent, {})
    if not row and ":" not in agent:
        from harbor.models.agent.name import AgentName

        if agent not in AgentName.values():
            raise BadInputError(f"unknown agent {agent!r}{nearest(agent, AgentName.values())}")
    findings = [finding("no-model", agent=agent)] if row.get("model") == "needed" and model is None else []
    own, of_model = alternatives(row.get("keys", "")), _model_keys(model)
    if not own or row["note"]:  # the model's key will do
        needs = [own + of_model]
    elif {name for group in own for name in group} & {name for group in of_model for name in group}:
        needs = [own]
    else:
        needs = [own, of_model]
    for groups in needs:
        choices = " or ".join(" + ".join(group) for group in groups[:4])
        remark = f" for {agent} ({model})" if model else f" for {agent}"
        findings += key_findings(groups, "warns", names=choices, remark=remark)
    return Readiness(f"{agent} with {model}" if model else agent, tuple(findings))


def _model_keys(model: str | None) -> Groups:
    """Give the names that hold the key of a model's provider: named before the slash, or told by the model's name."""
    provider, slash, _ = (model or "").partition("/")
    if not slash:
        rows = (row for row in _table().values() if row["kind"] == "model")
        provider = next((row["keys"] for row in rows if provider.lower().startswith(row["name"])), "")
    provider = _ALIASES.get(provider, provider)
    names = [] if provider in _NO_KEY else [provider, *(name for name, used in _ALIASES.items() if used == provider)]
    for module, field in _PROVIDER_TABLES:
        with contextlib.suppress(ImportError):
            table = importlib.import_module(module).PROVIDERS
            keys = [key for name in names if name in table for key in getattr(table[name], field)]
            return tuple((key,) for key in dict.fromkeys(keys))
    return ()
