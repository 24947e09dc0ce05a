"""The environment types: what each is for, and whether it can run a job here."""

import csv
import os
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FIRST_CLASS = ("local", "docker", "daytona", "e2b", "modal", "runloop")
_FRESH_SEC = 30.0
_COLUMNS = "name title runs needs_key credentials missing sdk sdk_version ready reason fix use_case docs".split()


@dataclass(frozen=True)
class EnvironmentRecord:
    """One environment type; `credentials` lists alternatives, each a group of names needed together."""

    name: str
    title: str
    runs: str
    use_case: str
    credentials: tuple[tuple[str, ...], ...] = ()
    sdk: str = ""
    docs: str = ""
    address: tuple[str, ...] = ()  # the variable that moves the API elsewhere, and where it is without

    def missing(self) -> tuple[str, ...]:
        """Give the names that are missing from the alternative that is nearest to complete, one begun before others."""

        def lacks(group: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in group if not os.environ.get(name, "").strip())

        nearest = min(self.credentials, key=lambda group: (len(lacks(group)), -len(group)), default=())
        return lacks(nearest)


@cache
def _table() -> dict[str, EnvironmentRecord]:
    with (files("harbor_nb.backends") / "environments.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        row["name"]: EnvironmentRecord(
            row["name"],
            row["title"],
            row["runs"],
            row["use_case"],
            tuple(tuple(group.split(" + ")) for group in row["credentials"].split(" | ") if group),
            row["sdk"],
            row["docs"],
            tuple(row["address"].split()),
        )
        for row in rows
    }


def record(name: str) -> EnvironmentRecord:
    """Give an environment's record; one that a newer Harbor brings has its name and little else."""
    return _table().get(name) or EnvironmentRecord(name, name.replace("-", " ").title(), "cloud", "")


RECORDS = {name: record(name) for name in FIRST_CLASS}


@cache
def sdk_version(distribution: str) -> str | None:
    """Give the installed version of an SDK without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


_seen: dict[str, Any] = {}


def _fingerprint() -> tuple[Any, ...]:
    """What readiness depends on, cheap to look at: the environment, and files whose coming and going decides."""
    home = Path.home()
    docker = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    watched = [home / ".modal.toml", home / ".docker/config.json", home / ".kube/config", Path(docker), Path(".env")]
    watched += [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")]
    stamps = []
    for path in watched:
        try:
            stamps.append(path.stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    return (hash(frozenset(os.environ.items())), Path.cwd(), *stamps)


def environments() -> "pd.DataFrame":
    """List the environment types that the installed Harbor knows, and whether each can run a job here and now.

    Keys are looked for, not tried: `check(name, live=True)` tries them. An answer is kept for 30 seconds while
    environment variables, settings files and installed packages stay the same; `check(name)` always looks anew.

    Returns:
        One row an environment: name, title, runs (local or cloud), needs_key, credentials (alternatives), missing,
        sdk, sdk_version, ready, reason, fix, use_case, docs.

    Example:
        >>> environments()["name"].tolist()[:2]
        ['local', 'docker']
    """
    import pandas as pd

    sdk_version.cache_clear()
    mark = _fingerprint()
    if _seen.get("mark") != mark or time.monotonic() - _seen["at"] > _FRESH_SEC:
        frame = pd.DataFrame(_rows(), columns=_COLUMNS)
        _seen.update(mark=mark, at=time.monotonic(), frame=frame)
    kept: pd.DataFrame = _seen["frame"]
    return kept.copy()


def _rows() -> list[dict[str, Any]]:
    from harbor_nb.backends.preflight import preflights
    from harbor_nb.backends.readiness import check

    with ThreadPoolExecutor() as pool:
        others = pool.submit(preflights)
        found = dict(zip(FIRST_CLASS, pool.map(check, FIRST_CLASS), strict=True))
        found |= others.result()
    rows = []
    for name, readiness in found.items():
        one = record(name)
        rows.append(
            {
                "name": name, "title": one.title, "runs": one.runs, "needs_key": bool(one.credentials),
                "credentials": " or ".join(" + ".join(group) for group in one.credentials),
                "missing": "" if readiness.ready else " + ".join(one.missing()),
                "sdk": one.sdk or readiness.sdk, "sdk_version": sdk_version(one.sdk or readiness.sdk or "-"),
                "ready": readiness.ready, "reason": readiness.reason, "fix": readiness.fix,
                "use_case": one.use_case, "docs": one.docs,
            }
        )  # fmt: skip
    return rows
