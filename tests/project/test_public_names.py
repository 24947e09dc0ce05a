"""The public names are what the design lists, and importing a room never overwrites one."""

import pkgutil
import subprocess
import sys

import pytest

import harbor_nb

PROMISED = """
diagnose Diagnosis repair find_broken Repair register_failure
CompareView
CredentialsPanel
EnvironmentPicker
HarborNbError
Calibration
Comparison
Job
JobLauncher
JobMonitor
Jobs
Plan
Readiness
ResultsExplorer
app
artifacts
attach
calibrate
check
compare
env_example
environments
events
jobs
launch
load_env
phases
plan
rewards
sample_jobs
sample_tasks
save_env
summary
task_steps
to_parquet
trajectory_steps
trials
unreadable
""".split()


def test_every_promised_name_is_there_and_documented():
    for name in PROMISED:
        value = getattr(harbor_nb, name)
        assert value.__doc__, f"{name} has no docstring"
        assert name in dir(harbor_nb)


def test_names_stay_the_same_objects_after_every_submodule_is_imported():
    code = """
import importlib, pkgutil, harbor_nb
before = {name: getattr(harbor_nb, name) for name in harbor_nb.__all__}
for module in pkgutil.walk_packages(harbor_nb.__path__, "harbor_nb."):
    if not module.name.startswith("harbor_nb._shipped") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
changed = [name for name, value in before.items() if getattr(harbor_nb, name) is not value]
print(len(before), changed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, changed = done.stdout.split(" ", 1)
    assert changed.strip() == "[]"
    assert int(count) >= len(PROMISED)


def test_no_room_bears_the_name_of_a_public_function():
    rooms = {module.name for module in pkgutil.iter_modules(harbor_nb.__path__)}
    assert rooms.isdisjoint(harbor_nb.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        harbor_nb.no_such_name  # noqa: B018 - the look-up is the test
