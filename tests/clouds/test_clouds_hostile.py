"""What a practice server does with those it was not made for."""

import contextlib
import http.client
import io
import json
import socket
import tarfile
import time

import psutil
import pytest

from harbor_nb.practice_clouds import files
from harbor_nb.practice_clouds import http as guard
from harbor_nb.practice_clouds.description import Practice
from harbor_nb.practice_clouds.server import PracticeServer

pytestmark = pytest.mark.local
# A cheap call of each, how the key goes, and what the vendor says to a wrong one.
CALLS = {
    "daytona": ("GET", "/api/sandbox?limit=1", "Authorization", "Bearer {}", 401, "Invalid credentials"),
    "e2b": ("GET", "/v2/sandboxes?limit=1", "X-API-KEY", "{}", 401, "Invalid API key"),
    "runloop": ("GET", "/v1/devboxes?limit=1", "Authorization", "Bearer {}", 401, "Unauthorized"),
}
ADDRESS = {
    "daytona": "DAYTONA_API_URL",
    "e2b": "E2B_API_URL",
    "modal": "MODAL_SERVER_URL",
    "runloop": "RUNLOOP_BASE_URL",
}


def serve(vendor: str):
    made = PracticeServer(vendor, Practice()).start()
    yield made
    made.close()
    assert not made.backend.folder.exists()


@pytest.fixture(params=["daytona", "e2b", "modal", "runloop"])
def any_server(request):
    yield from serve(request.param)


@pytest.fixture(params=["daytona", "e2b", "runloop"])
def server(request):
    """One that speaks HTTP; modal's gRPC is tried in test_clouds_modal."""
    yield from serve(request.param)


def port(server) -> int:
    return int(server.environ[ADDRESS[server.vendor]].split(":")[2].split("/")[0])


def call(server, key: str | None = None, method: str | None = None, path: str | None = None, body=None, **headers):
    known = CALLS[server.vendor]
    if key is not None:
        headers[known[2]] = known[3].format(key)
    asking = http.client.HTTPConnection("127.0.0.1", port(server), timeout=10)
    asking.request(method or known[0], path or known[1], body, headers, encode_chunked="Transfer-Encoding" in headers)
    answer = asking.getresponse()
    return answer.status, answer.read().decode()


def lives(server) -> bool:
    if server.vendor != "modal":
        return call(server, server.backend.key)[0] == 200
    with socket.create_connection(("127.0.0.1", port(server)), timeout=5) as asking:
        asking.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        return len(asking.recv(9)) == 9


def test_it_listens_on_loopback_alone(any_server):
    ours = [one for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert port(any_server) in {one.laddr.port for one in ours}
    assert {one.laddr.ip for one in ours} == {"127.0.0.1"}
    others = [
        address.address for addresses in psutil.net_if_addrs().values() for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]  # fmt: skip
    for address in others:
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            socket.create_connection((address, port(any_server)), timeout=2)


def test_garbage_ends_nothing(any_server):
    for junk in (
        b"\x16\x03\x01\x02\0",
        b"\0" * 4096,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port(any_server)), timeout=5) as asking:
            asking.sendall(junk)
            asking.shutdown(socket.SHUT_WR)
            while asking.recv(4096):
                pass
    assert lives(any_server)


def test_a_wrong_key_gets_the_vendors_own_answer(server):
    *_, status, text = CALLS[server.vendor]
    for key in (None, "", "sentinel-real", server.backend.key[:-1], "ü"):
        found = call(server, None if key is None else key.encode("utf-8").decode("latin-1"))
        assert found[0] == status
        assert text in found[1]
        assert server.backend.key not in found[1]
    assert server.backend.foreign_keys == 5
    assert call(server, server.backend.key)[0] == 200


def test_another_host_name_is_refused(server):
    assert call(server, server.backend.key, Host="evil.example:80")[0] == 401
    assert call(server, server.backend.key, Host=f"localhost:{port(server)}")[0] == 200


def test_a_gigabyte_is_refused_before_it_is_read(server, monkeypatch):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port(server)), timeout=10) as asking:
        key = CALLS[server.vendor]
        head = f"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {2**30}\r\n{key[2]}: {key[3]}\r\n\r\n"
        asking.sendall(head.format(server.backend.key).encode())
        assert asking.recv(64).startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began < 5
    monkeypatch.setattr(guard, "MOST_BYTES", 100_000)

    def endless():
        for _ in range(40):
            yield b"x" * 10_000

    path = {"daytona": "/api/sandbox", "e2b": "/v2/sandboxes", "runloop": "/v1/devboxes"}[server.vendor]
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it does not wait for the rest
        assert call(server, server.backend.key, "POST", path, endless(), **{"Transfer-Encoding": "chunked"})[0] == 413
    monkeypatch.undo()
    assert lives(server)


def test_what_is_not_served_is_said_and_logged(server, caplog):
    with caplog.at_level("INFO", logger="harbor_nb.practice"):
        status, text = call(server, server.backend.key, "POST", "/v9/brand-new")
    assert status == 404
    assert "not served by the practice cloud: POST /v9/brand-new" in text
    assert "not served by the practice cloud: POST /v9/brand-new" in caplog.text


def test_nonsense_in_a_known_call_is_a_client_error(server):
    path = {"daytona": "/api/sandbox", "e2b": "/v2/sandboxes", "runloop": "/v1/devboxes"}[server.vendor]
    for body in (b"", b"{", b"[1]", b'{"buildInfo": 3}', b'{"templateID": 3}', b'"\\ud800"', b"\xff"):
        status, _text = call(server, server.backend.key, "POST", path, body)
        assert 400 <= status < 500 or status == 200, (body, status)
    assert lives(server)


def test_an_archive_that_climbs_out_is_refused(tmp_path):
    outside = tmp_path / "outside.txt"
    for name in ("../outside.txt", str(outside), "a/../../outside.txt"):
        archive = tmp_path / "evil.tar"
        with tarfile.open(archive, "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        inside = tmp_path / "in"
        with contextlib.suppress(files.BadInputError):  # a leading / is taken off, as tar does
            files.unpack(archive, inside)
        assert not outside.exists()
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as tar:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(member)
        member = tarfile.TarInfo("link/outside.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(files.BadInputError):
        files.unpack(link, tmp_path / "in2")
    assert not outside.exists()


def test_a_path_can_not_climb_out_of_a_sandbox(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("of the host")
    server = PracticeServer("daytona", Practice()).start()
    try:
        status, text = call(server, server.backend.key, "POST", "/api/sandbox", json.dumps({}))
        assert status == 200
        made = json.loads(text)
        assert made["state"] == "started"
        for path in (str(secret), f"../../../../..{secret}", f"/tmp/../..{secret}", "/proc/1/root" + str(secret)):
            status, text = call(
                server,
                server.backend.key,
                "GET",
                f"/toolbox/{made['id']}/files/download?path={path.replace('/', '%2F')}",
            )
            assert status in (400, 404, 500), text
            assert "of the host" not in text
        for odd in (f"/toolbox/../{made['id']}/files", "/api/sandbox/..%2f..%2fetc", "/api/../../etc/passwd"):
            assert call(server, server.backend.key, "GET", odd)[0] in (400, 404)
    finally:
        server.close()
