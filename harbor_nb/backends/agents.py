"""Are the keys there that an agent and its model need? A doubt warns; it does not block."""

import contextlib
import difflib
import importlib
import os
from functools import cache

from harbor_nb.backends.catalog import alternatives
from harbor_nb.backends.readiness import Finding, Readiness, warns
from harbor_nb.credentials import stored_names
from harbor_nb.credentials._known import known, read_table, value_doubts
from harbor_nb.errors import BadInputError

_ALIASES = {"bedrock": "amazon-bedrock", "gemini": "google", "together_ai": "together"}
_NO_KEY = frozenset({"ollama", "ollama_chat", "hosted_vllm", "vllm", "lm_studio", "fake"})


_PROVIDER_TABLES = (  # Harbor 0.25, 0.24
    ("harbor.agents.agent_auth_resolution", "api_key_candidate_names"),
    ("harbor.agents.model_connection", "api_key_envs"),
)


@cache
def _table() -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in read_table("harbor_nb.backends", "agents.csv")}


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
            near = difflib.get_close_matches(agent, AgentName.values(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "type `harbor run --help` for the list"
            raise BadInputError(f"unknown agent {agent!r}; {hint}")
    own = [list(group) for group in alternatives(row.get("keys", ""))]
    provider = _provider(model)
    needed = own + ([[name] for name in _provider_keys(provider)] if provider and (not own or row["note"]) else [])
    findings: list[Finding] = []
    if row.get("model") == "needed" and model is None:
        findings.append(warns(f"{agent} needs a model", 'give one, such as model="anthropic/claude-sonnet-4-5"'))
    have = [group for group in needed if all(os.environ.get(name) for name in group)]
    if needed and not have:
        findings.append(_no_key(agent, model, needed))
    for name in {name for group in have for name in group}:
        findings += [warns(f"{name}: {doubt}", f"set {name} anew") for doubt in value_doubts(name, os.environ[name])]
    if own and not row["note"] and provider and provider not in _NO_KEY:
        names = _provider_keys(provider)
        if (
            names
            and not {one for group in own for one in group} & set(names)
            and not any(os.environ.get(n) for n in names)
        ):
            findings.append(_no_key(f"{agent} with {model}", model, [[name] for name in names]))
    return Readiness(f"{agent} with {model}" if model else agent, tuple(findings))


def _no_key(who: str, model: str | None, needed: list[list[str]]) -> Finding:
    choices = " or ".join(" + ".join(group) for group in needed[:4])
    half = next((group for group in needed if any(os.environ.get(name) for name in group)), None)
    first = half or needed[0]
    lacks = [name for name in first if not os.environ.get(name)]
    stored = stored_names()
    if all(name in stored for name in lacks):
        return warns(f"{choices} not set for {who}, though {stored[lacks[0]]} holds it", "type: harbor_nb.load_env()")
    where = next((known()[name].where for name in lacks if name in known() and known()[name].where), "")
    if half:
        reason = f"{' and '.join(set(first) - set(lacks))} is set, but {' and '.join(lacks)} is not"
    else:
        reason = f"{choices} not set for {who}" + (f" ({model})" if model and model not in who else "")
    lines = " and ".join(f"{name}=..." for name in lacks)
    return warns(reason, f"add {lines} to .env{f' (get it at {where})' if where else ''} and type harbor_nb.load_env()")


def _provider(model: str | None) -> str | None:
    """Give the provider of a model: what stands before the slash, else by how the name begins."""
    if not model:
        return None
    if "/" in model:
        name = model.split("/", 1)[0]
        return _ALIASES.get(name, name)
    return next((r["keys"] for n, r in _table().items() if r["kind"] == "model" and model.lower().startswith(n)), None)


def _provider_keys(provider: str) -> tuple[str, ...]:
    """Give the names that hold a provider's key, from Harbor's own table, wherever its version keeps that."""
    names = [] if provider in _NO_KEY else [provider, *(name for name, used in _ALIASES.items() if used == provider)]
    for module, field in _PROVIDER_TABLES:
        with contextlib.suppress(ImportError):
            table = importlib.import_module(module).PROVIDERS
            return tuple(next((getattr(table[name], field) for name in names if name in table), ()))
    return ()
