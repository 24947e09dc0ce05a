"""What the tests of the frames share."""

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def open_to_all():
    """A folder that another user may enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
