"""The environment types: what each is for, and whether it can run a job here."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


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


RECORDS = {
    record.name: record
    for record in (
        EnvironmentRecord("local", "Local sandbox", "local", "Learning and quick tests, no Docker needed"),
        EnvironmentRecord("docker", "Docker", "local", "Default, local testing, development", (), "docker"),
        EnvironmentRecord(
            "daytona", "Daytona", "cloud", "Cloud execution, remote agents",
            (("DAYTONA_API_KEY",), ("DAYTONA_JWT_TOKEN", "DAYTONA_ORGANIZATION_ID")), "daytona", "https://daytona.io/docs",
        ),
        EnvironmentRecord("e2b", "E2B", "cloud", "Sandboxed execution", (("E2B_API_KEY",),), "e2b", "https://e2b.dev/docs"),
        EnvironmentRecord(
            "modal", "Modal", "cloud", "Serverless compute", (("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"),), "modal",
            "https://modal.com/docs",
        ),
        EnvironmentRecord(
            "runloop", "Runloop", "cloud", "Runloop platform", (("RUNLOOP_API_KEY",),), "runloop-api-client",
            "https://docs.runloop.ai",
        ),
    )
}  # fmt: skip


@cache
def sdk_version(distribution: str) -> str | None:
    """Give the installed version of an SDK without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def environments() -> "pd.DataFrame":
    """List the environment types and whether each can run a job here and now.

    Returns:
        One row an environment: name, title, runs, needs_key, credentials, missing, sdk, sdk_version, ready, reason,
        fix, use_case, docs.

    Example:
        >>> environments()["name"].tolist()[:2]
        ['local', 'docker']
    """
    import pandas as pd

    from harbor_nb.backends.readiness import check, missing_credentials

    rows = []
    for record in RECORDS.values():
        readiness = check(record.name)
        rows.append(
            {
                "name": record.name, "title": record.title, "runs": record.runs, "needs_key": bool(record.credentials),
                "credentials": " or ".join(" + ".join(group) for group in record.credentials),
                "missing": " + ".join(missing_credentials(record)), "sdk": record.sdk,
                "sdk_version": sdk_version(record.sdk) if record.sdk else None, "ready": readiness.ready,
                "reason": readiness.reason, "fix": readiness.fix, "use_case": record.use_case, "docs": record.docs,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
