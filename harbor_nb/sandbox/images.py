"""A task's Dockerfile made into layers over the host's userland."""

import asyncio
import contextlib
import hashlib
import json
import posixpath
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from harbor_nb._display import clean
from harbor_nb.errors import BuildError, SandboxError
from harbor_nb.sandbox import layers, places, users
from harbor_nb.sandbox.context import Context, Copy
from harbor_nb.sandbox.dockerfile import WITHOUT_EFFECT, Step, expand, json_form, pairs_of, parse, script_of
from harbor_nb.sandbox.mounts import slug
from harbor_nb.sandbox.userland import OWNERS, identity, overlaid

if TYPE_CHECKING:
    from harbor_nb.sandbox.running import Sandbox

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_LAYERS = 20  # an overlay's options must fit into a page
_TAIL = 2000  # characters of output in an error


@dataclass(frozen=True)
class Image:
    """What a Dockerfile gave: its `FROM` is recorded only, since the host stands in for it."""

    from_image: str = "host"
    layers: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    key: str = ""


@dataclass(frozen=True)
class _Action:
    """What one instruction does to the files, and all that decides about its result."""

    step: Step
    image: Image
    facts: str
    run: list[str] | None = None
    copy: Copy | None = None
    env: dict[str, str] = field(default_factory=dict)


def _plan(steps: list[Step], context: Context) -> tuple[Image, list[_Action]]:
    """Resolve all instructions; nothing is run, so a refusal comes before any work."""
    image, shell, actions = Image(env={"PATH": PATH}), ["/bin/sh", "-c"], []
    before: dict[str, str] = {}
    arguments: dict[str, str] = {}
    seen_from = False
    for step in steps:
        scope = {**arguments, **image.env} if seen_from else before
        if step.name == "FROM":
            image = replace(image, from_image=expand(step.value.split()[0], scope, step))
            seen_from = True
        elif step.name == "ARG":
            _take_argument(step, scope, before, arguments, seen_from=seen_from)
        elif not seen_from:
            raise step.fail("FROM comes first")
        elif step.name == "ENV":
            image = replace(image, env={**image.env, **pairs_of(step, scope)})
        elif step.name == "WORKDIR":
            workdir = posixpath.normpath(posixpath.join("/", image.workdir, expand(step.value, scope, step)))
            image = replace(image, workdir=workdir)
            actions.append(_Action(step, image, workdir, ["mkdir", "-p", "--", workdir]))
        elif step.name == "USER":
            image = replace(image, user=expand(step.value, scope, step))
        elif step.name == "SHELL":
            shell = json_form(step.value) or []
            if not shell:
                raise step.fail('SHELL needs a list, as in SHELL ["/bin/bash", "-c"]')
        elif step.name == "RUN":
            words = script_of(step, shell)
            env = {**arguments, **image.env}
            actions.append(_Action(step, image, json.dumps([words, env, image.workdir, image.user]), words, env=env))
        elif step.name in ("COPY", "ADD"):
            copy = context.resolve(step, image.workdir, scope)
            actions.append(_Action(step, image, copy.digest(), copy=copy))
        elif step.name not in WITHOUT_EFFECT:
            raise step.refuse(step.name)
    return image, actions


def _take_argument(
    step: Step, scope: dict[str, str], before: dict[str, str], arguments: dict[str, str], *, seen_from: bool
) -> None:
    import platform

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    known = {
        f"{side}{name}": value
        for side in ("TARGET", "BUILD")
        for name, value in {"PLATFORM": f"linux/{machine}", "OS": "linux", "ARCH": machine}.items()
    }
    for word in step.value.split() if "'" not in step.value and '"' not in step.value else [step.value]:
        name, equals, value = word.partition("=")
        if equals:
            told: str | None = expand(value, scope, step)
        else:
            told = before.get(name, known.get(name))
        if told is not None:
            (arguments if seen_from else before)[name] = told


def _groups(actions: list[_Action]) -> list[list[_Action]]:
    """Cut after each RUN, so that a change in one place leaves the layers before it as they are."""
    groups: list[list[_Action]] = [[]]
    for action in actions:
        groups[-1].append(action)
        if action.step.name == "RUN":
            groups.append([])
    groups = [group for group in groups if group]
    together = -(-len(groups) // _MOST_LAYERS) or 1
    return [list(chain.from_iterable(groups[start : start + together])) for start in range(0, len(groups), together)]


async def build_image(
    context: Path,
    dockerfile: str | None = None,
    *,
    force: bool = False,
    network: bool = True,
    timeout_sec: float | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Image:
    """Make the image of a Dockerfile, or take it from the cache, as far as nothing has changed.

    Args:
        context: the folder that `COPY` copies from.
        dockerfile: the text; `context/Dockerfile` when not given.
        force: build even when the cache has it.
        network: whether `RUN` may use the network.
        timeout_sec: seconds for each `RUN`.
        on_line: called with each instruction that is run, and each line that it prints.

    Returns:
        The image.

    Raises:
        BuildError: an instruction failed or is not supported; the message names it.
    """
    try:
        text = (context / "Dockerfile").read_text() if dockerfile is None else dockerfile
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"can't read the Dockerfile: {error}") from None
    image, actions = await asyncio.to_thread(lambda: _plan(parse(text), Context(context)))
    say = on_line or (lambda _line: None)
    digest = hashlib.sha256(f"{identity()}\0{users.mode()}\0{network}".encode())
    if force:
        digest.update(secrets.token_bytes(16))
    found: list[Path] = []
    built = False
    for group in _groups(actions):
        for action in group:
            digest.update(f"\0{action.step.name}\0{action.facts}\0{action.image.user}".encode(errors="surrogateescape"))
        key = digest.hexdigest()[:32]
        layer = layers.find(key)
        if layer is None:
            async with layers.building(key):
                layer = layers.find(key)
                if layer is None:
                    say("".join(f"{action.step.text}\n" for action in group).rstrip())
                    layer = await _build(group, tuple(found), key, network=network, timeout_sec=timeout_sec, say=say)
                    built = True
        found.append(layer)
    if built:
        await asyncio.to_thread(layers.prune)
    return replace(image, layers=tuple(found), key=digest.hexdigest()[:32])


async def _build(
    group: list[_Action],
    below: tuple[Path, ...],
    key: str,
    *,
    network: bool,
    timeout_sec: float | None,
    say: Callable[[str], None],
) -> Path:
    from harbor_nb.sandbox.running import Sandbox

    # In the cache's own folder, since only inside one file system do whiteouts and owners survive a move.
    sandbox = await Sandbox.start(Image(layers=below), name="build", network=network, parent=places.cache_folder())
    try:
        for action in group:
            if action.copy is not None:
                await _copy(action, action.copy, sandbox)
            else:
                await _run(action, sandbox, timeout_sec, say)
        await sandbox.end_processes()
        parts = {name: sandbox.folder / name for name in map(slug, ("", *overlaid()))}
        for name in ("etc/resolv.conf", "tmp/.harbor_nb-run"):
            with contextlib.suppress(OSError):
                (parts["root"] / name).unlink()
        enter = users.mapped() if sandbox.users == "ranges" else []
        return await asyncio.to_thread(layers.keep, key, parts, enter)
    finally:
        await sandbox.stop()


async def _run(action: _Action, sandbox: "Sandbox", timeout_sec: float | None, say: Callable[[str], None]) -> None:
    assert action.run is not None
    as_root = action.step.name == "WORKDIR"
    done = await sandbox.exec(
        action.run, cwd="/" if as_root else action.image.workdir, env=action.env,
        user="root" if as_root else action.image.user, timeout_sec=timeout_sec,
        on_output=lambda _name, data: say(clean(data.decode(errors="replace").rstrip("\n"))),
    )  # fmt: skip
    if done.return_code:
        tail = clean((done.stdout + done.stderr).decode(errors="replace").strip()[-_TAIL:])
        ended = f"took longer than {timeout_sec} s" if done.timed_out else f"exit code {done.return_code}"
        raise action.step.fail(f"{ended}\n{tail}")


async def _copy(action: _Action, copy: Copy, sandbox: "Sandbox") -> None:
    uid, gid = await _numbers(action, copy.owner, sandbox)
    # One file goes to the target itself, unless that is a folder.
    script = (
        't=$1; if [ "$2" = 1 ] || [ -d "$t" ]; then n=; p=$t; while [ ! -e "$p" ]; do n=$p; p=$(dirname "$p"); done; '
        'mkdir -p -- "$t" || exit; [ -z "$n" ] || chown -R "$3" "$n"; '
        'exec tar -x -p --same-owner --numeric-owner --no-overwrite-dir --keep-directory-symlink -f - -C "$t"; fi; '
        'd=$(dirname "$t"); mkdir -p -- "$d" && s=$(mktemp -d "$d/.harbor_nb-XXXXXX") && '
        'tar -x -p --same-owner --numeric-owner -f - -C "$s" && mv -fT -- "$s/$4" "$t"; c=$?; rm -rf -- "$s"; exit $c'
    )
    with tempfile.TemporaryFile() as file:
        await asyncio.to_thread(copy.pack, uid, gid, file)
        first = copy.entries[0].name if len(copy.entries) == 1 else ""
        folder = "1" if copy.into_folder or not first else ""
        try:
            await sandbox.shell(script, copy.target, folder, f"{uid}:{gid}", first, stdin=file, path=copy.target)
            if sandbox.users == "single-user" and copy.owner:
                await sandbox.exec(["sh", "-c", f'echo "$1" >> {OWNERS}', "sh", action.step.text], user="root")
        except (OSError, SandboxError) as error:
            raise action.step.fail(str(error)) from None


async def _numbers(action: _Action, owner: str, sandbox: "Sandbox") -> tuple[int, int]:
    """Give the numbers of an owner, whose names are the image's."""
    user, _, group = owner.partition(":")
    if not owner:
        return 0, 0
    script = 'getent "$1" "$2" | cut -d: -f"$3"'
    numbers = []
    for kind, name, column in (("passwd", user, "3"), ("group", group, "3")):
        if name.isdigit():
            numbers.append(int(name))
        elif not name:
            # The group that goes without saying is the user's own, or of the user's number.
            told = (await sandbox.exec(["sh", "-c", script, "sh", "passwd", user, "4"], user="root")).stdout.strip()
            numbers.append(int(told or numbers[0]))
        else:
            told = (await sandbox.exec(["sh", "-c", script, "sh", kind, name, column], user="root")).stdout.strip()
            if not told:
                raise action.step.fail(f"--chown: the image has no {'user' if kind == 'passwd' else 'group'} {name}")
            numbers.append(int(told))
    return numbers[0], numbers[1]
