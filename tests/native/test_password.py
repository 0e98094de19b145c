"""pam-mfa-password: right and wrong passwords through the real pam_unix, and callers that mean no good."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from machine import DEADLINE, PASSWORDS, PYTHON, wait_for
from native.engine_machine import StubMachine

HELPER = "/usr/lib/pam-mfa/pam-mfa-password"
SOCKET = "/run/pam-mfa/password.sock"
PROVEN, NOT_PROVEN, GRANTED = 0x96, 0x69, 0xA5
NONCE = bytes(range(100, 116))
NONCE_TAG, USER_TAG, PASSWORD_TAG = 1, 2, 3
UNIX = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n"
PASSWORD = PASSWORDS["alice"]
MAX_PASSWORD = 512


def field(tag: int, value: bytes) -> bytes:
    return struct.pack(">BH", tag, len(value)) + value


def frame(payload: bytes, version: int = 1, kind: int = 7, length: int | None = None) -> bytes:
    return struct.pack(">BBH", version, kind, len(payload) if length is None else length) + payload


def request(user: bytes, password: bytes, nonce: bytes = NONCE) -> bytes:
    return frame(field(NONCE_TAG, nonce) + field(USER_TAG, user) + field(PASSWORD_TAG, password))


class Helper:
    """The running helper of one machine."""

    def __init__(self, box: StubMachine) -> None:
        self.box = box
        self.process: subprocess.Popen[bytes] | None = None
        box.run(["/bin/mkdir", "-m", "0755", "/run/pam-mfa"])
        self.stack(UNIX)
        box.write("/etc/pam.d/other", "auth required pam_deny.so\naccount required pam_deny.so\n")
        self.start()

    def start(self, before: str = "") -> None:
        """Start it; `before` are words of the shell that does so."""
        path = str(self.box.path(SOCKET))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen(64)
            os.chmod(path, 0o666)  # the peer's uid must decide even where the file's mode does not
            self.process = self.box.start([HELPER], session=listener, before=before)

    def stop(self) -> None:
        """Kill it and take its socket away."""
        assert self.process
        self.process.kill()
        self.process.wait(DEADLINE)
        self.box.path(SOCKET).unlink()

    def stack(self, text: str) -> None:
        self.box.write("/etc/pam.d/pam-mfa", text)

    def connect(self) -> socket.socket:
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        caller.settimeout(DEADLINE)
        caller.connect(str(self.box.path(SOCKET)))
        return caller

    def send(self, packet: bytes) -> bytes:
        """The answer, empty where the helper hung up."""
        self.box.journal()  # modules block in syslog() where nobody reads
        with self.connect() as caller:
            try:
                caller.send(packet)
                return caller.recv(8192)
            except (ConnectionResetError, BrokenPipeError):
                return b""  # it hung up before it had read all

    def ask(self, user: str, password: str) -> int:
        """The code of a proper answer."""
        answer = self.send(request(user.encode(), password.encode()))
        version, kind, length, code, delay, nonce = struct.unpack(">BBHBI16s", answer)
        assert (version, kind, length, delay, nonce) == (1, 0x1F, 21, 0, NONCE)
        return int(code)

    def children(self) -> list[int]:
        assert self.process
        return [pid for pid in self.box.processes("pam-mfa-password") if pid != self.process.pid]


@pytest.fixture
def helper(box: StubMachine) -> Iterator[Helper]:
    helper = Helper(box)
    yield helper
    assert helper.process
    assert helper.process.poll() is None, "it must survive whatever was done to it"
    helper.stop()


def test_the_right_password_is_proven_and_nothing_else(helper: Helper) -> None:
    assert helper.ask("alice", PASSWORD) == PROVEN
    assert helper.ask("alice", PASSWORDS["bob"]) == NOT_PROVEN
    assert helper.ask("bob", PASSWORDS["bob"]) == PROVEN
    assert GRANTED not in {PROVEN, NOT_PROVEN}


ACCOUNTS: dict[str, tuple[str, int]] = {
    "locked": ("usermod --lock alice", NOT_PROVEN),
    "expired": ("usermod --expiredate 2020-01-01 alice", NOT_PROVEN),
    "to change its password": ("chage --lastday 0 alice", PROVEN),
    "with a password too old": ("chage --lastday 2020-01-01 --maxdays 1 --inactive 1 alice", NOT_PROVEN),
    "gone": ("userdel alice", NOT_PROVEN),
    "without a password": ("passwd --delete alice", NOT_PROVEN),
}


@pytest.mark.parametrize("what", ACCOUNTS)
def test_the_account_must_be_usable(helper: Helper, what: str) -> None:
    command, expected = ACCOUNTS[what]
    helper.box.run(["/bin/sh", "-c", command])
    assert helper.ask("alice", PASSWORD) == expected


def test_an_account_without_a_password_is_not_proven_by_nullok(helper: Helper) -> None:
    helper.box.run(["/usr/bin/passwd", "--delete", "alice"])
    helper.stack("auth required pam_unix.so nodelay nullok\naccount required pam_unix.so\n")
    assert helper.ask("alice", "anything") == NOT_PROVEN


STACKS = {
    "asks nothing": ("auth required pam_permit.so\naccount required pam_permit.so\n", NOT_PROVEN),
    "denies": ("auth required pam_deny.so\naccount required pam_permit.so\n", NOT_PROVEN),
    "denies the account": ("auth required pam_unix.so nodelay\naccount required pam_deny.so\n", NOT_PROVEN),
    "is not there": ("auth required no_such_module.so\naccount required pam_permit.so\n", NOT_PROVEN),
    "has no account part": ("auth required pam_unix.so nodelay\n", NOT_PROVEN),
    "asks twice": (
        "auth required pam_unix.so nodelay\nauth required pam_google_authenticator.so secret=/home/alice/otp\n" + UNIX,
        NOT_PROVEN,
    ),
    "says something": ("auth optional pam_echo.so file=/etc/hostname\n" + UNIX, PROVEN),
    "is empty": ("", NOT_PROVEN),
}


@pytest.mark.parametrize("what", STACKS)
def test_only_a_stack_that_took_the_password_proves_it(helper: Helper, what: str) -> None:
    text, expected = STACKS[what]
    otp = 'K7OWMWOOA3DWSEZHJVEJZOVDLQ\n" TOTP_AUTH\n'
    helper.box.write("/home/alice/otp", otp, 0o600, "alice:alice")
    helper.stack(text)
    assert helper.ask("alice", PASSWORD) == expected


@pytest.mark.parametrize(
    "user",
    ["../alice", "a/b", ".", "..", "-alice", "alice bob", "alice\n", "alice:x", "älice", "*", "alice%s", "$", "a$b"],
)  # fmt: skip
def test_a_name_that_is_not_portable_gets_no_answer_and_reaches_no_module(helper: Helper, user: str) -> None:
    helper.stack("auth required pam_exec.so expose_authtok /usr/bin/touch /tmp/asked\n" + UNIX)
    assert helper.send(request(user.encode(), PASSWORD.encode())) == b""
    assert not helper.box.path("/tmp/asked").exists()


def test_a_portable_name_reaches_the_modules(helper: Helper) -> None:
    """So that the test above can fail."""
    helper.stack("auth required pam_exec.so expose_authtok /usr/bin/touch /tmp/asked\n" + UNIX)
    for user in ("alice", "nobody-at-all", "A.b_c-1", "machine$", "svc+test", "CORP\\alice", "a" * 256):
        helper.ask(user, PASSWORD)
        assert helper.box.path("/tmp/asked").exists()
        helper.box.run(["/bin/rm", "/tmp/asked"])


def test_a_name_of_a_directory_proves_its_password(helper: Helper) -> None:
    helper.box.run(["/usr/sbin/useradd", "--badname", "alice@corp"])
    helper.box.run(["/usr/sbin/chpasswd", "--crypt-method", "SHA512"], input="alice@corp:a word of hers\n")
    assert helper.ask("alice@corp", "a word of hers") == PROVEN
    assert helper.ask("alice@corp", PASSWORD) == NOT_PROVEN


N, U, P = field(NONCE_TAG, NONCE), field(USER_TAG, b"alice"), field(PASSWORD_TAG, PASSWORD.encode())
HOSTILE: dict[str, bytes] = {
    "one byte": b"\1",
    "a header only": frame(b""),
    "wrong version": frame(N + U + P, version=2),
    "version 0": frame(N + U + P, version=0),
    "another type": frame(N + U + P, kind=1),
    "a result": frame(bytes([PROVEN, 0, 0, 0, 0]) + NONCE, kind=0x1F),
    "length too small": frame(N + U + P, length=3),
    "length too large": frame(N + U + P, length=0xFFFF),
    "bytes at the end": frame(N + U + P + b"\0"),
    "a cut field": frame(N + U + P[:-1]),
    "a cut field header": frame(N + U + P + b"\3\0"),
    "a field longer than the frame": frame(N + U + struct.pack(">BH", PASSWORD_TAG, 0xFFFF)),
    "an unknown field": frame(N + U + P + field(4, b"x")),
    "an optional field": frame(N + U + P + field(0x80, b"x")),
    "field 0": frame(N + U + P + field(0, b"x")),
    "field 255": frame(N + U + P + field(255, b"x")),
    "field 34": frame(N + U + P + field(34, b"bob")),
    "no nonce": frame(U + P),
    "no user": frame(N + P),
    "no password": frame(N + U),
    "another order": frame(P + U + N),
    "user and password swapped": frame(N + P + U),
    "two nonces": frame(N + N + U + P),
    "two users": frame(N + U + U + P),
    "two passwords": frame(N + U + P + P),
    "a short nonce": frame(field(NONCE_TAG, NONCE[:-1]) + U + P),
    "a long nonce": frame(field(NONCE_TAG, NONCE + b"x") + U + P),
    "an empty user": frame(N + field(USER_TAG, b"") + P),
    "an empty password": frame(N + U + field(PASSWORD_TAG, b"")),
    "NUL in the user": frame(N + field(USER_TAG, b"alice\0x") + P),
    "NUL in the password": frame(N + U + field(PASSWORD_TAG, PASSWORD.encode() + b"\0")),
    "a user of 257 bytes": frame(N + field(USER_TAG, b"a" * 257) + P),
    "a password of 513 bytes": frame(N + U + field(PASSWORD_TAG, b"p" * (MAX_PASSWORD + 1))),
    "the largest frame": frame(bytes(4096)),
    "more than a frame": frame(bytes(4097)),
    "64 KiB": frame(bytes(0xFFFF)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_frame_that_is_not_a_request_gets_no_answer(helper: Helper, what: str) -> None:
    assert helper.send(HOSTILE[what]) == b""
    assert helper.ask("alice", PASSWORD) == PROVEN


def test_the_longest_password_is_taken_whole(helper: Helper) -> None:
    longest = "p" * 511  # crypt(3) takes no more
    helper.box.run(["/usr/sbin/chpasswd", "--crypt-method", "SHA512"], input=f"alice:{longest}\n")
    assert helper.ask("alice", longest) == PROVEN
    assert helper.ask("alice", longest[:-1]) == NOT_PROVEN
    assert helper.ask("alice", "p" * MAX_PASSWORD) == NOT_PROVEN


CALL = f"""
import socket, sys
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.settimeout({DEADLINE})
link.connect({SOCKET!r})
try:
    link.send(bytes.fromhex(sys.argv[1]))
    print(link.recv(100).hex())
except ConnectionError:
    print("")
"""


@pytest.mark.parametrize(("user", "expected"), [("alice", ""), ("nobody", ""), ("pam-mfa", f"{PROVEN:02x}")])
def test_only_pam_mfa_and_root_may_ask(helper: Helper, user: str, expected: str) -> None:
    packet = request(b"alice", PASSWORD.encode()).hex()
    group = "nogroup" if user == "nobody" else user
    argv = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--inh-caps=-all"]
    answer = helper.box.run([*argv, PYTHON, "-I", "-c", CALL, packet]).stdout.strip()
    assert answer[8:10] == expected


HANG = "auth required pam_exec.so /bin/sleep 3600\n" + UNIX


def gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def hang(helper: Helper, count: int) -> list[socket.socket]:
    """Callers whose request hangs in a PAM module."""
    helper.stack(HANG)
    callers = []
    for _ in range(count):
        callers.append(helper.connect())
        callers[-1].send(request(b"alice", PASSWORD.encode()))
    wait_for("the children", lambda: len(helper.box.processes("sleep")) == count)
    return callers


def test_at_most_four_at_once_and_the_next_when_one_is_done(helper: Helper) -> None:
    callers = hang(helper, 4)
    for _ in range(2):
        callers.append(helper.connect())
        callers[-1].send(request(b"alice", PASSWORD.encode()))
    for left in (5, 4, 3, 2, 1, 0):
        done = helper.box.processes("sleep")[0]
        os.kill(done, signal.SIGKILL)
        wait_for("the next", partial(goes_on, helper, done, min(4, left)))
    for caller in callers:
        with caller:
            assert caller.recv(100)[4] == NOT_PROVEN


def goes_on(helper: Helper, done: int, count: int) -> bool:
    """Is `done` gone, and do `count` modules hang?"""
    processes = helper.box.processes("sleep")
    return done not in processes and len(processes) == count


def test_a_hanging_module_is_left_behind_when_the_caller_hangs_up(helper: Helper) -> None:
    [caller] = hang(helper, 1)
    children = helper.children()
    assert children
    caller.close()
    wait_for("the end of the child", gone(children))


def test_a_caller_that_says_nothing_is_hung_up_on(helper: Helper) -> None:
    with helper.connect() as caller:
        caller.settimeout(DEADLINE / 2)  # long before the deadline of a request that came
        assert caller.recv(100) == b""
    assert helper.ask("alice", PASSWORD) == PROVEN


def test_a_hanging_module_is_ended_at_the_deadline(helper: Helper) -> None:
    [caller] = hang(helper, 1)
    caller.settimeout(60)
    with caller:
        assert caller.recv(100) == b"", "no answer is no proof"


def test_a_dying_module_proves_nothing(helper: Helper) -> None:
    [caller] = hang(helper, 1)
    os.kill(helper.children()[0], signal.SIGSEGV)
    with caller:
        assert caller.recv(100) == b""


def test_the_environment_and_fds_of_the_starter_reach_no_module(helper: Helper) -> None:
    helper.stop()
    helper.start("exec 7</etc/shadow; export SECRET=hunter2")
    helper.box.write("/tmp/see", "#!/bin/sh\nls -l /proc/$PPID/fd > /tmp/fds\nenv > /tmp/env\n", 0o755)
    helper.stack("auth required pam_exec.so /tmp/see\n" + UNIX)
    assert helper.ask("alice", PASSWORD) == PROVEN
    assert "hunter2" not in helper.box.read("/tmp/env")
    assert "/etc/shadow" not in helper.box.read("/tmp/fds")


@pytest.mark.parametrize("what", ["argument", "no listener", "nobody", "connected"])
def test_started_in_any_other_way_it_does_nothing(box: StubMachine, what: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    options: dict[str, Any] = {"session": theirs}
    with ours, theirs:
        if what == "no listener":
            options = {"redirect": "3<&-"}
        if what in {"argument", "nobody"}:
            ours.close()
            theirs.close()
            theirs = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.bind("")
            theirs.listen()
            options = {"session": theirs}
        if what == "nobody":
            options["before"] = 'set -- /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
        ended = box.to_end([HELPER, *(["x"] if what == "argument" else [])], **options)
        theirs.close()
    assert ended.status != 0
    assert ended.stderr.count("\n") == 1
