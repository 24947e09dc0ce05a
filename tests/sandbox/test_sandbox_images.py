"""Dockerfiles: what each instruction gives, and which are refused before any work."""

import io
import tarfile
from pathlib import Path

import pytest

from harbor_nb.errors import BuildError
from harbor_nb.sandbox import Sandbox, build_image

pytestmark = pytest.mark.local


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


async def told(context: Path, dockerfile: str, command: str, **started) -> str:
    """Build, run a command in the image, and give what it prints."""
    image = await build_image(context, dockerfile)
    sandbox = await Sandbox.start(image, name="images", **started)
    try:
        done = await sandbox.exec(command)
        assert done.return_code == 0, (done.stdout, done.stderr)
        return done.stdout.decode().strip()
    finally:
        await sandbox.stop()


async def test_run_in_its_three_forms(tmp_path: Path):
    dockerfile = r"""
FROM python:3.13-slim AS base
RUN echo shell $0 > /shell && \
    # a comment in between
    echo two >> /shell
RUN ["/bin/sh", "-c", "echo \"$0 $HOME\" > /exec"]
RUN <<EOF
set -e
echo "one $((1 + 1))" > /heredoc
echo two >> /heredoc
EOF
RUN <<"EOF"
#!/usr/bin/env python3
print("python", file=open("/script", "w"))
EOF
RUN cat > /kept <<EOF && echo after >> /kept
kept $HOME
EOF
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN if false | true; then exit 1; fi; echo bash ${BASH_VERSION:0:1} > /bash
"""
    out = await told(tmp_path, dockerfile, "cat /shell /exec /heredoc /script /kept /bash; ls -A /tmp")
    assert out.split("\n") == [
        "shell /bin/sh", "two", "/bin/sh /root", "one 2", "two", "python", "kept /root", "after", "bash 5",
    ]  # fmt: skip


async def test_variables(tmp_path: Path):
    (tmp_path / "file.txt").write_text("x")
    dockerfile = r"""
ARG TAG=3.13-slim
ARG SHARED=outer
FROM python:${TAG}
ARG SHARED
ARG VERSION=1.2 EMPTY=
ARG TARGETARCH
ENV A=1 B="two words" C='$A' D=\$A
ENV OLD form with spaces
ENV A=2 E=$A-${VERSION}
ENV F=${NONE:-default} G=${VERSION:+set} H=${NONE:+set}x I=${EMPTY:-was-empty} J=${EMPTY-kept}
WORKDIR /srv/${VERSION}
COPY file.txt $VERSION.txt
RUN echo "$SHARED $VERSION" > args; test -n "$TARGETARCH"
"""
    image = await build_image(tmp_path, dockerfile)
    assert image.from_image == "python:3.13-slim"
    assert image.workdir == "/srv/1.2"
    assert {name: image.env.get(name) for name in "A B C D OLD E F G H I J VERSION".split()} == {
        "A": "2", "B": "two words", "C": "$A", "D": "$A", "OLD": "form with spaces", "E": "1-1.2", "F": "default",
        "G": "set", "H": "x", "I": "was-empty", "J": "", "VERSION": None,
    }  # fmt: skip
    out = await told(tmp_path, dockerfile, "cat args 1.2.txt; echo; echo [$VERSION] $E; pwd")
    assert out.split("\n") == ["outer 1.2", "x", "[] 1-1.2", "/srv/1.2"]


async def test_copy_in_all_its_forms(tmp_path: Path):
    for name in ("a.txt", "b.txt", "c.md", "sub/deep/d.txt", "sub/.hidden", "with space/e.txt", "src/main.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "sub/empty").mkdir()
    (tmp_path / "sub/link").symlink_to("deep/d.txt")
    (tmp_path / "link.txt").symlink_to("a.txt")
    (tmp_path / "src/main.py").chmod(0o755)
    dockerfile = """
FROM x
WORKDIR /w
COPY a.txt renamed.txt
COPY a.txt existing/
COPY b.txt existing
COPY *.txt globbed/
COPY sub /sub
COPY sub/ merged/
COPY ["with space/e.txt", "/json dir/e.txt"]
COPY link.txt /followed
COPY --chown=nobody:nogroup --chmod=640 src /owned/
COPY --chown=1234 a.txt /new/folder/n.txt
COPY --link a.txt sub /many/
COPY <<one <<"two" /docs/
$HOME '${A:-kept quotes}' "x"
one
$HOME
two
COPY a.txt /lib/in-usr
"""
    out = await told(
        tmp_path,
        dockerfile,
        "cd /; find w sub many docs owned followed new json* usr/lib/in-usr -printf '%y %m %U:%G %p\\n' | sort -k4",
    )
    lines = set(out.split("\n"))
    for line in (
        "f 644 0:0 w/renamed.txt", "f 644 0:0 w/existing/a.txt", "f 644 0:0 w/existing/b.txt",
        "f 644 0:0 w/globbed/a.txt", "f 644 0:0 w/globbed/link.txt", "d 755 0:0 sub/empty", "l 777 0:0 sub/link",
        "f 644 0:0 sub/.hidden", "f 644 0:0 w/merged/deep/d.txt", "f 644 0:0 json dir/e.txt", "f 644 0:0 followed",
        "f 640 65534:65534 owned/main.py", "f 644 1234:1234 new/folder/n.txt", "f 644 0:0 many/a.txt",
        "f 644 0:0 many/deep/d.txt", "f 644 0:0 docs/one", "f 644 0:0 usr/lib/in-usr",
    ):  # fmt: skip
        assert line in lines, (line, out)
    assert "c.md" not in out
    out = await told(tmp_path, dockerfile, "cat /docs/one /docs/two; ls -ld /lib | cut -c1")
    assert out == "'kept quotes' \"x\"\n$HOME\nl"


async def test_a_glob_that_is_a_folder_and_a_target_that_is_a_file(tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_text("x")
    assert await told(tmp_path, "FROM x\nCOPY d* /t\nRUN echo old > /y\nCOPY d/x /y", "cat /t/x /y") == "xx"
    with pytest.raises(BuildError, match="COPY d /y"):
        await build_image(tmp_path, "FROM x\nRUN echo old > /y\nCOPY d /y")


async def test_dockerignore_as_docker_reads_it(tmp_path: Path):
    for name in (
        "keep.txt", "secret.env", "sub/secret.env", "logs/a.log", "logs/important.log", "deep/x/y.tmp", "y.tmp",
        "build/out", "docs/build/out", "only/a", "only/b",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text(
        "# comment\nsecret.env\nlogs/\n!logs/important.log\n**/*.tmp\n/build\nonly/*\n!only/b\n"
    )
    out = await told(tmp_path, "FROM x\nCOPY . /c", "cd /c; find . -type f | sort")
    assert out.split() == [
        "./.dockerignore", "./docs/build/out", "./keep.txt", "./logs/important.log", "./only/b", "./sub/secret.env",
    ]  # fmt: skip
    with pytest.raises(BuildError, match=r"line 2: COPY secret.env /: secret.env is left out by .dockerignore"):
        await build_image(tmp_path, "FROM x\nCOPY secret.env /")


async def test_add_unpacks_archives_with_their_owners(tmp_path: Path):
    for mode, name in (("w:gz", "a.tar.gz"), ("w:xz", "b.txz"), ("w", "c.bin")):
        with tarfile.open(tmp_path / name, mode) as tar:
            for member_name, uid in ((f"{name}.d/root", 0), (f"{name}.d/other", 4321)):
                member = tarfile.TarInfo(member_name)
                member.uid, member.gid, member.size, member.mode = uid, uid, 2, 0o640
                tar.addfile(member, io.BytesIO(b"hi"))
    (tmp_path / "plain.gz").write_bytes(b"\x1f\x8bnot an archive")
    out = await told(
        tmp_path,
        "FROM x\nADD a.tar.gz b.txz /t/\nADD c.bin plain.gz /t\nCOPY a.tar.gz /t/",
        "cd /t; find . -type f -printf '%m %s %p\\n' | sort -k3",
    )
    lines = out.split("\n")
    for name in ("a.tar.gz", "b.txz", "c.bin"):
        assert f"640 2 ./{name}.d/other" in lines
    assert "644 16 ./plain.gz" in lines
    assert any(line.endswith("./a.tar.gz") for line in lines)


async def test_what_has_no_effect_is_accepted(tmp_path: Path):
    dockerfile = """# syntax=docker/dockerfile:1
FROM --platform=linux/amd64 x
LABEL a=b
EXPOSE 80/tcp
CMD ["sh"]
ENTRYPOINT exec $0
HEALTHCHECK CMD true
VOLUME /data
STOPSIGNAL SIGTERM
MAINTAINER me
"""
    assert await told(tmp_path, dockerfile, "echo fine") == "fine"


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        (
            "FROM a AS x\nFROM b",
            "line 2: FROM b: a build of several stages is not supported on local; use environment=",
        ),
        ("FROM a\nCOPY --from=x /a /b", "COPY --from is not supported"),
        ("FROM a\nADD https://example.org/x /x", "ADD from https://example.org/x is not supported"),
        ("FROM a\nADD git@example.org:x.git /x", "is not supported"),
        ("FROM a\nRUN --mount=type=cache,target=/x ls", "RUN --mount is not supported"),
        ("FROM a\nONBUILD RUN ls", "ONBUILD is not supported"),
        ("FROM a\nCOPY --parents a /b", "COPY --parents is not supported"),
        ("FROM a\nFOO bar", "line 2: FOO bar: there is no instruction FOO"),
        ("RUN ls", "no FROM"),
        ("", "no FROM"),
        ("RUN ls\nFROM a", "line 1: RUN ls: FROM comes first"),
        ("FROM a\nCOPY none /x", "line 2: COPY none /x: none is not in the build context"),
        ("FROM a\nCOPY ../../etc/passwd /x", "leaves the build context"),
        ("FROM a\nCOPY x", "needs a source and a target"),
        ("FROM a\nRUN <<EOF\nx", "the document <<EOF has no end"),
        ("FROM a\nENV A", "ENV needs a value"),
        ('FROM a\nENV A="b', "is not closed"),
        ("FROM a\nENV A=${B#x}", "is not supported"),
        ("# escape=`\nFROM a", "escape=` is not supported"),
        ("FROM a\nRUN echo shown; exit 3", "line 2: RUN echo shown; exit 3: exit code 3\nshown"),
        ("FROM a\nUSER nonesuch\nRUN true", "unable to find user nonesuch"),
        ("FROM a\nCOPY --chown=nonesuch Dockerfile /x", "the image has no user nonesuch"),
    ],
)
async def test_refused_and_wrong_instructions_name_themselves(tmp_path: Path, dockerfile: str, message: str):
    (tmp_path / "Dockerfile").write_text(dockerfile)
    with pytest.raises(BuildError) as caught:
        await build_image(tmp_path)
    assert message in str(caught.value)


async def test_a_link_out_of_the_context_is_refused(tmp_path: Path):
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "secret").write_text("host")
    (context / "out").symlink_to("../secret")
    with pytest.raises(BuildError, match="leaves the build context"):
        await build_image(context, "FROM a\nCOPY out /x")


async def test_users_and_homes(tmp_path: Path):
    dockerfile = """
FROM x
RUN groupadd -g 2000 crew && useradd -m -u 1500 -g crew -s /bin/bash app && echo secret > /root/s && chmod 600 /root/s
WORKDIR /w
USER app
RUN echo mine > ~/mine; test ! -r /root/s
COPY --chown=app Dockerfile /w/
USER 1500:0
RUN id -g > /tmp/group
USER app
"""
    (tmp_path / "Dockerfile").write_text(dockerfile)
    command = "id -un; id -gn; echo $HOME; cat ~/mine /tmp/group; stat -c %U:%G /w/Dockerfile /w"
    out = await told(tmp_path, dockerfile, command)
    assert out.split() == ["app", "crew", "/home/app", "mine", "0", "app:crew", "root:root"]
