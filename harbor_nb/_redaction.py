"""One object that knows every loaded credential's value and takes it out of text."""

import base64
import json
import os
import re
from typing import Any
from urllib.parse import quote, quote_plus

SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN(?!S)|PASSW|PASSPHRASE|CREDENTIAL|AUTH(?!OR_|_SOCK)|JWT", re.IGNORECASE)
_LOOKS_SECRET = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+=~-]{24,}", re.ASCII)
_IN_URL = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
_URL_SAFE = str.maketrans("+/", "-_")
_SHORTEST = 6  # shorter values would take ordinary words out of the text


def _spellings(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogateescape")
    encoded = base64.b64encode(raw).decode()
    # inside a longer text, such as `user:key`, the same bytes have three spellings by where they begin
    inside = {base64.b64encode(b"\0" * i + raw)[(0, 2, 3)[i] : -4].decode() for i in range(3) if len(raw) > 8}
    return {
        *inside,
        *(text.translate(_URL_SAFE) for text in inside),
        value,
        quote(raw, safe=""),
        quote(raw),
        quote_plus(raw),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        encoded,
        encoded.rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        repr(value)[1:-1],
    }


class Redactor:
    """Knows secret values by name; its own repr and pickle show none of them."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # by spelling
        self._scanned: dict[Any, Any] | None = None

    def remember(self, name: str, value: str | None) -> None:
        """Take `value` out of every later text, in all its spellings, and put the name there instead."""
        if value and len(value.strip()) >= _SHORTEST and self._names.get(value) != name:
            self._names.update(dict.fromkeys(_spellings(value) | _spellings(value.strip()), name))

    def remember_loaded(self, name: str, value: str) -> None:
        """Remember a value from a `.env` file if its name or its look says that it is secret."""
        if SECRET_NAME.search(name) or _LOOKS_SECRET.fullmatch(value.strip()):
            self.remember(name, value)
        for password in _IN_URL.findall(value):
            self.remember(name, password)

    def remember_environment(self) -> None:
        """Remember what the process environment holds under names that look secret."""
        held = getattr(os.environ, "_data", None)  # compared at once, where os.environ is walked name by name
        if held is not None and held == self._scanned:
            return
        self._scanned = dict(held) if held is not None else None
        for name, value in os.environ.items():
            if SECRET_NAME.search(name):
                self.remember(name, value)

    def redact(self, text: str) -> str:
        """Return `text` with each known value replaced by `<NAME>`."""
        self.remember_environment()
        found = sorted((spelling for spelling in list(self._names) if spelling in text), key=len, reverse=True)
        if not found:  # nearly always, and told far faster than one pattern of all spellings would
            return text
        return re.sub("|".join(map(re.escape, found)), lambda match: f"<{self._names[match.group()]}>", text)

    def __repr__(self) -> str:
        return f"Redactor({len(set(self._names.values()))} names)"

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (Redactor, ())


redactor = Redactor()
redact = redactor.redact
