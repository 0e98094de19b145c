"""pam-mfad and pam-mfa-engine up to the moment Python runs: roles, misuse, the drop, what Python finds."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from machine import DEADLINE
from native.engine_machine import DAEMON, ENGINE, KEY, STUB, Ended, StubMachine

ROLES = {"engine": [], "manage": ["--manage"], "prepare": ["--prepare"]}
WATCHDOG_EXIT = 3
MISUSE = 2


def account(box: StubMachine) -> tuple[str, str]:
    uid, gid = box.run(["/usr/bin/getent", "passwd", "pam-mfa"]).stdout.split(":")[2:4]
    return uid, gid


def run_role(box: StubMachine, role: str, **options: Any) -> Ended:
    if role == "prepare":
        return box.to_end([ENGINE, "--prepare"], **options)
    return box.session(*ROLES[role], **options)


# Roles


@pytest.mark.parametrize("role", ROLES)
def test_the_flag_chooses_the_role(box: StubMachine, role: str) -> None:
    ended = run_role(box, role)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.report["role"] == role
    assert ended.report["argv"] == [role]
    assert ended.report["sockets"] == ({} if role == "prepare" else {"session": 3, "devices": 5})


@pytest.mark.parametrize(
    "argv",
    [
        ["/usr/lib/pam-mfa/odd"],
        [DAEMON, "--manage"],
        [DAEMON, "x"],
        [ENGINE, "--prepare", "--prepare"],
        [ENGINE, "--service"],
        [ENGINE, ""],
    ],
)
def test_an_unknown_name_or_argument_is_misuse(box: StubMachine, argv: list[str]) -> None:
    box.run(["/bin/ln", DAEMON, "/usr/lib/pam-mfa/odd"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ended = box.to_end(argv, session=theirs)
    assert ended.status == MISUSE
    assert ended.stderr.count("\n") == 1
    assert ended.report == {}


def test_no_name_at_all_is_misuse(box: StubMachine) -> None:
    assert box.run(["/bin/bash", "-c", f"exec -a '' {ENGINE}"], check=False).returncode == MISUSE


@pytest.mark.parametrize("flags", [[], ["--manage"]])
@pytest.mark.parametrize("what", ["nothing", "file", "stream", "dgram", "listener", "inet"])
def test_a_session_must_be_a_seqpacket_socket_on_fd_3(box: StubMachine, flags: list[str], what: str) -> None:
    if what in {"nothing", "file"}:
        ended = box.to_end([ENGINE, *flags], redirect="3<&-" if what == "nothing" else "3</etc/passwd")
    else:
        kinds = {
            "stream": (socket.AF_UNIX, socket.SOCK_STREAM),
            "dgram": (socket.AF_UNIX, socket.SOCK_DGRAM),
            "listener": (socket.AF_UNIX, socket.SOCK_SEQPACKET),
            "inet": (socket.AF_INET, socket.SOCK_STREAM),
        }
        with socket.socket(*kinds[what]) as wrong:
            if what == "listener":
                wrong.bind("")
                wrong.listen()
            ended = box.to_end([ENGINE, *flags], session=wrong)
    assert ended.status == MISUSE
    assert "fd 3" in ended.stderr
    assert ended.report == {}


@pytest.mark.parametrize(("user", "group"), [("nobody", "nogroup"), ("pam-mfa", "pam-mfa")])
@pytest.mark.parametrize("argv", [[DAEMON], [ENGINE], [ENGINE, "--manage"], [ENGINE, "--prepare"]])
def test_only_root_may_start_it_by_hand(box: StubMachine, user: str, group: str, argv: list[str]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = f'set -- /usr/bin/setpriv --reuid={user} --regid={group} --clear-groups "$@"'
        ended = box.to_end(argv, session=theirs, before=before)
    assert ended.status == MISUSE
    assert ended.stderr.count("\n") == 1
    assert ended.report == {}


def test_another_user_with_systemds_variables_is_misuse(box: StubMachine) -> None:
    box.run(["/usr/sbin/useradd", "mallory"])
    env = {"LISTEN_FDS": "3", "LISTEN_PID": "1", "LISTEN_FDNAMES": "priv:user:manage"}
    ended = box.to_end([DAEMON], user="mallory", env=env)
    assert (ended.status, ended.report) == (MISUSE, {})


def test_without_the_account_nothing_starts(box: StubMachine) -> None:
    box.run(["/bin/sed", "-i", "s/^pam-mfa:/other:/", "/etc/passwd"])
    ended = box.session(code=None, env={})
    assert ended.status == 1
    assert "no account pam-mfa" in ended.stderr
    assert ended.report == {}


# The drop


@pytest.mark.parametrize("role", ROLES)
def test_python_runs_without_any_privilege(box: StubMachine, role: str) -> None:
    uid, gid = account(box)
    before = 'set -- /usr/bin/setpriv --inh-caps=+chown,+setuid --ambient-caps=+chown,+setuid --groups=0,1,4 "$@"'
    report = run_role(box, role, before=before).report
    status = report["status"]
    assert status["Uid"].split() == [uid] * 4
    assert status["Gid"].split() == [gid] * 4
    assert status["Groups"].strip() == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert report["dumpable"] == 0


def test_capabilities_go_also_where_the_kernel_would_leave_them(box: StubMachine) -> None:
    before = 'set -- /usr/bin/setpriv --securebits=+no_setuid_fixup "$@"'
    ended = run_role(box, "engine", before=before)
    assert int(ended.report["status"]["CapPrm"], 16) == 0
    assert int(ended.report["status"]["CapEff"], 16) == 0


# What Python finds


def test_nothing_of_the_caller_is_left(box: StubMachine) -> None:
    before = "umask 000; cd /tmp; ulimit -c unlimited; trap '' TERM HUP INT CHLD; exec 7</etc/passwd 8</etc/group 4>&1"
    report = run_role(box, "engine", before=before).report
    assert (report["cwd"], report["umask"], report["core"]) == ("/", 0o077, [0, 0])
    ignored = int(report["status"]["SigIgn"], 16)
    assert ignored == 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert int(report["status"]["SigBlk"], 16) == 0
    fds = {int(number): target for number, target in report["fds"].items()}
    assert fds[3].startswith("socket:")
    assert fds[4] == "/etc/pam-mfa/seal.key"
    assert fds[5].startswith("socket:")
    others = {target for number, target in fds.items() if number > 5}
    known = {"anon_inode:[timerfd]", "anon_inode:[pidfd]", "/run/pam-mfa/engine-0.lock", "/proc/self/fd"}
    assert others <= known | {target for target in others if target.startswith("/proc/")}
    assert set(fds) - {0, 1, 2} <= set(report["cloexec"]) | {fd for fd, target in fds.items() if "/fd" in target}


def test_blocked_signals_are_unblocked(box: StubMachine) -> None:
    box.stub()
    code = (
        "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    before = f"set -- /usr/bin/python3 -I -c '{code}' \"$@\""
    report = run_role(box, "engine", before=before).report
    assert int(report["status"]["SigBlk"], 16) == 0


def test_the_seal_key_is_open_for_reading_on_fd_4(box: StubMachine) -> None:
    for role in ROLES:
        report = run_role(box, role).report
        assert bytes.fromhex(report["key"]) == KEY
        assert report["key_mode"] == os.O_RDONLY


@pytest.mark.parametrize("role", ["engine", "manage"])
def test_closed_standard_fds_are_the_null_device(box: StubMachine, role: str) -> None:
    report = run_role(box, role, redirect="<&- >&- 2>&-").report
    assert [report["fds"][number] for number in "012"] == ["/dev/null"] * 3


KEPT = {
    "NOTIFY_SOCKET": "/run/x",
    "WATCHDOG_USEC": "1",
    "WATCHDOG_PID": "2",
    "CREDENTIALS_DIRECTORY": "/run/c",
    "JOURNAL_STREAM": "8:9",
}
HOSTILE = {
    "PYTHONPATH": "/tmp/evil", "PYTHONHOME": "/tmp/evil", "PYTHONSTARTUP": "/tmp/evil/json.py", "PYTHONINSPECT": "1",
    "PYTHONUSERBASE": "/tmp/evil", "PYTHONPLATLIBDIR": "evil", "PYTHONMALLOC": "debug", "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "error", "PYTHONBREAKPOINT": "evil", "PYTHONEXECUTABLE": "/tmp/x",
    "PYTHONPYCACHEPREFIX": "/tmp/evil", "PYTHONDONTWRITEBYTECODE": "", "PYTHONVERBOSE": "3", "PYTHONTRACEMALLOC": "9",
    "LC_ALL": "C", "LANG": "tr_TR.ISO-8859-9", "TZ": "/tmp/evil/tz", "HOME": "/tmp/evil", "TMPDIR": "/tmp/evil",
    "XDG_CONFIG_HOME": "/tmp/evil", "OPENSSL_CONF": "/tmp/evil/openssl.cnf", "SSLKEYLOGFILE": "/tmp/evil/keys",
    "NOTIFY_SOCKETS": "x", "http_proxy": "x", "PATH": "/tmp/evil", "LD_BIND_NOW": "1",
}  # fmt: skip
EVIL = 'import pathlib; pathlib.Path("/tmp/evil/ran").touch()\n'


@pytest.mark.parametrize("role", ROLES)
def test_the_environment_has_no_effect(box: StubMachine, role: str) -> None:
    for name in ("json", "sitecustomize", "usercustomize", "os", "encodings", "_cffi_backend", "pam_mfa"):
        box.write(f"/tmp/evil/{name}.py", EVIL)
    box.run(["/bin/chmod", "0777", "/tmp/evil"])
    ended = run_role(box, role, env=HOSTILE | KEPT, before="cd /tmp/evil")
    assert ended.status == 0, ended.stderr
    assert ended.report["environment"] == KEPT
    assert not box.path("/tmp/evil/ran").exists()
    assert not list(box.path("/tmp/evil").glob("**/*.pyc"))


def test_python_is_isolated(box: StubMachine) -> None:
    report = run_role(box, "engine").report
    stdlib = Path(json.__file__).resolve().parent.parent
    version = stdlib.name
    assert report["path"] == [str(stdlib), str(stdlib / "lib-dynload"), "/usr/lib/pam-mfa/site"]
    assert version.startswith("python3.")
    assert set(report["flags"].values()) == {1}
    assert len(set(report["prefixes"])) == 1
    assert "site" not in report["modules"]


# How it ends


@pytest.mark.parametrize(("answer", "status"), [("0", 0), ("7", 7), ("0x1ff", 255)])
def test_the_exit_status_is_what_python_returned(box: StubMachine, answer: str, status: int) -> None:
    box.stub(f"def run(role, sockets): return {answer}")
    assert box.to_end([ENGINE, "--prepare"]).status == status


@pytest.mark.parametrize(
    "code",
    [
        "def run(role, sockets): raise ValueError('hunter2')",
        "def run(role, sockets): raise SystemExit(0)",
        "def run(role, sockets): raise KeyboardInterrupt",
        "def run(role, sockets): return 'hunter2'",
        "def run(role, sockets): return None",
        "def run(role): return 0",
        "raise RuntimeError('at import')",
        "import no_such_module",
        "def ran(role, sockets): return 0",
        "this is not Python",
    ],
)
def test_python_that_fails_is_a_failure_and_says_nothing_of_values(box: StubMachine, code: str) -> None:
    ended = box.session(code=code)
    assert ended.status == 1
    assert ended.report == {}
    assert ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("missing", ["/usr/lib/pam-mfa/site", f"{STUB}/pam_mfa", f"{STUB}/_cffi_backend*"])
def test_missing_python_parts_are_a_failure(box: StubMachine, missing: str) -> None:
    box.run(["/bin/sh", "-c", f"rm -rf {missing}"])
    ended = box.session(code=None)
    assert (ended.status, ended.report) == (1, {})


SPIN = """
def run(role, sockets):
    import ctypes, os
    os.write(3, b'{}')
    ctypes.PyDLL(None).sleep(3600)  # keeps Python's lock
"""


@pytest.mark.parametrize("flags", [[], ["--manage"]])
def test_a_hanging_engine_ends_when_its_client_is_gone(box: StubMachine, flags: list[str]) -> None:
    box.stub(SPIN)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = box.start([ENGINE, *flags], theirs)
    theirs.close()
    assert ours.recv(100) == b"{}"
    assert process.poll() is None
    ours.close()
    assert process.wait(DEADLINE) == WATCHDOG_EXIT


def test_an_engine_whose_client_went_before_the_start_ends(box: StubMachine) -> None:
    box.stub(SPIN.replace("os.write(3, b'{}')", ""))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    process = box.start([ENGINE], theirs)
    theirs.close()
    assert process.wait(DEADLINE) == WATCHDOG_EXIT


# --prepare


def test_prepare_makes_the_state_directory(box: StubMachine) -> None:
    assert box.to_end([ENGINE, "--prepare"]).status == 0
    about = box.path("/var/lib/pam-mfa").stat()
    assert (str(about.st_uid), about.st_mode & 0o7777) == (account(box)[0], 0o700)
    assert box.to_end([ENGINE, "--prepare"]).status == 0, "a second time changes nothing"


def test_prepare_goes_on_where_it_was_killed_between_two_steps(box: StubMachine) -> None:
    box.run(["/bin/mkdir", "-m", "0700", "/var/lib/pam-mfa"])
    assert box.to_end([ENGINE, "--prepare"]).status == 0
    assert str(box.path("/var/lib/pam-mfa").stat().st_uid) == account(box)[0]


@pytest.mark.parametrize(
    "spoil",
    ["mkdir -m 0700 DIR; chown nobody DIR", "mkdir -m 0755 DIR; chown pam-mfa DIR", "ln -s /tmp DIR", "touch DIR",
     "mkdir -m 0777 /tmp/x; chown pam-mfa /tmp/x; ln -s /tmp/x DIR"],
)  # fmt: skip
def test_prepare_refuses_a_state_directory_of_others(box: StubMachine, spoil: str) -> None:
    box.run(["/bin/sh", "-c", spoil.replace("DIR", "/var/lib/pam-mfa")])
    ended = box.to_end([ENGINE, "--prepare"])
    assert ended.status == 1
    assert "/var/lib/pam-mfa" in ended.stderr
    assert ended.report == {}
