"""Run as any user: a package from a repository made here, users, and foreign owners; prints what held as JSON."""

import asyncio
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from harbor_nb.sandbox import Sandbox, build_image

DOCKERFILE = """
FROM python:3.13-slim
COPY repository /repository
RUN rm -rf /etc/apt/sources.list* && echo 'deb [trusted=yes] file:/repository ./' > /etc/apt/sources.list \\
    && apt-get update && apt-get install -y harbor-nb-hello && rm -rf /var/lib/apt/lists/*
RUN useradd -m -u 1500 app && mkdir /data && chown -R app:app /data
ADD foreign.tar /unpacked/
COPY foreign.tar /tmp/
RUN mkdir /by-hand && tar -xf /tmp/foreign.tar -C /by-hand && chgrp 1234 /by-hand
RUN python3 -c "import os; os.chown('/by-hand/theirs', 4321, 4322)"
RUN su app -c 'echo by su > /data/su'
WORKDIR /data
USER app
RUN harbor-nb-hello > said && touch ~/home
COPY --chown=app:app foreign.tar owned.tar
"""
LOOK = """
cat said su; id -un; echo $HOME; test -w /root && echo root || echo not-root
stat -c '%U %n' ~/home owned.tar said /unpacked/theirs /by-hand/theirs; ls /usr/share/harbor-nb-hello
dpkg -s harbor-nb-hello | grep ^Status
"""


def repository(folder: Path) -> None:
    package = folder / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "usr/bin").mkdir(parents=True)
    (package / "usr/share/harbor-nb-hello").mkdir(parents=True)
    (package / "usr/bin/harbor-nb-hello").write_text("#!/bin/sh\necho hello from a package\n")
    (package / "usr/bin/harbor-nb-hello").chmod(0o755)
    (package / "usr/share/harbor-nb-hello/data").write_text("x")
    control = (
        "Package: harbor-nb-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: x\n"
    )
    (package / "DEBIAN/control").write_text(control)
    script = package / "DEBIAN/postinst"
    chown = "chown hello-daemon:mail /usr/share/harbor-nb-hello/data"
    script.write_text(f"#!/bin/sh\nset -e\nuseradd -r hello-daemon\n{chown}\n")
    script.chmod(0o755)
    (folder / "repository").mkdir()
    built = folder / "repository/hello.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", package, built], check=True, capture_output=True)
    digest = hashlib.sha256(built.read_bytes()).hexdigest()
    listed = f"{control}Filename: ./hello.deb\nSize: {built.stat().st_size}\nSHA256: {digest}\n\n"
    (folder / "repository/Packages").write_text(listed)
    subprocess.run(["rm", "-r", package], check=True)
    with tarfile.open(folder / "foreign.tar", "w") as tar:
        member = tarfile.TarInfo("theirs")
        member.uid, member.gid, member.size = 4321, 4322, 2
        tar.addfile(member, io.BytesIO(b"hi"))


async def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        repository(Path(place))
        mounted = Path(place, "mounted")
        mounted.mkdir(mode=0o777)
        image = await build_image(Path(place), DOCKERFILE)
        sandbox = await Sandbox.start(image, name="own", mounts=[(mounted, "/logs")], network=False)
        try:
            await sandbox.exec("chmod 777 /logs", user="root")
            looked = await sandbox.exec(LOOK)
            await sandbox.exec("echo mine > /logs/file")
            recorded = await sandbox.exec("cat /var/log/harbor_nb.owners", user="root")
            killed = await sandbox.exec("sleep 400", timeout_sec=0.3)
            left = await sandbox.exec("pgrep -f 'sleep 40[0]'", user="root")
            folder = sandbox.folder
        finally:
            await sandbox.stop()
        told = {
            "users": sandbox.users, "looked": looked.stdout.decode().split("\n"), "errors": looked.stderr.decode(),
            "recorded": recorded.stdout.decode().split("\n"),
            "killed": killed.timed_out, "left": left.stdout.decode(), "removed": not folder.exists(),
            "mounted": (mounted / "file").read_text(),
            "own": (mounted / "file").stat().st_uid == mounted.stat().st_uid,
        }  # fmt: skip
        json.dump(told, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
