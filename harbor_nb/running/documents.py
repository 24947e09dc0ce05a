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
            data = json.loads(_without_comments(self.text)) if self.kind == "json" else yaml.safe_load(self.text)  # type: ignore[no-untyped-call] # PyYAML has no types
        except (ValueError, yaml.YAMLError, RecursionError) as error:  # its text may hold a value: only the first line
            told = redact((str(error).splitlines() or ["nested too deeply"])[0])
            raise BadInputError(f"{self.file} is not {self.kind.upper()}: {told}") from None
        if not isinstance(data, dict):
            raise BadInputError(
                f"{self.file} does not hold a mapping; a job config has keys such as 'tasks' and 'agents'"
            )
        return data

    def edit(self, path: _Path, value: Any) -> None:
        """Set or delete one member, at most two levels deep."""
        spans = _json_spans(self.text) if self.kind == "json" else _yaml_spans(self.text, self.file)
        span = spans.get(path)
        if span is None and value is DELETE:
            return
        if span is None and len(path) > 1 and not isinstance(self.parse().get(path[0]), dict):
            self.edit(path[:1], {path[1]: value})
        elif span is None:
            self._add(path, value, spans)
        elif value is DELETE:
            self._cut(path, span, spans)
        else:
            self.text = self.text[: span.value] + json.dumps(value) + self.text[span.end :]

    def _siblings(self, path: _Path, spans: dict[_Path, Span]) -> list[Span]:
        own = (span for other, span in spans.items() if other[:-1] == path[:-1] and other != path)
        return sorted(own, key=lambda span: span.key)

    def _line(self, place: int) -> int:
        return self.text.rfind("\n", 0, place) + 1

    def _add(self, path: _Path, value: Any, spans: dict[_Path, Span]) -> None:
        siblings = self._siblings(path, spans)
        flow = self.kind == "json" or (len(path) > 1 and self.text[spans[path[:1]].value] == "{")
        member = f"{json.dumps(path[-1]) if flow else path[-1]}: {json.dumps(value)}"
        newline = "\r\n" if "\r\n" in self.text else "\n"
        if not siblings:
            place = (
                spans[path[:-1]].value + 1 if len(path) > 1 else self.text.index("{") + 1 if flow else len(self.text)
            )
        else:
            last = siblings[-1]
            indent = self.text[self._line(last.key) : last.key]
            own_line = not indent.strip()
            place = last.end if flow else self._rest_of_line(last.end)
            after_comma = "" if last.comma is not None else ","
            if flow:
                place = last.end if last.comma is None else last.comma + 1
                member = after_comma + (f"{newline}{indent}" if own_line else " ") + member
            else:
                member = newline * (not self.text[:place].endswith("\n")) + indent + member + newline
        self.text = self.text[:place] + member + self.text[place:]

    def _rest_of_line(self, place: int) -> int:
        found = self.text.find("\n", place)
        return len(self.text) if found < 0 else found + 1

    def _cut(self, path: _Path, span: Span, spans: dict[_Path, Span]) -> None:
        start, end = span.key, span.end if span.comma is None else span.comma + 1
        flow = self.kind == "json" or "{" in self.text[self._line(start) : start]
        rest = self.text[end : self._rest_of_line(end)]
        alone = not self.text[self._line(start) : start].strip()
        if not flow or (alone and re.fullmatch(r"[ \t]*(?://[^\n]*|#[^\n]*)?\r?\n?", rest)):
            start, end = self._line(start), self._rest_of_line(end)  # with the comment that speaks of it
        before = [other for other in self._siblings(path, spans) if other.key < span.key]
        self.text = self.text[:start] + self.text[end:]
        if span.comma is None and before and before[-1].comma is not None:
            comma = before[-1].comma
            self.text = self.text[:comma] + self.text[comma + 1 :]

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


def _without_comments(text: str) -> str:
    kept = [word for word in _TOKEN.findall(text) if not word.startswith(("//", "/*"))]
    following = [*kept[1:], ""]
    return " ".join(
        word for word, after in zip(kept, following, strict=True) if not (word == "," and after in ("}", "]"))
    )


def _json_spans(text: str) -> dict[_Path, Span]:
    """Give the members of the first two levels; deeper ones are part of their parent's value."""
    spans: dict[_Path, Span] = {}
    path: list[str | None] = []  # the key at each open level; None in a list, "" before a key
    key_at, expects_key, open_span = 0, False, None
    for token in _TOKEN.finditer(text):
        word, at = token[0], token.start()
        if word.startswith(("//", "/*")):
            continue
        if word in ("}", "]"):
            path.pop()
            expects_key = False
        elif word == ",":
            if path and path[-1] is not None:
                if open_span := spans.get(tuple(map(str, path))):
                    open_span.comma = at
                expects_key = True
            continue
        elif word == ":":
            expects_key = False
            continue
        elif path and path[-1] is not None and expects_key:
            path[-1], key_at = json.loads(word) if word[0] == '"' else word, at
            continue
        elif path and path[-1] is not None and len(path) <= 2 and None not in path:
            spans[tuple(map(str, path))] = Span(key_at, at, token.end())
        if word in ("{", "["):
            path.append("" if word == "{" else None)
            expects_key = word == "{"
        elif path and path[-1] is not None and len(path) <= 2 and (found := spans.get(tuple(map(str, path)))):
            found.end = token.end()
    return spans


def _yaml_spans(text: str, file: Path) -> dict[_Path, Span]:
    import yaml

    root = yaml.compose(text, yaml.SafeLoader)  # type: ignore[no-untyped-call] # PyYAML has no types
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
            comma = re.match(r"\s*,", text[end(value) :]) if node.flow_style else None
            spans[place] = Span(key.start_mark.index, value.start_mark.index, end(value),
                                end(value) + comma.end() - 1 if comma else None)  # fmt: skip
            if not path and isinstance(value, yaml.MappingNode):
                walk(value, place)

    walk(root, ())
    return spans
