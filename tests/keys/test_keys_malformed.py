# ruff: noqa: E501 - a row a file reads better on one line
"""Thirty and more malformed or odd `.env` files: no crash, and no wrong value in silence."""

import os
import tempfile
from pathlib import Path

import pytest

import harbor_nb
from harbor_nb.errors import CredentialsError

K = "DAYTONA_API_KEY"
V = "dtn_0123456789"

# bytes of the file, what is set, and what the table says about it ("" where nothing is to be said)
FILES = {
    "plain": (f"{K}={V}\n", {K: V}, ""),
    "no newline at the end": (f"{K}={V}", {K: V}, ""),
    "CRLF": (f"# x\r\n{K}={V}\r\nE2B_API_KEY=e2b_1234567\r\n", {K: V, "E2B_API_KEY": "e2b_1234567"}, ""),
    "old Mac line ends": (f"{K}={V}\rE2B_API_KEY=e2b_1234567\r", {K: V, "E2B_API_KEY": "e2b_1234567"}, ""),
    "byte order mark": (b"\xef\xbb\xbf" + f"{K}={V}\n".encode(), {K: V}, ""),
    "UTF-16 from Notepad": (f"{K}={V}\r\n".encode("utf-16"), {K: V}, ""),
    "export": (f"export {K}={V}\n", {K: V}, ""),
    "export and tabs": (f"\texport\t{K}\t=\t{V}\t\n", {K: V}, ""),
    "spaces around =": (f"{K} = {V}\n", {K: V}, ""),
    "double quotes": (f'{K}="{V}"\n', {K: V}, ""),
    "single quotes": (f"{K}='{V}'\n", {K: V}, ""),
    "comment after": (f"{K}={V} # mine\n", {K: V}, ""),
    "hash inside": (f"{K}=dtn_0123#456\n", {K: "dtn_0123#456"}, ""),
    "equals inside": (f"{K}=dtn_0123==\n", {K: "dtn_0123=="}, ""),
    "multi-line in quotes": ('PEM="-----BEGIN-----\nabc\n-----END-----"\n', {"PEM": "-----BEGIN-----\nabc\n-----END-----"}, ""),
    "empty file": ("", {}, ""),
    "only comments": ("# nothing\n\n  # more\n", {}, ""),
    "empty value": (f"{K}=\n", {K: ""}, "empty"),
    "no equals sign": (f"{K}\n", {}, "line 1: DAYTONA_API_KEY has no '='"),
    "a colon instead": (f"\n\n{K}: {V}\n", {}, "line 3: can't be understood"),
    "JSON": (f'{{\n  "{K}": "{V}"\n}}\n', {}, "line 2: can't be understood"),
    "Windows set": (f"set {K}={V}\n", {}, "line 1: can't be understood"),
    "a quoted name": (f'"{K}"={V}\n', {}, "line 1: the name before '=' is no variable name"),
    "a name with a dash": (f"MY-KEY={V}\n", {}, "line 1: the name before '=' is no variable name"),
    "only an equals sign": (f"={V}\n", {}, "line 1: can't be understood"),
    "text after quotes": (f'{K}="{V}"x\n', {}, "line 1: can't be understood"),
    "quote not closed": (f'{K}="{V}\nE2B_API_KEY=e2b_1234567\n', {"E2B_API_KEY": "e2b_1234567"}, "line 1: can't be understood"),
    "quote not closed before another": (
        f'{K}="{V}\nE2B_API_KEY="e2b_1234567"\nRUNLOOP_API_KEY=r_12345\n', {"RUNLOOP_API_KEY": "r_12345"},
        "lines 1 to 2: can't be understood",
    ),
    "quote not closed that swallows a line": (f'{K}="{V}\nE2B_API_KEY="\n', {K: f"{V}\nE2B_API_KEY="}, "is a quote not closed?"),
    "merge conflict": (
        f"<<<<<<< HEAD\n{K}=dtn_aaaaaa\n=======\n{K}={V}\n>>>>>>> other\n", {K: V}, "set twice in .env (lines 2 and 4)",
    ),
    "duplicate": (f"{K}=dtn_aaaaaa\n{K}={V}\n", {K: V}, "set twice"),
    "placeholder": (f"{K}=your-daytona-api-key-here\n", {K: "your-daytona-api-key-here"}, "a placeholder, not a key"),
    "placeholder in brackets": (f"{K}=<paste key>\n", {K: "<paste key>"}, "a placeholder, not a key"),
    "typographic quotes": (f"{K}=“{V}”\n", {K: f"“{V}”"}, "a quote is part of the value"),
    "quotes in quotes": (f"{K}='\"{V}\"'\n", {K: f'"{V}"'}, "a quote is part of the value"),
    "white space kept by quotes": (f'{K}=" {V} "\n', {K: f" {V} "}, "white space at its start or end"),
    "two words": (f"{K}=dtn 0123456\n", {K: "dtn 0123456"}, "white space inside"),
    "zero-width space": (f"{K}={V}\u200b\n", {K: f"{V}\u200b"}, "characters that no key has"),
    "no-break space": (f"{K}=\u00a0{V}\n", {K: V}, ""),
    "trailing comma": (f"{K}={V},\n", {K: f"{V},"}, "ends with a comma"),
    "shell expansion": (f"{K}=${{NO_SUCH_NAME}}{V}\n", {K: V}, "${NO_SUCH_NAME} is not set, so nothing was put in"),
    "expansion of another": (f"A=abc\n{K}=${{A}}{V}\n", {"A": "abc", K: f"abc{V}"}, "${A} was put in"),
    "command substitution": (f"{K}=$(pass show it)\n", {K: "$(pass show it)"}, "white space inside"),
    "a near miss": (f"DAYTONA_APIKEY={V}\n", {"DAYTONA_APIKEY": V}, "did you mean DAYTONA_API_KEY?"),
    "lower case": (f"daytona_api_key={V}\n", {"daytona_api_key": V}, "did you mean DAYTONA_API_KEY?"),
    "the guide's DAYTONA_JWT": (f"DAYTONA_JWT={V}\n", {"DAYTONA_JWT": V}, "does not read it; name it DAYTONA_JWT_TOKEN"),
    "NUL in the value": (f"{K}=dtn\x00123456\n", {}, "holds a NUL character"),
    "NUL in the name": (f"A\x00B={V}\n", {}, "no variable name"),
    "a value longer than any program takes": (f"{K}={'x' * 200_000}\n", {}, "longer than 100,000 bytes"),
    "only one quote": (f"{K}='\n", {}, "line 1: can't be understood"),
    "backslashes": (f"{K}=a\\nb\\c12\n", {K: "a\\nb\\c12"}, ""),
    "a thousand broken lines": ("x y z\n" * 1000 + f"{K}={V}\n", {K: V}, "line 1000: can't be understood"),
    "random bytes that are text": (bytes(range(32, 127)) + b"\n", {}, "was left out"),
}  # fmt: skip

REFUSED = {
    "Latin-1": ("A=1\nB=\xe9\n".encode("latin-1"), "line 2: not UTF-8 text"),
    "binary": (b"\x80\x81\x00\xff" * 50, "not UTF-8 text"),
    "half of UTF-16": (b"\xff\xfeA", "not UTF-8 text"),
    "too large": (b"#" * (1 << 20) + b"x", "larger than 1 MB"),
    "too many names": (b"".join(b"N%d=1\n" % i for i in range(10_001)), "sets more than 10,000 names"),
}


@pytest.mark.parametrize("name", FILES)
def test_odd_file(name):
    data, expected, said = FILES[name]
    Path(".env").write_bytes(data if isinstance(data, bytes) else data.encode())
    Path(".env").chmod(0o600)
    before = dict(os.environ)
    table = harbor_nb.load_env()
    assert {n: os.environ[n] for n in os.environ if n not in before} == expected
    assert {row.name: row.length for row in table} == {n: len(v) for n, v in expected.items()}
    told = "\n".join([*table.notes, *(w for row in table for w in row.warnings)])
    assert said in told
    if not said:
        assert told == ""
    for value in expected.values():
        assert len(value) < 5 or value not in str(table) + table._repr_html_() + table.frame.to_csv()


def test_there_are_thirty_malformed_files():
    assert sum(bool(said) for _, _, said in FILES.values()) + len(REFUSED) >= 30


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_is_refused(name):
    data, said = REFUSED[name]
    Path(".env").write_bytes(data)
    before = dict(os.environ)
    with pytest.raises(CredentialsError, match=said):
        harbor_nb.load_env()
    assert dict(os.environ) == before


def test_a_folder_named_env():
    Path(".env").mkdir()
    with pytest.raises(CredentialsError, match="is a folder"):
        harbor_nb.load_env()


def test_a_pipe_named_env_does_not_hang():
    os.mkfifo(".env")
    with pytest.raises(CredentialsError, match="not a plain file"):
        harbor_nb.load_env()


def test_a_link_to_nothing():
    Path(".env").symlink_to("nowhere")
    assert "no .env was found" in str(harbor_nb.load_env())
    with pytest.raises(CredentialsError, match="does not exist"):
        harbor_nb.load_env(".env")


def test_an_unreadable_file_is_told(fresh):
    """Read by another user, since root may read everything: loading, looking for a key and saving each say it."""
    code = f"""
import os, harbor_nb
from harbor_nb.errors import CredentialsError
harbor_nb.check("daytona")  # all that is needed is imported before rights are given up
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for call in (harbor_nb.load_env, lambda: harbor_nb.load_env(".env"), lambda: harbor_nb.save_env({{"{K}": "x"}})):
    try:
        print(call())
    except CredentialsError as error:
        print(error)
print(harbor_nb.check("daytona").reason)
"""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        path = Path(place, ".env")
        path.write_text(f"{K}={V}")
        path.chmod(0)
        told = f"can't read {path}: Permission denied; check its owner and mode"
        assert fresh(code, cwd=Path(place)).splitlines() == [told, told, told, f"{K} not set"]


def test_a_file_of_5_mb_is_refused_and_one_at_the_limit_is_read(fresh):
    """Neither takes long: the larger is not read, the smaller holds sixty thousand lines."""
    Path(".env").write_bytes(b"A=1\n" * (5 * 2**18))
    with pytest.raises(CredentialsError, match="larger than 1 MB"):
        harbor_nb.load_env()
    assert harbor_nb.check("daytona").reason == f"{K} not set"
    Path(".env").write_text("# some comment\n" * 60_000 + f"{K}={V}\n")
    assert harbor_nb.load_env()[0].length == len(V)


def test_a_file_that_others_can_read():
    Path(".env").write_text(f"{K}={V}")
    Path(".env").chmod(0o644)
    assert any("chmod 600 .env" in note for note in harbor_nb.load_env().notes)
    Path(".env").chmod(0o600)
    assert harbor_nb.load_env().notes == ()


def test_git_is_asked(tmp_path):
    import subprocess

    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "init", "-q"], check=True)
    Path(".env").write_text(f"{K}={V}\n")
    Path(".env").chmod(0o600)
    assert any("not ignored by git" in note for note in harbor_nb.load_env().notes)
    Path(".gitignore").write_text(".env\n")
    assert harbor_nb.load_env().notes == ()
    subprocess.run([*git, "add", "-f", ".env"], check=True)
    assert any("committed to git" in note for note in harbor_nb.load_env().notes)


def test_the_text_of_a_bad_line_is_never_shown():
    Path(".env").write_text('my secret is hunter2hunter2\n"hunter2hunter2"=1\n')
    table = harbor_nb.load_env()
    assert "hunter2" not in str(table) + table._repr_html_() + repr(table.notes)


def test_load_env_takes_a_folder_and_a_home():
    Path("sub").mkdir()
    Path("sub/.env").write_text(f"{K}={V}\n")
    assert harbor_nb.load_env("sub")[0].source == ".env"
    (Path.home() / "keys.env").write_text("E2B_API_KEY=e2b_1234567\n")
    assert harbor_nb.load_env("~/keys.env")[0].name == "E2B_API_KEY"


def test_the_guides_shell_line_reads_what_save_env_writes():
    """`export $(cat .env | xargs)` of the guide's option 2 gives the same values."""
    import subprocess

    harbor_nb.save_env({K: V, "E2B_API_KEY": "e2b_1234567"}, gitignore=False)
    code = 'export $(cat .env | xargs); printf \'%s %s\' "$DAYTONA_API_KEY" "$E2B_API_KEY"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{V} e2b_1234567"
