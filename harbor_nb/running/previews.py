"""What a plan would do, before it costs anything: trials, readiness, what similar trials took, and what to know."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import clean
from harbor_nb.backends import readiness as _readiness
from harbor_nb.errors import HarborNbError
from harbor_nb.running.configs import environment_of, needed_names, validated

if TYPE_CHECKING:
    from harbor_nb.running.plans import Plan

_RESOLVE_SEC = 10
_HOMES = (
    ("BINDER_SERVICE_HOST", "on Binder the job ends with the pod, which stops after some idle minutes"),
    ("COLAB_RELEASE_TAG", "on Colab the job ends with the virtual machine, when the page is closed for long"),
    ("JUPYTERHUB_USER", "on JupyterHub the job ends with this server's pod or session, not before"),
)


def home() -> list[str]:
    """Say what ends a detached job besides its own end, where that is sooner than on a computer of one's own."""
    return [told for name, told in _HOMES if os.environ.get(name)][:1]


def count_tasks(config: Mapping[str, Any]) -> int | None:
    """Count the tasks of a config; a registry is asked for 10 s at most."""
    if not config.get("datasets"):
        return len(config.get("tasks") or []) or None
    from harbor import JobPlan

    from harbor_nb._sync import run_sync

    try:
        return len(run_sync(JobPlan.resolve_task_configs(validated(config)), _RESOLVE_SEC))
    except Exception:  # noqa: BLE001 - no network, or no such dataset: the preview says that it could not be counted
        return None


def readiness(config: Mapping[str, Any], practice: Any = None) -> list[Any]:
    """Give the readiness of a config's environment and agents, as far as it can be told."""
    found: list[Any] = []
    name = environment_of(config)
    if practice is None or name in ("local", "docker"):
        found.append(_tell(_readiness.check, name))
    check_agent = getattr(_readiness, "check_agent", None)
    named = [agent for agent in config["agents"] if agent.get("name")] if check_agent else []
    return found + [_tell(check_agent, agent["name"], agent.get("model_name")) for agent in named]


def _tell(check: Any, *names: Any) -> Any:
    try:
        return check(*names)
    except HarborNbError:  # an environment of Harbor's that has no record yet
        return None


def _history(plan: "Plan", config: Mapping[str, Any]) -> str:
    """Say what trials with the same task names, agents and environment took and cost in this jobs folder."""
    folder = Path(config["jobs_dir"])
    if not folder.is_dir():
        return "no history"
    from harbor_nb.results.frames import trials

    columns = ["task", "environment", "agent", "model", "status", "total_sec", "cost_usd"]
    try:
        frame = trials(folder, columns=columns)
    except HarborNbError:
        return "no history"
    agents = {agent.get("name") or str(agent.get("import_path")).rpartition(":")[2] for agent in config["agents"]}
    models = {str(agent.get("model_name") or "").rpartition("/")[2] for agent in config["agents"]}
    frame = frame[
        (frame["environment"] == environment_of(config)) & (frame["status"] == "scored") & frame["agent"].isin(agents)
    ]
    frame = frame[frame["model"].fillna("").str.rpartition("/")[2].isin(models)] if len(frame) else frame
    if config.get("tasks"):
        wanted = {Path(str(task.get("path") or task.get("name"))).name for task in config["tasks"]}
        frame = frame[frame["task"].str.rpartition("/")[2].isin(wanted)] if len(frame) else frame
    seconds, cost = frame["total_sec"].dropna(), frame["cost_usd"].dropna()
    if seconds.empty:
        return "no history"
    told = f"{len(seconds)} similar trials took {seconds.median():.1f} s ({seconds.min():.1f} to {seconds.max():.1f})"
    number = plan.n_trials
    if not cost.empty:
        told += f", cost ${cost.mean():.3f} each (${cost.min():.3f} to ${cost.max():.3f})"
        told += f", so about ${cost.mean() * number:.2f} in all" if number else ""
    if number:
        rounds = number / min(number, int(config.get("n_concurrent_trials") or 4))
        told += f"; about {rounds * seconds.mean():.0f} s for {number} trials"
    return told


def _notes(plan: "Plan") -> list[str]:
    notes = []
    names = set(plan.environments)
    if "docker" in names:
        notes.append(
            "docker sandboxes are ended at once after their trial; fast_stop=False waits as Harbor does"
            if plan.fast_stop else "docker sandboxes are ended as Harbor does, up to 10 s each (fast_stop=False)"
        )  # fmt: skip
    if len(plan.configs) > 1:
        loose = [agent["name"] for agent in plan.configs[0]["agents"] if _installs_newest(agent)]
        notes.append(
            f"the environments run side by side; {', '.join(loose)} is installed in each sandbox in its newest version:"
            " give 'version' in the agent's kwargs to be sure that it is the same" if loose
            else "the environments run side by side, with the same agent version"
        )  # fmt: skip
    off = os.environ.get("HARBOR_TELEMETRY", "").strip().lower() in {"0", "false", "no", "off", "disabled"}
    if plan.practice is not None:
        notes.append("practice: clouds are played by this machine; no vendor is asked and no telemetry sent")
    elif not off:
        notes.append("Harbor sends usage statistics about the job; os.environ['HARBOR_TELEMETRY'] = 'off' stops that")
    needed = set().union(*(needed_names(config) for config in plan.configs))
    missing = sorted(name for name in needed if name not in os.environ and name not in plan.secrets)
    if missing:
        notes.append(f"{', '.join(missing)} is used by the plan and not set; load_env() or os.environ")
    return notes + home()


def _installs_newest(agent: Mapping[str, Any]) -> bool:
    if not agent.get("name") or (agent.get("kwargs") or {}).get("version"):
        return False
    from harbor.agents.factory import AgentFactory
    from harbor.agents.installed.base import BaseInstalledAgent
    from harbor.models.trial.config import AgentConfig

    try:
        found = AgentFactory.get_agent_class_from_config(AgentConfig(name=agent["name"]))
    except Exception:  # noqa: BLE001 - an agent whose extra is not installed
        return True
    return issubclass(found, BaseInstalledAgent)


def preview(plan: "Plan") -> dict[str, Any]:
    """Give what a plan shows: one row a job, and notes."""
    jobs = []
    for config, environment in zip(plan.configs, plan.environments, strict=True):
        told = [item for item in readiness(config, plan.practice) if item is not None]
        exists = (Path(config["jobs_dir"]) / config["job_name"]).exists()
        said = ["a job of this name exists already; give another name"] * exists + [str(item) for item in told]
        agents = [
            (agent.get("name") or agent.get("import_path"), agent.get("model_name")) for agent in config["agents"]
        ]
        jobs.append({
            "name": config["job_name"], "environment": environment, "trials": plan.n_trials, "readiness": said,
            "ready": all(item.ready for item in told) and not exists, "history": _history(plan, config),
            "agents": [" ".join(str(part) for part in agent if part) for agent in agents],
        })  # fmt: skip
    return {"jobs": jobs, "notes": _notes(plan)}


def text(shown: Mapping[str, Any]) -> str:
    """Give a preview as lines of text."""
    jobs = shown["jobs"]
    lines = [f"Plan: {len(jobs)} job{'s' * (len(jobs) != 1)}"]
    for job in jobs:
        number = "trials not counted yet" if job["trials"] is None else f"{job['trials']} trials"
        lines.append(f"  {job['name']}: {number}, {', '.join(job['agents'])} on {job['environment']}")
        lines += [f"    {told}" for told in [*job["readiness"], job["history"]]]
    return clean("\n".join([*lines, *(f"  {note}" for note in shown["notes"])]))


def in_notebook() -> bool:
    """Tell whether this runs in a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")
