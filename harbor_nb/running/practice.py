"""A runner's practice cloud: its server, the SDK's environment, and a door for the questions of other processes."""

import contextlib
import json
import logging
import os
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redactor
from harbor_nb.backends.practice import DOOR
from harbor_nb.errors import BadInputError, NotReadyError
from harbor_nb.practice_clouds.description import VENDORS, Practice
from harbor_nb.running.owner import OwnerRecord


def described(practice: Any, environments: Any) -> Practice | None:
    """Read what `plan` was given, and refuse clouds that can't be practised.

    Raises:
        BadInputError: it is no description, or there is no practice cloud of an environment.
    """
    made = Practice.of(practice)
    for name in environments if made is not None else ():
        if name not in ("local", "docker", *VENDORS):
            raise BadInputError(f"there is no practice cloud of {name}; choose among {', '.join(VENDORS)}")
    return made


@contextlib.contextmanager
def practice_cloud(description: str | None, record: OwnerRecord) -> Iterator[None]:
    """Have the vendor's practice cloud while the job runs; this process's SDK is pointed at it."""
    practice = Practice.of(description)
    if practice is None:
        yield
        return
    try:
        from harbor_nb.practice_clouds.server import PracticeServer
    except ImportError as error:
        raise NotReadyError(f"practice needs {error.name}; type: pip install 'harbor-nb[practice]'") from None
    logging.getLogger("harbor_nb.practice").setLevel(logging.INFO)
    logging.getLogger("harbor_nb.practice").addHandler(logging.StreamHandler(sys.stderr))
    server = PracticeServer(record.environment, practice).start()
    try:
        server.apply()
        os.environ["HARBOR_TELEMETRY"] = "off"
        redactor.remember("PRACTICE_KEY", server.backend.key)
        with _door(Path(record.temporary) / DOOR, {record.environment: server.environ}):
            yield
    finally:
        server.close()


@contextlib.contextmanager
def _door(path: Path, told: dict[str, dict[str, str]]) -> Iterator[None]:
    """Tell the address and the throw-away key to processes of this user; the folder is closed to all others."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            peer = self.request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", peer)[1] == os.geteuid():
                self.request.sendall(json.dumps(told).encode())

    with socketserver.UnixStreamServer(str(path), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), name="practice-door", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            path.unlink(missing_ok=True)
