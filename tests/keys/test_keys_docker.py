# ruff: noqa: E501 - a row a message reads better on one line
"""Docker is asked as Harbor asks it, through the docker command; each thing that is wrong is its own reason."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.backends import docker_engine


def info(compose="2.26.1", buildx="0.13.1", **other):
    """What `docker info` says, as seen with Docker 28; a plugin that is missing is not listed."""
    plugins = [{"Name": name, "Version": v} for name, v in (("compose", compose), ("buildx", buildx)) if v]
    told = {"ServerErrors": None, "OSType": "linux", "DockerRootDir": "/nowhere", "ClientInfo": {"Plugins": plugins}}
    return json.dumps(told | other)


@pytest.fixture
def docker_cli(tmp_path, monkeypatch):
    """Put a `docker` on PATH that answers as told: rows of (words, exit code, stdout, stderr)."""

    def make(*rows, sleep=0):
        folder = tmp_path / "fake-bin"
        folder.mkdir(exist_ok=True)
        lines = ["#!/bin/bash", f"/usr/bin/sleep {sleep}" if sleep else ":"]
        for words, code, out, err in [*rows, *GOOD]:
            test = f'if [[ "$*" == {words}* ]]; then'
            lines += [test, f"cat <<'EOT'\n{out}\nEOT", f"cat >&2 <<'EOT'\n{err}\nEOT", f"exit {code}; fi"]
        path = folder / "docker"
        path.write_text("\n".join([*lines, "exit 99"]))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return make


GOOD = [
    ("info", 0, info(), ""),
    ("context", 0, "unix:///var/run/docker.sock", ""),
]
NOT_RUNNING = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
NEWER = "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct: no such file"
DENIED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.24/info": dial unix /var/run/docker.sock: connect: permission denied'
)
PIPE = (
    "error during connect: this error may indicate that the docker daemon is not running: "
    'Get "http://%2F%2F.%2Fpipe%2Fdocker_engine/v1.24/info": open //./pipe/docker_engine: not found'
)


@pytest.mark.parametrize(
    ("row", "level", "reason", "fix"),
    [
        (("info", 1, "", NOT_RUNNING), "blocks", "the Docker daemon is not running", "start docker"),
        (("info", 0, info(ServerErrors=[NOT_RUNNING]), ""), "blocks", "not running", "start"),
        (("info", 1, "", NEWER), "blocks", "the Docker daemon is not running", "start docker"),
        (("info", 1, "", PIPE), "blocks", "the Docker daemon is not running", "Docker Desktop"),
        (("info", 1, "", DENIED), "blocks", "no permission to use the Docker socket", "usermod -aG docker"),
        (("info", 1, "", 'context "mine": context not found'), "blocks", "active context is gone", "context use default"),
        (("info", 1, "", "client version 1.52 is too new. Maximum supported API version is 1.41"), "blocks", "fit", "older"),
        (("info", 7, "", ""), "blocks", "docker info ended with 7", "docker info"),
        (("info", 0, info(OSType="windows"), ""), "blocks", "Windows containers", "Linux containers"),
        (("info", 0, info(compose=None), ""), "blocks", "version 2, is missing", "docs.docker"),
        (("info", 0, info(compose="unknown"), ""), "blocks", "version 2, is missing", "docs.docker"),
        (("info", 0, info(compose="1.29.2"), ""), "blocks", "1.29.2 is too old", "update"),
        (("info", 0, info(compose="2.0.1"), ""), "blocks", "2.0.1 is too old", "update"),
        (("info", 0, info(buildx=None), ""), "warns", "buildx is missing", "docker-buildx"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_its_own_reason(docker_cli, row, level, reason, fix):
    docker_cli(row)
    told = harbor_nb.check("docker")
    (finding,) = told.findings
    assert finding.level == level
    assert reason in finding.reason
    assert fix in finding.fix
    assert told.ready == (level == "warns")


PODMAN = json.dumps({"host": {"os": "linux", "buildahVersion": "1.39.3"}, "version": {"Version": "5.4.2"}})
COMPOSE = ("compose", 0, "Docker Compose version v2.32.4", ">>>> Executing external compose provider")
BUILDX = ("buildx", 0, "buildah 1.39.3", "")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([COMPOSE, BUILDX], []),
        ([BUILDX, ("compose", 125, "", "looking up compose provider failed")], ["version 2, is missing"]),
        ([("compose", 0, "podman-compose version 1.0.6", ""), BUILDX], ["1.0.6 is too old"]),
        ([COMPOSE, ("buildx", 125, "", "unrecognized command")], ["buildx is missing"]),
    ],
)
def test_podman_in_dockers_place_is_asked_for_its_plugins(docker_cli, rows, said):
    """It answers `docker info` in a form of its own, which lists none."""
    docker_cli(("info", 0, PODMAN, ""), *rows)
    found = harbor_nb.check("docker").findings
    assert len(found) == len(said)
    assert all(text in one.reason for text, one in zip(said, found, strict=True))


def test_a_plugin_that_tells_no_version_is_no_crash(docker_cli):
    told = json.loads(info())
    told["ClientInfo"]["Plugins"].append({"Name": "odd", "SchemaVersion": "0.1.0"})
    docker_cli(("info", 0, json.dumps(told), ""))
    assert not harbor_nb.check("docker").findings


@pytest.mark.parametrize("version", ["2.1.1", "v2.26.1", "2.26.1-4", "5.0.0", "2.40.3-desktop.1"])
def test_compose_versions_that_do(docker_cli, version):
    docker_cli(("info", 0, info(compose=version), ""))
    assert not harbor_nb.check("docker").findings


def test_low_disk_warns(docker_cli, tmp_path, monkeypatch):
    docker_cli(("info", 0, info(DockerRootDir=str(tmp_path), Name=socket.gethostname()), ""))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 2**30))
    (finding,) = harbor_nb.check("docker").findings
    assert (finding.level, "only 1.0 GB are free" in finding.reason) == ("warns", True)


def test_a_docker_that_hangs_is_given_up(docker_cli, monkeypatch):
    docker_cli(sleep=30)
    monkeypatch.setattr(docker_engine, "LIMIT_SEC", 1.0)
    began = time.monotonic()
    told = harbor_nb.check("docker")
    assert time.monotonic() - began < 8
    assert "did not answer" in told.reason


def test_docker_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    told = harbor_nb.check("docker")
    assert told.reason.startswith("docker: command not found")
    assert "https://docs.docker.com/get-docker/" in told.fix


@pytest.mark.docker
def test_the_engine_here_is_ready():
    assert harbor_nb.check("docker").ready
    assert docker_engine.endpoint().startswith("unix://")


@pytest.mark.docker
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root to hide the plugins")
def test_missing_plugins_for_real():
    """The real command, in a mount namespace of its own where an empty folder lies over its plugins."""
    code = "import harbor_nb; r = harbor_nb.check('docker'); print(r.ready, [one.reason for one in r.findings])"
    places = ["/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/local/lib/docker/cli-plugins"]
    hide = "; ".join(f"mount -t tmpfs none {place}" for place in places if Path(place).is_dir())
    command = ["unshare", "--mount", "sh", "-c", f'{hide}; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False ['docker compose, version 2, is missing', 'docker buildx is missing")


@pytest.mark.docker
def test_the_active_context_is_followed_and_handed_to_the_package(tmp_path, monkeypatch):
    """A context that points elsewhere is what both the command and the package talk to."""
    from harbor_nb.backends import providers

    settings = tmp_path / "docker-config"
    monkeypatch.setenv("DOCKER_CONFIG", str(settings))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    socket = tmp_path / "other.sock"
    make = ["docker", "context", "create", "other", "--docker", f"host=unix://{socket}"]
    subprocess.run(make, check=True, capture_output=True)
    subprocess.run(["docker", "context", "use", "other"], check=True, capture_output=True)
    plugins = Path("/usr/libexec/docker/cli-plugins")
    assert docker_engine.endpoint() == f"unix://{socket}"
    assert "not running" in harbor_nb.check("docker").reason
    (finding,) = providers.ping("docker")
    assert "can't be reached" in finding.reason
    socket.symlink_to("/var/run/docker.sock")
    assert providers.ping("docker") == []
    if plugins.is_dir() or Path("/usr/lib/docker/cli-plugins").is_dir():
        assert harbor_nb.check("docker").ready


@pytest.mark.docker
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root to start a daemon")
@pytest.mark.deep
def test_a_daemon_that_stops(tmp_path, monkeypatch):
    """A second dockerd of the test's own: ready while it runs, not running once it was ended."""
    short = Path(tempfile.mkdtemp(prefix="hnb-"))  # the name of a socket holds 107 bytes
    socket = short / "d.sock"
    places = [f"--data-root={tmp_path}/data", f"--exec-root={short}/exec", f"--pidfile={tmp_path}/pid"]
    # in a network namespace of its own: a second daemon would take the first one's bridge away
    command = [
        "unshare",
        "--net",
        "--mount",
        "dockerd",
        f"--host=unix://{socket}",
        *places,
        "--bridge=none",
        "--iptables=false",
    ]
    with (tmp_path / "log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
        end = time.monotonic() + 60
        while not (ready := harbor_nb.check("docker")).ready and time.monotonic() < end:
            time.sleep(0.5)
        assert ready.ready, (tmp_path / "log").read_text()[-2000:]
    finally:
        daemon.terminate()
        daemon.wait(60)
    assert "the Docker daemon is not running" in harbor_nb.check("docker").reason
    shutil.rmtree(short, ignore_errors=True)


@pytest.mark.docker
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root to become another user")
def test_no_permission_on_the_socket_for_real():
    """Asked as a user who is in no group: the command's own words are told apart."""
    done = subprocess.run(
        ["docker", "info", "--format", "{{json .}}"], capture_output=True, text=True, user=65534, group=65534,
        extra_groups=[], env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )  # fmt: skip
    (finding,) = docker_engine._engine(json.loads(done.stdout), done.returncode, done.stderr)
    assert finding.reason.startswith("no permission to use the Docker socket")
