"""The store of layers: by content, once for two builds, pruned but never under a running sandbox."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harbor_nb.errors import BuildError, SandboxError
from harbor_nb.sandbox import Sandbox, build_image, layers, places, userland

pytestmark = pytest.mark.local


@pytest.fixture(autouse=True)
def store(tmp_path_factory, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return places.cache_folder()


def kept(store: Path) -> set[str]:
    return {path.name for path in store.iterdir() if not path.name.startswith("base-")}


async def test_only_what_changed_is_built_again(tmp_path: Path):
    (tmp_path / "a").write_text("1")
    dockerfile = "FROM x\nRUN date +%N > /first\nCOPY a /a\nRUN date +%N > /second\n"
    ran: list[str] = []
    first = await build_image(tmp_path, dockerfile, on_line=ran.append)
    assert len(first.layers) == 2
    assert await build_image(tmp_path, dockerfile) == first
    (tmp_path / "a").touch()
    assert await build_image(tmp_path, dockerfile + "\n# a comment\nENV X=1\n") != first
    assert (await build_image(tmp_path, dockerfile)).key == first.key
    ran.clear()
    (tmp_path / "a").write_text("2")
    changed = await build_image(tmp_path, dockerfile, on_line=ran.append)
    assert changed.layers[0] == first.layers[0]
    assert changed.layers[1] != first.layers[1]
    assert ran == ["COPY a /a\nRUN date +%N > /second"]
    (tmp_path / "a").chmod(0o700)
    assert (await build_image(tmp_path, dockerfile)).key != changed.key
    forced = await build_image(tmp_path, dockerfile, force=True)
    assert not set(forced.layers) & set(first.layers)


async def test_another_userland_is_another_image(tmp_path: Path, monkeypatch):
    first = await build_image(tmp_path, "FROM x\nRUN true")
    monkeypatch.setattr("harbor_nb.sandbox.images.identity", lambda: "upgraded")
    assert (await build_image(tmp_path, "FROM x\nRUN true")).key != first.key
    assert len(userland.identity()) == 16


async def test_deletions_and_replaced_folders_hold_across_layers(tmp_path: Path):
    dockerfile = (
        "FROM x\nRUN mkdir -p /d/old /opt/o && echo 1 > /d/old/f && echo 1 > /usr/lib/harbor-nb-x\n"
        "RUN rm -rf /d/old /usr/lib/harbor-nb-x /usr/share/base-files\n"
        "RUN mkdir /d/old /usr/share/base-files && chmod 1777 /opt\n"
        "RUN touch /d/new\n"
    )
    image = await build_image(tmp_path, dockerfile)
    assert len(image.layers) == 4
    sandbox = await Sandbox.start(image, name="x")
    try:
        done = await sandbox.exec("find /d | sort; ls /usr/share/base-files /usr/lib/harbor-nb-x; stat -c %a /opt")
        assert done.stdout.split() == b"/d /d/new /d/old /usr/share/base-files: 1777".split()
    finally:
        await sandbox.stop()
    assert any(Path("/usr/share/base-files").iterdir())


async def test_many_runs_become_few_layers(tmp_path: Path):
    dockerfile = "FROM x\n" + "".join(f"RUN echo {number} >> /n\n" for number in range(50))
    image = await build_image(tmp_path, dockerfile)
    assert len(image.layers) <= 20
    sandbox = await Sandbox.start(image, name="x")
    try:
        assert (await sandbox.exec("wc -l < /n")).stdout.strip() == b"50"
    finally:
        await sandbox.stop()


async def test_builds_at_once_make_a_layer_once(tmp_path: Path):
    """More builders than asyncio has threads, here and in another process: each waits for the first."""
    log = tmp_path / "log"
    log.mkdir()
    context = tmp_path / "context"
    context.mkdir()
    dockerfile = "FROM x\nRUN date +%s%N > /made && sleep 0.5"
    code = (
        "import asyncio, sys; from pathlib import Path; from harbor_nb.sandbox import build_image\n"
        "said = []\n"
        "image = asyncio.run(build_image(Path(sys.argv[1]), sys.argv[2], on_line=said.append))\n"
        "print(image.key, len(said))"
    )
    other = subprocess.Popen([sys.executable, "-c", code, context, dockerfile], stdout=subprocess.PIPE, text=True)
    said: list[str] = []
    images = await asyncio.gather(*(build_image(context, dockerfile, on_line=said.append) for _ in range(40)))
    told = other.communicate(timeout=60)[0].split()
    assert {image.key for image in images} == {told[0]}
    assert len(said) + int(told[1]) == 1


async def test_a_build_that_fails_or_is_cancelled_leaves_nothing(tmp_path: Path, store: Path):
    with pytest.raises(BuildError, match="exit code 1"):
        await build_image(tmp_path, "FROM x\nRUN false")
    with pytest.raises(BuildError, match=r"took longer than 0.2 s"):
        await build_image(tmp_path, "FROM x\nRUN sleep 30", timeout_sec=0.2)
    task = asyncio.ensure_future(build_image(tmp_path, "FROM x\nRUN sleep 30"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kept(store) == set()
    assert (await asyncio.wait_for(build_image(tmp_path, "FROM x\nRUN sleep 0"), 20)).layers


async def test_pruning_takes_the_longest_unused_first_and_none_in_use(tmp_path: Path, store: Path):
    images = [await build_image(tmp_path, f"FROM x\nRUN head -c 2000000 /dev/urandom > /{n}") for n in range(4)]
    for age, image in enumerate(reversed(images)):
        os.utime(image.layers[0] / "layer.json", (1_000_000_000 - age,) * 2)
    assert layers.prune(oldest_sec=1e12) == []
    assert layers.prune(largest_bytes=10_000_000, oldest_sec=1e12) == [images[0].key]
    sandbox = await Sandbox.start(images[1], name="x")
    try:
        os.utime(images[1].layers[0] / "layer.json", (1_000_000_000,) * 2)
        assert set(layers.prune()) == {images[2].key, images[3].key}
        assert (await sandbox.exec("wc -c < /1")).stdout.strip() == b"2000000"
    finally:
        await sandbox.stop()
    assert layers.prune() == [images[1].key]
    with pytest.raises(SandboxError, match="build it again"):
        await Sandbox.start(images[1], name="x")
    assert kept(store) == set()


async def test_a_store_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SandboxError, match="set XDG_CACHE_HOME"):
        await build_image(tmp_path, "FROM x\nRUN true")
