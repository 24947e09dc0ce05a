"""The docs page is what the table of columns says, and the frames are too."""

import subprocess
import sys
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.results._columns import TABLES, arrow_schema

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_current():
    done = subprocess.run([sys.executable, ROOT / "tools/frames_docs", "--print"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "docs/frames.md").read_text() == done.stdout, "run tools/frames_docs"


@pytest.mark.parametrize("frame", TABLES)
def test_every_frame_has_its_columns(tmp_path, frame):
    (tmp_path / "jobs").mkdir()
    table = TABLES[frame]
    made = getattr(harbor_nb, frame)(tmp_path / "jobs")
    assert {name: str(dtype) for name, dtype in made.dtypes.items()} == {column.name: column.dtype for column in table}
    assert arrow_schema(table).names == [column.name for column in table]
    assert all(column.meaning and column.source for column in table)
    last = table[-1].name
    assert getattr(harbor_nb, frame)(tmp_path / "jobs", columns=[last]).columns.tolist() == [last]


def test_trials_has_what_was_promised():
    promised = """
        job trial trial_id task source task_checksum environment practice recorded fast_stop agent agent_version model
        provider attempt status reward passed exception phase failure fault message environment_setup_sec
        agent_setup_sec agent_sec verifier_sec teardown_sec total_sec started_at finished_at tokens_in tokens_cached
        tokens_out
        cost_usd n_steps path job_path"""
    assert [column.name for column in TABLES["trials"]] == promised.split()
