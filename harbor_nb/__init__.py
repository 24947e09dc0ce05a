"""The notebook face of Harbor: plan and launch jobs, watch them, and compare the results as DataFrames."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_ROOMS = {
    "credentials": "load_env save_env env_example Credentials",
    "backends.catalog": "environments",
    "backends.readiness": "check Readiness",
    "backends.agents": "check_agent",
    "practice_clouds.description": "Practice",
    "running.leftovers": "sandboxes terminate",
    "running.planning": "plan",
    "running.plans": "Plan",
    "running.launcher": "launch",
    "running.handles": "attach Jobs",
    "running.job": "Job",
    "results.frames": "jobs trials rewards phases task_steps trajectory_steps artifacts events unreadable to_parquet",
    "results.summaries": "summary",
    "results.comparison": "compare Comparison",
    "running.calibration": "calibrate Calibration",
    "known_failures": "register_failure",
    "running.diagnosis": "diagnose Diagnosis",
    "running.repairs": "repair find_broken Repair",
    "samples": "sample_tasks sample_jobs",
    "widgets.environment_picker": "EnvironmentPicker",
    "widgets.credentials_panel": "CredentialsPanel",
    "widgets.job_launcher": "JobLauncher",
    "widgets.job_monitor": "JobMonitor",
    "widgets.results_explorer": "ResultsExplorer",
    "widgets.compare_view": "CompareView",
    "widgets.application": "app",
    "errors": "HarborNbError",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = sorted(_HOME)  # noqa: PLE0605 - read from the table above

try:
    __version__ = version("harbor-nb")
except PackageNotFoundError:  # run from a bare checkout
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    room = _HOME.get(name)
    if room is None:
        raise AttributeError(f"module 'harbor_nb' has no attribute {name!r}")
    value = getattr(import_module(f"harbor_nb.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics; called by `%load_ext harbor_nb`."""
    from harbor_nb.magics import register

    register(ipython)
