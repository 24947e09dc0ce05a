"""How to reach the practice cloud of a job that runs: its address and throw-away key, from its runner."""

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harbor_nb.errors import ProviderError

DOOR = "practice.sock"
Settings = Mapping[str, Mapping[str, str]]


def settings(practice: Any) -> Settings:
    """Give, by environment, the variables that stand in for a vendor's own.

    Args:
        practice: a job that runs with practice, or its folder; None for none; a mapping is given back.

    Raises:
        ProviderError: the job is no practice job, or its practice cloud has ended with it.
    """
    if practice is None or isinstance(practice, Mapping):
        return practice or {}
    folder = Path(practice)
    gone = f"{folder.name} has no practice cloud that answers: it lives as long as its job runs; launch with practice"
    try:
        record = json.loads((folder / "harbor_nb.json").read_bytes())
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(str(Path(record["temporary"], DOOR)))
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", peer)[1] != os.geteuid():
                raise ProviderError(f"the practice cloud of {folder.name} is another user's")
            told = b"".join(iter(lambda: asking.recv(65536), b""))
        made: dict[str, dict[str, str]] = json.loads(told)
    except (OSError, ValueError, KeyError, TypeError):
        raise ProviderError(gone) from None
    return made
