"""The module itself: entry points, arguments, what it takes from PAM, whom it connects to, how it leaves its host."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from shim import (
    AUTH_ERR,
    AUTHTOK_ERR,
    CONV_ERR,
    ECHO_ON,
    IGNORE,
    NATIVE,
    SOURCES,
    SUCCESS,
    UNAVAILABLE,
    Lab,
    Peer,
    build,
    eventually,
    grant,
)

from pam_mfa import wire
from pam_mfa.outcome import Outcome

LOG_ALERT = 1
SILENT, DISALLOW_NULL = 0x8000, 0x1


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def ask(peer: Peer) -> None:
    """A service that asks one question and grants."""
    peer.greet()
    assert peer.ask() == b"123456"
    peer.result(Outcome.GRANTED)


def _tool(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_symbols(compiler: str) -> None:
    module = str(build(compiler).module)
    exported = {line.split()[-1] for line in _tool("nm", "-D", "--defined-only", module)}
    entries = {"authenticate", "setcred", "acct_mgmt", "open_session", "close_session", "chauthtok"}
    assert exported == {f"pam_sm_{entry}" for entry in entries}
    wanted = {line.split()[-1].split("@")[0] for line in _tool("nm", "-D", "--undefined-only", module)}
    assert not wanted & {
        "getenv", "secure_getenv", "setenv", "fopen", "open64", "printf", "fprintf", "syslog", "openlog",
        "pthread_create", "signal", "fork", "setuid", "setlocale", "localtime", "sleep", "usleep", "nanosleep",
        "pam_set_item", "pam_set_data", "pam_get_authtok",
    }  # fmt: skip
    needed = {line.split("[")[1].rstrip("]") for line in _tool("readelf", "-d", module) if "(NEEDED)" in line}
    assert needed == {"libpam.so.0", "libc.so.6"}


def test_size_that_is_read_in_ten_minutes() -> None:
    """At most 500 lines of C; comments, blank lines and #include are free."""
    lines = 0
    for name in SOURCES:
        text = re.sub(r"/\*.*?\*/", "", (NATIVE / name).read_text(), flags=re.DOTALL)
        lines += len(re.findall(r"^(?!#include)(?=.*\S)", text, flags=re.MULTILINE))
    assert lines <= 500


@pytest.mark.parametrize("steps", [["setcred"], ["setcred", "setcred"], ["auth", "setcred", "auth"]])
def test_setcred_succeeds_without_effect(lab: Lab, steps: list[str]) -> None:
    lab.serve(grant)
    ran = lab.host(*steps)
    assert ran.codes("setcred") == [SUCCESS] * steps.count("setcred")
    assert len(lab.hellos) == steps.count("auth")


def test_the_other_entry_points(lab: Lab) -> None:
    ran = lab.host("acct", "open", "close_session", "open", "chauthtok")
    assert ran.codes("acct") == [IGNORE]
    assert ran.codes("open") == [IGNORE, IGNORE]
    assert ran.codes("close_session") == [IGNORE]
    assert ran.codes("chauthtok") == [AUTHTOK_ERR]
    assert ran.log == []


def test_setcred_after_a_refusal_grants_nothing(lab: Lab) -> None:
    def deny(peer: Peer) -> None:
        peer.greet()
        peer.result(Outcome.DENIED)

    lab.serve(deny)
    ran = lab.host("auth", "setcred", "auth")
    assert ran.codes() == [AUTH_ERR, AUTH_ERR]


def test_unknown_arguments_are_logged_and_ignored(lab: Lab) -> None:
    lab.serve(grant)
    ran = lab.host(
        "auth", arguments="nullok timeout=x timeout= timeout=4 timeout=601 timeout=99999999999999999999 debug=1"
    )
    assert ran.code == SUCCESS
    assert len(ran.log) == 7
    assert all("ignored" in line for line in ran.log)


@pytest.mark.parametrize("outcome", [Outcome.DENIED, Outcome.UNAVAILABLE])
def test_alwaysok_is_refused(lab: Lab, outcome: Outcome) -> None:
    def refuse(peer: Peer) -> None:
        peer.greet()
        peer.result(outcome)

    lab.serve(refuse)
    ran = lab.host("auth", arguments="alwaysok")
    assert ran.code in (AUTH_ERR, UNAVAILABLE)
    assert [line for line in ran.log if "alwaysok is refused" in line]
    lab.stop()
    lab.socket.unlink()
    assert lab.host("auth", arguments="alwaysok").code == UNAVAILABLE


def test_debug_logs_a_grant_too(lab: Lab) -> None:
    lab.serve(grant)
    assert len(lab.host("auth", arguments="debug").log) == 1
    assert lab.host("auth").log == []


def test_no_secret_in_the_log(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        peer.send(wire.encode_text(wire.Type.ASK_SECRET, "Code: "))
        peer.frame()
        peer.send_late(wire.encode_result(Outcome.DENIED, 0, peer.hello.nonce))

    lab.serve(serve)
    ran = lab.host("answer=text:canary-7331", "answer=big:600", "auth", "auth", arguments="debug")
    assert len(ran.log) == 2
    assert not [line for line in ran.lines if "canary" in line or "xxx" in line]


def test_hello_holds_the_items(lab: Lab) -> None:
    lab.serve(grant)
    items = ["item=RUSER:alice", "item=RHOST:host.example", "item=TTY:/dev/pts/3"]
    ran = lab.host(*items, f"auth={SILENT | DISALLOW_NULL}", user="nobody")
    assert ran.code == SUCCESS
    (hello,) = lab.hellos
    flags = wire.FLAG_SILENT | wire.FLAG_DISALLOW_NULL
    uid = pwd.getpwnam("nobody").pw_uid
    expected = wire.Hello(hello.nonce, "test", "nobody", uid, "alice", "host.example", "/dev/pts/3", flags, 0)
    assert hello == expected


def test_hello_without_items(lab: Lab) -> None:
    lab.serve(grant)
    assert lab.host("auth", user="no-such-user").code == SUCCESS
    (hello,) = lab.hellos
    assert hello == wire.Hello(hello.nonce, "test", "no-such-user")


def test_missing_user_name_is_asked_for(lab: Lab) -> None:
    lab.serve(grant)
    ran = lab.host("answer=text:root", "auth", user="-")
    assert ran.code == SUCCESS
    assert ran.shown[0][0] == ECHO_ON
    assert lab.hellos[0].user == "root"


def test_missing_user_name_that_nobody_tells(lab: Lab) -> None:
    lab.serve(grant)
    ran = lab.host("answer=error", "auth", user="-")
    assert ran.code == CONV_ERR
    assert lab.hellos == []


NAMES = ["a", "_apt", "Alice.B-c", "svc+test", "alice@corp.example", "CORP\\alice", "host$", "1234567", "a" * 256]
REFUSED = [
    "../x", "a/b", ".", "..", ".hidden", "-rf", "a:b", "a b", " a", "a\n", "a\tb", "a\x7f", "a\x1b[2J", "a$b", "$",
    "a$$", "a" * 257, "a" * 4096, "\u202ealice", "\uff41lice", "al\u00edce", "a\udcff", "a,b", "a%n", "~a", "a*",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_portable_names(lab: Lab, name: str) -> None:
    lab.serve(grant)
    assert lab.host("auth", user=name).code == SUCCESS
    assert lab.hellos[0].user == name


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_names_that_are_not_portable(lab: Lab, name: str) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    ran = lab.host("auth", user=name)
    assert ran.code == AUTH_ERR
    assert lab.hellos == []
    assert lab.report is None
    assert len(ran.log) == 1
    assert name.strip() not in ran.log[0] or len(name) < 3


def test_empty_name(lab: Lab) -> None:
    lab.serve(grant)
    assert lab.host("auth", user="").code in (AUTH_ERR, CONV_ERR)
    assert lab.hellos == []


LIMITS = {"RUSER": 256, "RHOST": 256, "TTY": 128}


@pytest.mark.parametrize("item", LIMITS)
def test_items_are_never_cut(lab: Lab, item: str) -> None:
    lab.serve(grant)
    ran = lab.host(f"item={item}:{'x' * LIMITS[item]}", "auth", f"item={item}:{'x' * (LIMITS[item] + 1)}", "auth")
    assert ran.codes() == [SUCCESS, AUTH_ERR]
    assert len(lab.hellos) == 1


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "caf\u00e9", "\x7f", "a\tb", "\udcff"], ids=ascii)
@pytest.mark.parametrize("item", LIMITS)
def test_items_that_are_not_printable(lab: Lab, item: str, value: str) -> None:
    lab.serve(grant)
    assert lab.host(f"item={item}:{value}", "auth").code == AUTH_ERR
    assert lab.hellos == []


def test_service_name_limit(lab: Lab) -> None:
    lab.serve(grant)
    assert lab.host("auth", service="s" * 64).code == SUCCESS
    assert lab.host("auth", service="s" * 65).code == AUTH_ERR


@pytest.mark.parametrize("change", ["item:USER:nobody", "item:RHOST:other.example", "item:SERVICE:sudo"])
@pytest.mark.parametrize("outcome", [Outcome.GRANTED, Outcome.EXEMPT])
def test_items_that_change_meanwhile(lab: Lab, change: str, outcome: Outcome) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        peer.ask()
        peer.result(outcome)

    lab.serve(serve)
    assert lab.host("item=RHOST:host.example", f"answer={change}", "auth").code == AUTH_ERR


@pytest.mark.parametrize(("mode", "code"), [("error", UNAVAILABLE), ("endless", UNAVAILABLE), ("huge", SUCCESS)])
def test_user_database(lab: Lab, mode: str, code: int) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    ran = lab.host(f"nss={mode}", "auth", user="nobody")
    assert ran.code == code
    assert [hello.uid for hello in lab.hellos] == [pwd.getpwnam("nobody").pw_uid] * (code == SUCCESS)
    assert lab.report is None


AUTHINFO = "publickey ssh-ed25519 AAAA\n" + "x" * 4096 + "\n" + "y" * 4097 + "\n\npassword\n"


@pytest.mark.parametrize("service", ["sshd", "sudo"])
def test_authinfo_is_sent_for_sshd_alone(lab: Lab, service: str) -> None:
    """One frame for each line; a line that does not fit is left out and denies nobody."""
    lines: list[bytes] = []

    def serve(peer: Peer) -> None:
        for _ in range(peer.take_hello().authinfo):
            kind, line = peer.frame()
            assert kind is wire.Type.AUTHINFO
            lines.append(line)
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    assert lab.host(f"penv=SSH_AUTH_INFO_0={AUTHINFO}", "auth", service=service).code == SUCCESS
    assert lines == ([b"publickey ssh-ed25519 AAAA", b"x" * 4096, b"password"] if service == "sshd" else [])


def test_authinfo_without_end(lab: Lab) -> None:
    def serve(peer: Peer) -> None:
        assert peer.take_hello().authinfo == wire.MAX_AUTHINFO
        for index in range(wire.MAX_AUTHINFO):
            assert peer.frame() == (wire.Type.AUTHINFO, b"password %d" % index)
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    info = "\n".join(f"password {index}" for index in range(100))
    assert lab.host(f"penv=SSH_AUTH_INFO_0={info}", "auth", service="sshd").code == SUCCESS


def test_listener_that_is_not_root(lab: Lab) -> None:
    received: list[bytes] = []
    lab.install_stub("grant")
    lab.serve(lambda peer: received.append(peer.connection.recv(wire.RECEIVE_SIZE)), listener_uid=65534)
    ran = lab.host("auth")
    assert ran.code == UNAVAILABLE
    assert eventually(lambda: bool(received))
    assert received == [b""], "not a byte is sent to it"
    assert ran.priorities == [LOG_ALERT]
    assert lab.report is None


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_directory_that_others_may_write_to(lab: Lab, mode: int) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    lab.run.chmod(mode)
    ran = lab.host("auth")
    assert ran.code == UNAVAILABLE
    assert ran.priorities == [LOG_ALERT]
    assert (lab.hellos, lab.report) == ([], None)


def test_directory_of_somebody_else(lab: Lab) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    os.chown(lab.run, 65534, 0)
    assert lab.host("auth").code == UNAVAILABLE
    assert (lab.hellos, lab.report) == ([], None)


def test_directory_that_is_a_link(lab: Lab) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    lab.run.rename(lab.folder / "real")
    lab.run.symlink_to(lab.folder / "real")
    assert lab.host("auth").code == UNAVAILABLE
    assert (lab.hellos, lab.report) == ([], None)


@pytest.mark.parametrize("path", ["run/priv.sock", "/priv.sock", "", "/" + "x" * 60 + "/" + "y" * 60])
def test_socket_argument_that_is_no_path(lab: Lab, path: str) -> None:
    lab.install_stub("grant")
    lab.serve(grant)
    assert lab.host("auth", arguments=f"socket={path}").code == UNAVAILABLE
    assert (lab.hellos, lab.report) == ([], None)


def test_host_without_root() -> None:
    """A lock screen: it may ask the service, but never gets an engine."""
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        lab.folder.chmod(0o755)
        lab.install_stub("grant")
        lab.serve(ask)
        assert lab.host("euid=65534", "answer=text:123456", "auth", user="nobody").code == SUCCESS
        lab.stop()
        lab.socket.unlink()
        assert lab.host("euid=65534", "answer=text:123456", "auth", user="nobody").code == UNAVAILABLE
        assert lab.report is None


def test_eight_threads_at_once(lab: Lab) -> None:
    barrier = threading.Barrier(8, timeout=30)

    def serve(peer: Peer) -> None:
        peer.greet()
        barrier.wait()
        assert peer.ask() == b"123456"
        peer.result(Outcome.GRANTED)

    lab.serve(serve)
    assert lab.host("answer=text:123456", "threads=8").codes() == [SUCCESS] * 8
    assert len({hello.nonce for hello in lab.hellos}) == 8


def test_a_thousand_times(lab: Lab) -> None:
    """A host that lives long: no descriptor and no memory is left behind by load, login, unload."""
    lab.serve(ask)
    ran = lab.host("state", "answer=text:123456", "repeat=1000", "same")
    (line,) = ran.of("repeat")
    count, granted, grown = re.fullmatch(r"(\d+) granted (\d+) grown (-?\d+)", line).groups()  # type: ignore[union-attr]
    assert (count, granted) == ("1000", "1000")
    assert int(grown) < 512
    assert ran.of("state") == ["same"]


SURROUNDINGS = [
    ["umask=000"], ["umask=777"], ["cwd=/proc"], ["close=0", "close=1", "close=2"], ["close=0"], ["locale=C.UTF-8"],
    ["ignore=CHLD"], ["handle=CHLD"], ["ignore=PIPE"], ["handle=ALRM", "block=ALRM"], ["block=TERM", "block=HUP"],
    ["limit=FSIZE:0"], ["limit=CPU:1"], ["limit=STACK:65536"], ["limit=NPROC:0"], ["limit=CORE:0"],
    ["limit=NOFILE:8"], ["limit=AS:67108864"], ["storm=1"],
    ["env=LD_PRELOAD=/tmp/x.so", "env=PYTHONPATH=/tmp", "env=HOME=/tmp", "env=LC_ALL=xx", "env=PATH="],
]  # fmt: skip


@pytest.mark.parametrize("steps", SURROUNDINGS, ids=" ".join)
@pytest.mark.parametrize("outcome", [Outcome.GRANTED, Outcome.DENIED])
def test_hosts_surroundings_have_no_effect_and_stay(lab: Lab, steps: list[str], outcome: Outcome) -> None:
    def serve(peer: Peer) -> None:
        peer.greet()
        assert peer.ask() == b"123456"
        peer.result(outcome)

    lab.serve(serve)
    ran = lab.host(*steps, "state", "answer=text:123456", "auth", "same", "children")
    assert ran.code == (SUCCESS if outcome is Outcome.GRANTED else AUTH_ERR)
    assert ran.of("state") == ["same"]
    assert ran.of("wait") == ["none"]


@pytest.mark.parametrize("limit", [3, 4, 5, 6])
def test_hardly_any_descriptors(lab: Lab, limit: int) -> None:
    """libpam needs some itself; whatever is missing, nobody gets in without the service's word."""
    lab.serve(ask)
    ran = lab.host("state", f"limit=NOFILE:{limit}", "answer=text:123456", "auth")
    assert ran.code == SUCCESS or limit < 6
    assert lab.hellos or ran.code != SUCCESS


def test_no_descriptor_is_inherited(lab: Lab) -> None:
    """A program that the host starts after the login finds nothing of ours."""
    lab.serve(ask)
    before = lab.host("exec").lines
    ran = lab.host("answer=text:123456", "auth", "exec")
    assert ran.code == SUCCESS
    assert [line for line in ran.lines if line.isdigit()] == [line for line in before if line.isdigit()]


@pytest.mark.parametrize("service", [True, False])
def test_errno_is_kept(lab: Lab, service: bool) -> None:
    if service:
        lab.serve(grant)
    ran = lab.host(f"direct={lab.build.module},socket={lab.socket},engine=/nonexistent,nullok")
    assert ran.of("direct") == [f"{SUCCESS if service else UNAVAILABLE} errno kept"]


def test_syscalls_of_a_login(lab: Lab) -> None:
    """Nothing slow between the frames: one look at the directory, one connection, no file opened."""
    lab.serve(grant)
    lab.stack("test", "")
    trace = lab.folder / "trace"
    command = ["strace", "-o", str(trace), str(lab.build.host), str(lab.confdir), "test", "root", "auth"]
    subprocess.run(command, check=True, capture_output=True, env={"LANG": "C.UTF-8"})
    lines = trace.read_text().splitlines()
    start = max(i for i, line in enumerate(lines) if "/etc/passwd" in line or "nsswitch" in line)
    ours = [line.split("(")[0] for line in lines[start:]]
    connect = next(i for i, line in enumerate(lines[start:]) if line.startswith("connect(") and "priv.sock" in line)
    assert sum("/run" in line and "priv.sock" not in line for line in lines[start:]) == 1
    login = ours[connect : connect + next(i for i, name in enumerate(ours[connect:]) if name == "close")]
    assert login.count("connect") == 1
    assert login.count("getsockopt") == 1
    assert set(login) <= {
        "connect", "getsockopt", "getrandom", "sendto", "rt_sigprocmask", "rt_sigpending", "poll", "recvfrom",
    }  # fmt: skip
    assert len(login) <= 16
