"""Can this environment run a job here and now; if not, why, and the line that mends it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from harbor_nb._display import clean
from harbor_nb.backends.catalog import RECORDS, EnvironmentRecord, sdk_version
from harbor_nb.errors import BadInputError


@dataclass(frozen=True)
class Finding:
    """One thing that was found: certain to block, or a doubt that warns."""

    level: Literal["blocks", "warns"]
    reason: str
    fix: str


@dataclass(frozen=True)
class Readiness:
    """Whether an environment can run a job; reads as a sentence."""

    name: str
    findings: tuple[Finding, ...] = ()

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

    def __str__(self) -> str:
        word = "ready" if self.ready else "not ready"
        return f"{self.name} is {word}" + (f": {self.reason}; {self.fix}" if self.findings else "")

    __repr__ = __str__


def missing_credentials(record: EnvironmentRecord) -> tuple[str, ...]:
    """Give the names that are missing from the alternative that is nearest to complete."""
    lacks = [tuple(name for name in group if not os.environ.get(name)) for group in record.credentials]
    return min(lacks, key=len, default=()) if lacks else ()


def check(name: str) -> Readiness:
    """Tell whether an environment can run a job here and now; keys are looked for, not tried.

    Args:
        name: `local`, `docker`, `daytona`, `e2b`, `modal` or `runloop`.

    Returns:
        The readiness, with what blocks it.

    Raises:
        BadInputError: there is no such environment.

    Example:
        >>> check("local").name
        'local'
    """
    record = RECORDS.get(name)
    if record is None:
        raise BadInputError(f"unknown environment {name!r}; choose one of {', '.join(RECORDS)}")
    if name == "local":
        from harbor_nb.sandbox import tier

        found = tier()
        return Readiness(name, (Finding("blocks", found.reason, found.fix),) if found.name == "none" else ())
    if name == "docker":
        return Readiness(name, _docker())
    if sdk_version(record.sdk) is None:
        fix = f"type: pip install 'harbor-nb[{name}]'"
        return Readiness(name, (Finding("blocks", f"the package {record.sdk} is not installed", fix),))
    missing = missing_credentials(record)
    if missing:
        fix = f"add {' and '.join(f'{key}=...' for key in missing)} to .env"
        return Readiness(name, (Finding("blocks", f"{' and '.join(missing)} not set", fix),))
    return Readiness(name)


def _docker() -> tuple[Finding, ...]:
    if shutil.which("docker") is None:
        return (Finding("blocks", "docker is not installed", 'install Docker, or use environment="local"'),)
    asks = (
        (["docker", "info", "--format", "{{.ServerVersion}}"], 'start Docker, or use environment="local"'),
        (["docker", "compose", "version"], "install the docker compose plugin, version 2"),
    )
    for command, fix in asks:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return (Finding("blocks", f"{' '.join(command[:2])} did not answer in 10 s", fix),)
        if done.returncode:
            told = (done.stderr.strip() or done.stdout.strip() or "docker failed").splitlines()[0]
            return (Finding("blocks", clean(told, 300), fix),)
    return ()
