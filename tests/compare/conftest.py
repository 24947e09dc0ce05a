"""Trials made by hand, each column as `harbor_nb.trials` gives it."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for simulations.py


def _trial(task, side, reward=None, **more):
    told = {
        "task": task, "source": "made", "task_checksum": f"sum-{task}", "environment": side, "agent": "agent",
        "agent_version": "1", "model": "model", "provider": "maker", "reward": reward, "exception": None, "fault": None,
        "status": "unscored" if reward is None else "scored", "practice": False, "recorded": False, "fast_stop": False,
    }  # fmt: skip
    return told | more


@pytest.fixture
def trial():
    return _trial


@pytest.fixture
def frame():
    """A trials frame from rewards by side and task; a list is several attempts."""

    def make(rewards, **more):
        rows = [
            _trial(task, side, value, **more)
            for side, tasks in rewards.items()
            for task, values in (
                tasks.items() if isinstance(tasks, dict) else ((f"t{i}", v) for i, v in enumerate(tasks))
            )
            for value in (values if isinstance(values, list) else [values])
        ]
        return pd.DataFrame(rows)

    return make
