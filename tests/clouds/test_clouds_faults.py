"""Faults on request: a real trial meets each, and the failure is named right."""

import json
import time

import pytest

import harbor_nb
from harbor_nb.known_failures import match
from harbor_nb.practice_clouds.backend import Backend, QuotaError, RateLimitError
from harbor_nb.practice_clouds.description import Faults

pytestmark = [pytest.mark.local, pytest.mark.timeout(400)]
VENDORS = ["daytona", "e2b", "modal", "runloop"]
# Of each fault: the setting, the known failure that it must be named, and those where a vendor or Harbor differs.
# None: the trial comes through, since the SDK or Harbor tries again.
WAITS = "environment-start-timeout"  # Harbor tries again until the start's time is up
NAMES = {
    "start_delay": (2, None, {}),
    "fail_start": (1.0, "sandbox-not-started", {}),
    "rate_limit": (0, "rate-limit", {"daytona": WAITS, "modal": "quota", "runloop": WAITS}),
    "drop_connection": (1.0, "connection-lost", {"runloop": WAITS, "daytona": "connection-lost"}),
    "expire_after": (2, "sandbox-lost", {}),
    "wrong_key": (True, "key-refused", {}),
    "quota": (0, "rate-limit", {"daytona": WAITS, "modal": "quota", "runloop": WAITS}),
    "build_failure": (True, "build-failed", {}),
}
QUICK = {("e2b", "wrong_key"), ("runloop", "build_failure")}
CASES = [
    pytest.param(vendor, fault, marks=[] if (vendor, fault) in QUICK else pytest.mark.deep)
    for vendor in VENDORS
    for fault in NAMES
]


@pytest.mark.parametrize(("environment", "fault"), CASES)
def test_a_fault_is_named_and_the_job_ends(practised, slow_task, environment, fault):
    setting, usual, others = NAMES[fault]
    expected = others.get(environment, usual)
    practice = harbor_nb.Practice(**{environment: {fault: setting}}, seed=1)
    task = slow_task if fault == "expire_after" else "hello-world"
    began = time.monotonic()
    (job,) = practised(environment, [task], practice=practice, environment_build_timeout_multiplier=0.1, wait=200)
    assert time.monotonic() - began < 120
    assert job.state == "finished", job.log(40)
    (path,) = job.path.glob("*/result.json")
    result = json.loads(path.read_text())
    failure = result["exception_info"]
    if expected is None:
        assert failure is None
        return
    assert failure is not None, job.log(60)
    ran = (result.get("agent_execution") or {}).get("started_at")
    found = match(
        failure["exception_type"], failure["exception_message"], environment=environment,
        phase=None if ran else "environment_setup",
    )  # fmt: skip
    told = (failure["exception_type"], failure["exception_message"][:300])
    assert found is not None, told
    assert found.name == expected, told


async def test_the_same_seed_gives_the_same_faults():
    def drawn(seed: int) -> list[bool]:
        backend = Backend("e2b", Faults(drop_connection=0.3), seed)
        return [backend.drops() for _ in range(200)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 30 < sum(drawn(3)) < 90
    assert Backend("e2b", Faults()).drops() is False


async def test_rate_and_quota_count_sandboxes():
    backend = Backend("daytona", Faults(rate_limit=2))
    backend.admit()
    backend.admit()
    with pytest.raises(RateLimitError):
        backend.admit()
    backend = Backend("daytona", Faults(quota=0))
    with pytest.raises(QuotaError):
        backend.admit()
