"""Can this environment run a job here and now; if not, why, and the line that mends it."""

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harbor_nb.backends import providers
from harbor_nb.backends.catalog import FIRST_CLASS, EnvironmentRecord, distributions, record, sdk_version
from harbor_nb.backends.docker_engine import docker_findings
from harbor_nb.backends.findings import Finding, Readiness, finding
from harbor_nb.backends.keys import key_findings
from harbor_nb.backends.practice import settings
from harbor_nb.credentials._known import known
from harbor_nb.errors import BadInputError, nearest


def check(name: str, live: bool = False, practice: Any = None) -> Readiness:
    """Tell whether an environment can run a job here and now; takes 10 seconds at most and raises no SystemExit.

    Args:
        name: an environment type that the installed Harbor knows, or an import path `module:Class`.
        live: also ask the vendor's API, through its SDK, whether it takes the key.
        practice: a job that runs with practice: its practice cloud is asked in the vendor's place.

    Returns:
        The readiness: what blocks it (certain) and what is in doubt, each with what mends it.

    Raises:
        BadInputError: there is no such environment.
        ProviderError: the job has no practice cloud that answers.

    Example:
        >>> check("local").name
        'local'
    """
    if name not in FIRST_CLASS:
        return _other(name)
    if name in (here := {"local": _local, "docker": docker_findings}):
        return Readiness(name, tuple(here[name]()), live=live)
    stand_in = settings(practice).get(name)
    if practice is not None and stand_in is None:
        raise BadInputError(f"that job has no practice cloud of {name}; name the environment that it runs on")
    one = record(name)
    findings = list(_sdk(one)) or ([*_keys(one), *_address(one)] if stand_in is None else [])
    asked = live and Readiness(name, tuple(findings)).ready
    if asked:
        findings += providers.ping(name, stand_in)
    return Readiness(name, tuple(findings), live=asked)


def _local() -> Iterable[Finding]:
    from harbor_nb.sandbox import tier

    found = tier()
    if found.name == "none":
        yield finding("no-local", reason=found.reason, fix=found.fix)


def _other(name: str) -> Readiness:
    from harbor_nb.backends.preflight import known_environments, preflights

    if ":" not in name and name not in (names := known_environments()):
        raise BadInputError(f"unknown environment {name!r}{nearest(name, names)}")
    return preflights(name)[name]


def _sdk(environment: EnvironmentRecord) -> Iterable[Finding]:
    for package in dict.fromkeys((environment.sdk, *distributions(environment.name))):
        if sdk_version(package) is None:
            kind = "old-sdk-name" if sdk_version(f"{package}-sdk") else "no-sdk"
            yield finding(kind, package=package, extra=environment.name)


def _traps(environment: EnvironmentRecord) -> dict[str, str]:
    """Give the names that are set and that nothing reads, each with what to do instead."""
    traps = (one for one in known().values() if one.kind == "trap" and environment.name in one.environments)
    return {one.name: one.note for one in traps if os.environ.get(one.name)}


def _keys(environment: EnvironmentRecord) -> Iterable[Finding]:
    missing = environment.missing()
    if missing and environment.name == "modal" and (Path.home() / ".modal.toml").is_file():
        return _modal_file(missing)
    remark = "".join(f" ({name} is, but {note})" for name, note in _traps(environment).items())
    return key_findings(environment.credentials, "blocks", remark=remark, other=', or use environment="docker"')


def _modal_file(missing: tuple[str, ...]) -> Iterable[Finding]:
    """Look into ~/.modal.toml, which Harbor and the SDK take where variables are not set."""
    try:
        profiles = tomllib.loads((Path.home() / ".modal.toml").read_text(encoding="utf-8"))
        active = next((name for name in profiles if len(profiles) == 1 or profiles[name].get("active")), "")
        profile = profiles[os.environ.get("MODAL_PROFILE") or active]
        if profile["token_id"] and profile["token_secret"]:
            return [finding("modal-mixed", name=missing[0])] if len(missing) == 1 else []
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # no such file or profile, or what should be a table is none
    return [finding("modal-empty")]


def _address(environment: EnvironmentRecord) -> Iterable[Finding]:
    variable, usual = environment.address
    given = os.environ.get(variable)
    if given and given.rstrip("/") != usual:
        yield finding("address", variable=variable, given=given, usual=usual)
    if not environment.missing():
        yield from (finding("trap", name=name, note=note) for name, note in _traps(environment).items())
