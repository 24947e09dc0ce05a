"""Config files that people wrote: what is edited changes, all else stays byte for byte."""

import json
import os
import subprocess
import sys
import threading

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harbor_nb.errors import BadInputError, HarborNbError, JobError
from harbor_nb.running.documents import DELETE, Document, _plain

JSON = """// written by hand
{
    "job_name": "nightly",   // the name
    "mine": {"kept": [1, 2, "a // no comment"]},
    "environment": {
        "type": "daytona",  // Changed from "docker"
        "kwargs": {"snapshot_template_name": "x"}, // only theirs
        /* keep this */
        "force_build": false,
        "delete": true
    },
    "n_attempts": 2,
    "tasks": [{"path": "tasks/hello-world"}]
}
"""
YAML = """# written by hand
job_name: nightly   # the name
mine: {kept: [1, 2, "a # no comment"]}

environment:
  # where it runs
  type: daytona  # or docker
  kwargs:
    snapshot_template_name: x   # only theirs
    labels:
      team: a
  # whether it is built anew
  force_build: false
  delete: true
n_attempts: 2
tasks:
  - path: tasks/hello-world   # the first
  - path: tasks/other
"""
EDITS = [(("environment", "type"), "docker"), (("environment", "kwargs"), DELETE), (("quiet",), True)]


def document(tmp_path, text, name, newline="\n"):
    file = tmp_path / name
    file.write_bytes(text.replace("\n", newline).encode())
    return Document(file)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("text", "name"), [(JSON, "job.json"), (YAML, "job.yaml")])
def test_only_the_edited_settings_change(tmp_path, text, name, newline):
    found = document(tmp_path, text, name, newline)
    before = found.data
    for path, value in EDITS:
        found.edit(path, value)
    after = found.parse()
    environment = {key: value for key, value in before["environment"].items() if key != "kwargs"}
    assert after == {**before, "environment": {**environment, "type": "docker"}, "quiet": True}
    kept = [line for line in text.split("\n") if "type" not in line and "snapshot" not in line and "kwargs" not in line]
    comments = ["written by hand", "the name", "no comment", "keep this" if name.endswith("json") else "whether it is"]
    assert all(word in found.text for word in comments)
    lines = found.text.split(newline)
    lost = [line for line in kept if line.strip() and line.strip().rstrip(",") not in "\n".join(lines)]
    assert [line for line in lost if "labels" not in line and "team" not in line] == []
    assert found.text.count("\r\n") == (found.text.count("\n") if newline == "\r\n" else 0)


def test_the_guides_file_with_its_comment(tmp_path):
    text = '{\n  "environment": {\n    "type": "daytona",  // Changed\n    "force_build": false\n  }\n}\n'
    found = document(tmp_path, text, "config.json")
    found.edit(("environment", "type"), "docker")
    assert found.text == text.replace('"daytona"', '"docker"')


@pytest.mark.parametrize(
    ("text", "name", "path", "value", "told"),
    [
        ("{}", "a.json", ("environment", "type"), "docker", '{"environment": {"type": "docker"}}'),
        ('{"a": 1}', "a.json", ("b",), 2, '{"a": 1, "b": 2}'),
        ('{"a": 1, "b": 2}', "a.json", ("b",), DELETE, '{"a": 1 }'),
        ('{"a": 1, "b": 2}', "a.json", ("a",), DELETE, '{ "b": 2}'),
        ('{"a": 1}', "a.json", ("a",), DELETE, "{}"),
        ('{"a":{"type":"x"},}', "a.json", ("a", "type"), "y", '{"a":{"type":"y"},}'),
        ('{"e":{}}', "a.json", ("e", "k"), 1, '{"e":{"k": 1}}'),
        ("e: {type: x}\n", "a.yaml", ("e", "type"), "y", 'e: {type: "y"}\n'),
        ("e: {type: x, k: {a: 1}}\n", "a.yaml", ("e", "k"), DELETE, "e: {type: x }\n"),
        ("e:\n  type: x", "a.yaml", ("e", "n"), 1, "e:\n  type: x\n  n: 1\n"),
        ("e:\n  type: x\n", "a.yaml", ("e", "type"), DELETE, "e:\n"),
        ("e:\n  k: |\n    x\n\n  t: 1\n", "a.yaml", ("e", "k"), DELETE, "e:\n\n  t: 1\n"),
        ("e: {k: {a: 1, b: 2}}\n", "a.yaml", ("e", "k", "a"), DELETE, "e: {k: { b: 2}}\n"),
        ('{"e": {"k": {"a": 1}}}', "a.json", ("e", "k", "b"), 2, '{"e": {"k": {"a": 1, "b": 2}}}'),
        ("t: 1\n", "a.yaml", ("e", "k", "b"), 2, 't: 1\ne: {"k": {"b": 2}}\n'),
        ("", "a.yaml", ("e",), 1, None),
    ],
)
def test_small_edits(tmp_path, text, name, path, value, told):
    if told is None:
        with pytest.raises(BadInputError, match="does not hold a mapping"):
            document(tmp_path, text, name)
        return
    found = document(tmp_path, text, name)
    found.edit(path, value)
    assert found.text == told


names = st.text("abcxyz_-é", min_size=1, max_size=6)
scalars = st.one_of(st.integers(-9, 9), st.booleans(), st.none(), st.text('ab"\\/:,{}[]# é\t', max_size=8))
values = st.recursive(
    scalars, lambda x: st.one_of(st.lists(x, max_size=3), st.dictionaries(names, x, max_size=3)), max_leaves=6
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, values, min_size=1), st.booleans(), st.data())
def test_any_edit_of_any_config_leaves_the_rest(tmp_path_factory, config, as_yaml, data):
    text = json.dumps(config, indent=data.draw(st.sampled_from([None, 2])))
    if as_yaml:
        text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    found = document(tmp_path_factory.mktemp("d"), text, "c.yaml" if as_yaml else "c.json")
    assert found.data == config
    top = data.draw(st.sampled_from(sorted(config)))
    path = (top,)
    if isinstance(config[top], dict) and config[top] and data.draw(st.booleans()):
        path = (top, data.draw(st.sampled_from(sorted(config[top]))))
    value = data.draw(st.one_of(st.just(DELETE), scalars))
    found.edit(path, value)
    holder = config if len(path) == 1 else config[top]
    if value is DELETE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    expected = {
        key: item or None if len(path) == 2 and key == top and as_yaml else item for key, item in config.items()
    }
    if expected or not as_yaml:
        assert found.parse() == expected


def test_a_backup_is_kept_and_nothing_half_is_ever_there(tmp_path):
    found = document(tmp_path, YAML, "job.yaml")
    found.file.chmod(0o640)
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(found.file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    backups = []
    for number in range(30):
        found.edit(("n_attempts",), number + 3)
        backups.append(found.write())
    done.set()
    reader.join()
    assert backups[0].read_text() == YAML
    assert len(set(backups)) == 30
    assert all(yaml.safe_load(text)["tasks"][1] == {"path": "tasks/other"} for text in seen)
    assert found.file.stat().st_mode & 0o777 == 0o640
    assert not list(tmp_path.glob(".job*"))


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path):
    found = document(tmp_path, JSON, "job.json")
    found.edit(("n_attempts",), 3)
    found.file.write_text("{}")
    with pytest.raises(JobError, match="changed by someone else"):
        found.write()
    assert found.file.read_text() == "{}"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["job.json"]


def test_a_link_stays_a_link(tmp_path):
    found = document(tmp_path, JSON, "real.json")
    link = tmp_path / "job.json"
    link.symlink_to(found.file)
    linked = Document(link)
    linked.edit(("n_attempts",), 7)
    linked.write()
    assert link.is_symlink()
    assert json.loads(_plain(found.file.read_text()))["n_attempts"] == 7


@pytest.mark.deep
def test_a_file_of_5_mb_is_edited(tmp_path):
    tasks = "\n".join(f'    {{"path": "tasks/task-{number:06d}"}}, // {number}' for number in range(120_000))
    text = JSON.replace('[{"path": "tasks/hello-world"}]', f"[\n{tasks}\n    {{}}]")
    assert len(text) > 4_500_000
    found = document(tmp_path, text, "job.json")
    found.edit(("environment", "type"), "docker")
    assert found.text == text.replace('"daytona"', '"docker"')


@pytest.mark.parametrize(
    ("data", "name", "told"),
    [
        (b"[1]", "a.yaml", "does not hold a mapping"),
        (b'"words"', "a.json", "does not hold a mapping"),
        (b"{'a': }", "a.json", None),
        (b'{"a": [}', "a.json", "is neither JSON nor YAML"),
        (b"a: [\nb: }", "a.yaml", "is neither JSON nor YAML"),
        (b"a: &x {b: *x}\n", "a.yaml", None),
        (b"\xff\xfe\x00binary", "a.json", "is not text"),
        (b"a: " + b"x" * 2**21, "a.yaml", "larger than 1 MB"),
        (b"a: !!python/object/apply:os.system ['true']", "a.yaml", "is neither JSON nor YAML"),
    ],
)
def test_what_is_no_config_is_one_clear_line(tmp_path, data, name, told):
    file = tmp_path / name
    file.write_bytes(data)
    if told is None:
        Document(file)
        return
    with pytest.raises(BadInputError, match=told) as caught:
        Document(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_anchored_environment_is_refused(tmp_path):
    found = document(tmp_path, "base: &e\n  type: daytona\nenvironment: *e\n", "a.yaml")
    with pytest.raises(BadInputError, match="from an anchor"):
        found.edit(("environment", "type"), "docker")


def test_an_anchor_beside_what_is_edited_is_kept_or_refused_but_never_broken(tmp_path):
    found = document(tmp_path, "<<: {quiet: true}\nenvironment:\n  type: daytona\n", "a.yaml")
    found.edit(("environment", "type"), "docker")
    assert found.parse() == {"quiet": True, "environment": {"type": "docker"}}
    found = document(tmp_path, "mine: &e {A: b}\nenvironment: {type: e2b, env: *e, import_path: x}\n", "b.yaml")
    with pytest.raises(BadInputError, match="takes env from an anchor"):
        found.edit(("environment", "import_path"), DELETE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_no_permission_is_told_and_changes_nothing(tmp_path):
    code = """
import encodings.utf_8_sig, os, sys  # read now: the other user may not look into this Python's folder
from harbor_nb.running.documents import Document
file, uid = sys.argv[1], 65534
os.setgroups([]); os.setgid(uid); os.setuid(uid)
try:
    found = Document(file); found.edit(("n_attempts",), 3); found.write()
except Exception as error:
    print(type(error).__name__, error)
"""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    found = document(tmp_path, JSON, "job.json")
    for mode, told in ((0o600, "BadInputError can't read"), (0o644, "JobError can't write beside")):
        found.file.chmod(mode)
        done = subprocess.run([sys.executable, "-c", code, found.file], capture_output=True, text=True)
        assert done.stdout.startswith(told), done.stdout + done.stderr
        assert found.file.read_text() == JSON


def test_errors_have_one_base():
    assert issubclass(BadInputError, HarborNbError)
