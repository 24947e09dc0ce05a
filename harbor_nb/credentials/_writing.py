"""Write keys to `.env` without touching the rest of it, and a `.env.example` to fill in."""

import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from harbor_nb._files import write_whole
from harbor_nb._redaction import redactor
from harbor_nb.credentials._known import known
from harbor_nb.credentials._reading import UTF_16, find_env, git_sees, read_bytes
from harbor_nb.errors import CredentialsError

_LINE = re.compile(
    r"(?P<head>\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*=[^\S\r\n]*)"
    r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^\r\n]*?)(?P<tail>(?:\s+\#[^\r\n]*)?\s*)""",
    re.DOTALL,
)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+,=%^~-]+")
_HEADER = "# Copy this file to .env, fill in what you use, delete the rest. Never commit .env."
ENVIRONMENTS = ("daytona", "e2b", "modal", "runloop")
MODEL_KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY")


def save_env(
    values: Mapping[str, str], path: str | os.PathLike[str] | None = None, gitignore: bool | None = None
) -> Path:
    """Write keys to `.env`, readable by you alone; every other byte of it stays as it was.

    The keys are not loaded: call `load_env()` for that.

    Args:
        values: values by name.
        path: the file; by default the nearest `.env` from the notebook's folder upward, else a new one there.
        gitignore: add the file to `.gitignore` beside it; None warns when git could take it.

    Returns:
        The file's path.

    Raises:
        CredentialsError: a name or value can't be written, or the file is a link, a folder, or not writable.

    Example:
        >>> save_env({"DAYTONA_API_KEY": getpass()})  # doctest: +SKIP
    """
    target = Path(path).expanduser().absolute() if path is not None else find_env() or Path.cwd() / ".env"
    _check(values)
    if target.is_symlink():
        raise CredentialsError(f"{target} is a link; name the file that it points to")
    old = read_bytes(target) if target.exists() else b""
    if old.startswith(UTF_16):
        raise CredentialsError(f"{target} is UTF-16; save it as UTF-8 first")
    text = old.decode("utf-8", "surrogateescape")
    for name, value in values.items():
        redactor.remember_loaded(name, value)
        text = _set(text, name, value)
    try:
        write_whole(target, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise CredentialsError(f"can't write {target}: {error.strerror}; name another file") from None
    if gitignore:
        _ignore(target)
    elif gitignore is None and git_sees(target) is False:
        warnings.warn(
            f"git does not ignore {target.name}; type: harbor_nb.save_env({{}}, {str(target)!r}, gitignore=True)",
            stacklevel=2,
        )
    return target


def _check(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise CredentialsError("a name is letters, digits and '_', such as DAYTONA_API_KEY")
        if not isinstance(value, str):
            raise CredentialsError(f"the value of {name} is no text but {type(value).__name__}")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]|\$\{", value):
            raise CredentialsError(f"the value of {name} holds a control character or ${{, which .env can't hold")


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value) or not value:
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _bindings(text: str) -> list[Binding]:
    return list(parse_stream(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def _set(text: str, name: str, value: str) -> str:
    """Replace the last binding of `name`, or add one at the end, in the file's own line ends."""
    texts, newline = [one.original.string for one in _bindings(text)], "\r\n" if "\r\n" in text else "\n"
    at = max((i for i, one in enumerate(_bindings(text)) if one.key == name), default=None)
    if at is None:
        gap = "" if text.endswith(("\n", "\r", "\ufeff")) or not text else newline
        texts.append(f"{gap}{name}={_quoted(value)}{newline}")
    elif (line := _LINE.fullmatch(texts[at])) is not None:
        texts[at] = f"{line['head']}{_quoted(value)}{line['tail']}"
    else:  # a name without '='
        lead = texts[at][: len(texts[at]) - len(texts[at].lstrip())]
        texts[at] = f"{lead}{name}={_quoted(value)}{newline}"
    result = "\ufeff" * text.startswith("\ufeff") + "".join(texts)
    if {one.key: one.value for one in _bindings(result)}.get(name) != value:
        raise CredentialsError(f"{name} can't be written: a quote before it is not closed; mend the file first")
    return result


def _ignore(target: Path) -> None:
    ignore = target.with_name(".gitignore")
    text = ignore.read_bytes() if ignore.exists() else b""
    if target.name.encode() not in text.splitlines():
        gap = b"" if not text or text.endswith(b"\n") else b"\n"
        ignore.write_bytes(text + gap + target.name.encode() + b"\n")


def env_example(environments: Iterable[str] | None = None, path: str | os.PathLike[str] | None = ".env.example") -> str:
    """Write `.env.example`: the names to fill in, where to get each, and which are needed only sometimes.

    Args:
        environments: environment types whose keys to list; by default daytona, e2b, modal and runloop.
        path: the file; None writes none.

    Returns:
        The text.

    Raises:
        CredentialsError: an environment that has no keys, or a file that harbor_nb did not write is in the way.

    Example:
        >>> "DAYTONA_API_KEY=" in env_example(["daytona"], path=None)
        True
    """
    wanted = ENVIRONMENTS if environments is None else [environments] if isinstance(environments, str) else environments
    sections = {"Model keys, for agents such as claude-code and codex": [known()[name] for name in MODEL_KEYS]}
    listed = [entry for entry in known().values() if entry.kind != "trap"]
    sections |= {one: [entry for entry in listed if one in entry.environments] for one in wanted}
    if unknown := [one for one, entries in sections.items() if not entries and one not in ("local", "docker")]:
        choice = sorted({one for entry in known().values() for one in entry.environments})
        raise CredentialsError(f"no keys are known for {unknown[0]!r}; choose among {', '.join(choice)}")
    lines = [_HEADER]
    for title, entries in sections.items():
        lines += ["", f"# {title}"] if entries else []
        for entry in entries:
            about = " - ".join(filter(None, (entry.where, entry.note)))
            lines += [f"# {about}"] if about else []
            needed = entry.kind == "secret" and entry.example
            lines.append(f"{'' if needed else '# '}{entry.name}={entry.example}")
    text = "\n".join(lines) + "\n"
    if path is not None:
        target = Path(path)
        if target.is_symlink() or (target.exists() and not read_bytes(target).startswith(_HEADER.encode())):
            raise CredentialsError(f"{target} is there already; move it away, or name another path")
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CredentialsError(f"can't write {target}: {error.strerror}; name another path") from None
    return text
