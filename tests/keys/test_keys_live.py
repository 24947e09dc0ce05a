"""Live checks through the vendors' own SDKs over a real socket: each way to fail is its own reason, none hangs."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import harbor_nb

REASONS = {
    "401": ("blocks", "refuses the key (401)"),
    "402": ("blocks", "asks for payment (402)"),
    "403": ("blocks", "forbids it (403)"),
    "429": ("warns", "too many requests or the quota is used up (429)"),
    "500": ("warns", "has trouble of its own (5xx)"),
    "garbage": ("blocks", "does not speak as"),
    "page": ("blocks", "does not speak as"),
    "refused": ("blocks", "can't be reached: the connection is refused"),
    "silent": ("blocks", "takes the connection but does not answer within 10 s"),
}
VENDORS = ("daytona", "e2b", "modal", "runloop")
EVERY = [(name, mode) for name in VENDORS for mode in REASONS if name != "modal" or mode not in ("402", "page")]
QUICK = [(name, mode) for name, mode in EVERY if mode != "silent" and (name == "daytona" or mode in ("401", "garbage"))]


def live(name, settings):
    os.environ.update(settings)
    began = time.monotonic()
    readiness = harbor_nb.check(name, live=True)
    return readiness, time.monotonic() - began


def right(readiness, name, mode):
    level, said = REASONS[mode]
    finding = next(one for one in readiness.findings if said in one.reason)
    assert finding.level == level
    assert readiness.ready == (level == "warns")
    assert finding.fix
    others = [text for other, (_, text) in REASONS.items() if text != said]
    assert not any(text in str(readiness) for text in others)


@pytest.mark.parametrize(("name", "mode"), QUICK)
def test_each_failure_is_its_own_reason(name, mode, vendor):
    with vendor(name, mode) as server:
        readiness, took = live(name, server.settings)
        assert took < 10
        right(readiness, name, mode)
        for value in server.settings.values():
            assert value.startswith("http") or value not in str(readiness) + readiness._repr_html_()


@pytest.mark.deep
@pytest.mark.parametrize(("name", "mode"), [one for one in EVERY if one not in QUICK and one[1] != "silent"])
def test_each_failure_is_its_own_reason_for_every_vendor(name, mode, vendor):
    test_each_failure_is_its_own_reason(name, mode, vendor)


@pytest.mark.parametrize("name", VENDORS)
def test_a_good_key_is_taken(name, vendor):
    with vendor(name) as server:
        readiness, _ = live(name, server.settings)
        assert readiness.ready
        assert readiness.live
        assert len(server.asked) == 1
        assert not [one for one in readiness.findings if "sends requests" not in one.reason]


def test_none_hangs_when_nobody_answers(vendor):
    """All four side by side take as long as the slowest."""
    began = time.monotonic()
    with ExitStack() as stack:
        for name in VENDORS:
            os.environ.update(stack.enter_context(vendor(name, "silent")).settings)
        with ThreadPoolExecutor() as pool:
            told = list(pool.map(lambda name: harbor_nb.check(name, live=True), VENDORS))
    assert time.monotonic() - began < 20
    for name, readiness in zip(VENDORS, told, strict=True):
        assert any(text in str(readiness) for text in (REASONS["silent"][1], "took more than 10 s to start")), name


def test_a_wrong_key_after_a_good_one_is_refused(vendor):
    """The SDKs of daytona and modal keep a client for the life of a process; ours is asked in a process of its own."""
    with vendor("modal") as server:
        assert live("modal", server.settings)[0].ready
        assert not live("modal", server.settings | {"MODAL_TOKEN_SECRET": "as-another-one"})[0].ready
        assert live("modal", server.settings)[0].ready


@pytest.mark.deep
def test_a_host_that_drops_packets_is_given_up(monkeypatch):
    """Nothing answers at all, not even the connection: still within 10 s."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # the queue is full from here on, and the kernel drops what comes
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        address = f"http://127.0.0.1:{full.getsockname()[1]}"
        readiness, took = live("runloop", {"RUNLOOP_API_KEY": "rl-0123456789", "RUNLOOP_BASE_URL": address})
        for one in waiting:
            one.close()
    assert took < 10
    assert "can't be reached" in str(readiness)


def test_no_such_host():
    os.environ.update(RUNLOOP_API_KEY="rl-0123456789", RUNLOOP_BASE_URL="http://no-such-host.invalid")
    assert "there is no host of the name" in str(harbor_nb.check("runloop", live=True))


def test_a_name_server_that_does_not_answer_holds_nobody_up(monkeypatch):
    os.environ.update(RUNLOOP_API_KEY="rl-0123456789", RUNLOOP_BASE_URL="http://no-such-host.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: time.sleep(30) or [])
    readiness, took = live("runloop", {})
    assert took < 10
    assert "there is no host of the name" in str(readiness)


def test_a_missing_key_is_not_tried(monkeypatch):
    from harbor_nb.backends import providers

    monkeypatch.setattr(providers, "ping", lambda name: pytest.fail("asked without a key"))
    readiness = harbor_nb.check("e2b", live=True)
    assert not readiness.ready
    assert not readiness.live


async def test_inside_a_running_event_loop(vendor):
    import asyncio

    with vendor("runloop", "401") as server:
        readiness, _ = live("runloop", server.settings)
    assert "401" in str(readiness)
    await asyncio.sleep(0)


def test_the_kernel_imports_no_vendor(fresh, vendor):
    with vendor("runloop") as server:
        code = (
            "import sys, harbor_nb; print(harbor_nb.check('runloop', live=True).ready, [m for m in sys.modules if m in"
        )
        names = "('runloop_api_client', 'daytona', 'e2b', 'modal', 'harbor.environments.factory')])"
        assert fresh(f"{code} {names}", **server.settings) == "True []"
