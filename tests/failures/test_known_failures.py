"""Every row of the failure table against real messages, and the matching itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb import known_failures
from harbor_nb.errors import BadInputError
from harbor_nb.known_failures import fault_of, match, normalise

MESSAGES = tomllib.loads((Path(__file__).parent / "messages.toml").read_text())["message"]


def found(row):
    where = {key: row.get(key) for key in ("phase", "environment")}
    return match(row.get("exception"), row["message"], output=row.get("output", False), **where)


@pytest.fixture
def table():
    """The table as it was, whatever a test adds to it."""
    before = list(known_failures.rows())
    yield
    known_failures.rows()[:] = before
    known_failures._found.clear()
    known_failures._of_type.cache_clear()
    fault_of.cache_clear()


@pytest.mark.parametrize("row", MESSAGES, ids=lambda row: f"{row['name']}-{row.get('exception', 'output')}")
def test_a_real_message_gets_its_name(row):
    known = found(row)
    assert known is not None, row["message"]
    assert known.name == row["name"]
    if "detail" in row:
        assert known.detail(row["message"]) == row["detail"]
    assert row["source"]


def test_every_row_of_the_table_has_a_real_message():
    seen = [found(row) for row in MESSAGES]
    assert [row for row in known_failures.rows() if row not in seen] == []


def test_every_row_says_what_to_type():
    for row in known_failures.rows():
        for line in (row.fix, *(line for _, line in row.options)):
            compile(line.replace("%pip", "pip=0#"), "<fix>", "exec")
            assert re.match(r"job\.|harbor_nb\.|print\(job|%pip|import |left = ", line), line
        assert row.cause[0].isupper(), row.cause
        assert not row.cause.endswith(".")
        assert row.fault in known_failures.FAULTS


SPELLINGS = [
    (
        "Docker compose command failed for environment a. Command: compose -p {0}__env. Return code: 1. Stdout: x",
        ["hello-world__AbCdEf1", "hello-world__ZZ99xx7"],
    ),
    ("No reward file found at /home/{0}/jobs/x/reward.txt", ["ann", "bob.b"]),
    ("Agent execution timed out after {0} seconds", ["600.0", "1200"]),
    ("sandbox {0} is gone", ["3fa85f64-5717-4562-b3fc-2c963f66afa6", "0a85f64f-5717-4562-b3fc-2c963f66afa7"]),
    ("pull of sha256:{0} failed", ["a" * 12 + "9" * 52, "b" * 10 + "8" * 54]),
    ("at {0} it ended", ["2026-03-26T23:35:42Z", "2026-03-27T01:00:00.123456+00:00"]),
    ("connect 127.0.0.1:{0} refused", ["53211", "8080"]),
]


@pytest.mark.parametrize(("text", "values"), SPELLINGS)
def test_spellings_of_one_failure_come_out_alike(text, values):
    assert len({normalise(text.format(value)) for value in values}) == 1


def test_what_tells_failures_apart_is_kept():
    kept = [
        "429 Too Many Requests",
        "401 Unauthorized",
        "No module named 'numpy'",
        "python 3.13 is too old",
        "exit 137",
    ]
    assert [normalise(text) for text in kept] == kept


def test_each_distinct_failure_is_looked_up_once(monkeypatch):
    known_failures._found.clear()
    tried = []
    monkeypatch.setattr(known_failures.KnownFailure, "_fits", lambda *args: tried.append(args) or False)
    for number in range(1000):
        match("OddError", f"odd at jobs/a/hello-world__{number:07d}/x", phase="agent")
    assert len(tried) <= len(known_failures.rows())
    known_failures._found.clear()


def test_a_message_is_one_redacted_line(monkeypatch):
    monkeypatch.setenv("DAYTONA_API_KEY", "canary-abcdefgh-123456")
    shown = normalise("bad key canary-abcdefgh-123456\n\x1b[31mred\x1b[0m\u202e" + "long " * 5000)
    assert "canary" not in shown
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert len(shown) <= 300


def test_words_in_the_instruction_do_not_name_a_failure():
    told = "Command failed (exit 1): agent -p 'no space left on device, toomanyrequests'\nstdout: bye\nstderr: "
    assert match("NonZeroAgentExitCodeError", told, phase="agent").name == "agent-exit"


def test_an_unknown_failure_is_none_and_its_fault_unknown():
    assert match("OddError", "never seen before") is None
    assert match(None, None) is None
    assert fault_of("OddError") == "unknown"
    assert fault_of(None) == "unknown"
    assert [fault_of(name) for name in ("AgentTimeoutError", "RewardFileNotFoundError", "MissingExtraError")] == [
        "agent", "task", "unknown"
    ]  # fmt: skip


def test_a_row_of_your_own_goes_first(table):
    known = harbor_nb.register_failure(
        "house-proxy", message=r"Agent execution timed out after (?P<detail>7\.0) seconds", cause="Ours",
        fix="job.repair()", fault="infrastructure", phase="agent", retry=True,
    )  # fmt: skip
    assert match("AgentTimeoutError", "Agent execution timed out after 7.0 seconds", phase="agent") == known
    assert known.detail("Agent execution timed out after 7.0 seconds") == "7.0"
    assert match("AgentTimeoutError", "Agent execution timed out after 7.0 seconds", phase="verifier") != known
    harbor_nb.register_failure("exit-42", exit_code=42, cause="Ours", fix="job.repair()", fault="task")
    assert match("AnyError", "Return code: 42.").name == "exit-42"
    assert match("AnyError", "x", exit_code=42).name == "exit-42"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fault": "weather"}, "choose one of infrastructure"),
        ({"message": "("}, "not a regular expression"),
        ({"phase": "lunch"}, "phase 'lunch' is not known"),
        ({"message": ""}, "it would fit every failure"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_a_row_that_can_not_be_used_is_refused(table, change, told):
    with pytest.raises(BadInputError, match=told) as caught:
        harbor_nb.register_failure("x", **{"cause": "c", "fix": "f", "fault": "task", "message": "m", **change})
    assert "\n" not in str(caught.value)


def test_importing_the_table_loads_nothing_heavy():
    code = "import sys, harbor_nb.known_failures as k; k.match('A', 'b'); "
    code += "print({'harbor', 'pandas', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
