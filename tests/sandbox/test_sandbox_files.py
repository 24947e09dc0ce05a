"""Files in and out, and paths that try to climb out."""

from pathlib import Path

import pytest

from harbor_nb.errors import SandboxError

pytestmark = pytest.mark.local


async def test_bytes_modes_and_owners_are_kept(sandbox, tmp_path: Path):
    data = bytes(range(256)) * 5000
    await sandbox.write_file("/a/b/c.bin", data, 0o640)
    assert await sandbox.read_file("/a/b/c.bin") == data
    found = await sandbox.stat("/a/b/c.bin")
    assert (found.kind, found.size, found.mode, found.owner) == ("file", len(data), 0o640, "root")
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    await sandbox.write_file("run.sh", script)
    assert (await sandbox.stat("/run.sh")).mode == 0o755
    await sandbox.write_file("/with\nnew line and 'quotes'", b"1")
    assert await sandbox.read_file("/with\nnew line and 'quotes'") == b"1"
    assert (await sandbox.stat("/with\nnew line and 'quotes'")).size == 1
    await sandbox.write_file("-n", b"dash")
    assert await sandbox.read_file("-n") == b"dash"


async def test_folders_go_in_and_come_out_with_modes_links_and_empty_folders(sandbox, tmp_path: Path):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "empty").mkdir(parents=True)
    (source / "sub").mkdir(mode=0o750)
    (source / "sub/tool").write_bytes(b"\0\1")
    (source / "sub/tool").chmod(0o711)
    (source / "link").symlink_to("sub/tool")
    await sandbox.put(source, "/data")
    assert (await sandbox.stat("/data/sub/tool")).uid == 0
    await sandbox.get("/data", target)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        "empty", "link", "sub", "sub/tool",
    ]  # fmt: skip
    assert (target / "sub/tool").stat().st_mode & 0o777 == 0o711
    assert (target / "sub").stat().st_mode & 0o777 == 0o750
    assert (target / "link").readlink() == Path("sub/tool")
    await sandbox.put(source / "sub/tool", "/data/")
    await sandbox.get("/data/tool", target)
    assert (target / "tool").read_bytes() == b"\0\1"
    assert [stat.path for stat in await sandbox.list_dir("/data")] == [
        "/data/empty", "/data/link", "/data/sub", "/data/tool",
    ]  # fmt: skip
    assert len(await sandbox.list_dir("/data", depth=2)) == 5


async def test_what_is_not_there_is_told(sandbox, tmp_path: Path):
    assert await sandbox.stat("/none") is None
    for call in (
        sandbox.read_file("/none"),
        sandbox.get("/none", tmp_path / "x"),
        sandbox.remove("/none"),
        sandbox.list_dir("/none"),
        sandbox.put(tmp_path / "none", "/x"),
    ):
        with pytest.raises(FileNotFoundError, match="none"):
            await call
    with pytest.raises(IsADirectoryError):
        await sandbox.read_file("/usr")
    with pytest.raises(IsADirectoryError):
        await sandbox.write_file("/usr", b"")
    with pytest.raises(NotADirectoryError):
        await sandbox.list_dir("/etc/passwd")
    with pytest.raises(SandboxError, match=r"File exists|Not a directory"):
        await sandbox.write_file("/etc/passwd/x", b"")
    with pytest.raises(SandboxError, match="stop the sandbox"):
        await sandbox.remove("/../")
    with pytest.raises(SandboxError, match="not a path"):
        await sandbox.read_file("a\0b")


async def test_nothing_climbs_out(sandbox, tmp_path: Path):
    """A link made by an agent acts inside; one that comes out with a folder stays behind."""
    canary = tmp_path / "canary"
    canary.write_text("host")
    with pytest.raises(FileNotFoundError):
        await sandbox.read_file(f"/../../../{canary}")
    await sandbox.exec(f"mkdir -p /d/dir {tmp_path}; ln -s {canary} /d/out; ln -s {tmp_path} /d/folder; mkfifo /d/fifo")
    await sandbox.write_file("/d/out", b"inside")
    assert canary.read_text() == "host"
    assert await sandbox.read_file(str(canary)) == b"inside"
    await sandbox.get("/d", tmp_path / "got")
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["dir"]


async def test_make_and_remove_folders(sandbox):
    await sandbox.make_dir("/x/y/z", 0o700)
    assert (await sandbox.stat("/x/y/z")).mode == 0o700
    await sandbox.make_dir("/x/y")
    await sandbox.exec("ln -s /x /l; chmod 000 /x/y")
    await sandbox.remove("/l")
    assert (await sandbox.stat("/x")).kind == "folder"
    await sandbox.remove("/x")
    assert await sandbox.stat("/x") is None
