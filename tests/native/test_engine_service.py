"""pam-mfad as it starts: its own sockets without systemd, systemd's with it, and the one instance that may be."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import struct
import subprocess
from typing import Any

import pytest
from machine import DEADLINE, wait_for
from native.engine_machine import DAEMON, KEY, Ended, StubMachine

SOCKETS = {
    "priv": ("root", 0o600),
    "user": ("root", 0o666),
    "manage": ("root", 0o666),
    "password": ("pam-mfa", 0o600),
    "device": ("pam-mfa", 0o600),
}

# Tells about itself, then serves: who connects is told the socket's name.
SERVE = """
def run(role, sockets):
    import json, os, select, signal, socket
    about = report(role, sockets)
    about["inodes"] = {name: os.fstat(fd).st_ino for name, fd in sockets.items()}
    about["blocking"] = [name for name, fd in sockets.items() if os.get_blocking(fd)]
    os.write(1, (json.dumps(about) + "\\n").encode())
    listeners = {fd: (name, socket.socket(fileno=os.dup(fd))) for name, fd in sockets.items()}
    while True:
        for fd in select.select(list(listeners), [], [])[0]:
            connection, _ = listeners[fd][1].accept()
            connection.send(listeners[fd][0].encode())
            connection.close()
"""


def start(box: StubMachine, argv: list[str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    box.stub(SERVE)
    return box.start(argv or [DAEMON], **options)


def told(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The report of a service that has come up."""
    assert process.stdout
    assert process.stderr
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return dict(json.loads(line))


def call(box: StubMachine, name: str) -> tuple[str, int]:
    """What the service says to a caller of this socket, and the uid that the kernel gives for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(DEADLINE)
        caller.connect(str(box.path(f"/run/pam-mfa/{name}.sock")))
        uid = struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        return caller.recv(100).decode(), uid


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    process.send_signal(number)
    process.wait(DEADLINE)


# Without systemd


def test_it_binds_its_sockets_as_root_and_serves_them_without(box: StubMachine) -> None:
    process = start(box)
    about = told(process)
    assert about["role"] == "service"
    assert sorted(about["sockets"]) == ["manage", "priv", "user"]
    assert about["blocking"] == []
    assert about["status"]["NoNewPrivs"] == "1"
    assert int(about["status"]["CapPrm"], 16) == 0
    assert "0" not in about["status"]["Uid"].split()
    assert bytes.fromhex(str(about["key"])) == KEY
    for name, (owner, mode) in SOCKETS.items():
        status = box.path(f"/run/pam-mfa/{name}.sock").stat()
        uid = int(box.run(["/usr/bin/id", "-u", owner]).stdout)
        assert (stat.S_ISSOCK(status.st_mode), status.st_mode & 0o7777, status.st_uid) == (True, mode, uid)
        if name not in {"password", "device"}:
            assert call(box, name) == (name, 0), "the listener must be root's for the shim"
    assert sorted(path.name for path in box.path("/run/pam-mfa").iterdir()) == sorted(
        [f"{name}.sock" for name in SOCKETS] + ["pam-mfad.lock", "pending"]
    )
    end(process)


def test_a_second_service_is_refused_and_the_first_goes_on(box: StubMachine) -> None:
    first = start(box)
    told(first)
    second = box.to_end([DAEMON])
    assert second.status == 1
    assert "another pam-mfad" in second.stderr
    assert call(box, "priv") == ("priv", 0)
    end(first)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_starts_again_after_any_end(box: StubMachine, number: int) -> None:
    for _ in range(3):
        process = start(box)
        told(process)
        assert call(box, "user") == ("user", 0)
        end(process, number)


def test_left_over_half_made_sockets_do_not_matter(box: StubMachine) -> None:
    box.run(["/bin/sh", "-c", "mkdir -m 0755 /run/pam-mfa; touch /run/pam-mfa/priv.sock.new /run/pam-mfa/user.sock"])
    process = start(box)
    told(process)
    assert call(box, "priv") == ("priv", 0)
    assert call(box, "user") == ("user", 0)
    end(process)


def test_the_callers_fds_are_not_kept(box: StubMachine) -> None:
    process = start(box, redirect="3</etc/passwd 5</etc/group 9</etc/hosts")
    fds = told(process)["fds"]
    assert not {"/etc/passwd", "/etc/group", "/etc/hosts"} & set(fds.values())
    end(process)


def helpers(box: StubMachine) -> list[int]:
    return box.processes("pam-mfa-password")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_password_helper_lives_as_long_as_the_service(box: StubMachine, number: int) -> None:
    process = start(box, env={"NOTIFY_SOCKET": "/run/x"})
    told(process)
    [helper] = wait_for("the helper", lambda: helpers(box))
    with open(f"/proc/{helper}/status") as file:
        assert "Uid:\t0\t0\t0\t0\n" in file.read()
    fds = {int(name): os.readlink(f"/proc/{helper}/fd/{name}") for name in os.listdir(f"/proc/{helper}/fd")}
    assert sorted(fds) == [0, 1, 2, 3]
    with open(f"/proc/{helper}/environ", "rb") as environment:
        assert environment.read() == b""
    end(process, number)
    wait_for("the end of the helper", lambda: not helpers(box))


def test_logins_go_on_where_the_password_helper_is_missing(box: StubMachine) -> None:
    box.run(["/bin/rm", "/usr/lib/pam-mfa/pam-mfa-password"])
    process = start(box)
    told(process)
    assert call(box, "priv") == ("priv", 0)
    end(process)


# With systemd

LISTEN = """
import os, socket, sys
kinds, names, count, pid, argv = sys.argv[1].split(","), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]
os.makedirs("/run/pam-mfa", exist_ok=True)
sockets = []
for number, kind in enumerate(kinds):
    if kind == "file":
        sockets.append(open("/etc/passwd"))
        continue
    made = socket.socket(socket.AF_INET if kind == "inet" else socket.AF_UNIX,
                         socket.SOCK_SEQPACKET if kind in ("good", "deaf", "blocking") else socket.SOCK_STREAM)
    if kind != "inet":
        name = names.split(":")[number:][:1]
        made.bind(f"/run/pam-mfa/{name[0]}.sock" if name and names.count(name[0]) == 1 else "")
    if kind != "deaf":
        made.listen()
    sockets.append(made)
high = [os.dup2(made.fileno(), 100 + number) for number, made in enumerate(sockets)]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
os.closerange(3 + len(high), 200)
environment = {"PATH": "/usr/bin:/usr/sbin", "LISTEN_FDNAMES": names, "LISTEN_FDS": count,
               "LISTEN_PID": {"own": str(os.getpid()), "parent": str(os.getppid())}.get(pid, pid)}
if "CREDENTIALS_DIRECTORY" in os.environ:
    environment["CREDENTIALS_DIRECTORY"] = os.environ["CREDENTIALS_DIRECTORY"]
os.execve(argv[0], argv, environment)
"""
AS_ACCOUNT = ["/usr/bin/setpriv", "--reuid=pam-mfa", "--regid=pam-mfa", "--clear-groups", "--inh-caps=-all"]


def listening(
    box: StubMachine,
    kinds: str = "good,good,good",
    names: str = "priv:user:manage",
    count: str = "3",
    pid: str = "own",
    account: bool = True,
) -> list[str]:
    """The command line that starts pam-mfad the way systemd does."""
    box.write("/tmp/listen.py", LISTEN)
    return [
        "/usr/bin/python3", "-I", "/tmp/listen.py", kinds, names, count, pid, *(AS_ACCOUNT if account else []), DAEMON
    ]  # fmt: skip


@pytest.fixture
def credentials(box: StubMachine) -> str:
    """The directory that systemd makes for LoadCredential, as it looks where ACLs are not there."""
    box.run(
        ["/bin/sh", "-c", "mkdir -p /run/c; cp /etc/pam-mfa/seal.key /run/c; chown -R pam-mfa /run/c; chmod 500 /run/c"]
    )
    return "/run/c"


@pytest.mark.parametrize("names", ["priv:user:manage", "manage:user:priv"])
@pytest.mark.parametrize("account", [False, True])
def test_systemds_sockets_are_told_apart_by_name(box: StubMachine, credentials: str, names: str, account: bool) -> None:
    argv = listening(box, names=names, account=account)
    process = start(box, argv, env={"CREDENTIALS_DIRECTORY": credentials} if account else None)
    about = told(process)
    assert sorted(about["sockets"]) == ["manage", "priv", "user"]
    assert about["blocking"] == []
    assert bytes.fromhex(str(about["key"])) == KEY
    assert "0" not in about["status"]["Uid"].split()
    assert about["status"]["NoNewPrivs"] == "1"
    assert about["dumpable"] == 0
    for name in ("priv", "user", "manage"):
        assert call(box, name)[0] == name
    assert helpers(box) == [], "systemd has a unit for it"
    end(process)


def test_socket_activation_by_systemds_own_tool(box: StubMachine) -> None:
    box.run(["/bin/mkdir", "-m", "0755", "/run/pam-mfa"])
    argv = ["/usr/bin/systemd-socket-activate", "--seqpacket", "--fdname=priv:user:manage"]
    argv += [f"--listen=/run/pam-mfa/{name}.sock" for name in ("priv", "user", "manage")]
    process = start(box, [*argv, DAEMON])
    wait_for("the sockets", lambda: box.path("/run/pam-mfa/manage.sock").exists())
    assert wait_for_call(box, "manage") == ("manage", 0)
    assert call(box, "priv") == ("priv", 0)
    end(process)


def wait_for_call(box: StubMachine, name: str) -> tuple[str, int]:
    def called() -> tuple[str, int] | None:
        try:
            return call(box, name)
        except ConnectionRefusedError:
            return None  # bound, not yet listening

    answer: tuple[str, int] = wait_for(name, called)
    return answer


@pytest.mark.parametrize("account", [False, True])
@pytest.mark.parametrize(
    ("kinds", "names", "count", "pid"),
    [
        ("good,good", "priv:user", "2", "own"),
        ("good,good,good,good", "priv:user:manage:more", "4", "own"),
        ("good,good,good", "priv:user:other", "3", "own"),
        ("good,good,good", "priv:user:user", "3", "own"),
        ("good,good,good", "priv:user", "3", "own"),
        ("good,good,good", "priv:user:manage:more", "3", "own"),
        ("good,good,good", "priv:user:", "3", "own"),
        ("good,good,good", "priv:user:manage:", "3", "own"),
        ("good,good,good", "unknown", "3", "own"),
        ("good,good,good", "", "3", "own"),
        ("good,good,good", "priv:user:manage", "3", "parent"),
        ("good,good,good", "priv:user:manage", "3", ""),
        ("good,good,good", "priv:user:manage", "", "own"),
        ("good,good,good", "priv:user:manage", "03", "own"),
        ("good,good", "priv:user:manage", "3", "own"),
        ("good,good,stream", "priv:user:manage", "3", "own"),
        ("deaf,good,good", "priv:user:manage", "3", "own"),
        ("good,inet,good", "priv:user:manage", "3", "own"),
        ("good,good,file", "priv:user:manage", "3", "own"),
    ],
)
def test_sockets_that_do_not_fit_are_refused(
    box: StubMachine, credentials: str, kinds: str, names: str, count: str, pid: str, account: bool
) -> None:
    argv = listening(box, kinds, names, count, pid, account)
    ended = box.to_end(argv, env={"CREDENTIALS_DIRECTORY": credentials})
    assert ended.status == 1
    assert "LISTEN_" in ended.stderr
    assert ended.report == {}


SPOILT = {
    "absent": "rm /run/c/seal.key",
    "readable by all": "chmod 0404 /run/c/seal.key",
    "writable by its group": "chmod 0420 /run/c/seal.key",
    "of another owner": "chown nobody /run/c/seal.key; chmod 0440 /run/c/seal.key; chgrp pam-mfa /run/c/seal.key",
    "too short": "truncate -s 31 /run/c/seal.key",
    "a link": "ln -sf /etc/passwd /run/c/seal.key",
    "in a directory that others may change": "chmod 0777 /run/c",
    "in a directory of another owner": "chown nobody /run/c; chmod 0755 /run/c",
    "without a directory": "rm -r /run/c",
}


def refused_credential(ended: Ended) -> None:
    assert ended.status == 1
    assert ended.report == {}
    assert "/run/c" in ended.stderr


@pytest.mark.parametrize("how", SPOILT)
def test_a_credential_in_the_wrong_hands_is_refused(box: StubMachine, credentials: str, how: str) -> None:
    box.run(["/bin/sh", "-c", SPOILT[how]])
    argv = listening(box)
    refused_credential(box.to_end(argv, env={"CREDENTIALS_DIRECTORY": credentials}))


def test_a_credential_that_an_acl_lets_the_account_read_is_taken(box: StubMachine, credentials: str) -> None:
    script = "chown root:pam-mfa /run/c /run/c/seal.key; chmod 0550 /run/c; chmod 0440 /run/c/seal.key"
    box.run(["/bin/sh", "-c", script])
    argv = listening(box)
    process = start(box, argv, env={"CREDENTIALS_DIRECTORY": credentials})
    assert bytes.fromhex(str(told(process)["key"])) == KEY
    end(process)


def test_without_a_credential_the_account_cannot_start_it(box: StubMachine) -> None:
    ended = box.to_end(listening(box))
    assert ended.status == 1
    assert "LoadCredential" in ended.stderr
    assert ended.report == {}
