"""The parts of Harbor's files that the frames need, as typed structs."""

import json
import tomllib
from functools import cache, reduce
from importlib.resources import files
from operator import or_
from types import GenericAlias, SimpleNamespace
from typing import Any

import msgspec


def record(name: str, /, *needed: str, **fields: Any) -> Any:
    """Return a struct whose fields may be missing, but for the `needed`; gc=False, for it holds no cycles."""
    raw = msgspec.Raw
    members = [
        (f, kind) if f in needed else (f, kind, raw(b"")) if kind is raw else (f, kind | None, None)
        for f, kind in fields.items()
    ]
    return msgspec.defstruct(name, members, gc=False, kw_only=True)


def many(kind: Any) -> Any:
    """Return the type of a list of `kind`."""
    return GenericAlias(list, (kind,))


def _shapes() -> Any:
    made: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "raw": msgspec.Raw}
    made["rewards"] = dict[str, float | None]

    def kind(text: str) -> Any:
        kinds = [many(made[word[1:-1]]) if word[0] == "[" else made[word] for word in text.strip("!").split("|")]
        return reduce(or_, kinds)

    for name, fields in tomllib.loads(files(__package__).joinpath("shapes.toml").read_text(encoding="utf-8")).items():
        needed = [field for field, text in fields.items() if text[-1] == "!"]
        made[name] = record(name, *needed, **{field: kind(text) for field, text in fields.items()})
    return SimpleNamespace(**{name: shape for name, shape in made.items() if name[0].isupper()})


shapes = _shapes()
"""The structs of shapes.toml, by their names."""

nothing = record("Nothing", **{name: str for shape in vars(shapes).values() for name in shape.__struct_fields__})()
"""What is not there: each of its fields is missing."""


def speakable(value: Any) -> Any:
    """Return a JSON value whose texts are all Unicode: half a surrogate pair is spelled out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {speakable(key): speakable(item) for key, item in value.items()}
    return [speakable(item) for item in value] if isinstance(value, list) else value


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(data: bytes | msgspec.Raw, kind: Any) -> Any:
    """Return `data` as `kind`; what strict JSON forbids but Python writes (NaN, numbers in quotes) is read too.

    Raises:
        ValueError: The bytes are no JSON, or not of that shape; the message says where.
    """
    try:
        return _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as strict:
        try:
            plain = speakable(json.loads(bytes(data), parse_constant=lambda _: None))
            return msgspec.json.decode(msgspec.json.encode(plain), type=kind, strict=False)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except ValueError as error:
            raise ValueError(str(error if isinstance(strict, msgspec.ValidationError) else strict)) from None
