"""Several sessions of one broker: who waits for whom, whom a login comes before, and what waits between two of them."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from device_places import (
    ASSERT,
    DEADLINE,
    MAKE,
    Place,
    Places,
    children,
    hang,
    next_of,
    readable,
    say,
    sessions,
    touch_and_hang,
)
from machine import wait_for

from pam_mfa.devices import errand, service as service_module
from pam_mfa.devices.base import Failed, Failure, Idle, List, Request, Strange, Touch
from pam_mfa.devices.client import Client
from pam_mfa.devices.codec import encode
from pam_mfa.devices.errand import Errand
from pam_mfa.devices.helper import Child, Port
from pam_mfa.devices.line import Line
from pam_mfa.devices.readers import CardPort
from pam_mfa.devices.service import Broker


def say_who(line: Line) -> None:
    """Which process is at the key."""
    line.say(Strange(line.device, str(os.getpid())))


def who(client: Client) -> int:
    """The same, as the session hears it; it hangs up."""
    said = next_of(client)
    client.close()
    assert isinstance(said, Strange)
    return int(said.name)


class TestMany:
    def test_those_above_the_cap_wait(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service_module, "MAX_ERRANDS", 2)
        with sessions(tmp_path / "door") as session:
            clients = [session(List(30)) for _ in range(3)]
            assert readable(*clients[:2]) == clients[:2]
            assert not select.select([clients[2]], [], [], 0.3)[0]
            clients[0].close()
            assert readable(clients[2]) == [clients[2]]

    @pytest.mark.parametrize("other", [MAKE, List(30)], ids=["Make", "List"])
    def test_a_login_has_a_device_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Request) -> None:
        """What is there already gives way, what comes later finds it busy; other logins agree by its lock."""
        monkeypatch.setattr(errand, "BUSY_SECONDS", 0.1)
        with sessions(tmp_path / "door", touch_and_hang) as session:
            before = session(other)
            assert next_of(before) == Touch(1, False)
            login = session(ASSERT)
            assert next_of(before) == Failed(1, Failure.BUSY)
            assert next_of(before) == Idle(1)
            assert next_of(login) == Touch(1, False)
            assert next_of(session(other)) == Failed(1, Failure.BUSY)
            assert next_of(session(ASSERT)) == Touch(1, False)
            assert not select.select([login], [], [], 0)[0]

    def test_others_agree_by_its_lock(self, tmp_path: Path) -> None:
        with sessions(tmp_path / "door", touch_and_hang) as session:
            for request in (MAKE, MAKE, List(30)):
                assert next_of(session(request)) == Touch(1, False)

    def test_there_are_no_more_processes(self, tmp_path: Path) -> None:
        """Which is nobody's device's fault: another time."""

        class Exhausted(Broker):
            def at(self, port: Port) -> Child:
                if (tmp_path / "again").exists():
                    return super().at(port)
                (tmp_path / "again").touch()
                raise OSError(11, "Resource temporarily unavailable")

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            one = Errand(theirs, Exhausted([], ()))
            ours.send(encode(ASSERT))
            one.receive()
            for _ in range(2):
                one.look(frozenset({Place("key", say())}), False, time.monotonic())
            assert Client(ours).receive() == Idle(0)
            (helper,) = one._helpers.values()
            assert helper.child
            helper.child.reap()

    def test_when_it_is_over_others_may(self, tmp_path: Path) -> None:
        with sessions(tmp_path / "door", touch_and_hang) as session:
            login = session(ASSERT)
            assert next_of(login) == Touch(1, False)
            login.close()
            assert next_of(session(MAKE)) == Touch(1, False)

    def test_what_had_not_begun_to_talk_waits_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(errand, "BUSY_SECONDS", DEADLINE)

        def work(line: Line) -> None:
            if (tmp_path / "begun").exists():
                touch_and_hang(line)
            (tmp_path / "begun").touch()
            hang(line)

        with sessions(tmp_path / "door", work) as session:
            listing = session(List(30))
            wait_for("its helper", (tmp_path / "begun").exists)
            login = session(ASSERT)
            assert next_of(login) == Touch(1, False)
            assert not select.select([listing], [], [], 0.3)[0]
            login.close()
            assert next_of(listing) == Touch(2, False)

    def test_others_wait_until_it_is_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(errand, "BUSY_SECONDS", DEADLINE)
        with sessions(tmp_path / "door", touch_and_hang) as session:
            login = session(ASSERT)
            assert next_of(login) == Touch(1, False)
            waiting = session(MAKE)
            assert not select.select([waiting], [], [], 0.3)[0]
            login.close()
            assert next_of(waiting) == Touch(1, False)

    def test_where_it_has_failed_others_may(self, tmp_path: Path) -> None:
        with sessions(tmp_path / "door", say(Strange(1, ""))) as session:
            login = session(ASSERT)
            assert next_of(login) == Strange(1, "")
            assert next_of(session(MAKE)) == Strange(1, "")


class TestWaiting:
    """At a key that is there a process waits for the next session."""

    def one(self, broker: int, *but: int) -> int:
        """The only child that the broker has, once the others are gone."""
        wait_for("one that waits", lambda: len(children(broker)) == 1 and not set(children(broker)) & set(but))
        return children(broker)[0]

    def test_the_next_session_finds_it(self, tmp_path: Path) -> None:
        with sessions(tmp_path / "door", say_who) as session:
            last = who(session(ASSERT))
            for _ in range(3):
                waiting = self.one(session.broker, last)
                assert who(session(ASSERT)) == waiting
                last = waiting

    def test_those_that_said_nothing_or_are_gone_are_no_keys(self) -> None:
        one = Errand(socket.socket(), Broker([], ()))
        spoken, silent, gone, card = Place("0", hang), Place("1", hang), Place("2", hang), CardPort("Reader", 1)
        ports: tuple[Port, ...] = (spoken, silent, gone, card)
        for number, port in enumerate(ports):
            one._helpers[port] = errand.Helper(number, None, 0.0, replies=port is not silent, gone=port is gone)
        assert one.keys == [spoken]

    def test_another_one_does_where_it_has_died(self, tmp_path: Path) -> None:
        with sessions(tmp_path / "door", say_who) as session:
            waiting = self.one(session.broker, who(session(ASSERT)))
            os.kill(waiting, signal.SIGKILL)
            wait_for("its end", lambda: not children(session.broker))
            assert who(session(ASSERT)) != waiting

    def test_two_sessions_at_once(self, tmp_path: Path) -> None:
        with sessions(tmp_path / "door", touch_and_hang) as session:
            first = session(ASSERT)
            assert next_of(first) == Touch(1, False)
            first.close()
            self.one(session.broker)
            both = [session(ASSERT) for _ in range(2)]
            for client in both:
                assert next_of(client) == Touch(1, False)
            busy = children(session.broker)
            for client in both:
                client.close()
            self.one(session.broker, *busy)

    def test_handing_one_over_leaves_no_trace_of_it(self) -> None:
        broker, ended = Broker([Places([])], (0,)), list[int]()
        broker._lasting = True
        broker._keep([Place("key", hang)])
        child = broker.at(Place("key", hang))
        broker.adopt(child, lambda _: None, ended.append)
        child.hang_up()
        while not ended:
            broker.turn()
        assert (broker._children, broker._waiting) == ([], {})

    def test_it_ends_with_the_broker(self, tmp_path: Path) -> None:
        with sessions(tmp_path / "door", say_who) as session:
            process = os.pidfd_open(self.one(session.broker, who(session(ASSERT))))
        assert select.select([process], [], [], DEADLINE)[0]
        os.close(process)

    def test_nobody_looks_while_it_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Polled(Exception):
            pass

        def poll(milliseconds: float | None) -> list[tuple[int, int]]:
            raise Polled(milliseconds)

        broker = Broker([Places([])], (0,))
        broker._lasting = True
        monkeypatch.setattr(broker, "_poll", SimpleNamespace(register=lambda *_: None, poll=poll))
        broker._keep([Place("key", hang)])
        (child,) = broker._children
        with pytest.raises(Polled, match="None"):
            broker.turn()
        broker._waiting.clear()
        with pytest.raises(Polled, match="250"):
            broker.turn()
        child.kill()
        child.reap()


def test_a_broker_dumps_no_core(tmp_path: Path) -> None:
    """PINs pass through it."""
    with sessions(tmp_path / "door") as session:
        assert next_of(session(List(30))) == Idle(0)
        assert resource.prlimit(session.broker, resource.RLIMIT_CORE) == (0, 0)


def test_a_request_that_is_there_already_is_begun_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an engine sends it: nothing else would wake its broker."""
    monkeypatch.setattr(service_module, "LOOK_SECONDS", 3600)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(encode(List(30)))
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            Broker([Places([])], (0,)).serve_one(theirs)
        finally:
            os._exit(1)
    theirs.close()
    client = Client(ours)
    try:
        assert next_of(client) == Idle(0)
    finally:
        client.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
