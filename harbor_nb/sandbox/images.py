"""A task's Dockerfile made into a layer over the host's userland, kept by content."""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harbor_nb.errors import BuildError
from harbor_nb.sandbox.places import cache_folder
from harbor_nb.sandbox.userland import identity, overlaid

if TYPE_CHECKING:
    from harbor_nb.sandbox.running import Sandbox

IGNORED = frozenset(
    {"LABEL", "EXPOSE", "CMD", "ENTRYPOINT", "HEALTHCHECK", "VOLUME", "STOPSIGNAL", "COMMENT", "MAINTAINER"}
)
_FORMAT = 1


@dataclass
class Image:
    """What a Dockerfile gave: its `FROM` is recorded only, since the host stands in for it."""

    from_image: str = "host"
    layers: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    key: str = ""


def _cache() -> Path:
    return cache_folder()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _context_files(context: Path) -> list[Path]:
    import pathspec

    ignore = context / ".dockerignore"
    spec = pathspec.GitIgnoreSpec.from_lines(ignore.read_text().splitlines() if ignore.is_file() else [])
    files = [path for path in sorted(context.rglob("*")) if not path.is_dir() or path.is_symlink()]
    return [path for path in files if not spec.match_file(path.relative_to(context).as_posix())]


def _key(context: Path, dockerfile: str) -> str:
    digest = hashlib.sha256(json.dumps([_FORMAT, dockerfile, identity()]).encode())
    for path in _context_files(context):
        digest.update(f"\0{path.relative_to(context)}\0{path.lstat().st_mode}\0".encode())
        digest.update(str(path.readlink()).encode() if path.is_symlink() else path.read_bytes())
    return digest.hexdigest()[:32]


def _instructions(dockerfile: str) -> list[dict[str, Any]]:
    import io

    from dockerfile_parse.parser import DockerfileParser

    parser: Any = DockerfileParser(fileobj=io.BytesIO())  # type: ignore[no-untyped-call] # the library has no types
    parser.content = dockerfile
    steps: list[dict[str, Any]] = parser.structure
    if [step["instruction"] for step in steps].count("FROM") > 1:
        raise BuildError('FROM: multi-stage builds are not supported on local; use environment="docker"')
    return steps


async def build_image(
    context: Path,
    dockerfile: str | None = None,
    *,
    force: bool = False,
    network: bool = True,
    timeout_sec: float | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Image:
    """Make the image of a Dockerfile, or take it from the cache.

    Args:
        context: the folder that `COPY` copies from.
        dockerfile: the text; `context/Dockerfile` when not given.
        force: build even when the cache has it.
        network: whether `RUN` may use the network.
        timeout_sec: seconds for each `RUN`.
        on_line: called with each instruction as it starts.

    Returns:
        The image.

    Raises:
        BuildError: an instruction failed or is not supported; the message names it.
    """
    text = (context / "Dockerfile").read_text() if dockerfile is None else dockerfile
    steps = _instructions(text)
    key = _key(context, text)
    target = _cache() / key
    lock = _lock(_cache() / f"{key}.lock")
    await asyncio.to_thread(lock.__enter__)
    try:
        if force and target.exists():
            await asyncio.to_thread(shutil.rmtree, target)
        if not (target / "image.json").exists():
            await _build(
                steps, context, target, network=network, timeout_sec=timeout_sec, say=on_line or (lambda _line: None)
            )
    finally:
        lock.__exit__(None, None, None)
    stored = json.loads((target / "image.json").read_text())
    return Image(layers=(target,), key=key, **stored)


async def _build(
    steps: list[dict[str, Any]],
    context: Path,
    target: Path,
    *,
    network: bool,
    timeout_sec: float | None,
    say: Callable[[str], None],
) -> None:
    from harbor_nb.sandbox.running import PATH, Sandbox, slug

    image = Image(env={"PATH": PATH})
    sandbox = await Sandbox.start(Image(), name="build", network=network, parent=_cache())
    try:
        for step in steps:
            say(step["content"].strip())
            await _apply(step, image, sandbox, context, timeout_sec)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix="partial-"))
        for name in map(slug, ("", *overlaid())):
            (sandbox.folder / name).rename(partial / name)
        shutil.rmtree(partial / "root/tmp", ignore_errors=True)
        about = {"from_image": image.from_image, "env": image.env, "workdir": image.workdir, "user": image.user}
        (partial / "image.json").write_text(json.dumps(about))
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        await sandbox.stop()


async def _apply(
    step: dict[str, Any], image: Image, sandbox: "Sandbox", context: Path, timeout_sec: float | None
) -> None:
    name, value = step["instruction"].upper(), step["value"].strip()
    if name == "FROM":
        image.from_image = value.split()[0]
    elif name in ("ENV", "ARG"):
        image.env.update(_variables(value))
    elif name == "WORKDIR":
        image.workdir = str(Path(image.workdir, value))
        await sandbox.exec(["mkdir", "-p", image.workdir], cwd="/")
    elif name == "USER":
        image.user = value.split(":")[0]
    elif name == "RUN":
        words: str | list[str] = json.loads(value) if value.startswith("[") else value
        done = await sandbox.exec(words, cwd=image.workdir, env=image.env, user=image.user, timeout_sec=timeout_sec)
        if done.return_code:
            tail = (done.stdout + done.stderr).decode(errors="replace").strip()[-2000:]
            ended = f"took longer than {timeout_sec} s" if done.timed_out else f"exit code {done.return_code}"
            raise BuildError(f"RUN {value}: {ended}\n{tail}")
    elif name in ("COPY", "ADD"):
        _copy(name, value, image, sandbox, context)
    elif name not in IGNORED:
        raise BuildError(f'{name} is not supported on local; use environment="docker"')


def _variables(value: str) -> dict[str, str]:
    import shlex

    words = shlex.split(value)
    if words and "=" not in words[0]:
        return {words[0]: value.split(None, 1)[1]} if len(words) > 1 else {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def _copy(name: str, value: str, image: Image, sandbox: "Sandbox", context: Path) -> None:
    words: list[str] = json.loads(value) if value.startswith("[") else value.split()
    flags = [word for word in words if word.startswith("--")]
    *sources, destination = [word for word in words if not word.startswith("--")]
    if flags or "<<" in value or any("://" in source for source in sources):
        raise BuildError(f'{name} {value}: this form is not supported on local; use environment="docker"')
    inside = Path(os.path.normpath(Path("/", image.workdir, destination)))
    root = sandbox.folder / "root"
    if inside.parts[1:2] and inside.parts[1] in ("usr", "etc", "opt"):
        root = sandbox.folder
    target = root / inside.relative_to("/")
    allowed = set(_context_files(context))
    found = [path for source in sources for path in _matches(context, source)]
    if not found:
        raise BuildError(f"{name} {value}: nothing in {context.name} matches")
    into_folder = destination.endswith(("/", ".")) or len(found) > 1 or target.is_dir()
    for path in found:
        if path.is_dir():
            for file in (file for file in allowed if path in file.parents):
                _place(file, target / file.relative_to(path))
        elif path in allowed:
            _place(path, target / path.name if into_folder else target)


def _matches(context: Path, source: str) -> list[Path]:
    pattern = os.path.normpath(source.lstrip("/"))
    if pattern.startswith(".."):
        raise BuildError(f"COPY {source}: the path leaves the build context; name one inside it")
    return [context] if pattern == "." else sorted(context.glob(pattern))


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
