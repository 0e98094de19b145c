"""What only the service's loop has: many users at once, and how much each of them may take."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest
from doors import DEADLINE, Caller, LoopDoor, code, exempt, furnished, opened, settings
from flows import ALICE

from pam_mfa import keys
from pam_mfa.config import Settings
from pam_mfa.conversation import Checked, CheckPassword, LookedUp, LookUp
from pam_mfa.devices.base import MAX_PACKET
from pam_mfa.devices.client import Client
from pam_mfa.outcome import Outcome
from pam_mfa.rules import LocalKey, Rule
from pam_mfa.service import password, system
from pam_mfa.service.session import Session
from pam_mfa.wire import Type

ACCOUNT = {"uid": ALICE, "name": "alice"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return furnished(tmp_path)


@pytest.fixture
def loop(path: str) -> Iterator[LoopDoor]:
    with opened("loop", path) as one:
        assert isinstance(one, LoopDoor)
        yield one


def test_look_ups_nobody_waits_for_are_not_made(loop: LoopDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user database that hung leaves no queue behind that later logins would have to wait for."""
    free, asked = threading.Event(), []

    def hangs(want: LookUp) -> LookedUp:
        asked.append(want.user)
        assert free.wait(DEADLINE)
        return LookedUp(want.user, uid=ALICE)

    settings(loop, rules=exempt("wheel"))
    monkeypatch.setattr(system, "look_up", hangs)
    monkeypatch.setattr(system, "LOOK_UP_SECONDS", 0.05)
    late = [loop.call().hello("alice", ALICE) for _ in range(40)]
    assert {one.outcome for one in late} == {Outcome.UNAVAILABLE}
    monkeypatch.setattr(system, "LOOK_UP_SECONDS", DEADLINE)
    after = loop.call().hello("alice", ALICE)
    free.set()
    assert after.answer(code()).outcome is Outcome.GRANTED
    assert len(asked) == 9


def test_a_user_manages_itself_and_asks_for_its_password(loop: LoopDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[CheckPassword] = []

    def check(want: CheckPassword) -> Checked:
        checked.append(want)
        return Checked(want.password == "daemon's own")

    monkeypatch.setattr(password, "check", check)
    one = loop.call("manage", uid=1).request("enroll", factor="recovery").answer("wrong", "daemon's own")
    assert one.done == {"ok": True}
    assert [want.user for want in checked] == ["daemon", "daemon"]
    assert loop.call("manage", uid=1).request("list", ACCOUNT).done["error"] == "not_allowed"
    assert loop.call("user", uid=1).hello("alice", ALICE).outcome is Outcome.DENIED
    given = one.parts[-1]["codes"][0]
    assert loop.call("user", uid=1).hello("daemon", 1).answer(given).outcome is Outcome.GRANTED


def test_sixteen_sessions_of_one_user_and_no_more(loop: LoopDoor) -> None:
    """L14."""
    users = [loop.call("user", uid=1).hello("daemon", 1) for _ in range(16)]
    for one in users:
        one.prompt()
    with pytest.raises(EOFError):
        loop.call("user", uid=1).next()
    with pytest.raises(EOFError):
        loop.call("manage", uid=1).next()
    assert loop.call("user", uid=2).hello("bin", 2).prompt()
    assert loop.call().hello("alice", ALICE).answer(code()).outcome is Outcome.GRANTED
    users[0].send(Type.ABORT).end()
    assert loop.call("user", uid=1).hello("daemon", 1).prompt()
    assert loop.on_loop(lambda: len(loop.server.links)) == 17


def test_no_session_stays_behind(loop: LoopDoor) -> None:
    for _ in range(3):
        callers = [loop.call().hello("alice", ALICE) for _ in range(30)]
        for one in callers[::2]:
            one.send(Type.ABORT)
            assert one.outcome is Outcome.ABORTED
        for one in callers[1::2]:
            one.link.close()
    end = time.monotonic() + DEADLINE
    while loop.on_loop(lambda: len(loop.server.links)) and time.monotonic() < end:
        time.sleep(0.002)
    assert loop.on_loop(lambda: (len(loop.server.links), dict(loop.server._per_uid))) == (0, {})


def test_users_leave_the_devices_to_logins(loop: LoopDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """L14: the device service takes 32 requests, and whoever manages an account may ask it again and again."""
    opened_lines: SimpleQueue[socket.socket] = SimpleQueue()

    def connect() -> Client:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.settimeout(DEADLINE)
        opened_lines.put(theirs)
        return Client(ours)

    def asks(uid: int) -> tuple[Caller, socket.socket]:
        return loop.call("manage", uid).request("devices"), opened_lines.get(timeout=DEADLINE)

    def refused(uid: int) -> bool:
        return loop.call("manage", uid).request("devices").done["error"] == "unavailable" and opened_lines.empty()

    monkeypatch.setattr(keys, "SECONDS", 180)
    loop.ground.settings = Settings(policy=Rule(local_key=LocalKey.ALWAYS))
    loop.server.devices = connect
    asking = [asks(uid) for uid in (1, 1, 2, 2, 3, 3, 4)]
    assert refused(1)
    asking.append(asks(4))
    assert refused(5)
    asking.append(asks(0))
    caller, line = asking[0]
    caller.link.close()
    while line.recv(MAX_PACKET):
        pass
    asks(5)


@pytest.mark.parametrize("kind", ["login", "change"])
def test_a_peer_that_is_gone_is_heard_once_however_long_the_store_takes(
    loop: LoopDoor, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a connection stays readable: nobody turns the loop by leaving in the middle of a change."""
    commits, heard = SimpleQueue[Callable[[], object]](), list[int]()
    commit, receive = loop.backend.commit, Session.receive

    def hear(session: Session, packet: memoryview) -> None:
        heard.append(len(packet))
        receive(session, packet)

    monkeypatch.setattr(loop.backend, "commit", lambda want, done: commits.put(partial(commit, want, done)))
    monkeypatch.setattr(Session, "receive", hear)
    if kind == "login":
        one = loop.call().hello("alice", ALICE).answer(code())
    else:
        one = loop.call("manage").request("unlock", ACCOUNT)
    go_on = commits.get(timeout=DEADLINE)
    one.link.close()
    until(lambda: 0 in heard)
    for _ in range(10):  # turns of the loop
        loop.on_loop(lambda: None)
    assert heard.count(0) == 1
    loop.on_loop(go_on)
    until(lambda: not loop.on_loop(lambda: loop.server.links))
    until(lambda: loop.shelf.written)
    assert loop.shelf.written[-1]["PAM_MFA_EVENT"] == ("login" if kind == "login" else "unlock")


def until(holds: Callable[[], object]) -> None:
    """Wait for something that is about to happen."""
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)
