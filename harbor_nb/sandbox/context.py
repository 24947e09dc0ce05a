"""The build context: what .dockerignore leaves of it, and what COPY and ADD take from it."""

import hashlib
import io
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harbor_nb.sandbox.dockerfile import Step, expand, words_of

_REMOTE = ("http://", "https://", "ftp://", "git@", "git://", "ssh://")


@dataclass(frozen=True)
class Entry:
    """One thing to copy: a host path, or a document's text, and where it goes below the target folder."""

    name: str
    path: Path | None = None
    content: bytes = b""


@dataclass
class Copy:
    """A COPY or ADD, resolved: what is copied where, whose it becomes, and which archives are unpacked."""

    target: str
    into_folder: bool
    entries: list[Entry]
    archives: list[Path]
    owner: str = ""
    mode: int | None = None

    def digest(self) -> str:
        """Give a digest of all that decides about the result."""
        facts = hashlib.sha256(f"{self.target}\0{self.into_folder}\0{self.owner}\0{self.mode}".encode())
        for entry in self.entries:
            facts.update(f"\0{entry.name}\0".encode(errors="surrogateescape"))
            facts.update(_content_digest(entry.path) if entry.path else hashlib.sha256(entry.content).digest())
        for archive in self.archives:
            facts.update(b"\0archive\0" + _content_digest(archive))
        return facts.hexdigest()

    def pack(self, uid: int, gid: int, file: IO[bytes]) -> None:
        """Write what is copied as a tar file."""

        def own(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uid, member.gid, member.uname, member.gname = uid, gid, "", ""
            if self.mode is not None and not member.issym():
                member.mode = self.mode
            return member

        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry in self.entries:
                if entry.path is not None:
                    tar.add(entry.path, arcname=entry.name, recursive=False, filter=own)
                    continue
                member = tarfile.TarInfo(entry.name)
                member.size, member.mode = len(entry.content), 0o644
                tar.addfile(own(member), io.BytesIO(entry.content))
            for archive in self.archives:
                with tarfile.open(archive) as inner:
                    for member in inner:
                        if self.owner:
                            member.uid, member.gid, member.uname, member.gname = uid, gid, "", ""
                        tar.addfile(member, inner.extractfile(member) if member.isreg() else None)
        file.seek(0)


def _content_digest(path: Path) -> bytes:
    found = path.lstat()
    digest = hashlib.sha256(f"{found.st_mode}\0".encode())
    if stat.S_ISLNK(found.st_mode):
        digest.update(os.fsencode(path.readlink()))
    elif stat.S_ISREG(found.st_mode):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()


class Context:
    """A folder that COPY copies from, seen through its .dockerignore."""

    def __init__(self, folder: Path) -> None:
        import pathspec

        self.folder = folder
        files = [path for name in ("Dockerfile.dockerignore", ".dockerignore") if (path := folder / name).is_file()]
        text = files[0].read_text() if files else ""
        self._spec = pathspec.PathSpec.from_lines("gitignore", _patterns(text))
        self._negated = any(line.lstrip().startswith("!") for line in text.splitlines())

    def _ignored(self, path: Path) -> bool:
        name = path.relative_to(self.folder).as_posix()
        return name != "." and self._spec.match_file(name)

    def _below(self, folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            ignored = self._ignored(path)
            if path.is_dir() and not path.is_symlink():
                below = list(self._below(path)) if self._negated or not ignored else []
                # A folder that is ignored comes along when something in it does not.
                if below or not ignored:
                    yield path
                    yield from below
            elif not ignored and (path.is_file() or path.is_symlink()):
                yield path

    def _matches(self, step: Step, source: str) -> list[Path]:
        pattern = posixpath.normpath(source.lstrip("/") or ".")
        if pattern == ".." or pattern.startswith("../"):
            raise step.fail(f"{source} leaves the build context; name a path inside it")
        if any(letter in pattern for letter in "*?["):
            # One star does not reach into folders, two are like one, as in Docker.
            found = sorted(self.folder.glob(pattern.replace("**", "*")))
        else:
            found = [self.folder / pattern] if os.path.lexists(self.folder / pattern) else []
        kept = [path for path in found if not self._ignored(path) or (path.is_dir() and any(self._below(path)))]
        for path in kept:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise step.fail(f"{source} is a link that leaves the build context; copy the file in")
        if not kept:
            why = "is left out by .dockerignore" if found else "is not in the build context"
            raise step.fail(f"{source} {why}")
        return kept

    def resolve(self, step: Step, workdir: str, variables: Mapping[str, str]) -> Copy:
        """Resolve a COPY or ADD."""
        words = words_of(step, variables)
        if len(words) < 2:
            raise step.fail(f"{step.name} needs a source and a target")
        *sources, target = words
        documents = {f"<<{'-' if one.tabs else ''}{one.name}": one for one in step.heredocs}
        remote = [source for source in sources if source.startswith(_REMOTE) or source.endswith(".git")]
        if remote:
            raise step.refuse(f"{step.name} from {remote[0]}")
        inside = posixpath.normpath(posixpath.join("/", workdir, target))
        copy = Copy(
            inside, target.endswith(("/", "/.")) or target in (".", "") or len(sources) > 1, [], [],
            owner=expand(step.flags.get("chown", ""), variables, step), mode=_mode(step, variables),
        )  # fmt: skip
        for source in sources:
            if source in documents:
                document = documents[source]
                text = document.content if document.literal else _plain(document.content, variables, step)
                copy.entries.append(Entry(document.name, content=text.encode()))
                continue
            matches = self._matches(step, source)
            copy.into_folder = copy.into_folder or len(matches) > 1
            for path in matches:
                self._take(step, path, copy)
        return copy

    def _take(self, step: Step, path: Path, copy: Copy) -> None:
        if path.is_dir():
            copy.into_folder = True
            copy.entries.extend(Entry(below.relative_to(path).as_posix(), below) for below in self._below(path))
        elif step.name == "ADD" and path.is_file() and tarfile.is_tarfile(path):
            copy.into_folder = True
            copy.archives.append(path)
        else:
            # A link that is itself the source is followed, one inside a folder is kept.
            copy.entries.append(Entry(path.name, path.resolve() if path.is_file() else path))


def _plain(text: str, variables: Mapping[str, str], step: Step) -> str:
    """Resolve a document's variables; its quotes stay as they are."""
    return expand(
        text.replace("\\", "\\\\").replace("\\\\$", "\\$").replace("'", "\\'").replace('"', '\\"'), variables, step
    )


def _mode(step: Step, variables: Mapping[str, str]) -> int | None:
    if "chmod" not in step.flags:
        return None
    told = expand(step.flags["chmod"], variables, step)
    try:
        return int(told, 8)
    except ValueError:
        raise step.refuse(f"--chmod={told}, which is not a number like 755,") from None


def _patterns(text: str) -> list[str]:
    """Turn .dockerignore's lines, which start at the context, into pathspec's; the last that matches decides."""
    patterns = []
    for line in text.removeprefix("\ufeff").splitlines():
        told = line.strip()
        if not told or line.startswith("#"):
            continue
        negated = told.startswith("!")
        path = posixpath.normpath(told.removeprefix("!").strip().lstrip("/") or ".")
        if path != ".":
            patterns.append(f"{'!' if negated else ''}/{path}")
    return patterns
