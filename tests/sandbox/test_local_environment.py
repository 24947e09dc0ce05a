"""What of a task's environment section `local` honours, through Harbor, and what it refuses by name."""

import asyncio
import json
from pathlib import Path

import pytest
from harbor.models.task.config import EnvironmentConfig, NetworkPolicy
from harbor.models.trial.paths import TrialPaths

import harbor_nb
from harbor_nb.errors import BuildError, SandboxError
from harbor_nb.local import LocalEnvironment

pytestmark = pytest.mark.local


def environment(folder: Path, dockerfile: str | None = "FROM x\n", **given) -> LocalEnvironment:
    place = folder / "environment"
    place.mkdir(exist_ok=True)
    if dockerfile is not None:
        (place / "Dockerfile").write_text(dockerfile)
    paths = TrialPaths(trial_dir=folder / "trial")
    paths.trial_dir.mkdir(exist_ok=True)
    config = EnvironmentConfig(**given.pop("config", {}))
    return LocalEnvironment(
        environment_dir=place, environment_name="task", session_id="task__x__env", trial_paths=paths,
        task_env_config=config, **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "given", "files", "dockerfile", "message"),
    [
        ({"gpus": 2}, {}, [], "FROM x", "2 GPUs, which local has not; use environment="),
        ({"os": "windows"}, {}, [], "FROM x", "needs Windows containers"),
        ({"docker_image": "a:1"}, {}, [], None, "names only a docker_image, which local can't pull; use environment="),
        ({}, {}, ["docker-compose.yaml"], "FROM x", "docker-compose.yaml: local has no compose; use environment="),
        ({}, {}, [], None, "environment/Dockerfile is missing"),
        (
            {},
            {"network_policy": NetworkPolicy(network_mode="allowlist", allowed_hosts=["example.org"])},
            [],
            "FROM x",
            "local can't allow single hosts",
        ),
        (
            {},
            {"mounts": [{"type": "volume", "source": "v", "target": "/v"}]},
            [],
            "FROM x",
            "a mount of type volume is not possible on local",
        ),
    ],
)
def test_what_it_cannot_honour_is_refused_before_it_starts(tmp_path, config, given, files, dockerfile, message):
    (tmp_path / "environment").mkdir()
    for name in files:
        (tmp_path / "environment" / name).write_text("")
    with pytest.raises(SandboxError, match=message):
        environment(tmp_path, dockerfile, config=config, **given)


async def test_an_unsupported_instruction_is_told_at_the_start(tmp_path: Path):
    with pytest.raises(BuildError, match="a build of several stages is not supported on local"):
        await environment(tmp_path, "FROM a\nFROM b").start(force_build=False)


async def test_settings_of_the_task_are_honoured(tmp_path: Path):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    local = environment(
        tmp_path,
        "FROM python:3.13-slim\nENV FROM_IMAGE=1\nWORKDIR /image\n",
        config={
            "workdir": "/own/workdir",
            "env": {"FROM_TASK": "2"},
            "cpus": 1,
            "memory_mb": 300,
            "healthcheck": {"command": "test -e /healthy", "interval_sec": 0.1, "retries": 50},
        },
        persistent_env={"FROM_JOB": "3"},
        network_policy=NetworkPolicy(network_mode="no-network"),
        mounts=[
            {"type": "bind", "source": str(mounted), "target": "/logs/verifier"},
            {"type": "bind", "source": str(mounted), "target": "/fixed", "read_only": True},
        ],
    )
    await local.start(force_build=False)
    try:
        told = await local.exec(
            "pwd; echo $FROM_IMAGE $FROM_TASK $FROM_JOB $ONCE; ls -d /tests /solution", env={"ONCE": "4"}
        )
        assert told.stdout.split() == ["/own/workdir", "1", "2", "3", "4", "/solution", "/tests"]
        seen = await local.exec("ls /sys/class/net /proc/sys/net/ipv4/conf 2>/dev/null; cat /proc/net/dev")
        assert "lo:" in seen.stdout
        assert len([line for line in seen.stdout.splitlines() if ":" in line and "/" not in line]) == 1, seen.stdout
        listen = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
        assert (await local.exec(f'python3 -c "{listen}"')).return_code == 0
        assert (await local.exec("touch /logs/verifier/x && ! touch /fixed/y 2>/dev/null && ls /fixed")).stdout == "x\n"
        with pytest.raises(RuntimeError, match="timed out after 1 seconds"):
            await local.exec("sleep 60", timeout_sec=1)
        background = asyncio.ensure_future(local.exec("sleep 0.3; touch /healthy"))
        await local.run_healthcheck()
        await background
        chunks = []

        async def collect(text, stream):
            chunks.append((text, stream))

        with local.scoped_output_callback(collect):
            await local.exec("printf 'caf\\303'; sleep 0.2; printf '\\251'; echo e >&2")
        assert chunks == [("caf", "stdout"), ("é", "stdout"), ("e\n", "stderr")]
        (tmp_path / "data").mkdir()
        (tmp_path / "data/file").write_text("x")
        await local.upload_dir(tmp_path / "data", "/up")
        await local.download_dir("/up", tmp_path / "down")
        assert (tmp_path / "down/file").read_text() == "x"
        assert await local.is_dir("/up")
        assert await local.is_file("/up/file")
        with pytest.raises(FileNotFoundError):
            await local.download_file("/none", tmp_path / "none")
    finally:
        await local.stop(delete=True)
    await local.stop(delete=True)
    facts = json.loads((tmp_path / "trial/harbor_nb.sandbox.json").read_text())
    assert (facts["from_image"], facts["network"]) == ("python:3.13-slim", "no-network")
    assert len(facts["limits"]) == 2
    with pytest.raises(SandboxError, match="does not run"):
        await local.exec("true")


async def test_a_public_task_has_the_hosts_network(tmp_path: Path):
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connect = f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\" 2>/dev/null; echo $?"
    try:
        for mode, code in (("public", "0\n"), ("no-network", "1\n")):
            local = environment(tmp_path, network_policy=NetworkPolicy(network_mode=mode))
            await local.start(force_build=False)
            try:
                assert (await local.exec(connect)).stdout == code
            finally:
                await local.stop(delete=True)
    finally:
        server.close()


def test_a_whole_trial_says_what_stood_in_and_who_it_ran_as(tmp_path: Path):
    task = tmp_path / "own-user"
    for name, text in {
        "instruction.md": "Nothing.",
        "task.toml": 'schema_version = "1.4"\n[agent]\nuser = "worker"\n[environment]\ncpus = 1\nmemory_mb = 512\n'
        'network_mode = "no-network"\n',
        "environment/Dockerfile": "FROM debian:13\nRUN useradd -m worker\nWORKDIR /w\nRUN chown worker /w\n",
        "solution/solve.sh": "#!/bin/bash\nid -un > /w/who\n",
        "tests/test.sh": "#!/bin/bash\ntest -s /w/who && echo 1 > /logs/verifier/reward.txt; cat /w/who\n",
    }.items():
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(text)
    job = harbor_nb.launch(task, jobs_dir=tmp_path / "jobs")
    job.wait(timeout=60, progress=False)
    row = job.trials().iloc[0]
    assert row["reward"] == 1.0, row["message"]
    trial = next((tmp_path / "jobs").rglob("trial.log")).parent
    facts = json.loads((trial / "harbor_nb.sandbox.json").read_text())
    expected = "root" if facts["users"] == "single-user" else "worker"
    assert (trial / "verifier/test-stdout.txt").read_text().strip() == expected
    log = (trial / "trial.log").read_text()
    assert "stands in for FROM debian:13" in log
    assert "1 CPU by" in log
    assert "512 MB of memory by" in log
    assert facts["stand_in"] in log
