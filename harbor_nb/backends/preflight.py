"""Harbor's own preflight of any environment, in a child process: there it may exit, hang or end an event loop."""

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from harbor_nb._display import clean
from harbor_nb.backends.catalog import FIRST_CLASS, record
from harbor_nb.backends.readiness import LIMIT_SEC, Finding, Readiness


def preflights(name: str | None = None) -> dict[str, Readiness]:
    """Ask Harbor's preflight of one environment, an import path `module:Class`, or all that are not first-class."""
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HARBOR_TELEMETRY": "off",
        "PYTHON_DOTENV_DISABLED": "1",
    }
    told: dict[str, Readiness] = {}
    output = error = ""
    with tempfile.TemporaryDirectory(prefix="harbor_nb-") as away:
        process = subprocess.Popen(
            [sys.executable, "-m", "harbor_nb.backends.preflight", *([name] if name else [])],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=environ, cwd=away, start_new_session=True,
        )  # fmt: skip
        try:
            output, error = process.communicate(timeout=LIMIT_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            output, error = process.communicate()
    names: list[str] = []
    for line in output.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if "names" in answer:
            names = answer["names"]
        else:
            told[answer["name"]] = _readiness(**answer)
    for missing in (*names, *([name] if name and name not in names else [])):
        if missing not in told:
            last = (error.strip().splitlines() or [""])[-1]
            ended = process.returncode not in (-9, 0) and bool(last)
            reason = (
                f"Harbor's preflight ended: {last}"
                if ended
                else f"Harbor's preflight did not answer in {LIMIT_SEC:.0f} s"
            )
            told[missing] = Readiness(missing, (Finding("warns", clean(reason, 300), "try again"),))
    order = [one for one in names if one in told] or list(told)
    return {one: told[one] for one in order}


def known_environments() -> list[str]:
    """Give the names of all environment types: ours, and what the installed Harbor has."""
    from harbor.models.environment_type import EnvironmentType

    return list(dict.fromkeys([*FIRST_CLASS, *(kind.value for kind in EnvironmentType)]))


def _readiness(name: str, kind: str, text: str, warning: str, extra: str | None) -> Readiness:
    sdk = next(iter(distributions(extra)), "") if extra else ""
    text, warning = clean(" ".join(text.split()), 600), clean(" ".join(warning.split()), 600)
    if kind == "missing":
        finding = Finding("blocks", f"not installed: {text}", f"type: pip install 'harbor[{extra}]'")
    elif kind == "import":
        module = re.search(r"No module named '([\w.]+)'", text)
        missing = f"'harbor[{extra}]'" if extra else module[1].split(".")[0] if module else "what is missing"
        fix = f"type: pip install {missing}"
        finding = Finding("blocks", text.split(" Install ")[0], fix)
    elif kind == "exit":
        reason, _, rest = text.partition(". ")
        lacks = record(name).missing()
        fix = (
            f"add {' and '.join(f'{key}=...' for key in lacks)} to .env"
            if lacks
            else rest or record(name).docs or "see its docs"
        )
        finding = Finding("blocks", reason.rstrip("."), fix.rstrip("."))
    elif kind == "error":
        finding = Finding("warns", f"Harbor's preflight failed: {text}", record(name).docs or "see its docs")
    elif kind == "unchecked":
        reason = "Harbor checks nothing beforehand for it, so only a trial can tell"
        finding = Finding("warns", reason, record(name).docs or "see its docs")
    elif warning:
        finding = Finding("warns", warning.split(". ")[0], "see its docs")
    else:
        return Readiness(name, (), sdk)
    return Readiness(name, (finding,), sdk)


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
    answer: dict[str, Any] = {"name": name, "kind": "ok", "text": "", "warning": "", "extra": extra}
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
    return answer | {"warning": " ".join(warned)}


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
