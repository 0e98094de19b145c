"""`pam-mfa try` as it is run: what it changes, who watches the time, and when it is taken back."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import DEADLINE, wait_for
from manage_double import Double

from pam_mfa.cli import wholefile
from pam_mfa.cli.call import Call
from pam_mfa.cli.checks import tryout as checks
from pam_mfa.cli.checks.stacks import LINE
from pam_mfa.cli.exits import Exit
from pam_mfa.cli.paths import Paths
from pam_mfa.cli.tryout import freshness, record, steps, watcher
from pam_mfa.cli.wholefile import Whole
from pam_mfa.errors import RefusedError

from .conftest import AS_SOMEBODY, PROGRAM, Run, environment
from .installed import lay

SUDO = "@include common-auth\n"


@pytest.fixture
def sudo(root: Path) -> Iterator[Path]:
    """A system that asks nobody yet, with the command installed; returns its PAM file of sudo."""
    lay(root)
    path = root / "etc/pam.d/sudo"
    path.write_text(SUDO)
    words = ["exec", "env", f"PYTHONPATH={environment()['PYTHONPATH']}", sys.executable, "-P", "-c", PROGRAM, str(root)]
    command = root / "usr/bin/pam-mfa"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n')
    command.chmod(0o755)
    yield path
    for pid in watchers(root):
        os.kill(pid, signal.SIGKILL)


def watchers(root: Path) -> list[int]:
    """The processes that watch the time."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-4:-1] == [str(root).encode(), b"try", b"watch"]:
            found.append(int(entry.name))
    return found


def state(run: Run) -> dict[str, Any]:
    found = json.loads(run("try", "status", "--json").stdout)
    assert found.pop("kind") == "tryout"
    return dict(found)


def is_over(root: Path) -> bool:
    """Whether nothing is pending, and nobody watches any more."""
    return not (root / "var/lib/pam-mfa-try/pending.json").exists() and not watchers(root)


def test_a_change_that_nobody_confirms_is_taken_back(root: Path, sudo: Path, run: Run) -> None:
    done = run("try", "enable", "sudo", "--rollback", "2s")
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert sudo.read_text() == f"{SUDO}{LINE}\n"
    assert f"Changed: {sudo}\n" in done.stdout
    assert "Log in afresh by sudo in another terminal" in done.stdout
    assert len(watchers(root)) == 1
    wait_for("the end", lambda: is_over(root))
    assert sudo.read_text() == SUDO
    assert state(run) == {"state": "restored", "about": [str(sudo)]}


def test_what_is_being_tried_is_shown(root: Path, sudo: Path, run: Run) -> None:
    assert state(run) == {"state": "none", "about": []}
    run("try", "enable", "sudo", "--rollback", "24h")
    found = state(run)
    assert 24 * 3600 - 60 < found.pop("left") <= 24 * 3600
    assert found == {"state": "waiting", "about": [str(sudo)], "programs": ["sudo"]}
    assert run("try", "enable", "su").returncode == Exit.NOT_FOUND
    done = run("try", "--", "true")
    assert (done.returncode, done.stderr.count("already")) == (Exit.REFUSED, 1)
    assert run("try", "rollback").stdout.startswith("What was tried last was taken back")
    assert sudo.read_text() == SUDO
    wait_for("the end", lambda: is_over(root))
    assert run("try", "rollback").returncode == Exit.NOT_FOUND
    assert run("try", "confirm").returncode == Exit.NOT_FOUND


def test_it_is_no_old_shell_that_confirms(root: Path, sudo: Path, run: Run) -> None:
    run("try", "enable", "sudo")
    done = run("try", "confirm")
    assert done.returncode == Exit.REFUSED
    assert done.stderr.startswith("pam-mfa: nobody has got in here by sudo since the change")
    assert state(run)["state"] == "waiting"


@pytest.mark.parametrize("command", ["exit 3", "exec /absent", "kill -KILL $$"])
def test_what_a_command_that_fails_has_changed_is_taken_back(root: Path, sudo: Path, run: Run, command: str) -> None:
    done = run("try", "--", "/bin/sh", "-c", f"echo nonsense > {sudo}; touch {sudo}.new; {command}")
    assert done.returncode == Exit.REFUSED
    assert done.stderr.endswith("; everything is as it was before\n")
    assert (sudo.read_text(), sudo.with_name("sudo.new").exists()) == (SUDO, False)
    wait_for("the end", lambda: is_over(root))


def test_a_command_that_is_not_there(root: Path, sudo: Path, run: Run) -> None:
    assert "COMMAND ended with 127" in run("try", "--", "/absent").stderr
    wait_for("the end", lambda: is_over(root))


def test_nothing_is_pending_where_nothing_changed(root: Path, sudo: Path, run: Run) -> None:
    done = run("try", "run", "--json", "true")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (Exit.DONE, "unchanged")
    wait_for("the end", lambda: is_over(root))


def test_the_time_begins_when_the_command_ends(root: Path, sudo: Path, run: Run) -> None:
    watched = f"while [ ! -e {root}/go ]; do sleep 0.05; done; echo '# changed' >> {sudo}"
    command = [str(root / "usr/bin/pam-mfa"), "try", "--rollback", "1h", "--", "/bin/sh", "-c", watched]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as trying:
        try:
            wait_for("the watcher", lambda: watchers(root))
            first = record.load(Paths(root))
            assert first
            assert (state(run)["state"], first.changed) == ("changing", None)
            assert run("try", "confirm").returncode == Exit.REFUSED
        finally:
            (root / "go").touch()
        assert trying.wait(30) == Exit.DONE
    then = record.load(Paths(root))
    assert then
    assert then.changed
    assert then.deadline > first.deadline
    assert then.saved == first.saved


def test_a_command_that_outlasts_the_time_changes_nothing(root: Path, sudo: Path, run: Run) -> None:
    script = f"echo first > {sudo}; while grep -q first {sudo}; do sleep 0.05; done; echo second > {sudo}"
    done = run("try", "--rollback", "1s", "--", "/bin/sh", "-c", script)
    assert (done.returncode, sudo.read_text()) == (Exit.REFUSED, SUDO)
    assert done.stderr == "pam-mfa: the time was over before COMMAND ended; everything is as it was before\n"
    wait_for("the end", lambda: is_over(root))


def test_it_is_not_taken_back_before_its_time(root: Path, sudo: Path, run: Run) -> None:
    """Somebody gave it more, while whoever watched it came to take it back."""
    run("try", "enable", "sudo")
    assert watcher.take_back(Paths(root)) == []
    assert (sudo.read_text(), state(run)["state"]) == (f"{SUDO}{LINE}\n", "waiting")


def test_after_a_reboot_it_is_taken_back_at_once(root: Path, sudo: Path, run: Run) -> None:
    run("try", "enable", "sudo", "--rollback", "24h")
    for pid in watchers(root):
        os.kill(pid, signal.SIGKILL)
    pending = root / "var/lib/pam-mfa-try/pending.json"
    pending.write_text(pending.read_text().replace(record.life(), "another"))
    assert "its time is over" in run("try", "confirm").stderr
    assert run("try", "watch").returncode == Exit.DONE
    assert sudo.read_text() == SUDO
    assert is_over(root)


def test_whoever_watches_does_not_end_with_a_terminal(root: Path, sudo: Path, run: Run) -> None:
    run("try", "enable", "sudo", "--rollback", "2s")
    (pid,) = watchers(root)
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {os.devnull}
    os.kill(pid, signal.SIGHUP)
    wait_for("the end", lambda: is_over(root))
    assert sudo.read_text() == SUDO


def test_nothing_of_the_callers_stays_open_in_it(root: Path, sudo: Path) -> None:
    """A shell's pipe would not end before the time does."""
    ours, theirs = os.pipe()
    command = [str(root / "usr/bin/pam-mfa"), "try", "enable", "sudo"]
    subprocess.run(command, pass_fds=[theirs], stdout=subprocess.DEVNULL, check=True)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        assert select.select([pipe], [], [], DEADLINE)[0], "somebody holds it open"
        assert pipe.read() == b""


def test_with_the_change_all_leases_end(root: Path, sudo: Path, run: Run) -> None:
    """Whoever gets in by one has shown nothing of the change."""
    with Double(root, lambda peer, request: peer.done()) as double:
        done = run("try", "enable", "sudo")
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert double.requests == [{"verb": "end_leases", "args": {"all": True}}]


def test_leases_that_may_still_hold_are_told(root: Path, sudo: Path, run: Run) -> None:
    with Double(root, lambda peer, request: peer.done("unavailable", "no store")):
        done = run("try", "enable", "sudo")
    assert (done.returncode, done.stderr) == (Exit.DONE, "leases may still hold: no store\n")
    assert state(run)["state"] == "waiting"


def test_without_a_watcher_nothing_is_changed(root: Path, sudo: Path, run: Run) -> None:
    (root / "usr/bin/pam-mfa").unlink()
    done = run("try", "enable", "sudo")
    assert (done.returncode, sudo.read_text()) == (Exit.UNAVAILABLE, SUDO)
    assert is_over(root)


def test_a_watcher_that_ends_at_once_is_none(root: Path, sudo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "usr/bin/pam-mfa").write_text("#!/bin/sh\n")
    monkeypatch.setattr(watcher, "READY_SECONDS", 0.1)
    with pytest.raises(RefusedError, match="nobody would watch the time"):
        steps.enable(Call(Paths(root)), 60, "sudo")
    assert sudo.read_text() == SUDO
    assert is_over(root)


def test_what_cannot_be_restored_stays_pending(root: Path, sudo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps.enable(Call(Paths(root)), 3600, "sudo")
    real = wholefile.put

    def put(path: Path, whole: Whole) -> list[str]:
        if path == sudo:
            raise PermissionError(1, "Operation not permitted", str(path))
        return real(path, whole)

    with monkeypatch.context() as patch:
        patch.setattr(wholefile, "put", put)
        with pytest.raises(RefusedError, match="not everything could be restored"):
            steps.rollback(Paths(root))
    assert record.load(Paths(root))
    steps.rollback(Paths(root))
    assert (sudo.read_text(), record.load(Paths(root))) == (SUDO, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"life": 1}'])
def test_a_damaged_record_is_told(root: Path, sudo: Path, run: Run, text: str) -> None:
    run("try", "enable", "sudo")
    (root / "var/lib/pam-mfa-try/pending.json").write_text(text)
    for command in (["status"], ["confirm"], ["rollback"], ["--", "true"]):
        done = run("try", *command)
        assert (done.returncode, done.stderr.count("\n")) == (Exit.UNAVAILABLE, 1)
        assert "put your files right by hand" in done.stderr


def test_others_could_put_something_to_restore_there(root: Path, sudo: Path, run: Run) -> None:
    folder = root / "var/lib/pam-mfa-try"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert run("try", "enable", "sudo").returncode == Exit.REFUSED
    assert sudo.read_text() == SUDO


def test_what_is_saved_is_roots_alone(root: Path, sudo: Path, run: Run) -> None:
    run("try", "enable", "sudo")
    folder = root / "var/lib/pam-mfa-try"
    assert {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.iterdir()]} == {
        "pam-mfa-try": 0o700, "pending.json": 0o600, "bell": 0o600, "lock": 0o600,
    }  # fmt: skip


def test_doctor_knows_of_it(root: Path, sudo: Path, run: Run) -> None:
    def said() -> list[tuple[str, str]]:
        return [(finding.severity.value, finding.found) for finding in checks.check(Paths(root))]

    assert said() == []
    run("try", "enable", "sudo", "--rollback", "24h")
    ((severity, found),) = said()
    assert (severity, found.startswith("a change is being tried")) == ("warn", True)
    (pid,) = watchers(root)
    os.kill(pid, signal.SIGKILL)
    wait_for("doctor to see its end", lambda: [severity for severity, _ in said()] == ["bad"])
    assert said() == [("bad", "nobody watches the time of the change that is being tried")]
    pending = root / "var/lib/pam-mfa-try/pending.json"
    pending.write_text(pending.read_text().replace(record.life(), "another"))
    assert said() == [("bad", "a change was being tried when the system went down, and was not taken back")]
    pending.write_text("")
    assert [severity for severity, _ in said()] == ["bad"]


@pytest.mark.parametrize("time", ["5", "0s", "25h", "-1m", "1d", "5 m", "\u0665m", ""])
def test_a_time_that_is_none(run: Run, time: str) -> None:
    assert run("try", "enable", "sudo", "--rollback", time).returncode == Exit.USAGE


@pytest.mark.parametrize(
    "command", [["enable", "sudo"], ["--", "true"], ["confirm"], ["rollback"], ["status"], ["watch"]]
)
def test_only_root_may(root: Path, sudo: Path, command: list[str]) -> None:
    root.chmod(0o755)
    words = [*AS_SOMEBODY, str(root / "usr/bin/pam-mfa"), "try", *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/")
    assert (done.returncode, done.stdout) == (Exit.REFUSED, ""), done.stderr
    assert not (root / "var/lib/pam-mfa-try").exists()


# ------------------------------------------------------------------------------------------- who may confirm it


HOST = """
import ctypes, subprocess, sys
if sys.argv[1]: ctypes.CDLL(sys.argv[1])
inner = subprocess.Popen(["/bin/cat"])
print(inner.pid, flush=True)
inner.wait()
"""
Hosted = Callable[[str], int]


@pytest.fixture
def hosted() -> Iterator[Hosted]:
    """Start a program with a library in it, which starts another one; returns the id of the latter."""
    started: list[subprocess.Popen[str]] = []

    def host(library: str) -> int:
        command = [sys.executable, "-c", HOST, library]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout
        return int(started[-1].stdout.readline())

    yield host
    for process in started:
        process.communicate()


def now() -> float:
    """Of the clock that processes are dated by, whose tick has to be over."""
    end = time.clock_gettime(time.CLOCK_BOOTTIME)
    wait_for("a tick", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > end + 2 / os.sysconf("SC_CLK_TCK"))
    return end


PYTHON = Path(sys.executable).resolve().name


def test_a_login_since_then_counts(hosted: Hosted) -> None:
    before = now()
    pid = hosted("libpam.so.0")
    assert freshness.somebody_got_in(before, (), pid)
    assert freshness.somebody_got_in(before, ("sudo", PYTHON), pid)


def test_an_older_one_does_not(hosted: Hosted) -> None:
    pid = hosted("libpam.so.0")
    assert not freshness.somebody_got_in(now(), (), pid)


def test_what_asked_nobody_does_not(hosted: Hosted) -> None:
    before = now()
    assert not freshness.somebody_got_in(before, (), hosted(""))


def test_another_program_than_the_one_that_changed_does_not(hosted: Hosted) -> None:
    before = now()
    assert not freshness.somebody_got_in(before, ("sudo",), hosted("libpam.so.0"))


def test_what_is_gone_does_not() -> None:
    assert not freshness.somebody_got_in(0, (), 2**22 + 1)


def test_programs() -> None:
    assert freshness.programs(["sudo", "sudo-i", "common-auth", "sshd"]) == ("sudo", "sshd")
    assert freshness.programs(["gdm-password"]) == ()


def test_sudo_forgets_who_has_answered(root: Path, sudo: Path, run: Run) -> None:
    marks = root / "run/sudo/ts"
    marks.mkdir(parents=True)
    (marks / "alice").touch()
    run("try", "enable", "sudo")
    assert list(marks.iterdir()) == []
