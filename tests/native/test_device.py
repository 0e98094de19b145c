"""pam-mfa-device up to the moment Python runs: its socket, who it becomes, what it never has."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from typing import Any

import pytest
from machine import DEADLINE, wait_for
from native.engine_machine import DAEMON, DEVICE, ENGINE, StubMachine
from native.test_engine_service import LISTEN

MISUSE, WATCHDOG_EXIT = 2, 3
PATH = "/run/pam-mfa/device.sock"
AS_ACCOUNT = ["/usr/bin/setpriv", "--reuid=pam-mfa-device", "--regid=pam-mfa-device", "--init-groups"]

# Tells about itself, whoever connects too, then waits for its end.
SERVE = """
def serve(listener):
    import json, select, socket
    os.write(1, (json.dumps(about()) + "\\n").encode())
    while True:
        select.select([listener], [], [])
        connection, _ = listener.accept()
        connection.send(b"here")
        connection.close()
"""
HANG = """
def serve(listener):
    import ctypes
    os.write(1, b"{}\\n")
    ctypes.PyDLL(None).sleep(3600)  # keeps Python's lock
"""


def ids(box: StubMachine, user: str = "pam-mfa-device") -> list[int]:
    """uid, gid."""
    return [int(word) for word in box.run(["/usr/bin/getent", "passwd", user]).stdout.split(":")[2:4]]


def start(
    box: StubMachine, argv: list[str] | None = None, code: str = SERVE, **options: Any
) -> subprocess.Popen[bytes]:
    box.stub_devices(code)
    return box.start(argv or [DEVICE], **options)


def told(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The report of a service that has come up."""
    assert process.stdout
    assert process.stderr
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return dict(json.loads(line))


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    process.send_signal(number)
    process.wait(DEADLINE)


def answers(box: StubMachine) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(DEADLINE)
        caller.connect(str(box.path(PATH)))
        return caller.recv(10) == b"here"


def test_it_binds_its_socket_as_root_and_serves_without(box: StubMachine) -> None:
    process = start(box)
    about = told(process)
    uid, gid = ids(box)
    assert about["status"]["Uid"].split() == [str(uid)] * 4
    assert about["status"]["Gid"].split() == [str(gid)] * 4
    assert about["status"]["Groups"] == ""
    assert about["status"]["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(about["status"][name], 16) == 0, name
    assert (about["argv"], about["isolated"], about["core"]) == (["device"], 1, [0, 0])
    found = box.path(PATH).stat()
    assert (stat.S_ISSOCK(found.st_mode), found.st_mode & 0o7777) == (True, 0o600)
    assert found.st_uid == ids(box, "pam-mfa")[0]
    assert answers(box)
    end(process)


def test_it_has_neither_key_nor_store(box: StubMachine) -> None:
    box.run([ENGINE, "--prepare"])
    process = start(box, redirect="3</etc/pam-mfa/seal.key 7</etc/pam-mfa/seal.key")
    about = told(process)
    assert "/etc/pam-mfa/seal.key" not in about["fds"].values()
    assert about["denied"] == dict.fromkeys(("/var/lib/pam-mfa", "/etc/pam-mfa/seal.key"), "Permission denied")
    assert not {name for name in about["modules"] if name.startswith(("pam_mfa.engine", "pam_mfa.store", "sqlite3"))}
    end(process)


def test_it_is_in_the_groups_that_the_administrator_put_it_in(box: StubMachine) -> None:
    box.run(["/usr/sbin/groupadd", "keys"])
    box.run(["/usr/sbin/groupadd", "readers"])
    box.run(["/usr/sbin/usermod", "--append", "--groups", "keys,readers", "pam-mfa-device"])
    before = 'set -- /usr/bin/setpriv --groups=0,1,4 "$@"'
    process = start(box, before=before)
    expected = [box.run(["/usr/bin/getent", "group", name]).stdout.split(":")[2] for name in ("keys", "readers")]
    assert sorted(told(process)["status"]["Groups"].split()) == sorted(expected)
    end(process)


def test_the_callers_environment_does_not_reach_it(box: StubMachine) -> None:
    """libpcsclite would take its socket from there."""
    kept = {"NOTIFY_SOCKET": "/run/x"}
    process = start(box, env=kept | {"PCSCLITE_CSOCK_NAME": "/tmp/evil", "PCSCLITE_NO_BLOCKING": "1", "PATH": "/tmp"})
    assert told(process)["environment"] == kept
    end(process)


@pytest.mark.parametrize("code", ["", "import no_such_module", "def serve(): return 0", "serve = None"])
def test_without_its_python_it_fails(box: StubMachine, code: str) -> None:
    box.stub_devices(code)
    ended = box.to_end([DEVICE])
    assert ended.status == 1
    assert "Error at " in ended.stderr
    box.wait_for_journal("Error at ")


@pytest.mark.parametrize("argv", [[DEVICE, "x"], [DEVICE, "--manage"], [DEVICE, "--prepare"]])
def test_it_takes_no_argument(box: StubMachine, argv: list[str]) -> None:
    assert box.to_end(argv).status == MISUSE


@pytest.mark.parametrize("user", ["nobody", "pam-mfa", "pam-mfa-device"])
def test_only_root_may_start_it_by_hand(box: StubMachine, user: str) -> None:
    before = f'set -- /usr/bin/setpriv --reuid={user} --clear-groups "$@"'
    ended = box.to_end([DEVICE], before=before)
    assert (ended.status, ended.stderr.count("\n")) == (MISUSE, 1)


def test_without_its_account_it_does_not_start(box: StubMachine) -> None:
    box.run(["/usr/sbin/userdel", "pam-mfa-device"])
    box.stub_devices(SERVE)
    ended = box.to_end([DEVICE])
    assert (ended.status, ended.report) == (1, {})
    assert "no account pam-mfa-device" in ended.stderr


# With systemd


def listening(box: StubMachine, kinds: str = "good", names: str = "device", count: str = "1") -> list[str]:
    """The command line that starts it the way systemd does."""
    box.write("/tmp/listen.py", LISTEN)
    return ["/usr/bin/python3", "-I", "/tmp/listen.py", kinds, names, count, "own"]


@pytest.mark.parametrize("as_account", [True, False])
def test_systemds_socket_is_taken(box: StubMachine, as_account: bool) -> None:
    process = start(box, [*listening(box), *(AS_ACCOUNT if as_account else []), DEVICE])
    about = told(process)
    assert about["status"]["Uid"].split() == [str(ids(box)[0])] * 4
    assert about["environment"] == {}
    assert answers(box)
    end(process)


@pytest.mark.parametrize(
    ("kinds", "names", "count"),
    [
        ("good", "priv", "1"),
        ("good", "", "1"),
        ("good", "device:device", "1"),
        ("good,good", "device:device", "2"),
        ("good,good,good", "priv:user:manage", "3"),
        ("deaf", "device", "1"),
        ("stream", "device", "1"),
        ("file", "device", "1"),
        ("good", "device", ""),
    ],
)
def test_sockets_that_do_not_fit_are_refused(box: StubMachine, kinds: str, names: str, count: str) -> None:
    box.stub_devices(SERVE)
    ended = box.to_end([*listening(box, kinds, names, count), *AS_ACCOUNT, DEVICE])
    assert (ended.status, ended.report) == (1, {})
    assert "LISTEN_" in ended.stderr


@pytest.mark.parametrize("user", ["nobody", "pam-mfa"])
def test_another_user_with_its_socket_is_misuse(box: StubMachine, user: str) -> None:
    box.stub_devices(SERVE)
    become = ["/usr/bin/setpriv", f"--reuid={user}", "--clear-groups"]
    ended = box.to_end([*listening(box), *become, DEVICE])
    assert (ended.status, ended.report) == (MISUSE, {})


# Without systemd: pam-mfad starts it

SERVICE = """
def run(role, sockets):
    import os, signal
    os.write(1, b"{}\\n")
    signal.pause()
"""


def devices(box: StubMachine) -> list[int]:
    return box.processes("pam-mfa-device")


def service(box: StubMachine, code: str = SERVE, **options: Any) -> subprocess.Popen[bytes]:
    box.stub(SERVICE)
    box.stub_devices(code)
    process = box.start([DAEMON], **options)
    told(process)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("code", [SERVE, HANG], ids=["serves", "hangs"])
def test_it_lives_as_long_as_the_service(box: StubMachine, number: int, code: str) -> None:
    process = service(box, code, env={"NOTIFY_SOCKET": "/run/x", "PCSCLITE_CSOCK_NAME": "/tmp/evil"})
    told(process)  # of the two the second to come up
    [pid] = devices(box)
    if code == SERVE:
        assert answers(box)
    with open(f"/proc/{pid}/environ", "rb") as environment:
        assert environment.read() == b""
    fds = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert not {target for target in fds if target.endswith(("seal.key", ".lock"))}
    found = box.path(PATH).stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o600, ids(box, "pam-mfa")[0])
    end(process, number)
    wait_for("the end of the device service", lambda: not devices(box))


@pytest.mark.parametrize("spoil", ["userdel pam-mfa-device", "rm /usr/lib/pam-mfa/pam-mfa-device"])
def test_logins_go_on_without_it(box: StubMachine, spoil: str) -> None:
    box.run(["/bin/sh", "-c", spoil])
    process = service(box)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.connect(str(box.path("/run/pam-mfa/priv.sock")))
    assert devices(box) == []
    assert process.poll() is None
    end(process)
