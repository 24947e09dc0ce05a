"""What a plan would do, before it costs anything: trials, readiness, what similar trials took, and what to know."""

import contextlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb._display import clean
from harbor_nb.backends.agents import check_agent
from harbor_nb.backends.readiness import check
from harbor_nb.errors import HarborNbError
from harbor_nb.results.statistics import power_text
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


def _people(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give each agent's name, or its import path, and its model."""
    agents = config["agents"]
    return [(str(one.get("name") or one.get("import_path")), str(one.get("model_name") or "")) for one in agents]


def readiness(config: Mapping[str, Any], practice: Any = None) -> list[Any]:
    """Give the readiness of a config's environment and agents, as far as it can be told."""
    name = environment_of(config)
    # A practice cloud is made of local's sandboxes.
    asked: list[Any] = [lambda: check(name if practice is None or name == "docker" else "local")]
    asked += [partial(check_agent, *who) for who in sorted(set(_people(config))) if ":" not in who[0]]
    told = []
    for ask in asked:
        with contextlib.suppress(HarborNbError):  # an environment of Harbor's that has no record yet
            told.append(ask())
    return told


def _history(config: Mapping[str, Any]) -> str:
    """Say what scored trials with the same task names, agents and environment took and cost in this jobs folder."""
    from harbor_nb.results.frames import trials

    try:
        frame = trials(config["jobs_dir"], columns="task environment agent model status total_sec cost_usd".split())
    except HarborNbError:
        return "no history"
    people = {f"{name.rpartition(':')[2]} {model.rpartition('/')[2]}" for name, model in _people(config)}
    wanted = {Path(str(task.get("path") or task.get("name"))).name for task in config["tasks"]}
    task, model = (frame[key].fillna("").str.replace(r".*/", "", regex=True) for key in ("task", "model"))
    similar = frame[
        (frame["status"] == "scored") & (frame["environment"] == environment_of(config))
        & (frame["agent"] + " " + model).isin(people) & (task.isin(wanted) | (not wanted))
    ]  # fmt: skip
    seconds, costs = similar["total_sec"].dropna(), similar["cost_usd"].dropna()
    if seconds.empty:
        return "no history"
    told = f"{len(seconds)} similar trials took {seconds.median():.1f} s ({seconds.min():.1f} to {seconds.max():.1f})"
    if len(costs):
        told += f" and cost ${costs.median():.3f} (${costs.min():.3f} to ${costs.max():.3f})"
    return told


def _notes(plan: "Plan") -> list[str]:
    loose = [
        agent["name"] for agent in plan.configs[0]["agents"]
        if agent.get("name") not in (None, "oracle", "nop") and not (agent.get("kwargs") or {}).get("version")
    ]  # fmt: skip
    needed = set().union(*(needed_names(config) for config in plan.configs))
    missing = ", ".join(sorted(needed - set(os.environ) - set(plan.secrets)))
    off = os.environ.get("HARBOR_TELEMETRY", "").strip().lower() in {"0", "false", "no", "off", "disabled"}
    several, docker, real = len(plan.configs) > 1, "docker" in plan.environments, plan.practice is None
    said = {
        "docker sandboxes end at once after their trial; fast_stop=False waits up to 10 s as Harbor does": docker
        and plan.fast_stop,
        "the environments run side by side, with the same agent version": several and not loose,
        f"the environments run side by side; {', '.join(loose)} is installed in its newest version in each sandbox: "
        "fix it by 'version' in the agent's kwargs": several and loose,
        "practice: this machine plays the clouds; no vendor is asked, no telemetry sent": not real,
        "Harbor sends usage statistics; os.environ['HARBOR_TELEMETRY'] = 'off' stops that": not off and real,
        f"not set, but used by the plan: {missing}; type load_env()": missing,
    }  # fmt: skip
    power = [power_text(tasks, plan.configs[0].get("n_attempts", 1))] if several and (tasks := plan.n_tasks) else []
    return [note for note, holds in said.items() if holds] + power + home()


def preview(plan: "Plan") -> dict[str, Any]:
    """Give what a plan shows: one row a job, and notes."""
    jobs: list[dict[str, Any]] = []
    told: dict[str, None] = {}
    for config, environment in zip(plan.configs, plan.environments, strict=True):
        found = readiness(config, plan.practice)
        told |= dict.fromkeys(map(str, found))
        exists = (Path(config["jobs_dir"]) / config["job_name"]).exists()
        jobs.append({
            "name": config["job_name"], "environment": environment, "trials": plan.n_trials,
            "exists": exists, "ready": not exists and all(item.ready for item in found),
            "history": _history(config), "agents": [" ".join(who).strip() for who in _people(config)],
        })  # fmt: skip
    return {"jobs": jobs, "readiness": list(told), "notes": _notes(plan)}


def text(shown: Mapping[str, Any]) -> str:
    """Give a preview as lines of text."""
    jobs = shown["jobs"]
    lines = [f"Plan: {len(jobs)} job{'s' * (len(jobs) != 1)}"]
    for job in jobs:
        number = (
            "trials not counted yet" if job["trials"] is None else f"{job['trials']} trial{'s' * (job['trials'] != 1)}"
        )
        lines.append(f"  {job['name']}: {number}, {', '.join(job['agents'])} on {job['environment']}")
        lines += ["    a job of this name exists already; give another name"] * job["exists"]
        lines.append(f"    {job['history']}")
    return clean("\n".join([*lines, *(f"  {told}" for told in shown["readiness"] + shown["notes"])]))
