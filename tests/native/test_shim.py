"""The module itself: entry points, arguments, and what it takes from PAM."""

from __future__ import annotations

import pwd
import re
import subprocess
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
