"""A Dockerfile read into steps: heredocs, variables and flags as Docker understands them."""

import io
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harbor_nb.errors import BuildError

USE_DOCKER = 'use environment="docker"'
WITHOUT_EFFECT = frozenset("LABEL EXPOSE CMD ENTRYPOINT HEALTHCHECK VOLUME STOPSIGNAL MAINTAINER".split())
_KNOWN = WITHOUT_EFFECT | frozenset("FROM RUN COPY ADD ENV ARG WORKDIR USER SHELL ONBUILD".split())
_HEREDOC = re.compile(r"<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_.]*)\2")
_TAKES_HEREDOC = re.compile(r"^\s*(RUN|COPY|ADD)\b", re.IGNORECASE)
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DIRECTIVE = re.compile(r"^\s*#\s*(escape)\s*=\s*(\S)", re.IGNORECASE)


@dataclass
class Heredoc:
    """A document inside an instruction; `literal` when its word was quoted, so that variables stay as they are."""

    name: str
    body: str
    literal: bool
    tabs: bool

    @property
    def content(self) -> str:
        """The document as `<<-` gives it: without the tabs at the start of its lines."""
        return re.sub(r"(?m)^\t+", "", self.body) if self.tabs else self.body


@dataclass
class Step:
    """One instruction: its name in capitals, its flags, what follows them, and the line it starts on."""

    name: str
    value: str
    line: int
    flags: dict[str, str] = field(default_factory=dict)
    heredocs: list[Heredoc] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The instruction in one line, for messages."""
        flags = "".join(f"--{name}={value} " for name, value in self.flags.items())
        return f"{self.name} {flags}{' '.join(self.value.split())}"

    def refuse(self, what: str) -> BuildError:
        """Give the error that says what is not supported and what to do."""
        return BuildError(f"line {self.line}: {self.text[:200]}: {what} is not supported on local; {USE_DOCKER}")

    def fail(self, what: str) -> BuildError:
        """Give the error of a wrong instruction."""
        return BuildError(f"line {self.line}: {self.text[:200]}: {what}")


def _goes_on(line: str) -> bool:
    return line.rstrip().endswith("\\") and not line.lstrip().startswith("#")


def _take_heredocs(text: str) -> tuple[str, dict[int, list[Heredoc]]]:
    """Take the documents out, since the parser knows none; the lines keep their numbers."""
    lines, kept = text.splitlines(), list[str]()
    found: dict[int, list[Heredoc]] = {}
    index, start = 0, 0
    while index < len(lines):
        start = index
        goes_on = _goes_on(lines[index])
        while goes_on and index + 1 < len(lines):
            index += 1
            inner = lines[index].strip()
            goes_on = not inner or inner.startswith("#") or _goes_on(inner)
        logical = "\n".join(lines[start : index + 1])
        kept += lines[start : index + 1]
        index += 1
        if not _TAKES_HEREDOC.match(logical):
            continue
        for dash, quote, word in _HEREDOC.findall(logical):
            body = []
            while index < len(lines) and (lines[index].lstrip("\t") if dash else lines[index]) != word:
                body.append(lines[index])
                index += 1
            if index == len(lines):
                raise BuildError(f"line {start + 1}: the document <<{word} has no end; end it with a line {word}")
            kept += [""] * (len(body) + 1)
            index += 1
            found.setdefault(start, []).append(
                Heredoc(word, "".join(f"{line}\n" for line in body), bool(quote), bool(dash))
            )
    return "\n".join(kept) + "\n", found


def parse(text: str) -> list[Step]:
    """Read a Dockerfile.

    Args:
        text: its text.

    Returns:
        The steps in order.

    Raises:
        BuildError: it is not a Dockerfile, or it needs what only Docker has.
    """
    from dockerfile_parse.parser import DockerfileParser

    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            break
        if (match := _DIRECTIVE.match(line)) and match[2] != "\\":
            raise BuildError(f"# escape={match[2]} is not supported on local; {USE_DOCKER}")
    plain, heredocs = _take_heredocs(text.removeprefix("\ufeff"))
    parser: Any = DockerfileParser(fileobj=io.BytesIO())  # type: ignore[no-untyped-call] # the library has no types
    parser.content = plain
    steps = []
    for found in parser.structure:
        if found["instruction"] == "COMMENT":
            continue
        step = Step(found["instruction"].upper(), found["value"].strip(), found["startline"] + 1)
        step.heredocs = heredocs.get(found["startline"], [])
        if step.name not in _KNOWN:
            raise step.fail(f"there is no instruction {step.name}; correct it")
        if not step.value:
            raise step.fail(f"{step.name} needs an argument")
        if step.name in ("RUN", "COPY", "ADD", "FROM"):
            _take_flags(step)
        steps.append(step)
    _check(steps)
    return steps


def _take_flags(step: Step) -> None:
    while match := _FLAG.match(step.value):
        step.flags[match[1]] = match[2] or ""
        step.value = step.value[match.end() :]


def _check(steps: list[Step]) -> None:
    stages = [step for step in steps if step.name == "FROM"]
    if not stages:
        raise BuildError("the Dockerfile has no FROM; name the base image first")
    if len(stages) > 1:
        raise stages[1].refuse("a build of several stages")
    for step in steps:
        if step.name == "ONBUILD":
            raise step.refuse("ONBUILD")
        if "from" in step.flags:
            raise step.refuse(f"{step.name} --from")
        allowed = {"RUN": (), "FROM": ("platform",)}.get(step.name, ("chown", "chmod", "link"))
        for flag in step.flags:
            if flag not in allowed:
                raise step.refuse(f"{step.name} --{flag}")


def words_of(step: Step, variables: Mapping[str, str]) -> list[str]:
    """Give an instruction's words: of its JSON form, or split at spaces with variables and quotes resolved."""
    if (listed := json_form(step.value)) is not None:
        return [expand(word, variables, step) for word in listed]
    return expand_words(step.value, variables, step)


def json_form(value: str) -> list[str] | None:
    """Give the list of an instruction in JSON form; None when it is in shell form."""
    if value.startswith("["):
        try:
            listed = json.loads(value)
        except ValueError:
            return None
        if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
            return listed
    return None


def pairs_of(step: Step, variables: Mapping[str, str]) -> dict[str, str]:
    """Give the names and values of ENV, in either of its forms."""
    first = step.value.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise step.fail("ENV needs a value, as in ENV NAME=value")
        return {first[0]: expand(first[1], variables, step)}
    pairs = {}
    for word in expand_words(step.value, variables, step):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise step.fail(f"{word!r} is not NAME=value")
        pairs[name] = value
    return pairs


def expand(text: str, variables: Mapping[str, str], step: Step) -> str:
    """Resolve variables, quotes and escapes of one word."""
    return "".join(_expanded(text, variables, step, split=False))


def expand_words(text: str, variables: Mapping[str, str], step: Step) -> list[str]:
    """Split at spaces outside of quotes, and resolve variables, quotes and escapes."""
    return _expanded(text, variables, step, split=True)


def _expanded(text: str, variables: Mapping[str, str], step: Step, *, split: bool) -> list[str]:
    words: list[str] = []
    current: list[str] | None = None
    quote, index = "", 0
    while index < len(text):
        letter = text[index]
        index += 1
        if split and letter.isspace() and not quote:
            if current is not None:
                words.append("".join(current))
            current = None
            continue
        current = [] if current is None else current
        if letter == quote:
            quote = ""
        elif letter in "'\"" and not quote:
            quote = letter
        elif letter == "\\" and quote != "'" and index < len(text):
            following = text[index]
            index += 1
            current.append(following if not quote or following in '"\\$' else f"\\{following}")
        elif letter == "$" and quote != "'":
            value, index = _variable(text, index, variables, step)
            current.append(value)
        else:
            current.append(letter)
    if quote:
        raise step.fail(f"a quote {quote} is not closed")
    if current is not None:
        words.append("".join(current))
    return words


def _variable(text: str, index: int, variables: Mapping[str, str], step: Step) -> tuple[str, int]:
    """Resolve `$NAME`, `${NAME}`, `${NAME:-word}` or `${NAME:+word}` whose `$` stands before `index`."""
    if text[index : index + 1] != "{":
        match = _NAME.match(text, index)
        return (variables.get(match[0], ""), match.end()) if match else ("$", index)
    depth, end = 1, index + 1
    while end < len(text) and depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    match = _NAME.match(text, index + 1)
    if depth or match is None:
        raise step.fail("a ${ has no name or no }")
    name, rest = match[0], text[match.end() : end - 1]
    value = variables.get(name)
    if not rest:
        return value or "", end
    operator = rest[:2] if rest[0] == ":" else rest[0]
    if operator not in (":-", ":+", "-", "+"):
        raise step.refuse(f"${{{name}{rest}}}")
    word = expand(rest[len(operator) :], variables, step)
    there = bool(value) if operator[0] == ":" else value is not None
    if operator.endswith("-"):
        return (value or "") if there else word, end
    return word if there else "", end


def script_of(step: Step, shell: list[str]) -> list[str]:
    """Give the command words of a RUN."""
    if (listed := json_form(step.value)) is not None:
        return listed
    script = step.value
    if step.heredocs:
        if len(step.heredocs) == 1 and _HEREDOC.fullmatch(step.value.strip()):
            body = step.heredocs[0].content
            if body.startswith("#!"):
                name = "/tmp/.harbor_nb-run"  # noqa: S108 - inside the sandbox, for one command
                put = f"printf %s {shlex.quote(body)} > {name} && chmod 700 {name} && {name}"
                return ["/bin/sh", "-c", f"{put}; c=$?; rm -f {name}; exit $c"]
            return [*shell, body]
        script += "\n" + "".join(f"{document.body}{document.name}\n" for document in step.heredocs)
    return [*shell, script]
