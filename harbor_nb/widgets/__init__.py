"""Widgets over the public calls: pick, load keys, launch, watch, explore and compare by clicking."""

from importlib import import_module
from typing import Any

_HOME = {
    "EnvironmentPicker": "environment_picker",
    "CredentialsPanel": "credentials_panel",
    "JobLauncher": "job_launcher",
    "JobMonitor": "job_monitor",
    "ResultsExplorer": "results_explorer",
    "CompareView": "compare_view",
    "app": "application",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harbor_nb.widgets' has no attribute {name!r}")
    return getattr(import_module(f"harbor_nb.widgets.{_HOME[name]}"), name)
