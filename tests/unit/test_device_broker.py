"""The broker and its helpers: who may ask, what a request is, what helpers have and how they end."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import pytest
from device_places import ASSERT, DEADLINE, MAKE, WANTED, Places, Work, hang, say
from machine import wait_for

from pam_mfa.devices import errand, helper
from pam_mfa.devices.base import (
    MAX_CREDENTIAL_ID,
    MAX_CREDENTIALS,
    Carries,
    Choose,
    Described,
    Failed,
    Failure,
    Followup,
    Holds,
    Idle,
    List,
    Pin,
    PinReason,
    PinWanted,
    Release,
    Reply,
    Request,
    Sign,
    Slot,
    Strange,
    Structure,
    Touch,
    Transport,
    Use,
    Wanted,
)
from pam_mfa.devices.client import Client
from pam_mfa.devices.codec import encode
from pam_mfa.devices.helper import MAX_DATA, WATCHDOG_EXIT
from pam_mfa.devices.line import Line
from pam_mfa.devices.service import Broker
from pam_mfa.errors import Gone
from pam_mfa.structure import replace

SIGN = Sign(bytes(32), (Slot.AUTHENTICATION,), 30)
USE = Use(1, Slot.AUTHENTICATION, "123456")


class Service:
    """A broker in a process of its own, for one session."""

    def __init__(self, *works: Work, uids: Collection[int] = (0,)) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            try:
                ours.close()
                Broker([Places(works)], uids).serve_one(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self.client = Client(ours)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        os.waitpid(self.pid, 0)

    def ask(self, request: Structure | bytes) -> None:
        """Send it; whoever hung up already does so for every request."""
        with suppress(BrokenPipeError):
            os.write(self.client.fileno(), request if isinstance(request, bytes) else encode(request))

    def reply(self) -> Reply | None:
        """The next one; None where it hangs up."""
        assert select.select([self.client], [], [], DEADLINE)[0]
        try:
            return self.client.receive()
        except Gone:
            return None

    def replies(self) -> list[Reply | None]:
        """All up to the first that says Idle, or the end."""
        said = [self.reply()]
        while said[-1] and not isinstance(said[-1], Idle):
            said.append(self.reply())
        return said


def all_of(request: Request | bytes, *works: Work, uids: Collection[int] = (0,)) -> list[Reply | None]:
    """What comes of one request."""
    with Service(*works, uids=uids) as service:
        service.ask(request)
        return service.replies()


class TestWhoMayAsk:
    def test_root_may(self) -> None:
        assert all_of(List(5)) == [Idle(0)]

    def test_others_may_not(self) -> None:
        assert all_of(List(5), say(Strange(1, "")), uids=(4711,)) == [None]


class TestRequests:
    @pytest.mark.parametrize("request_", [ASSERT, MAKE, List(180), SIGN], ids=["Assert", "Make", "List", "Sign"])
    def test_good_ones(self, request_: Request) -> None:
        assert all_of(request_) == [Idle(0)]

    @pytest.mark.parametrize(
        "packet",
        [
            b"",
            b"x",
            bytes(70000),
            encode(Pin(1, "1234")),
            encode(Choose()),
            encode(Idle(1)),
            encode(List(0)),
            encode(List(181)),
            encode(replace(ASSERT, client_data_hash=bytes(31))),
            encode(replace(ASSERT, wanted=(WANTED,) * (MAX_CREDENTIALS + 1))),
            encode(replace(ASSERT, wanted=(Wanted("host.example", bytes(MAX_CREDENTIAL_ID + 1)),))),
            encode(replace(MAKE, excluded=(Wanted("host.example", b""),))),
            encode(replace(SIGN, message=bytes(31))),
            encode(replace(SIGN, slots=())),
            encode(replace(SIGN, slots=(Slot.SIGNATURE,) * 2)),
            encode(SIGN).replace(b"\x00\x00\x00\x9a", b"\x00\x00\x00\x9e"),
            encode(USE),
            encode(Release(1)),
        ],
    )
    def test_others_end_it(self, packet: bytes) -> None:
        with Service(say(Strange(1, ""))) as service:
            service.ask(packet)
            assert service.reply() is None

    def test_there_is_one(self) -> None:
        with Service() as service:
            service.ask(List(5))
            service.ask(List(5))
            assert service.replies() in ([Idle(0)], [None])
            assert service.reply() is None

    def test_who_asks_nothing_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(errand, "FIRST_REQUEST_SECONDS", 0.1)
        with Service() as service:
            assert service.reply() is None

    def test_time_is_up(self) -> None:
        with Service(hang) as service:
            service.ask(List(1))
            assert service.replies() in ([None], [Failed(1, Failure.SILENT), None])  # its watchdog has the same second

    def test_who_leaves_replies_unread_is_hung_up_on(self) -> None:
        def chatter(line: Line) -> None:
            for _ in range(60):
                line.say(Holds(line.device, Transport.USB, "", (bytes(1000),) * 60))
            hang(line)

        with Service(chatter, chatter) as service:
            service.ask(List(30))
            wait_for("the end", lambda: select.select([service.client], [], [], 0)[0])
            os.waitid(os.P_PID, service.pid, os.WEXITED | os.WNOWAIT)


class TestHelpers:
    def test_what_they_say_is_passed_on(self) -> None:
        assert all_of(List(5), say(Touch(1, False), Strange(1, "blue"))) == [
            Touch(1, False),
            Strange(1, "blue"),
            Idle(1),
        ]

    def test_one_that_finds_no_key_is_not_mentioned(self) -> None:
        assert all_of(List(5), say()) == [Idle(0)]

    def test_idle_only_when_all_are_done(self) -> None:
        with Service(say(Strange(1, "")), hang) as service:
            service.ask(List(1))
            said = service.replies()
        assert said[0] == Strange(1, "")
        assert said[-1] is None

    @pytest.mark.parametrize(
        ("work", "why"),
        [
            (say(Strange(2, "")), Failure.NONSENSE),
            (say(Idle(1)), Failure.NONSENSE),
            (lambda line: line.tell(b"x"), Failure.NONSENSE),
            (lambda line: line.tell(encode(List(5))), Failure.NONSENSE),
            (lambda line: 1 / 0, Failure.NONSENSE),
            (lambda line: bytes(2 * MAX_DATA), Failure.NONSENSE),
            (lambda line: os._exit(1), Failure.NONSENSE),
            (lambda line: os.kill(os.getpid(), signal.SIGSEGV), Failure.NONSENSE),
            (lambda line: os._exit(WATCHDOG_EXIT), Failure.SILENT),
            (lambda line: signal.pause() if signal.setitimer(signal.ITIMER_REAL, 0.01) else None, Failure.BUSY),
        ],
        ids="another's,Idle,garbage,a_request,exception,too_much,exit,crash,watchdog,alarm".split(","),
    )
    def test_what_becomes_of_them(self, work: Work, why: Failure) -> None:
        assert all_of(List(5), work) == [Failed(1, why), Idle(1)]

    def test_many_words_are_too_many(self) -> None:
        said = all_of(List(5), say(*[Touch(1, False)] * 200))
        assert said[-2:] == [Failed(1, Failure.NONSENSE), Idle(1)]
        assert len(said) == errand.MAX_REPLIES + 2

    def test_nothing_more_is_heard_after_the_last_word(self) -> None:
        assert all_of(List(5), say(Strange(1, ""), Touch(1, True), Strange(1, ""))) == [Strange(1, ""), Idle(1)]

    def test_a_pin_that_nobody_wants_is_kept_for_nobody(self, tmp_path: Path) -> None:
        """The second device tells the first one when both PINs have passed the broker."""
        passed = tmp_path / "passed"

        def first(line: Line) -> None:
            line.say(Touch(1, False))
            wait_for("the other", passed.exists)
            line.say(PinWanted(1, PinReason.FIRST, 8))
            heard = line.hear()
            line.say(Strange(1, heard.pin if isinstance(heard, Pin) else ""))

        def second(line: Line) -> None:
            line.say(PinWanted(2, PinReason.FIRST, 8))
            line.hear()
            passed.touch()
            line.say(Strange(2, ""))

        with Service(first, second) as service:
            service.ask(ASSERT)
            assert {type(service.reply()) for _ in range(2)} == {Touch, PinWanted}
            service.ask(Pin(1, "early"))
            service.ask(Pin(2, "1234"))
            assert {service.reply() for _ in range(2)} == {Strange(2, ""), PinWanted(1, PinReason.FIRST, 8)}
            service.ask(Pin(1, "late"))
            assert service.reply() == Strange(1, "late")

    @pytest.mark.parametrize(
        ("request_", "followup"),
        [
            (SIGN, Pin(1, "123456")),
            (SIGN, Choose()),
            (SIGN, replace(USE, slot=Slot.SIGNATURE)),
            (ASSERT, USE),
            (ASSERT, Release(1)),
            (List(30), USE),
            (List(30), Pin(1, "1234")),
        ],
        ids=str,
    )
    def test_what_does_not_go_on_with_a_request_ends_it(self, request_: Request, followup: Followup) -> None:
        def work(line: Line) -> None:
            line.say(Touch(1, False))
            hang(line)

        with Service(work) as service:
            service.ask(request_)
            assert service.reply() == Touch(1, False)
            service.ask(followup)
            assert service.reply() is None

    def test_a_card_is_used_once(self) -> None:
        """A second PIN reaches nobody."""

        def work(line: Line) -> None:
            line.say(Carries(1, "Reader", b"", 3, ()))
            line.hear()
            line.hear()
            line.say(Strange(1, "a second one"))

        with Service(work) as service:
            service.ask(replace(SIGN, seconds=1))
            assert isinstance(service.reply(), Carries)
            service.ask(USE)
            service.ask(USE)
            said = service.replies()
        assert Strange(1, "a second one") not in said

    def test_a_card_that_hangs_with_its_pin_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(errand, "FIRST_WORD_SECONDS", 0.3)

        def work(line: Line) -> None:
            line.say(Carries(1, "Reader", b"", 3, ()))
            line.hear()
            hang(line)

        with Service(work) as service:
            service.ask(SIGN)
            assert isinstance(service.reply(), Carries)
            assert not select.select([service.client], [], [], 0.8)[0]  # for its user there is all the time
            service.ask(USE)
            assert service.replies() == [Failed(1, Failure.SILENT), Idle(1)]

    def test_silence_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(errand, "FIRST_WORD_SECONDS", 0.1)
        assert all_of(List(30), hang) == [Failed(1, Failure.SILENT), Idle(1)]

    def test_a_python_that_hangs_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def spin(line: Line) -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                pass

        monkeypatch.setattr(errand, "FIRST_WORD_SECONDS", 0.1)
        assert all_of(List(30), spin) == [Failed(1, Failure.SILENT), Idle(1)]

    def test_so_many_at_once(self) -> None:
        def count(line: Line) -> None:
            line.say(Touch(line.device, False))
            hang(line)

        with Service(*[count] * (errand.MAX_DEVICES + 5)) as service:
            service.ask(List(1))
            said = service.replies()
        assert len([reply for reply in said if isinstance(reply, Touch)]) == errand.MAX_DEVICES

    def test_they_end_with_the_broker(self) -> None:
        def hold(line: Line) -> None:
            line.say(Strange(1, str(os.getpid())))
            time.sleep(600)

        with Service(hold) as service:
            service.ask(List(30))
            said = service.reply()
            assert isinstance(said, Strange)
            process = os.pidfd_open(int(said.name))
            os.kill(service.pid, signal.SIGKILL)
            assert select.select([process], [], [], DEADLINE)[0]
            os.close(process)


def described(line: Line, *words: str) -> Described:
    """Words of a helper about itself."""
    return Described(line.device, Transport.USB, "", bytes(16), 0, words, (), (), (), 255, 4, False)


class TestConfinement:
    def test_descriptors(self) -> None:
        """Its own connection alone, beside what may be written to."""

        def work(line: Line) -> None:
            open_now = {int(fd) for fd in os.listdir("/proc/self/fd")} - {0, 1, 2, line.fileno()}
            links = [os.readlink(f"/proc/self/fd/{fd}") for fd in open_now if os.path.exists(f"/proc/self/fd/{fd}")]
            line.say(described(line, *links))

        with socket.socket() as _, open(__file__, "rb") as _:
            (said, _) = all_of(List(5), work)
        assert isinstance(said, Described)
        assert [word for word in said.versions if "timerfd" not in word] == []  # the watchdog's

    def test_limits(self) -> None:
        def work(line: Line) -> None:
            limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_CORE, resource.RLIMIT_DATA)]
            line.say(described(line, *map(str, limits)))

        (said, _) = all_of(List(5), work)
        assert isinstance(said, Described)
        assert said.versions == (str((0, 0)), str((MAX_DATA, MAX_DATA)))


def test_a_helper_that_nobody_could_watch_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[int] = []

    def exhausted(pid: int) -> int:
        forked.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", exhausted)
    with pytest.raises(OSError, match="Too many"):
        helper.fork(lambda line: time.sleep(DEADLINE), 30)
    with pytest.raises(ChildProcessError):
        os.waitpid(forked[0], os.WNOHANG)
