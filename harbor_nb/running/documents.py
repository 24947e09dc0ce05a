"""Edit single settings of a JSON or YAML config in its own text: comments, order, line ends and all else stay."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from harbor_nb._redaction import redact
from harbor_nb.errors import BadInputError, JobError

DELETE = object()
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[{}\[\],:]|[^\s{}\[\],:"/]+|\S', re.DOTALL)
_COMMA = re.compile(r"\s*,")
_LARGEST_BYTES = {"json": 10 * 2**20, "yaml": 2**20}


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
                data = json.loads(_plain(self.text)) if self.kind == "json" else _parsed("load", self.text)
            except ValueError:
                data = _parsed("load", _plain(self.text))  # a comma too many is none to YAML
        except (ValueError, yaml.YAMLError, RecursionError) as error:  # its text may hold a value: only the first line
            told = redact((str(error).splitlines() or ["nested too deeply"])[0])
            raise BadInputError(f"{self.file} is neither JSON nor YAML: {told}") from None
        if not isinstance(data, dict):
            raise BadInputError(f"{self.file} does not hold a mapping, as a job config with 'tasks' and 'agents' is")
        return data

    def edit(self, path: tuple[str, ...], value: Any) -> None:
        """Set or delete one member; a mapping around it that is not there is made."""
        plain = self.text if self.kind == "yaml" else _plain(self.text)
        holder = _parsed("compose", plain)
        for depth, name in enumerate(path, 1):
            members = self._members(holder, name)
            key, old = members.get(name, (None, None))
            if depth == len(path) or getattr(old, "id", None) != "mapping":
                break
            holder = old
        if value is DELETE:
            if key is not None and depth == len(path):
                self._cut(holder, list(members.values()), list(members).index(name), plain)
            return
        for inner in reversed(path[depth:]):
            value = {inner: value}
        if key is None:
            self._add(holder, list(members.values()), name, value, plain)
        else:
            start = self.text.index(":", key.end_mark.index) + 1
            space = " " * (self.kind == "yaml" or self.text[start] == " ")
            self._put(start, self._end(old), space + json.dumps(value))

    def _members(self, holder: Any, wanted: str) -> dict[str, tuple[Any, Any]]:
        """Give a mapping's members by name, each as its key's and its value's place; without those of anchors."""
        every = {pair[0].value: pair for pair in holder.value}
        shared = [name for name, (key, value) in every.items() if value.start_mark.index < key.start_mark.index]
        own = {name: pair for name, pair in every.items() if name not in shared}
        merged = "<<" in every and wanted not in own
        if merged or wanted in shared or (shared and (holder.flow_style or not own)):
            names = ", ".join(shared) or wanted
            raise BadInputError(f"{self.file} takes {names} from an anchor; write it out, then repair again")
        return own

    def _end(self, node: Any) -> int:
        """Return where a value ends, without the lines after it that YAML counts to it."""
        while node.id != "scalar" and not node.flow_style and node.value:
            last = node.value[-1]
            node = last[1] if isinstance(last, tuple) else last
        return len(self.text[: node.end_mark.index].rstrip())

    def _lines(self, start: int, end: int) -> tuple[int, int]:
        """Return where the lines begin and end that hold this part of the text."""
        return self.text.rfind("\n", 0, start) + 1, self.text.find("\n", end) + 1 or len(self.text)

    def _put(self, start: int, end: int, new: str) -> None:
        self.text = self.text[:start] + new + self.text[end:]

    def _add(self, holder: Any, members: list[Any], name: str, value: Any, plain: str) -> None:
        member = f"{json.dumps(name) if holder.flow_style else name}: {json.dumps(value)}"
        if not members:
            self._put(holder.start_mark.index + 1, holder.start_mark.index + 1, member)
            return
        newline = "\r\n" if "\r\n" in self.text else "\n"
        start, end = members[-1][0].start_mark.index, self._end(members[-1][1])
        line, after = self._lines(start, end)
        indent = self.text[line:start]
        if holder.flow_style:
            comma = _COMMA.match(plain, end)
            place = comma.end() if comma else end
            self._put(place, place, "," * (not comma) + (" " if indent.strip() else newline + indent) + member)
        else:
            self._put(after, after, newline * (not self.text[:after].endswith("\n")) + indent + member + newline)

    def _cut(self, holder: Any, members: list[Any], place: int, plain: str) -> None:
        start, end = members[place][0].start_mark.index, self._end(members[place][1])
        comma = _COMMA.match(plain, end) if holder.flow_style else None
        end = comma.end() if comma else end
        line, after = self._lines(start, end)
        if not plain[line:start].strip() and (not holder.flow_style or not plain[end:after].strip()):
            start, end = line, after  # with the comment that speaks of it
        self._put(start, end, "")
        if place and not comma and (before := _COMMA.match(plain, self._end(members[place - 1][1]))):
            self._put(before.end() - 1, before.end(), "")

    def write(self) -> Path:
        """Replace the file in one step; what it held goes to a backup beside it, whose path is returned."""
        new = None
        try:
            if self.file.read_bytes() != self.read:
                raise JobError(f"{self.file} was changed by someone else since it was read; type repair again")
            backup = next(path for number in range(1, 10_000)
                          if not (path := self.file.with_name(f"{self.file.name}.{number}.bak")).exists())  # fmt: skip
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=f".{self.file.name}-")
            new = Path(name)
            with os.fdopen(handle, "wb") as stream:
                stream.write((b"\xef\xbb\xbf" if self.read.startswith(b"\xef\xbb\xbf") else b"") + self.text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            shutil.copystat(self.file, new)
            shutil.copy2(self.file, backup)
            new.replace(self.file)
        except OSError as error:
            raise JobError(f"can't write beside {self.file}: {error.strerror}; nothing was changed") from None
        finally:
            if new is not None:
                new.unlink(missing_ok=True)
        self.read = self.file.read_bytes()
        return backup


def _parsed(how: str, text: str) -> Any:
    """Give what YAML says (`load`), or where each part of it stands (`compose`)."""
    import yaml

    return getattr(yaml, how)(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _plain(text: str) -> str:
    """Return JSON with its comments and tabs as spaces, so that what is left is YAML too, place by place."""
    words = _TOKEN.sub(lambda word: " " * len(word[0]) if word[0][:2] in ("//", "/*") else word[0], text)
    return re.sub(r"[^\S\n]", " ", words)
