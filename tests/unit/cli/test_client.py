"""The manage protocol from the asking side, against a real socket, a hostile one, and an engine that is a script."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa import wire
from pam_mfa.cli import client
from pam_mfa.cli.client import Account, NoService, Record
from pam_mfa.cli.paths import Paths
from pam_mfa.errors import AbortedError, ProtocolError, RefusedError
from pam_mfa.wire import Type

NOBODY = 65534


class Answers:
    """Answers from a list and remembers what it was shown; at the end of the list the user gives up."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.shown: list[tuple[str, str]] = []

    def _answer(self, how: str, text: str) -> str:
        self.shown.append((how, text))
        if not self.answers:
            raise AbortedError
        return self.answers.pop(0)

    def ask(self, text: str) -> str:
        return self._answer("ask", text)

    def ask_secret(self, text: str) -> str:
        return self._answer("secret", text)

    def tell(self, text: str) -> None:
        self.shown.append(("tell", text))

    def warn(self, text: str) -> None:
        self.shown.append(("warn", text))


def requested(
    script: Callable[[Peer, dict[str, Any]], None], *answers: str, account: Account | None = None
) -> tuple[list[Record], Answers]:
    """One request to a service that plays `script`: its records, and what the user saw."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    conversation, failures = Answers(*answers), []

    def serve() -> None:
        with theirs:
            peer = Peer(theirs)
            try:
                script(peer, peer.request())
            except BaseException as failure:  # noqa: BLE001 - raised again below
                failures.append(failure)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours:
            return list(client.request(ours, "list", {"a": 1}, conversation, account)), conversation
    finally:
        thread.join()
        if failures:
            raise failures[0]


# ------------------------------------------------------------------------------------------------ the request


def test_the_whole_conversation() -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        assert request == {"verb": "list", "args": {"a": 1}}
        peer.send(Type.ALIVE)
        peer.tell("hello")
        peer.send(Type.WARN, b"careful")
        assert peer.ask("Password: ") == "pass word"
        peer.part(kind="one")
        assert peer.ask("Code: ", secret=False) == "123456"
        peer.part(kind="two")
        peer.done()

    records, conversation = requested(script, "pass word", "123456")
    assert records == [{"kind": "one"}, {"kind": "two"}]
    assert conversation.shown == [
        ("tell", "hello"), ("warn", "careful"), ("secret", "Password: "), ("ask", "Code: "),
    ]  # fmt: skip


def test_the_account_goes_along_where_root_names_one() -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        assert request["account"] == {"uid": 1000, "name": "alice"}
        peer.done()

    assert requested(script, account=Account(1000, "alice"))[0] == []


@pytest.mark.parametrize("code", ["refused", "not_found", "invalid", "unavailable", "aborted", "not_allowed", "novel"])
def test_a_refusal_carries_its_code_and_its_sentence(code: str) -> None:
    with pytest.raises(RefusedError) as caught:
        requested(lambda peer, request: peer.done(code, "do this"))
    assert (caught.value.code, caught.value.message) == (code, "do this")


@pytest.mark.parametrize("done", [{}, {"ok": 1}, {"ok": "true"}, {"ok": None}, {"ok": False}])
def test_only_true_is_done(done: Record) -> None:
    with pytest.raises(RefusedError):
        requested(lambda peer, request: peer.send(Type.DONE, json.dumps(done).encode()))


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        b"\x02\x19\x00\x00",
        wire.encode(Type.DONE, b"not json"),
        wire.encode(Type.DONE, b"\xff\xfe"),
        wire.encode(Type.PART, b"[1]"),
        wire.encode(Type.PART, b'"S3CRET'),
        wire.encode(Type.RESULT, bytes(21)),
        wire.encode(Type.REPLY, b""),
        bytes(wire.RECEIVE_SIZE),
    ],
)
def test_what_is_no_answer_is_an_error(packet: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        requested(lambda peer, request: peer.send_raw(packet))
    assert "S3CRET" not in str(caught.value)


def test_a_service_that_dies_is_unavailable() -> None:
    with pytest.raises(RefusedError) as caught:
        requested(lambda peer, request: peer.part(kind="one"))
    assert caught.value.code == "unavailable"


def test_a_service_that_falls_silent_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, pytest.raises(RefusedError, match="does not answer") as caught:
        list(client.request(ours, "list", {}, Answers()))
    assert caught.value.code == "unavailable"


# ------------------------------------------------------------------------------------------------ the answers


def test_giving_up_is_told_to_the_service() -> None:
    seen: list[Type] = []

    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.send(Type.ASK_SECRET, b"Code: ")
        seen.append(peer.receive()[0])

    with pytest.raises(AbortedError):
        requested(script)
    assert seen == [Type.ABORT]


def test_an_answer_that_is_too_long_is_asked_for_again() -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        assert peer.ask("Code: ") == "x" * wire.MAX_REPLY
        peer.done()

    _, conversation = requested(script, "\N{EURO SIGN}" * 171, "x" * wire.MAX_REPLY)
    assert [how for how, _ in conversation.shown] == ["secret", "warn", "secret"]


def test_bytes_that_are_no_text_go_on_as_they_came() -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.send(Type.ASK_SECRET, b"Code: ")
        assert peer.receive() == (Type.REPLY, b"p\xe4ss")
        peer.done()

    requested(script, "p\udce4ss")


def test_what_the_service_said_before_it_closed_is_heard_after_a_late_answer() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    class Late(Answers):
        def ask_secret(self, text: str) -> str:
            Peer(theirs).done("refused", "too late")
            theirs.close()
            return "123456"

    Peer(theirs).send(Type.ASK_SECRET, b"Code: ")
    with ours, pytest.raises(RefusedError, match="too late"):
        list(client.request(ours, "list", {}, Late()))


# -------------------------------------------------------------------------------------------------- the service


def test_the_service_is_preferred(root: Path) -> None:
    with Double(root, lambda peer, request: peer.done()) as double:
        with client.connected(Paths(root)) as channel:
            assert list(client.request(channel, "list", {}, Answers())) == []
        assert double.requests == [{"verb": "list", "args": {}}]


def test_nobody_listens(root: Path) -> None:
    with pytest.raises(NoService):
        client.open_service(Paths(root))
    with Double(root, lambda peer, request: peer.done()) as double:
        path = double.path
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(NoService):
        client.open_service(Paths(root))


@pytest.mark.parametrize("how", ["writable", "foreign", "link"])
def test_a_directory_that_others_control_is_not_entered(root: Path, how: str) -> None:
    with Double(root, lambda peer, request: peer.done()) as double:
        directory = double.path.parent
        if how == "writable":
            directory.chmod(0o775)
        elif how == "foreign":
            os.chown(directory, NOBODY, -1)
        else:
            directory.rename(root / "elsewhere")
            directory.symlink_to(root / "elsewhere")
        with pytest.raises(RefusedError, match="others than root"):
            client.open_service(Paths(root))
        assert not double.requests


def test_a_listener_that_is_not_root_is_not_believed(root: Path) -> None:
    path = root / "run/pam-mfa/manage.sock"
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o777)
    listen = (
        "import os, socket, sys\n"
        f"os.setuid({NOBODY})\n"
        "with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:\n"
        "    s.bind(sys.argv[1]); s.listen(); print('ready', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-c", listen, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as impostor:
        assert impostor.stdout
        assert impostor.stdout.readline() == b"ready\n"
        path.parent.chmod(0o755)
        with pytest.raises(RefusedError, match="belongs to uid 65534"):
            client.open_service(Paths(root))


def test_a_service_with_a_full_backlog_is_unavailable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_SECONDS", 1)
    path = root / "run/pam-mfa/manage.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = [client.open_service(Paths(root))]
        with pytest.raises(RefusedError, match="try again"):
            waiting.append(client.open_service(Paths(root)))
        for channel in waiting:
            channel.close()


# --------------------------------------------------------------------------------------------------- the engine

ENGINE = """#!{python} -I
import json, os, socket, sys
sys.path[:] = {path!r}
from pam_mfa import wire
from pam_mfa.wire import Type
{body}
"""
ANSWER = """
session = socket.socket(fileno=3)
request = json.loads(wire.decode(session.recv(5000))[1])
seen = {"argv": sys.argv[1:], "env": dict(os.environ), "request": request, "leader": os.getpid() == os.getsid(0)}
session.send(wire.encode(Type.PART, json.dumps(seen).encode()))
session.send(wire.encode(Type.DONE, b'{"ok": true}'))
"""


def install_engine(root: Path, body: str) -> None:
    """An engine that is a script."""
    path = root / "usr/lib/pam-mfa/pam-mfa-engine"
    path.parent.mkdir(parents=True)
    path.write_text(ENGINE.format(python=sys.executable, path=sys.path, body=body))
    path.chmod(0o755)


def ask_engine(root: Path) -> list[Record]:
    """One request where there is no service."""
    with client.connected(Paths(root)) as channel:
        return list(client.request(channel, "list", {}, Answers()))


def test_without_a_service_root_has_an_engine_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", "/evil")
    install_engine(root, ANSWER)
    (seen,) = ask_engine(root)
    # LC_CTYPE is what Python sets by itself where there is no environment (PEP 538).
    assert {key for key in seen["env"] if key != "LC_CTYPE"} == set()
    assert seen["argv"] == ["--manage"]
    assert seen["request"] == {"verb": "list", "args": {}}
    assert seen["leader"] is True


def test_an_engine_that_ends_says_why(root: Path) -> None:
    install_engine(root, "sys.exit('noise\\npam-mfa: /etc/pam-mfa/seal.key: No such file\\x1b[2J')")
    with pytest.raises(RefusedError) as caught:
        ask_engine(root)
    assert caught.value.code == "unavailable"
    assert caught.value.message == "the engine ended: /etc/pam-mfa/seal.key: No such file [2J"


def test_an_engine_that_does_not_end_is_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LEAVE_SECONDS", 0.1)
    install_engine(root, ANSWER.replace("seen = {", 'seen = {"pid": os.getpid(), ') + "import time; time.sleep(600)")
    (seen,) = ask_engine(root)
    with pytest.raises(ProcessLookupError):
        os.kill(seen["pid"], 0)


def test_no_service_and_no_engine(root: Path) -> None:
    with pytest.raises(RefusedError, match="packaging/install") as caught:
        ask_engine(root)
    assert caught.value.code == "unavailable"


@pytest.mark.parametrize("how", ["writable", "foreign", "link"])
def test_an_engine_that_others_control_is_not_started(root: Path, how: str) -> None:
    install_engine(root, f"open({str(root / 'ran')!r}, 'w')\n{ANSWER}")
    program = root / "usr/lib/pam-mfa/pam-mfa-engine"
    if how == "writable":
        program.chmod(0o775)
    elif how == "foreign":
        os.chown(program, NOBODY, -1)
    else:
        program.rename(root / "elsewhere")
        program.symlink_to(root / "elsewhere")
    with pytest.raises(RefusedError, match="only root may write") as caught:
        ask_engine(root)
    assert caught.value.code == "unavailable"
    assert not (root / "ran").exists()


def test_only_root_may_have_an_engine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_engine(root, ANSWER)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    with pytest.raises(RefusedError, match="not running") as caught:
        ask_engine(root)
    assert caught.value.code == "unavailable"
