"""`make deep`: changes the code in small ways, one at a time, and counts how many the tests notice."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTICED = 0.80  # of the changes; what is left is mostly the wording of errors and limits of caches


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_the_tests_notice_changes_of_what_decides(tmp_path: Path):
    """What is changed, and which tests look, stands in pyproject.toml under [tool.mutmut]."""
    copy = tmp_path / "copy"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    mutmut = [sys.executable, "-m", "mutmut"]
    done = subprocess.run([*mutmut, "run", "--max-children", "2"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    told = subprocess.run([*mutmut, "results", "--all", "true"], cwd=copy, capture_output=True, text=True, check=True)
    ends = [line.rpartition(": ")[2].strip() for line in told.stdout.splitlines() if "__mutmut_" in line]
    noticed = sum(end in ("killed", "timeout", "caught by type check") for end in ends)
    print(f"{noticed} of {len(ends)} changes noticed")
    assert len(ends) > 500, told.stdout[-2000:]
    assert noticed / len(ends) >= NOTICED, "\n".join(line for line in told.stdout.splitlines() if "survived" in line)
