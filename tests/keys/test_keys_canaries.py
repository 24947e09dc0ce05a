# ruff: noqa: E501 - a row of texts reads better on one line
"""A canary value for each known credential is absent wherever harbor_nb shows, logs, raises or stores something."""

import base64
import copy
import io
import json
import os
import pickle
import re
import time
import traceback
import urllib.parse
from pathlib import Path

import psutil
import pytest

import harbor_nb
from harbor_nb._redaction import Redactor, redact, redactor
from harbor_nb.credentials._known import known

CANARIES = {name: f"canary+/{i:02d}&é\"'{name[:4].lower()}Z9x8w7" for i, name in enumerate(known())}
ASCII = {name: f"canary-{i:02d}-{name[:4].lower()}Z9x8w7v6u5" for i, name in enumerate(known())}


def spellings(value):
    raw = value.encode()
    return [
        value, urllib.parse.quote(value), urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value),
        json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1],
        base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(),
        base64.b64encode(b"user:" + raw).decode(), base64.b64encode(b"me:" + raw).decode(), base64.b64encode(b"x:" + raw + b"\n").decode(),
    ]  # fmt: skip


def absent(text, values):
    return [name for name, value in values.items() if value in text]


@pytest.mark.parametrize("name", known())
def test_every_spelling_is_taken_out(name):
    one = Redactor()
    one.remember(name, CANARIES[name])
    for text in spellings(CANARIES[name]):
        told = one.redact(f"before {text} after")
        assert f"<{name}>" in told, text
        assert told.startswith("before ")
        assert told.endswith(" after")
        assert "canary" not in told


@pytest.fixture
def loaded():
    lines = [f"{name}='{value}'" for name, value in ASCII.items()]
    Path(".env").write_text("\n".join(lines))
    return harbor_nb.load_env()


def test_no_value_in_what_is_shown(loaded):
    assert len(loaded) >= len(ASCII)
    frame = loaded.frame
    buffer = io.StringIO()
    frame.to_csv(buffer)
    environments = harbor_nb.environments()
    readiness = [harbor_nb.check(name) for name in ("daytona", "e2b", "modal", "runloop")]
    agents = [harbor_nb.check_agent("claude-code"), harbor_nb.check_agent("terminus-2", "openai/gpt-5")]
    shown = [
        repr(loaded), str(loaded), loaded._repr_html_(), repr(list(loaded)), repr(loaded.__dict__), buffer.getvalue(), frame.to_html(),
        frame.to_json(), pickle.dumps(frame).decode("latin-1"), pickle.dumps(loaded).decode("latin-1"),
        repr(copy.deepcopy(loaded)), environments.to_csv(), environments.to_html(), pickle.dumps(environments).decode("latin-1"),
        *(repr(one) + one._repr_html_() + pickle.dumps(one).decode("latin-1") for one in [*readiness, *agents]),
        repr(redactor) + pickle.dumps(redactor).decode("latin-1"), harbor_nb.env_example(path=None),
    ]  # fmt: skip
    for text in shown:
        assert absent(text, ASCII) == []


def test_no_value_in_a_widgets_state(loaded):
    from ipywidgets import Widget
    from ipywidgets.widgets.widget import _instances

    panels = [harbor_nb.CredentialsPanel(), harbor_nb.EnvironmentPicker()]
    state = "".join(repr(one.get_state()) for one in _instances.values()) if panels else ""
    state += "".join(repr(one) for one in panels)
    assert len(state) > 1000
    assert absent(state, ASCII) == []
    Widget.close_all()


def test_no_value_in_what_is_raised(loaded, vendor):
    texts = []
    with vendor("daytona", "401") as server:
        os.environ["DAYTONA_API_URL"] = server.settings["DAYTONA_API_URL"]
        for call in (
            lambda: harbor_nb.load_env("missing.env"),
            lambda: harbor_nb.save_env({"A B": ASCII["E2B_API_KEY"]}),
            lambda: harbor_nb.save_env({"E2B_API_KEY": ASCII["E2B_API_KEY"] + "\n"}),
            lambda: harbor_nb.check("no-such"),
            lambda: harbor_nb.sandboxes("daytona"),
        ):
            with pytest.raises(harbor_nb.HarborNbError) as error:
                call()
            texts.append("".join(traceback.format_exception(error.value)))
    assert absent("".join(texts), ASCII) == []


AGENT = """
import os
from harbor.agents.base import BaseAgent

class Leaky(BaseAgent):
    @staticmethod
    def name(): return "leaky"
    def version(self): return "1"
    async def setup(self, environment): pass
    async def run(self, instruction, environment, context):
        await environment.exec("env; cat /proc/*/environ; cat /proc/*/cmdline; sleep 2")
        raise RuntimeError(f"401 for key {os.environ['DAYTONA_API_KEY']} and {os.environ['OPENAI_API_KEY']}, "
                           f".env here: {os.path.exists('.env')}")
"""


@pytest.mark.local
def test_no_value_in_a_real_jobs_files_log_or_process_list(loaded, tmp_path, monkeypatch):
    """A job whose agent puts keys into the exception that it raises."""
    Path("leaky_agent.py").write_text(AGENT)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    job = harbor_nb.launch(
        harbor_nb.sample_tasks() / "hello-world",
        agent="leaky_agent:Leaky",
        job_name="canary",
        jobs_dir=tmp_path / "jobs",
    )
    arguments = ""
    while job.state in ("starting", "running"):
        for process in psutil.Process().children(recursive=True):
            try:
                arguments += " ".join(process.cmdline())
            except psutil.Error:
                continue
        time.sleep(0.05)
    job.wait(60, progress=False)
    assert "harbor_nb.running.runner" in arguments
    assert absent(arguments, ASCII) == []
    names = [path.relative_to(job.path) for path in job.path.rglob("*") if path.is_file()]
    assert {"harbor_nb.events.jsonl", "harbor_nb.log", "config.json", "result.json"} <= {str(name) for name in names}
    leaks = {str(n): found for n in names if (found := absent((job.path / n).read_text(errors="replace"), ASCII))}
    assert leaks == {}
    frame = job.trials()
    assert "<DAYTONA_API_KEY>" in frame["message"].iloc[0]
    assert ".env here: False" in frame["message"].iloc[0]  # the runner starts in a folder without one
    assert absent(frame.to_csv() + repr(job) + job.log(), ASCII) == []


def test_rotated_keys_stay_hidden():
    os.environ["E2B_API_KEY"] = "first-key-000001"
    assert redact("x first-key-000001") == "x <E2B_API_KEY>"
    os.environ["E2B_API_KEY"] = "second-key-00002"
    assert redact("first-key-000001 second-key-00002") == "<E2B_API_KEY> <E2B_API_KEY>"


@pytest.mark.parametrize("value", ["", "a", "short", "     "])
def test_short_values_leave_ordinary_words_alone(value):
    one = Redactor()
    one.remember("X_KEY", value)
    assert one.redact("a short word") == "a short word"


def test_what_only_sounds_secret_is_left_alone(monkeypatch):
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada Lovelace")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/ssh-abc/agent.1")
    assert redact("Ada Lovelace at /tmp/ssh-abc/agent.1") == "Ada Lovelace at /tmp/ssh-abc/agent.1"


def test_a_password_in_an_address_and_a_value_that_looks_secret(monkeypatch):
    Path("any.env").write_text(
        "DATABASE=postgres://me:hunter22hunter@db/x\nMY_THING=abcdefghij0123456789abcdefghij\nMODE=development-mode\n"
    )
    harbor_nb.load_env("any.env")
    told = redact("hunter22hunter abcdefghij0123456789abcdefghij development-mode")
    assert told == "<DATABASE> <MY_THING> development-mode"


def test_concurrent_use():
    from concurrent.futures import ThreadPoolExecutor

    one = Redactor()

    def work(i):
        one.remember(f"KEY_{i}", f"secret-value-{i:04d}")
        return one.redact(f"secret-value-{i:04d}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(200))) == [f"<KEY_{i}>" for i in range(200)]


def test_shown_text_keeps_its_shape():
    os.environ["E2B_API_KEY"] = "a.b*c+[d]\\e$"
    assert re.fullmatch(r"see <E2B_API_KEY>, twice <E2B_API_KEY>", redact("see a.b*c+[d]\\e$, twice a.b*c+[d]\\e$"))


def test_a_file_of_thousands_of_keys_is_read_at_one_go(monkeypatch):
    """No pattern of all of them is made anew for each: the work grows as the file does, and each is taken out."""
    made = []
    monkeypatch.setattr(re, "compile", lambda *asked, real=re.compile: made.append(asked) or real(*asked))
    Path(".env").write_text("".join(f"MY_KEY_{i}=a-secret-value-{i:05d}\n" for i in range(5000)))
    assert len(harbor_nb.load_env()) == 5000
    assert len(made) < 100
    assert redact("see a-secret-value-04321 and a-secret-value-00007") == "see <MY_KEY_4321> and <MY_KEY_7>"
