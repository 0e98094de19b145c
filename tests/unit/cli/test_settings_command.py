"""`pam-mfa config`: no mistake gets in, and what is written is written as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import stat
import subprocess
from pathlib import Path

import pexpect
import pytest
from machine import wait_for

from pam_mfa.cli.exits import Exit

from .conftest import AS_SOMEBODY, Run, command, environment
from .installed import lay

TEXT = '# ours\nfail_delay = 2.0 # seconds\n\n[policy]\n#local_key = "auto"\nmethods = ["totp"]\n'


@pytest.fixture
def file(root: Path) -> Path:
    lay(root)
    path = root / "etc/pam-mfa/config.toml"
    path.write_text(TEXT)
    return path


def test_get(file: Path, run: Run) -> None:
    assert run("config", "get").stdout == TEXT.replace("# ours\n", "").replace(" # seconds", "").replace(
        '#local_key = "auto"\n', ""
    )
    assert run("config", "get", "policy.methods").stdout == '["totp"]\n'
    assert json.loads(run("config", "get", "policy", "--json").stdout) == {
        "kind": "setting", "key": "policy", "value": {"methods": ["totp"]},
    }  # fmt: skip
    assert run("config", "get", "policy.local_key").returncode == Exit.NOT_FOUND


def test_a_date_can_be_shown(file: Path, run: Run) -> None:
    file.write_text("since = 2026-01-01\n")
    assert json.loads(run("config", "get", "since", "--json").stdout)["value"] == "2026-01-01"


def test_set(file: Path, run: Run) -> None:
    done = run("config", "set", "policy.local_key", "never")
    assert (done.returncode, done.stdout, done.stderr) == (Exit.DONE, "", "")
    assert file.read_text() == TEXT.replace('"auto"\n', '"auto"\nlocal_key = "never"\n')
    run("config", "set", "policy.methods", '["recovery", "totp"]')
    assert 'methods = ["recovery", "totp"]' in file.read_text()


def test_set_keeps_whose_file_it_is(file: Path, run: Run) -> None:
    os.chown(file, 0, 12)
    file.chmod(0o640)
    os.setxattr(file, "trusted.mark", b"1")
    run("config", "set", "fail_delay", "1")
    found = file.stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode), os.getxattr(file, "trusted.mark")) == (12, 0o640, b"1")
    assert {path.name for path in file.parent.iterdir()} == {"config.toml", "seal.key"}


@pytest.mark.parametrize(
    ("key", "value", "problems"),
    [
        ("policy.local_key", "nevr", ["policy.local_key: "]),
        ("fail_delay", "-1", ["fail_delay: must be a number of seconds from 0 to 10"]),
        ("fail_dely", "1", ["fail_dely: unknown key; did you mean fail_delay?"]),
        ("policy.methods", '["x", 1]', ["policy.methods[0]: ", "policy.methods[1]: "]),
        ("policy.methods", '["x', ["policy.methods: a text; must be a list of texts"]),
    ],
)
def test_a_mistake_is_refused_with_its_key(file: Path, run: Run, key: str, value: str, problems: list[str]) -> None:
    number = file.stat().st_ino
    done = run("config", "set", key, value)
    assert (done.returncode, file.read_text(), file.stat().st_ino) == (Exit.USAGE, TEXT, number)
    said = sorted(done.stderr.splitlines())
    assert len(said) == len(problems)
    assert all(line.startswith(f"pam-mfa: {problem}") for line, problem in zip(said, problems, strict=True))


def test_every_mistake_of_the_file_is_told(file: Path, run: Run) -> None:
    file.write_text("x = 1\n[policy]\nunenrolled = 'no'\n")
    done = run("config", "set", "fail_delay", "1")
    assert {line.split(": ")[1] for line in done.stderr.splitlines()} == {"x", "policy.unenrolled"}
    records = [json.loads(line) for line in run("config", "validate", "--json").stdout.splitlines()]
    assert {record["problem"].split(": ")[0] for record in records} == {"x", "policy.unenrolled"}
    assert {record["kind"] for record in records} == {"problem"}


@pytest.mark.parametrize("name", ["get", "validate", "set", "edit"])
def test_what_is_no_toml_is_told_by_line_and_column(file: Path, run: Run, name: str) -> None:
    file.write_text('# one\n[policy]\nmethods = ["totp" "recovery"]\n')
    arguments = ["fail_delay", "1"] if name == "set" else []
    done = run("config", name, *arguments, EDITOR="true", input="q\n")
    assert "line 3, column 19" in done.stderr
    assert done.returncode == (Exit.REFUSED if name == "edit" else Exit.USAGE)


def test_validate(file: Path, run: Run, tmp_path: Path) -> None:
    assert run("config", "validate").stdout == f"{file}: no mistakes.\n"
    other = tmp_path / "other.toml"
    other.write_text("[policy]\nx = 1\n")
    done = run("config", "validate", str(other))
    assert (done.returncode, done.stderr.startswith("pam-mfa: policy.x: unknown key")) == (Exit.USAGE, True)
    for content, said in (
        (b"\n\xff", "not UTF-8 at line 2"),
        (bytes(300 * 1024), "larger than"),
        (None, "No such file"),
    ):
        other.unlink() if content is None else other.write_bytes(content)
        done = run("config", "validate", str(other))
        assert (done.returncode, said in done.stderr) == (Exit.USAGE, True)


@pytest.mark.parametrize("name", ["get", "validate", "set", "edit"])
def test_a_file_that_others_may_write_is_none(file: Path, run: Run, name: str) -> None:
    file.chmod(0o666)
    done = run("config", name, *(["fail_delay", "1"] if name == "set" else []), EDITOR="true")
    assert (done.returncode, "must not be writable" in done.stderr) == (Exit.USAGE, True)


@pytest.mark.parametrize("arguments", [["set", "fail_delay", "1"], ["edit"]])
def test_one_at_a_time(file: Path, run: Run, arguments: list[str]) -> None:
    folder = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    done = run("config", *arguments, EDITOR="true")
    os.close(folder)
    assert (done.returncode, "somebody else is changing" in done.stderr) == (Exit.REFUSED, True)


@pytest.mark.parametrize("arguments", [["set", "fail_delay", "1"], ["edit"]])
def test_only_root_changes_it(file: Path, root: Path, arguments: list[str]) -> None:
    words = [*AS_SOMEBODY, *command(root, "config", *arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment(EDITOR="true"))
    assert (done.returncode, "only root may do that" in done.stderr) == (Exit.REFUSED, True)
    assert file.read_text() == TEXT


# -------------------------------------------------------------------------------------------------------- edit


@pytest.fixture
def editor(tmp_path: Path) -> Path:
    """A directory of numbered texts: the n-th call of the editor makes the n-th one of it."""
    script = tmp_path / "my editor"
    script.write_text(
        f'#!/bin/sh\necho "$1" >> "{tmp_path}/called"\nn=$(wc -l < "{tmp_path}/called")\ncat "{tmp_path}/$n" > "$1"\n'
    )
    script.chmod(0o755)
    return tmp_path


def use(editor: Path) -> dict[str, str]:
    return {"VISUAL": shlex.quote(str(editor / "my editor")), "EDITOR": "false"}


def test_edit(file: Path, run: Run, editor: Path) -> None:
    (editor / "1").write_text("fail_delay = 1\n")
    done = run("config", "edit", **use(editor))
    assert (done.returncode, file.read_text()) == (Exit.DONE, "fail_delay = 1\n")
    copy = Path((editor / "called").read_text().strip())
    assert (copy.name, copy.parent.exists()) == ("config.toml", False)


def test_a_mistake_is_edited_again(file: Path, run: Run, editor: Path) -> None:
    (editor / "1").write_text("fail_dely = 1\nx = 2\n")
    (editor / "2").write_text("fail_delay = 1\n")
    done = run("config", "edit", input="\n", **use(editor))
    assert (done.returncode, file.read_text()) == (Exit.DONE, "fail_delay = 1\n")
    assert "fail_dely: unknown key" in done.stderr
    assert "x: unknown key" in done.stderr


@pytest.mark.parametrize(("answers", "code"), [("q\n", Exit.REFUSED), ("e\nquit\n", Exit.REFUSED), ("", Exit.ABORTED)])
def test_a_mistake_is_given_up(file: Path, run: Run, editor: Path, answers: str, code: Exit) -> None:
    for number in "12":
        (editor / number).write_text("fail_dely = 1\n")
    done = run("config", "edit", input=answers, **use(editor))
    assert (done.returncode, file.read_text()) == (code, TEXT)


@pytest.mark.parametrize("words", ["false", "/absent", "rm", '"', "sed -n w/dev/full"])
def test_an_editor_that_fails(file: Path, run: Run, words: str) -> None:
    done = run("config", "edit", EDITOR=words)
    assert done.returncode in (Exit.REFUSED, Exit.NOT_FOUND, Exit.USAGE)
    assert file.read_text() == TEXT


def test_nothing_edited(file: Path, run: Run) -> None:
    number = file.stat().st_ino
    done = run("config", "edit", EDITOR="true")
    assert (done.returncode, done.stderr) == (Exit.DONE, "Nothing was changed.\n")
    assert file.stat().st_ino == number


def test_what_somebody_else_wrote_meanwhile_stays(file: Path, run: Run, editor: Path) -> None:
    (editor / "1").write_text("fail_delay = 1\n")
    script = editor / "my editor"
    script.write_text(script.read_text() + f"echo 'fail_delay = 9' > {file}\n")
    done = run("config", "edit", **use(editor))
    assert (done.returncode, file.read_text()) == (Exit.REFUSED, "fail_delay = 9\n")
    assert "somebody else changed" in done.stderr


def test_a_terminal_that_closes_during_the_edit(file: Path, root: Path, tmp_path: Path) -> None:
    script = tmp_path / "editor"
    script.write_text(f'#!/bin/sh\necho x = 1 >> "$1"\necho "$1" > {tmp_path}/copy\nread answer\n')
    script.chmod(0o755)
    first, *rest = command(root, "config", "edit")
    child = pexpect.spawn(first, rest, env=environment(EDITOR=str(script)), encoding="utf-8", timeout=60)
    wait_for("the editor", lambda: (tmp_path / "copy").exists() and (tmp_path / "copy").read_text().strip())
    child.kill(signal.SIGHUP)
    wait_for("its end", lambda: not child.isalive())
    assert file.read_text() == TEXT
    assert not Path((tmp_path / "copy").read_text().strip()).parent.exists()
    child.close(force=True)
