"""Can this environment run a job here and now; if not, why, and the line that mends it."""

import difflib
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from harbor_nb._display import Shown, clean, render
from harbor_nb.backends.catalog import FIRST_CLASS, RECORDS, EnvironmentRecord, sdk_version
from harbor_nb.backends.practice import settings
from harbor_nb.credentials import stored_names
from harbor_nb.credentials._known import is_placeholder, known, value_doubts
from harbor_nb.errors import BadInputError

LIMIT_SEC = 9.5  # no answer takes longer than 10 s


@dataclass(frozen=True)
class Finding:
    """One thing that was found: certain to block, or a doubt that warns."""

    level: Literal["blocks", "warns"]
    reason: str
    fix: str


@dataclass(frozen=True)
class Readiness(Shown):
    """Whether an environment or agent can run here; reads as a sentence, and is true when it can."""

    name: str
    findings: tuple[Finding, ...] = ()
    sdk: str = ""
    live: bool = False  # the vendor was asked

    def __post_init__(self) -> None:
        ordered = sorted(self.findings, key=lambda finding: finding.level)  # 'blocks' before 'warns'
        safe = tuple(Finding(one.level, clean(one.reason, 600), clean(one.fix, 600)) for one in ordered)
        object.__setattr__(self, "findings", safe)

    @property
    def ready(self) -> bool:
        """True when nothing certain stands in the way."""
        return not any(finding.level == "blocks" for finding in self.findings)

    @property
    def reason(self) -> str:
        """Why not, or the first doubt; empty when all is well."""
        return self.findings[0].reason if self.findings else ""

    @property
    def fix(self) -> str:
        """What mends it."""
        return self.findings[0].fix if self.findings else ""

    def __bool__(self) -> bool:
        return self.ready

    def __str__(self) -> str:
        told = ". Also: ".join(f"{one.reason}; {one.fix}" for one in self.findings)
        if not self.ready:
            return f"{self.name} is not ready: {told}"
        return f"{self.name} looks ready, but: {told}" if told else f"{self.name} is ready"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render("readiness", readiness=self)


def blocks(reason: str, fix: str) -> Finding:
    """Make a finding that is certain to stop a job."""
    return Finding("blocks", reason, fix)


def warns(reason: str, fix: str) -> Finding:
    """Make a finding that may or may not stop a job."""
    return Finding("warns", reason, fix)


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
    if name == "local":
        return Readiness(name, tuple(_local()), live=live)
    if name == "docker":
        from harbor_nb.backends.docker_engine import docker_findings

        return Readiness(name, tuple(docker_findings()), live=live)
    if name not in FIRST_CLASS:
        return _other(name)
    stand_in = settings(practice).get(name)
    if practice is not None and stand_in is None:
        raise BadInputError(f"that job has no practice cloud of {name}; name the environment that it runs on")
    if stand_in is not None:
        findings = list(_sdk(RECORDS[name]))
        if live and not findings:
            from harbor_nb.backends.providers import ping

            findings = ping(name, stand_in)
        return Readiness(name, tuple(findings), live=live)
    findings = list(_sdk(RECORDS[name])) or [*_credentials(RECORDS[name]), *_address(RECORDS[name])]
    asked = live and not any(finding.level == "blocks" for finding in findings)
    if asked:
        from harbor_nb.backends.providers import ping

        findings += ping(name)
    return Readiness(name, tuple(findings), live=asked)


def _local() -> Iterable[Finding]:
    from harbor_nb.sandbox import tier

    found = tier()
    if found.name == "none":
        yield blocks(found.reason, found.fix)


def _other(name: str) -> Readiness:
    from harbor_nb.backends.preflight import known_environments, preflights

    if ":" not in name and name not in (names := known_environments()):
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(names)}"
        raise BadInputError(f"unknown environment {name!r}{hint}")
    return preflights(name)[name]


def _sdk(environment: EnvironmentRecord) -> Iterable[Finding]:
    from harbor_nb.backends.preflight import distributions

    sdk_version.cache_clear()
    for package in dict.fromkeys((environment.sdk, *distributions(environment.name))):
        try:
            version(package)
        except PackageNotFoundError:
            alias = " (daytona-sdk is its deprecated name and will not do)" if sdk_version(f"{package}-sdk") else ""
            yield blocks(
                f"the package {package} is not installed{alias}", f"type: pip install 'harbor-nb[{environment.name}]'"
            )


def _credentials(environment: EnvironmentRecord) -> Iterable[Finding]:
    missing = environment.missing()
    if missing and environment.name == "modal" and (Path.home() / ".modal.toml").is_file():
        yield from _modal_file(missing)
    elif missing:
        yield _missing(environment, missing, stored_names())
    for name in {one for group in environment.credentials for one in group if os.environ.get(one)}:
        for doubt in value_doubts(name, os.environ[name]):
            where = known()[name].where if name in known() else environment.docs
            fix = f"set {name} anew; get one at {where}"
            yield (blocks if is_placeholder(os.environ[name]) else warns)(f"{name}: {doubt}", fix)


def _missing(environment: EnvironmentRecord, missing: tuple[str, ...], stored: dict[str, str]) -> Finding:
    lacks = " and ".join(missing)
    half = [
        name
        for group in environment.credentials
        for name in group
        if set(missing) < set(group) and os.environ.get(name)
    ]
    reason = f"{' and '.join(dict.fromkeys(half))} is set, but {lacks} is not" if half else f"{lacks} not set"
    for name, entry in known().items():
        if entry.kind == "trap" and environment.name in entry.environments and os.environ.get(name):
            reason += f" ({name} is, but {entry.note})"
    if all(name in stored for name in missing):
        return blocks(f"{reason}, though {stored[missing[0]]} holds it", "type: harbor_nb.load_env()")
    where = next((known()[name].where for name in missing if name in known() and known()[name].where), environment.docs)
    other = ' or use environment="docker"' if environment.runs == "cloud" else ""
    lines = " and ".join(f"{name}=..." for name in missing)
    return blocks(reason, f"add {lines} to .env (get it at {where}) and type harbor_nb.load_env(),{other}".rstrip(","))


def _modal_file(missing: tuple[str, ...]) -> list[Finding]:
    """Look into ~/.modal.toml, which Harbor and the SDK take where variables are not set."""
    try:
        profiles = tomllib.loads((Path.home() / ".modal.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [blocks("~/.modal.toml can't be read", "type: modal token new")]
    wanted = os.environ.get("MODAL_PROFILE")
    active = profiles.get(wanted, {}) if wanted else next((p for p in profiles.values() if p.get("active")), {})
    if not active and len(profiles) == 1 and not wanted:
        active = next(iter(profiles.values()))
    if not (active.get("token_id") and active.get("token_secret")):
        return [blocks("~/.modal.toml holds no active profile with a token", "type: modal token new")]
    if len(missing) == 1:
        return [warns(f"{missing[0]} comes from ~/.modal.toml, its other half from a variable", "set both or neither")]
    return []


def _address(environment: EnvironmentRecord) -> Iterable[Finding]:
    variable, usual = environment.address
    given = os.environ.get(variable)
    if given and given.rstrip("/") != usual:
        yield warns(
            f"{variable} sends requests and the key to {given} instead of {usual}",
            f"unset {variable} unless you mean it",
        )
    for name, entry in known().items():
        if entry.kind == "trap" and environment.name in entry.environments and os.environ.get(name):
            yield warns(f"{name} is set, but {entry.note}", f"unset {name}")
