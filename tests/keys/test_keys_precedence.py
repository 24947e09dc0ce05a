"""Who wins: shell > .env.local > .env, turned round by `override`; and what we set is ours, not the shell's."""

import os
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.credentials import _loading
from harbor_nb.errors import CredentialsError

KEY = "DAYTONA_API_KEY"


def row(table, name=KEY):
    return next(one for one in table if one.name == name)


@pytest.mark.parametrize(
    ("shell", "local", "plain", "override", "winner"),
    [
        ("s-value-1", "l-value-22", "p-value-333", False, "shell"),
        ("s-value-1", None, "p-value-333", False, "shell"),
        ("s-value-1", "l-value-22", None, False, "shell"),
        (None, "l-value-22", "p-value-333", False, ".env.local"),
        (None, "l-value-22", None, False, ".env.local"),
        (None, None, "p-value-333", False, ".env"),
        ("s-value-1", "l-value-22", "p-value-333", True, ".env.local"),
        ("s-value-1", None, "p-value-333", True, ".env"),
        (None, "l-value-22", "p-value-333", True, ".env.local"),
        ("s-value-1", None, None, True, "shell"),
    ],
)
def test_precedence(started_with, shell, local, plain, override, winner):
    if shell:
        started_with(**{KEY: shell})
    for name, value in ((".env.local", local), (".env", plain)):
        if value:
            Path(name).write_text(f"{KEY}={value}\n")
            Path(name).chmod(0o600)
    table = harbor_nb.load_env(override=override)
    expected = {"shell": shell, ".env.local": local, ".env": plain}[winner]
    assert os.environ[KEY] == expected
    assert (row(table).source, row(table).length) == (winner, len(expected))
    hidden = [value for value in (shell, local, plain) if value and value != expected]
    assert bool([w for w in row(table).warnings if "another value" in w or "replaces" in w]) == bool(hidden)


def test_precedence_in_a_real_process(fresh, tmp_path):
    (tmp_path / ".env").write_text(f"{KEY}=from-the-file\nE2B_API_KEY=from-the-file-too\n")
    code = "import harbor_nb; t = harbor_nb.load_env(); print([(r.name, r.source) for r in t])"
    told = fresh(code, cwd=tmp_path, **{KEY: "from-the-shell"})
    assert told == str([(KEY, "shell"), ("E2B_API_KEY", ".env")])


def test_a_changed_key_replaces_the_one_we_loaded():
    Path(".env").write_text(f"{KEY}=first-key-1\n")
    harbor_nb.load_env()
    Path(".env").write_text(f"{KEY}=second-key-22\n")
    table = harbor_nb.load_env()
    assert os.environ[KEY] == "second-key-22"
    assert row(table).source == ".env"
    assert not [w for w in row(table).warnings if "another value" in w]


def test_a_key_that_left_the_file_leaves_the_session():
    Path(".env").write_text(f"{KEY}=first-key-1\nE2B_API_KEY=e2b-key-1\n")
    harbor_nb.load_env()
    Path(".env").write_text("E2B_API_KEY=e2b-key-1\n")
    table = harbor_nb.load_env()
    assert KEY not in os.environ
    assert any("no longer in .env" in note for note in table.notes)
    assert not any("no longer" in note for note in harbor_nb.load_env().notes)


def test_override_then_not_gives_the_shell_back(started_with):
    started_with(**{KEY: "s-value-1"})
    Path(".env").write_text(f"{KEY}=p-value-333\n")
    assert row(harbor_nb.load_env(override=True)).source == ".env"
    assert os.environ[KEY] == "p-value-333"
    assert row(harbor_nb.load_env()).source == "shell"
    assert os.environ[KEY] == "s-value-1"


@pytest.mark.parametrize("later", [f"{KEY}=p-value-333\n", "E2B_API_KEY=e2b-key-1\n"], ids=["not", "gone"])
def test_a_value_typed_in_a_cell_comes_back_after_override(later):
    os.environ[KEY] = "typed-in-a-cell"
    Path(".env").write_text(f"{KEY}=p-value-333\n")
    assert row(harbor_nb.load_env(override=True)).source == ".env"
    Path(".env").write_text(later)
    assert row(harbor_nb.load_env()).source == "session"
    assert os.environ[KEY] == "typed-in-a-cell"


def test_a_value_that_grows_too_long_by_its_variables_is_left_out():
    Path(".env").write_text(f"PART={'x' * 60_000}\n{KEY}=${{PART}}${{PART}}\n")
    table = harbor_nb.load_env()
    assert KEY not in os.environ
    assert any("line 2: DAYTONA_API_KEY is longer than 100,000 bytes" in note for note in table.notes)


def test_a_value_set_in_the_session_is_told_as_such():
    os.environ[KEY] = "typed-in-a-cell"
    Path(".env").write_text(f"{KEY}=p-value-333\n")
    table = harbor_nb.load_env()
    assert (row(table).source, os.environ[KEY]) == ("session", "typed-in-a-cell")


def test_another_file_is_named():
    Path("other.env").write_text(f"{KEY}=other-value-1\n")
    harbor_nb.load_env("other.env")
    Path(".env").write_text("E2B_API_KEY=e2b-key-1\n")
    assert row(harbor_nb.load_env()).source == str(Path("other.env").absolute())


def test_a_second_file_replaces_the_first_ones_value():
    Path("a.env").write_text(f"{KEY}=value-of-a\n")
    Path("b.env").write_text(f"{KEY}=value-of-bb\n")
    harbor_nb.load_env("a.env")
    assert row(harbor_nb.load_env("b.env")).source == "b.env"
    assert os.environ[KEY] == "value-of-bb"


def test_a_library_that_loads_env_behind_our_back_changes_nothing(fresh, tmp_path):
    """Importing Harbor's registry client runs load_dotenv() by itself."""
    (tmp_path / ".env").write_text(f"{KEY}=from-the-file\n")
    code = "import {}harbor_nb; t = harbor_nb.load_env(); print([(r.name, r.source, r.harbor_run) for r in t])"
    hidden = fresh(code.format("harbor.registry.client.harbor.config, "), cwd=tmp_path)
    assert hidden == fresh(code.format(""), cwd=tmp_path) == str([(KEY, ".env", "not set")])
    before = f"import os, harbor.registry.client.harbor.config; print('{KEY}' in os.environ)"
    assert fresh(before, cwd=tmp_path) == "True"


def test_the_nearest_env_upward_is_found(monkeypatch):
    Path(".env").write_text(f"{KEY}=from-above\n")
    Path("a/b").mkdir(parents=True)
    monkeypatch.chdir("a/b")
    assert row(harbor_nb.load_env()).source == ".env"
    Path(".env.local").write_text(f"{KEY}=from-local-here\n")
    assert row(harbor_nb.load_env()).source == ".env.local"


def test_harbors_own_and_daytonas_precedence_stand_beside_it(started_with):
    started_with(E2B_API_KEY="e2b-key-1")
    Path(".env.local").write_text(f"{KEY}=l-value-22\n")
    Path(".env").write_text("RUNLOOP_API_KEY=r-value-1\n")
    table = harbor_nb.load_env()
    assert {r.name: r.harbor_run for r in table} == {
        KEY: ".env.local", "RUNLOOP_API_KEY": "not set", "E2B_API_KEY": "shell",
    }  # fmt: skip
    assert any(line.startswith("harbor run: --env-file > shell > .env.local") for line in table.precedence)
    assert any("Daytona SDK" in line for line in table.precedence)
    assert "Daytona SDK" in table._repr_html_()


def test_harbor_runs_own_order_is_as_we_say():
    """Held against Harbor's source: --env-file overrides, .env.local does not."""
    import inspect

    from harbor.cli import jobs

    source = inspect.getsource(jobs)
    assert "load_dotenv(env_file, override=True)" in source
    assert ".env.local" in source


def test_the_daytona_sdks_own_order_is_as_we_say(monkeypatch):
    from daytona._utils.env import DaytonaEnvReader

    Path(".env.local").write_text("DAYTONA_API_KEY=local\n")
    Path(".env").write_text("DAYTONA_API_KEY=plain\nDAYTONA_TARGET=plain\nDAYTONA_API_URL=http://x\n")
    assert DaytonaEnvReader().get(KEY) == "local"
    assert DaytonaEnvReader().get("DAYTONA_TARGET") == "plain"
    assert DaytonaEnvReader().get_from_process_env("DAYTONA_API_URL") is None
    monkeypatch.setenv(KEY, "shell")
    assert DaytonaEnvReader().get(KEY) == "shell"


def test_an_editor_that_injected_an_older_file_is_named(started_with):
    started_with(**{KEY: "old-value", "VSCODE_PID": "1"})
    Path(".env").write_text(f"{KEY}=new-value-1\n")
    assert any("editor" in warning for warning in row(harbor_nb.load_env()).warnings)


def test_no_file_at_all_says_so():
    table = harbor_nb.load_env()
    assert len(table) == 0
    assert "no .env was found" in str(table)
    with pytest.raises(CredentialsError, match="does not exist"):
        harbor_nb.load_env("missing.env")


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root to give a file away")
def test_another_users_env_is_not_loaded_unnamed():
    Path(".env").write_text(f"{KEY}=planted-value\n")
    os.chown(".env", 4242, 4242)
    original = os.getuid
    os.getuid = lambda: 4243
    try:
        with pytest.raises(CredentialsError, match="belongs to another user"):
            harbor_nb.load_env()
        assert row(harbor_nb.load_env(".env")).source == ".env"
    finally:
        os.getuid = original


def test_state_of_earlier_loads_shows_no_value():
    Path(".env").write_text(f"{KEY}=a-secret-canary\n")
    harbor_nb.load_env()
    assert "a-secret-canary" not in repr(_loading._ours)
