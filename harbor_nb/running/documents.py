"""Edit single settings of a JSON or YAML config in its own text: comments, order, line ends and all else stay."""

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redact
from harbor_nb.errors import BadInputError, JobError

DELETE = object()
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[{}\[\],:]|[^\s{}\[\],:"/]+|\S', re.DOTALL)
_LARGEST_BYTES = {"json": 10 * 2**20, "yaml": 2**20}
_Path = tuple[str, ...]


@dataclass
class Span:
    """Where a member stands: its key, its value, and the comma after it."""

    key: int
    value: int
    end: int
    comma: int | None = None
    flow: bool = False


class Document:
    """A config file's text; `data` is what it says."""

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file).expanduser().resolve()
        try:
            self.read = self.file.read_bytes()
            self.text = self.read.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadInputError(f"{self.file} is not text; give a JSON or YAML file") from None
        except OSError as error:
            raise BadInputError(f"can't read {self.file}: {error.strerror}") from None
        json_like = self.file.suffix not in (".yaml", ".yml") and self.text.lstrip()[:2].startswith(("{", "//", "/*"))
        self.kind = "json" if json_like else "yaml"
        if len(self.read) > _LARGEST_BYTES[self.kind]:
            most = _LARGEST_BYTES[self.kind] // 2**20
            raise BadInputError(f"{self.file} is larger than {most} MB; that is no {self.kind.upper()} config of a job")
        self.data = self.parse()

    def parse(self) -> dict[str, Any]:
        """Give what the text says as a mapping."""
        import yaml

        try:
            try:
                data = json.loads(_plain(self.text)) if self.kind == "json" else _load(self.text)
            except ValueError:
                data = _load(_plain(self.text))  # a comma too many is none to YAML
        except (ValueError, yaml.YAMLError, RecursionError) as error:  # its text may hold a value: only the first line
            told = redact((str(error).splitlines() or ["nested too deeply"])[0])
            raise BadInputError(f"{self.file} is neither JSON nor YAML: {told}") from None
        if not isinstance(data, dict):
            raise BadInputError(
                f"{self.file} does not hold a mapping; a job config has keys such as 'tasks' and 'agents'"
            )
        return data

    def edit(self, path: _Path, value: Any) -> None:
        """Set or delete one member, at most two levels deep."""
        spans = _spans(_plain(self.text) if self.kind == "json" else self.text, self.file)
        span = spans.get(path)
        if span is not None and value is DELETE:
            self._cut(path, span, spans)
        elif span is not None:
            space = " " if self.kind == "yaml" and self.text[span.value - 1] == ":" else ""
            self.text = self.text[: span.value] + space + json.dumps(value) + self.text[span.end :]
        elif value is not DELETE and len(path) > 1 and not isinstance(self.parse().get(path[0]), dict):
            self.edit(path[:1], {path[1]: value})
        elif value is not DELETE:
            self._add(path, value, spans)

    def _siblings(self, path: _Path, spans: dict[_Path, Span]) -> list[Span]:
        own = (span for other, span in spans.items() if other[:-1] == path[:-1] and other != path)
        return sorted(own, key=lambda span: span.key)

    def _lines(self, start: int, end: int) -> tuple[int, int]:
        """Return where the lines begin and end that hold this part of the text."""
        return self.text.rfind("\n", 0, start) + 1, self.text.find("\n", end) + 1 or len(self.text)

    def _add(self, path: _Path, value: Any, spans: dict[_Path, Span]) -> None:
        siblings = self._siblings(path, spans)
        flow = siblings[-1].flow if siblings else self.kind == "json" or len(path) > 1
        member = f"{json.dumps(path[-1]) if flow else path[-1]}: {json.dumps(value)}"
        newline = "\r\n" if "\r\n" in self.text else "\n"
        if not siblings:  # an empty mapping
            place = spans[path[:-1]].value + 1 if len(path) > 1 else self.text.find("{") + 1 or len(self.text)
        else:
            last = siblings[-1]
            line, after = self._lines(last.key, last.end)
            indent = self.text[line : last.key]
            if flow:
                place = last.end if last.comma is None else last.comma + 1
                member = ("," if last.comma is None else "") + (" " if indent.strip() else newline + indent) + member
            else:
                place = after
                member = newline * (not self.text[:place].endswith("\n")) + indent + member + newline
        self.text = self.text[:place] + member + self.text[place:]

    def _cut(self, path: _Path, span: Span, spans: dict[_Path, Span]) -> None:
        start, end = span.key, span.end if span.comma is None else span.comma + 1
        line, after = self._lines(start, end)
        alone = not self.text[line:start].strip() and re.fullmatch(r"\s*(?:(?://|#).*)?\s*", self.text[end:after])
        if alone or not span.flow:
            start, end = line, after  # with the comment that speaks of it
        before = [other for other in self._siblings(path, spans) if other.key < span.key]
        self.text = self.text[:start] + self.text[end:]
        if span.comma is None and before and before[-1].comma is not None:
            self.text = self.text[: before[-1].comma] + self.text[before[-1].comma + 1 :]

    def write(self) -> Path:
        """Replace the file in one step; what it held goes to a backup beside it, whose path is returned."""
        try:
            if self.file.read_bytes() != self.read:
                raise JobError(f"{self.file} was changed by someone else since it was read; type repair again")
            backup = next(path for number in range(1, 10_000)
                          if not (path := self.file.with_name(f"{self.file.name}.{number}.bak")).exists())  # fmt: skip
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=f".{self.file.name}-")
        except OSError as error:
            raise JobError(f"can't write beside {self.file}: {error.strerror}; nothing was changed") from None
        new = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write((b"\xef\xbb\xbf" if self.read.startswith(b"\xef\xbb\xbf") else b"") + self.text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            shutil.copystat(self.file, new)
            shutil.copy2(self.file, backup)
            new.replace(self.file)
        except OSError as error:
            raise JobError(f"can't write {self.file}: {error.strerror}; nothing was changed") from None
        finally:
            new.unlink(missing_ok=True)
        self.read = self.file.read_bytes()
        return backup


def _load(text: str) -> Any:
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # type: ignore[no-untyped-call] # noqa: S506


def _plain(text: str) -> str:
    """Return JSON with its comments and tabs as spaces, so that what is left is YAML too, place by place."""
    words = _TOKEN.sub(lambda word: " " * len(word[0]) if word[0][:2] in ("//", "/*") else word[0], text)
    return re.sub(r"[^\S\n]", " ", words)


def _spans(text: str, file: Path) -> dict[_Path, Span]:
    """Give the members of the first two levels; deeper ones are part of their parent's value."""
    import yaml

    root = yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # type: ignore[no-untyped-call] # no types
    spans: dict[_Path, Span] = {}

    def end(node: Any) -> int:
        if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
            return int(node.end_mark.index)
        last = node.value[-1]
        return end(last[1] if isinstance(last, tuple) else last)

    def walk(node: Any, path: _Path) -> None:
        for key, value in node.value:
            place = (*path, str(key.value))
            if value.start_mark.index < key.start_mark.index or key.value == "<<":
                if path or key.value == "environment":
                    raise BadInputError(
                        f"{file} takes {'.'.join(place)} from an anchor; write it out, then repair again"
                    )
                continue
            comma = re.compile(r"\s*,").match(text, end(value)) if node.flow_style else None
            last = comma.end() - 1 if comma else None
            start = value.start_mark.index
            if getattr(value, "flow_style", None) is False:
                start = text.index(":", key.end_mark.index) + 1
            spans[place] = Span(key.start_mark.index, start, end(value), last, bool(node.flow_style))
            if not path and isinstance(value, yaml.MappingNode):
                walk(value, place)

    walk(root, ())
    return spans
