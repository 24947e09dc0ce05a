"""Harbor's own preflight of any environment, in a child process: there it may exit, hang or end an event loop."""

import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from importlib.metadata import requires
from logging.handlers import BufferingHandler
from typing import Any

from harbor_nb.backends.catalog import FIRST_CLASS, record, sdk_version
from harbor_nb.backends.child import ask_child
from harbor_nb.backends.findings import LIMIT_SEC, Readiness, finding


def preflights(name: str | None = None) -> dict[str, Readiness]:
    """Ask Harbor's preflight of one environment, an import path `module:Class`, or all that are not first-class."""
    environ = os.environ | {"HARBOR_TELEMETRY": "off", "PYTHON_DOTENV_DISABLED": "1"}
    said, error, code = ask_child(__name__, [name] if name else [], environ, LIMIT_SEC)
    names = next((one["names"] for one in said if "names" in one), [name] if name else [])
    told = {one["name"]: _readiness(**one) for one in said if "kind" in one}
    gone = f"did not answer in {LIMIT_SEC:.0f} s" if code is None else f"ended with code {code} {error}".strip()
    lost = (finding("harbor-gone", text=gone),)
    return {one: told.get(one, Readiness(one, lost)) for one in names}


def known_environments() -> list[str]:
    """Give the names of all environment types: ours, and what the installed Harbor has."""
    from harbor.models.environment_type import EnvironmentType

    return list(dict.fromkeys([*FIRST_CLASS, *(kind.value for kind in EnvironmentType)]))


def _readiness(name: str, kind: str, text: str, extra: str) -> Readiness:
    one, text = record(name), " ".join(text.split())
    first, _, rest = text.removesuffix(".").partition(". ")
    module = re.search(r"No module named '(\w+)", text)
    lacks = one.missing()
    if any(key in text for key in lacks):
        rest = f"add {' and '.join(f'{key}=...' for key in lacks)} to .env"
    if kind == "passed" and lacks:
        kind = "unasked"
    docs = one.docs or "see its docs"
    values = {
        "text": text, "first": first, "rest": rest or docs, "docs": docs, "needs": one.choices,
        "package": f"'harbor[{extra}]'" if extra else module[1] if module else "what is missing",
    }  # fmt: skip
    findings = () if kind == "passed" and ":" in name else (finding(f"harbor-{kind}", **values),)
    return Readiness(name, findings, next(iter(distributions(extra)), ""))


@cache
def distributions(extra: str) -> tuple[str, ...]:
    """Give the packages behind one of Harbor's extras, the vendor's own first; none of no extra."""
    lines = [line for line in requires("harbor") or () if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", line)]
    names = [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines]
    return tuple(sorted((n for n in names if n != "harbor"), key=lambda n: n == "dockerfile-parse"))


def answers(*wanted: str) -> Iterator[dict[str, Any]]:
    """In the child: give the names, then how each of them answers."""
    from harbor.environments.factory import _ENVIRONMENT_REGISTRY

    known = {kind.value: entry for kind, entry in _ENVIRONMENT_REGISTRY.items()}
    names = wanted or [name for name in known if name not in FIRST_CLASS]
    yield {"names": names}
    with ThreadPoolExecutor(8) as pool:
        for asked in as_completed([pool.submit(_ask, name, known.get(name)) for name in names]):
            yield asked.result()


def _ask(name: str, entry: Any) -> dict[str, str]:
    extra = (entry and entry.pip_extra) or ""
    lacks = next((one for one in distributions(extra) if sdk_version(one) is None), None)
    kind, text = ("extra", lacks) if lacks else _preflight(name, entry)
    return {"name": name, "kind": kind, "text": text, "extra": extra}


def _preflight(name: str, entry: Any) -> tuple[str, str]:
    from harbor.environments.base import BaseEnvironment
    from harbor.environments.factory import EnvironmentFactory, _load_environment_class
    from harbor.models.environment_type import EnvironmentType

    logger, warned = logging.getLogger(entry.module if entry else None), BufferingHandler(1000)
    warned.setLevel(logging.WARNING)
    logger.addHandler(warned)
    try:
        if entry is None:
            EnvironmentFactory.run_preflight(None, name)
        else:
            kind = EnvironmentType(name)
            EnvironmentFactory.run_preflight(kind)
            if _load_environment_class(kind).preflight.__func__ is BaseEnvironment.preflight.__func__:  # type: ignore[attr-defined]
                return "unchecked", ""
    except SystemExit as error:
        return "exit", str(error)
    except ImportError as error:
        return "import", str(error.__cause__ or error).split(" Install ")[0]
    except BaseException as error:  # noqa: BLE001 - whatever a preflight raises is an answer
        return "error", f"{type(error).__name__}: {error}"
    finally:
        logger.removeHandler(warned)
    texts = [record.getMessage() for record in warned.buffer]
    return ("warned", " ".join(texts)) if texts else ("passed", "")
