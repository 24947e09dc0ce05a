"""`save_env` changes what it is asked to and nothing else; `env_example` is what the repository ships."""

import os
import subprocess
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harbor_nb
from harbor_nb.errors import CredentialsError

ROOT = Path(__file__).resolve().parents[2]
K, V = "DAYTONA_API_KEY", "dtn_0123456789"


def save(values, path=".env"):
    return harbor_nb.save_env(values, path, gitignore=False)


def test_a_new_file_is_readable_by_its_owner_alone():
    before = os.umask(0)
    try:
        assert save({K: V}) == Path(".env").absolute()
    finally:
        os.umask(before)
    assert Path(".env").read_text() == f"{K}={V}\n"
    assert Path(".env").stat().st_mode & 0o777 == 0o600


def test_a_wide_mode_is_narrowed():
    Path(".env").write_text("A=1\n")
    Path(".env").chmod(0o666)
    save({K: V})
    assert Path(".env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b"K1=new\n"),
        (b"A=1", b"A=1\nK1=new\n"),
        (b"A=1\r\n", b"A=1\r\nK1=new\r\n"),
        (b"K1=old\nB=2\n", b"K1=new\nB=2\n"),
        (b"# a\n\n  export K1 = 'old' # why\n\nB=2", b"# a\n\n  export K1 = new # why\n\nB=2"),
        (b'K1="old # not a comment"\r\nB=2\r\n', b"K1=new\r\nB=2\r\n"),
        (b'K1="two\nlines"\nB=2\n', b"K1=new\nB=2\n"),
        (b"K1=1\nK1=2\n", b"K1=1\nK1=new\n"),
        (b"K1\nB=2\n", b"K1=new\nB=2\n"),
        (b"K1=\nB=2\n", b"K1=new\nB=2\n"),
        (b"K1=old", b"K1=new"),
        (b"\xef\xbb\xbfK1=old\n", b"\xef\xbb\xbfK1=new\n"),
        (b"caf\xe9 broken\nK1=old\n", b"caf\xe9 broken\nK1=new\n"),
        (b"not a line\nK1=old\n\x00\n", b"not a line\nK1=new\n\x00\n"),
        (b"# K1=commented\nMY_K1=other\n", b"# K1=commented\nMY_K1=other\nK1=new\n"),
    ],
)
def test_the_rest_stays_byte_for_byte(old, new):
    Path(".env").write_bytes(old)
    save({"K1": "new"})
    assert Path(".env").read_bytes() == new


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40).filter(lambda v: "${" not in v),
    before=st.sampled_from(["", "A=1\n", "K1=old # c\n", "K1='x'\r\nB=2\r\n"]),
)
def test_what_is_written_is_what_is_read(value, before):
    path = Path("any.env")
    path.write_bytes(before.encode())
    save({"K1": value}, path)
    harbor_nb.load_env(path, override=True)
    assert os.environ["K1"] == value


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "a\x1bb", "${HOME}", "\udc80", None, 7])
def test_what_env_cannot_hold_is_refused_without_showing_it(value):
    Path(".env").write_text("A=1\n")
    with pytest.raises(CredentialsError) as error:
        save({K: value})
    assert value is None or repr(value).strip("'") not in str(error.value)
    assert Path(".env").read_text() == "A=1\n"


@pytest.mark.parametrize("name", ["", "a b", "A=B", "A\nB", "1A", 3])
def test_a_name_that_cannot_be_one(name):
    with pytest.raises(CredentialsError, match="a name is letters"):
        save({name: V})


def test_a_link_is_not_followed(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    Path(".env").symlink_to(target)
    with pytest.raises(CredentialsError, match="is a link"):
        save({K: V})
    assert target.read_text() == "precious"


def test_a_folder_and_a_folder_that_is_not_there():
    Path("d").mkdir()
    with pytest.raises(CredentialsError, match="is a folder"):
        save({K: V}, "d")
    with pytest.raises(CredentialsError, match="can't write"):
        save({K: V}, "no/such/.env")


def test_a_full_disk_leaves_the_old_file(monkeypatch):
    Path(".env").write_text("A=1\n")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialsError, match="No space left"):
        save({K: V})
    assert Path(".env").read_text() == "A=1\n"
    assert [path.name for path in Path().iterdir()] == [".env"]


def test_gitignore_is_offered_and_added():
    subprocess.run(["git", "init", "-q"], check=True)
    with pytest.warns(UserWarning, match=r"gitignore=True"):
        harbor_nb.save_env({K: V}, ".env")
    Path(".gitignore").write_bytes(b"build")
    harbor_nb.save_env({}, ".env", gitignore=True)
    assert Path(".gitignore").read_bytes() == b"build\n.env\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        harbor_nb.save_env({K: V}, ".env")


def test_saved_then_loaded():
    save({K: V})
    table = harbor_nb.load_env()
    assert (os.environ[K], table[0].source, table[0].length) == (V, ".env", len(V))


def test_the_nearest_env_is_written_to(monkeypatch):
    Path(".env").write_text("A=1\n")
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    assert harbor_nb.save_env({K: V}, gitignore=False) == Path("../.env").resolve()


def test_the_repository_ships_env_example():
    assert (ROOT / ".env.example").read_text() == harbor_nb.env_example(path=None)


def test_env_example_holds_the_guides_keys_and_loads_as_placeholders():
    text = harbor_nb.env_example()
    assert Path(".env.example").read_text() == text
    assert "ANTHROPIC_API_KEY=" in text
    assert "DAYTONA_API_KEY=your-daytona-api-key-here" in text
    Path(".env").write_text(text)
    Path(".env").chmod(0o600)
    table = harbor_nb.load_env()
    assert len(table) == 8
    assert all("placeholder" in row.warnings[0] for row in table)
    assert not table.notes
    assert not harbor_nb.check("daytona").ready


def test_env_example_for_chosen_environments():
    text = harbor_nb.env_example(["e2b"], path=None)
    assert "E2B_API_KEY=" in text
    assert "DAYTONA" not in text
    assert harbor_nb.env_example("e2b", path=None) == text
    assert "E2B" not in harbor_nb.env_example([], path=None)
    with pytest.raises(CredentialsError, match="no keys are known for 'nowhere'"):
        harbor_nb.env_example(["nowhere"], path=None)


def test_env_example_does_not_overwrite_what_it_did_not_write():
    harbor_nb.env_example()
    harbor_nb.env_example()
    Path(".env.example").write_text("mine\n")
    with pytest.raises(CredentialsError, match="is there already"):
        harbor_nb.env_example()
    assert Path(".env.example").read_text() == "mine\n"


def test_env_example_has_no_quote_that_breaks_the_guides_shell_line():
    assert not set("'\"`$\\") & set(harbor_nb.env_example(path=None))
