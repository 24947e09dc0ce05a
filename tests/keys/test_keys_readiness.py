"""Readiness without the network: what is missing, half there, or looks wrong, and the line that mends it."""

import asyncio
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.backends import catalog, preflight
from harbor_nb.backends.readiness import Finding, Readiness
from harbor_nb.errors import BadInputError

GOOD = {
    "daytona": {"DAYTONA_API_KEY": "dtn_0123456789"},
    "e2b": {"E2B_API_KEY": "e2b_0123456789"},
    "modal": {"MODAL_TOKEN_ID": "ak-0123456789", "MODAL_TOKEN_SECRET": "as-0123456789"},
    "runloop": {"RUNLOOP_API_KEY": "ak_0123456789"},
}


def test_reads_as_a_sentence_and_as_html():
    two = Readiness("x", (Finding("warns", "w", "mend w"), Finding("blocks", "b", "mend b")))
    assert str(two) == "x is not ready: b; mend b. Also: w; mend w"
    assert (two.reason, two.fix, bool(two)) == ("b", "mend b", False)
    assert str(Readiness("x")) == "x is ready"
    assert str(Readiness("x", (Finding("warns", "w", "f"),))) == "x looks ready, but: w; f"
    hostile = Readiness("<b>x", (Finding("blocks", "<script>\x1b[2J", "f"),))
    assert "<script>" not in hostile._repr_html_()
    assert "\x1b" not in str(hostile)


@pytest.mark.parametrize("name", GOOD)
def test_a_key_makes_it_ready_and_its_absence_blocks(name):
    missing = harbor_nb.check(name)
    assert not missing.ready
    for key in GOOD[name]:
        assert key in missing.reason
        assert f"{key}=..." in missing.fix
    assert "https://" in missing.fix
    assert "load_env()" in missing.fix
    os.environ.update(GOOD[name])
    assert str(harbor_nb.check(name)) == f"{name} is ready"
    os.environ.update(dict.fromkeys(GOOD[name], "  "))
    assert not harbor_nb.check(name).ready


@pytest.mark.parametrize("name", GOOD)
def test_sdk_not_installed_gives_the_command(name, monkeypatch):
    real = catalog.version

    def without(package):
        if package == catalog.record(name).sdk:
            raise PackageNotFoundError
        return real(package)

    monkeypatch.setattr(catalog, "version", without)
    told = harbor_nb.check(name)
    assert told.reason == f"the package {catalog.record(name).sdk} is not installed"
    assert told.fix == f"type: pip install 'harbor-nb[{name}]'"


def test_half_a_pair():
    os.environ["MODAL_TOKEN_ID"] = "ak-0123456789"
    assert harbor_nb.check("modal").reason == "MODAL_TOKEN_ID is set, but MODAL_TOKEN_SECRET is not"
    os.environ["DAYTONA_JWT_TOKEN"] = "eyJ0123456789"
    assert harbor_nb.check("daytona").reason == "DAYTONA_JWT_TOKEN is set, but DAYTONA_ORGANIZATION_ID is not"
    os.environ["DAYTONA_ORGANIZATION_ID"] = "org-1"
    assert harbor_nb.check("daytona").ready


def test_daytona_jwt_is_not_what_the_sdk_reads():
    os.environ["DAYTONA_JWT"] = "eyJ0123456789"
    told = harbor_nb.check("daytona")
    assert not told.ready
    assert "the Daytona SDK does not read it; name it DAYTONA_JWT_TOKEN" in told.reason
    os.environ["DAYTONA_API_KEY"] = "dtn_0123456789"
    told = harbor_nb.check("daytona")
    assert told.ready
    assert "DAYTONA_JWT is set, but" in told.reason


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("daytona", "DAYTONA_API_URL"),
        ("e2b", "E2B_API_URL"),
        ("modal", "MODAL_SERVER_URL"),
        ("runloop", "RUNLOOP_BASE_URL"),
    ],
)
def test_another_address_than_the_sdks_warns(name, variable):
    os.environ.update(GOOD[name])
    os.environ[variable] = "https://api.daytona.io"
    told = harbor_nb.check(name)
    assert told.ready
    assert f"{variable} sends requests and the key to https://api.daytona.io" in told.reason
    os.environ[variable] = catalog.record(name).address[1] + "/"
    assert not harbor_nb.check(name).findings


def test_the_usual_addresses_are_the_sdks_own():
    """Held against the SDKs, so that a new default shows."""
    from e2b.connection_config import ConnectionConfig
    from modal.config import config
    from runloop_api_client import Runloop

    assert str(Runloop(bearer_token="x").base_url).rstrip("/") == catalog.record("runloop").address[1]
    assert ConnectionConfig(api_key="e2b_0").api_url == catalog.record("e2b").address[1]
    assert catalog.record("modal").address[1] in config["server_url"].split(",")
    source = Path(sys.modules["e2b"].__file__).parents[1] / "daytona/_async/daytona.py"
    assert f'default_api_url = "{catalog.record("daytona").address[1]}"' in source.read_text()


@pytest.mark.parametrize(
    ("value", "level", "said"),
    [
        ("your-daytona-api-key-here", "blocks", "a placeholder"),
        ("<your key>", "blocks", "a placeholder"),
        ("sk-ant-...", "blocks", "a placeholder"),
        ('"dtn_0123456789"', "warns", "a quote is part of the value"),
        ("dtn_0123456789 ", "warns", "white space"),
        ("dtn_01234\n56789", "warns", "white space"),
        ("dtn_0123456789\u200b", "warns", "characters that no key has"),
    ],
)
def test_a_value_that_looks_wrong(value, level, said):
    os.environ["DAYTONA_API_KEY"] = value
    told = harbor_nb.check("daytona")
    assert any(said in one.reason and one.level == level for one in told.findings)
    assert value not in str(told) + told._repr_html_()


def test_a_key_that_waits_in_env_is_told():
    Path(".env").write_text("E2B_API_KEY=e2b_0123456789\n")
    told = harbor_nb.check("e2b")
    assert (told.reason, told.fix) == ("E2B_API_KEY not set, though .env holds it", "type: harbor_nb.load_env()")
    harbor_nb.load_env()
    assert harbor_nb.check("e2b").ready


@pytest.mark.parametrize(
    ("text", "ready", "said"),
    [
        ('[me]\ntoken_id = "ak-1"\ntoken_secret = "as-1"\nactive = true\n', True, ""),
        ('[me]\ntoken_id = "ak-1"\ntoken_secret = "as-1"\n', True, ""),
        ("[me]\nactive = true\n", False, "no active profile with a token"),
        ("", False, "no active profile"),
        ("not toml [", False, "can't be read"),
        ("me = 1\n", False, "can't be read"),
    ],
)
def test_modals_own_file_counts(text, ready, said):
    (Path.home() / ".modal.toml").write_text(text)
    told = harbor_nb.check("modal")
    assert told.ready == ready
    assert said in told.reason


def test_an_empty_modal_profile_is_none_as_to_the_sdk():
    (Path.home() / ".modal.toml").write_text('[me]\ntoken_id = "ak-1"\ntoken_secret = "as-1"\n')
    os.environ["MODAL_PROFILE"] = ""
    assert harbor_nb.check("modal").ready


def test_half_a_modal_pair_beside_a_file_warns():
    (Path.home() / ".modal.toml").write_text('[me]\ntoken_id = "ak-1"\ntoken_secret = "as-1"\nactive = true\n')
    os.environ["MODAL_TOKEN_ID"] = "ak-0123456789"
    assert "its other half from a variable" in harbor_nb.check("modal").reason


def test_an_unknown_environment_is_a_clear_error():
    with pytest.raises(BadInputError, match="did you mean 'docker'"):
        harbor_nb.check("dockr")
    with pytest.raises(BadInputError, match="choose one of local, docker, daytona"):
        harbor_nb.check("nix")


def test_environments_lists_every_environment_that_harbor_knows():
    from harbor.models.environment_type import EnvironmentType

    frame = harbor_nb.environments()
    assert frame.columns.tolist() == catalog._COLUMNS
    assert frame["name"].tolist()[:6] == list(catalog.FIRST_CLASS)
    assert set(frame["name"]) == {"local"} | {kind.value for kind in EnvironmentType}
    assert frame["name"].is_unique
    assert set(frame["runs"]) == {"local", "cloud"}
    assert frame["ready"].map(type).eq(bool).all()
    for row in frame[~frame["ready"]].itertuples():
        assert row.reason, row.name
        assert row.fix, row.name
    six = frame.set_index("name").loc[list(GOOD)]
    assert six["needs_key"].all()
    assert six["missing"].tolist() == [" + ".join(GOOD[name]) for name in GOOD]
    assert six["sdk_version"].notna().all()


def test_environments_again_sees_a_key_that_was_set_and_no_change_of_another_frame(monkeypatch):
    from harbor_nb.backends import preflight

    monkeypatch.setattr(preflight, "preflights", dict)  # the six are what changes here
    frame = harbor_nb.environments()
    assert not frame.set_index("name").loc["e2b", "ready"]
    frame["ready"] = None
    assert harbor_nb.environments()["ready"].notna().all()
    os.environ.update(GOOD["e2b"])
    assert harbor_nb.environments().set_index("name").loc["e2b", "ready"]
    del os.environ["E2B_API_KEY"]
    assert not harbor_nb.environments().set_index("name").loc[["e2b", "modal"], "ready"].any()
    (Path.home() / ".modal.toml").write_text('[me]\ntoken_id = "ak-1"\ntoken_secret = "as-1"\n')
    assert harbor_nb.environments().set_index("name").loc["modal", "ready"]


def test_environments_looks_once_however_long_the_look_took_and_anew_when_its_answer_is_old(monkeypatch):
    looks, clock = [], [0.0]

    def slow():
        clock[0] += 60  # seconds
        looks.append(clock[0])
        return {}

    monkeypatch.setattr(preflight, "preflights", slow)
    monkeypatch.setattr(catalog.time, "monotonic", lambda: clock[0])
    harbor_nb.environments()
    harbor_nb.environments()
    assert len(looks) == 1
    clock[0] += 11
    harbor_nb.environments()
    assert len(looks) == 2


async def test_every_preflight_inside_a_running_event_loop():
    """Harbor's preflights raise SystemExit, which ends a loop; each becomes a Readiness that blocks instead."""
    from harbor.environments.factory import EnvironmentFactory
    from harbor.models.environment_type import EnvironmentType

    beating = asyncio.create_task(asyncio.sleep(3600))
    others = [kind for kind in EnvironmentType if kind.value not in catalog.FIRST_CLASS]
    told = preflight.preflights()
    assert told.keys() == {kind.value for kind in others}
    refused = 0
    for kind in others:
        try:
            EnvironmentFactory.run_preflight(kind)
        except (SystemExit, ImportError):
            refused += 1
            assert not told[kind.value].ready, kind
            assert told[kind.value].fix, kind
        except ValueError:  # from Harbor 0.26 on: what only a job's own settings tell
            assert "Invalid kwargs" in told[kind.value].reason or not told[kind.value].ready, kind
        else:
            assert "only a trial can tell" in told[kind.value].reason or not told[kind.value].ready, kind
    assert refused > 20
    for name in catalog.FIRST_CLASS:
        assert isinstance(harbor_nb.check(name), Readiness)
    await asyncio.sleep(0)
    assert not beating.done()
    beating.cancel()


def test_what_harbor_does_not_check_is_no_promise(monkeypatch):
    """Ready means that nothing certain stands in the way; where Harbor looks at little or nothing, the row says so."""
    frame = harbor_nb.environments().set_index("name")
    assert frame.loc["singularity", "reason"] == "Harbor checks nothing here, so only a trial can tell"
    if version("harbor") >= "0.26":  # it asks for a region first, which only a job's own settings give
        assert "region: Field required" in frame.loc["ec2", "reason"]
        return
    keys = "AWS_ACCESS_KEY_ID + AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
    assert frame.loc["ec2", "reason"] == f"{keys} not set, which Harbor does not look at: only a trial can tell"
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert "looks at little: only a trial can tell" in harbor_nb.check("ec2").reason
    others = frame.drop(list(catalog.FIRST_CLASS))
    assert others["reason"].ne("").all()
    assert frame.loc[frame["runs"] == "cloud", "needs_key"].all()


BAD = """
import os, sys, threading, time
from harbor.environments.base import BaseEnvironment
class Exit(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): raise SystemExit("Exit requires a KEY. Set it.")
class Code(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): sys.exit(3)
class Hang(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): time.sleep(3600)
class Child(BaseEnvironment):
    @classmethod
    def preflight(cls, **_):
        import subprocess
        subprocess.run(["sleep", "3600"])
class Gone(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): os._exit(7)
class Kill(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): os.kill(os.getpid(), 9)
class Interrupt(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): raise KeyboardInterrupt
class Broken(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): raise RuntimeError("it broke")
class Chatty(BaseEnvironment):
    @classmethod
    def preflight(cls, **_): print('{"name": "fake", "kind": "ok"}'); os.write(1, b"garbage")
class Loop(BaseEnvironment):
    @classmethod
    def preflight(cls, **_):
        import asyncio
        asyncio.run(asyncio.sleep(0))
"""


@pytest.mark.parametrize(
    ("name", "ready", "said"),
    [
        ("Exit", False, "Exit requires a KEY"),
        ("Kill", True, "ended with code -9"),
        ("Chatty", True, ""),
        *(
            pytest.param(*row, marks=pytest.mark.deep)
            for row in (
                ("Code", False, "3"),
                ("Gone", True, "ended with code 7"),
                ("Interrupt", True, "KeyboardInterrupt"),
                ("Broken", True, "RuntimeError: it broke"),
                ("Loop", True, ""),
                ("Missing", True, "has no class"),
            )
        ),
    ],
)
async def test_a_preflight_that_misbehaves_is_contained(name, ready, said, monkeypatch):
    Path("bad_environments.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    told = harbor_nb.check(f"bad_environments:{name}")
    assert told.ready == ready
    assert said in told.reason
    await asyncio.sleep(0)


@pytest.mark.parametrize("name", ["Hang", "Child"])
def test_a_preflight_that_hangs_is_given_up(name, monkeypatch):
    Path("bad_environments.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setattr(preflight, "LIMIT_SEC", 2.0)
    told = harbor_nb.check(f"bad_environments:{name}")
    assert "did not answer in 2 s" in told.reason


def test_local_that_is_not_possible_blocks(monkeypatch):
    import harbor_nb.sandbox as sandbox

    none = type("Tier", (), {"name": "none", "reason": "no user namespaces", "fix": 'use environment="docker"'})()
    monkeypatch.setattr(sandbox, "tier", lambda: none)
    assert str(harbor_nb.check("local")) == 'local is not ready: no user namespaces; use environment="docker"'


def test_nothing_of_harbor_or_a_vendor_is_imported_for_a_look(fresh):
    code = """
import sys, harbor_nb
assert not {"harbor", "pandas", "dotenv", "psutil"} & set(sys.modules)
harbor_nb.environments()
vendors = "daytona daytona_api_client_async e2b modal runloop_api_client docker litellm harbor.environments.factory"
print([name for name in vendors.split() if name in sys.modules])
"""
    assert fresh(code) == "[]"
