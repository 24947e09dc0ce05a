"""Harbor's own preflight of any environment, in a child process: there it may exit, hang or end an event loop."""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from harbor_nb.backends.catalog import FIRST_CLASS, record
from harbor_nb.backends.child import ask_child
from harbor_nb.backends.readiness import LIMIT_SEC, Finding, Readiness, blocks, warns


def preflights(name: str | None = None) -> dict[str, Readiness]:
    """Ask Harbor's preflight of one environment, an import path `module:Class`, or all that are not first-class."""
    environ = os.environ | {"HARBOR_TELEMETRY": "off", "PYTHON_DOTENV_DISABLED": "1"}
    said, error, code = ask_child(__name__, [name] if name else [], environ, LIMIT_SEC)
    names = next((one["names"] for one in said if "names" in one), [name] if name else [])
    told = {one["name"]: _readiness(**one) for one in said if "kind" in one}
    gone = f"did not answer in {LIMIT_SEC:.0f} s" if code is None else f"ended with code {code} {error}".strip()
    lost = (Finding("warns", f"Harbor's preflight {gone}", "try again"),)
    return {one: told.get(one, Readiness(one, lost)) for one in names}


def known_environments() -> list[str]:
    """Give the names of all environment types: ours, and what the installed Harbor has."""
    from harbor.models.environment_type import EnvironmentType

    return list(dict.fromkeys([*FIRST_CLASS, *(kind.value for kind in EnvironmentType)]))


def _readiness(name: str, kind: str, text: str, extra: str | None) -> Readiness:
    text, docs, lacks = " ".join(text.split()), record(name).docs or "see its docs", record(name).missing()
    first, _, rest = text.partition(". ")
    module = re.search(r"No module named '(\w+)", text)
    package = f"'harbor[{extra}]'" if extra else module[1] if module else "what is missing"
    add = f"add {' and '.join(f'{key}=...' for key in lacks)} to .env"
    kinds = {
        "missing": blocks(f"not installed: {text}", f"type: pip install {package}"),
        "import": blocks(text.split(" Install ")[0], f"type: pip install {package}"),
        "exit": blocks(first.rstrip("."), add if lacks else rest.rstrip(".") or docs),
        "error": warns(f"Harbor's preflight failed: {text}", docs),
        "unchecked": warns("Harbor checks nothing beforehand for it, so only a trial can tell", docs),
        "warned": warns(first, docs),
    }
    sdk = next(iter(distributions(extra)), "") if extra else ""
    return Readiness(name, (kinds[kind],) if kind in kinds else (), sdk)


@cache
def distributions(extra: str) -> tuple[str, ...]:
    """Give the packages behind one of Harbor's extras, the vendor's own first."""
    lines = [line for line in requires("harbor") or () if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", line)]
    names = [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines]
    return tuple(sorted((n for n in names if n != "harbor"), key=lambda n: n == "dockerfile-parse"))


def _ask(name: str, entry: Any) -> dict[str, Any]:
    import logging

    from harbor.environments.base import BaseEnvironment
    from harbor.environments.factory import EnvironmentFactory, _load_environment_class

    extra = entry.pip_extra if entry else None
    answer: dict[str, Any] = {"name": name, "kind": "ok", "text": "", "extra": extra}
    for distribution in distributions(extra) if extra else ():
        try:
            version(distribution)
        except PackageNotFoundError:
            return answer | {"kind": "missing", "text": distribution}
    warned: list[str] = []

    class Warned(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warned.append(record.getMessage())

    handler = Warned(logging.WARNING)
    logger = logging.getLogger(entry.module) if entry else logging.getLogger()
    logger.addHandler(handler)
    try:
        if entry is None:
            EnvironmentFactory.run_preflight(None, name)
        else:
            from harbor.models.environment_type import EnvironmentType

            kind = EnvironmentType(name)
            EnvironmentFactory.run_preflight(kind)
            if _load_environment_class(kind).preflight.__func__ is BaseEnvironment.preflight.__func__:  # type: ignore[attr-defined]
                return answer | {"kind": "unchecked"}
    except SystemExit as error:
        return answer | {"kind": "exit", "text": str(error)}
    except ImportError as error:
        return answer | {"kind": "import", "text": str(error.__cause__ or error)}
    except BaseException as error:  # noqa: BLE001 - whatever a preflight raises is an answer
        return answer | {"kind": "error", "text": f"{type(error).__name__}: {error}"}
    finally:
        logger.removeHandler(handler)
    return answer | {"kind": "warned" if warned else "ok", "text": " ".join(warned)}


def _main(wanted: list[str]) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a preflight prints is no answer
    from harbor.environments.factory import _ENVIRONMENT_REGISTRY

    known = {kind.value: entry for kind, entry in _ENVIRONMENT_REGISTRY.items()}
    names = wanted or [name for name in known if name not in FIRST_CLASS]
    answers.write(json.dumps({"names": names}) + "\n")
    with ThreadPoolExecutor(8) as pool:
        for asked in as_completed([pool.submit(_ask, name, known.get(name)) for name in names]):
            answers.write(json.dumps(asked.result()) + "\n")
    answers.flush()
    os._exit(0)  # nothing that a preflight has started keeps this process


if __name__ == "__main__":
    _main(sys.argv[1:])
