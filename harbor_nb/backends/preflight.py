"""Harbor's own preflight of any environment, in a child process: there it may exit, hang or end an event loop."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from typing import Any

from harbor_nb.backends.catalog import FIRST_CLASS, distributions, record, sdk_version
from harbor_nb.backends.child import ask_child
from harbor_nb.backends.findings import LIMIT_SEC, Finding, Readiness, finding


def preflights(name: str | None = None) -> dict[str, Readiness]:
    """Ask Harbor's preflight of one environment, an import path `module:Class`, or all that are not first-class."""
    environ = os.environ | {"HARBOR_TELEMETRY": "off", "PYTHON_DOTENV_DISABLED": "1"}
    said, error, code = ask_child(__name__, [name] if name else [], environ, LIMIT_SEC)
    names = next((one["names"] for one in said if "names" in one), [name] if name else [])
    told = {one["name"]: tuple(Finding(**found) for found in one["found"]) for one in said if "name" in one}
    gone = f"did not answer in {LIMIT_SEC:.0f} s" if code is None else f"ended with code {code} {error}".strip()
    lost = (finding("harbor-gone", text=gone),)
    return {one: Readiness(one, told.get(one, lost)) for one in names}


def known_environments() -> list[str]:
    """Give the names of all environment types: ours, and what the installed Harbor has."""
    from harbor.models.environment_type import EnvironmentType

    return list(dict.fromkeys([*FIRST_CLASS, *(kind.value for kind in EnvironmentType)]))


def answers(*wanted: str) -> Iterator[dict[str, Any]]:
    """In the child: give the names, then how each of them answers."""
    from harbor.environments.factory import _ENVIRONMENT_REGISTRY

    known = {kind.value: entry for kind, entry in _ENVIRONMENT_REGISTRY.items()}
    names = wanted or [name for name in known if name not in FIRST_CLASS]
    yield {"names": names}
    with ThreadPoolExecutor(8) as pool:
        for asked in as_completed([pool.submit(_ask, name, known.get(name)) for name in names]):
            yield asked.result()


def _ask(name: str, entry: Any) -> dict[str, Any]:
    extra = (entry and entry.pip_extra) or ""
    lacks = next((one for one in distributions(extra) if sdk_version(one) is None), None)
    found = finding("harbor-extra", text=lacks, extra=extra) if lacks else _preflight(name, entry)
    return {"name": name, "found": [asdict(found)] if found else []}


def _preflight(name: str, entry: Any) -> Finding | None:
    from harbor.environments.base import BaseEnvironment
    from harbor.environments.factory import EnvironmentFactory, _load_environment_class
    from harbor.models.environment_type import EnvironmentType

    one = record(name)
    docs = one.docs or "see its docs"
    kind = EnvironmentType(name) if entry else None
    try:
        EnvironmentFactory.run_preflight(kind, None if kind else name)
        if kind is None:
            return None
        own: Any = _load_environment_class(kind).preflight
        common: Any = BaseEnvironment.preflight
        if own.__func__ is common.__func__:
            return finding("harbor-unchecked", docs=docs)
    except SystemExit as error:
        text, lacks = str(error), one.missing()
        first, _, rest = " ".join(text.split()).removesuffix(".").partition(". ")
        if any(key in text for key in lacks):
            rest = f"add {' and '.join(f'{key}=...' for key in lacks)} to .env"
        return finding("harbor-exit", first=first, rest=rest or docs)
    except ImportError as error:
        text = str(error.__cause__ or error).split(" Install ")[0]
        module = re.search(r"No module named '(\w+)", text)
        return finding("harbor-import", text=text, package=module[1] if module else "what is missing")
    except BaseException as error:  # noqa: BLE001 - whatever a preflight raises is an answer
        return finding("harbor-error", text=f"{type(error).__name__}: {error}", docs=docs)
    return finding("harbor-unasked" if one.missing() else "harbor-passed", needs=one.choices, docs=docs)
