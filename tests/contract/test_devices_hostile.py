"""Devices that mean harm (K12, K13, K17): this one ends, all others go on, no helper is left."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from devices_bench import Bench, CardKey, Session, assertion, make, memory_watched, wait_for_user
from machine import wait_for
from vdev.ctap import Command

from pam_mfa.devices.base import Asserted, Described, Failed, Failure, Idle, List, Made, Strange, Touch, Wanted
from pam_mfa.devices.helper import MAX_DATA

GET_INFO, GET_ASSERTION, MAKE_CREDENTIAL = Command.GET_INFO, Command.GET_ASSERTION, Command.MAKE_CREDENTIAL
SELECT, MESSAGE = 0xA4, 0x10
SAID = ["empty", "one", "garbage", "truncated", "deep", "huge map", "long"]
USB = pytest.mark.parametrize("bench", ["memory", "hidraw"], indirect=True)
READERS = pytest.mark.parametrize("bench", ["pcsc"], indirect=True)
ABSENT = Wanted("host.example", b"x" * 64)


def outcome(session: Session) -> Failure | None:
    """Why the device is out; None where it is taken for no authenticator at all."""
    while not isinstance(reply := session.reply(), Failed | Idle):
        assert not isinstance(reply, Asserted | Made | Described)
    return reply.why if isinstance(reply, Failed) else None


class TestAnswers:
    @pytest.mark.parametrize("answer", SAID)
    def test_to_the_first_question(self, bench: Bench, answer: str) -> None:
        bench.key("hostile").inject(answer={GET_INFO: answer})
        with memory_watched(bench) as most:
            for request in (List(5), assertion(ABSENT), make()):
                with bench.session(request) as session:
                    assert outcome(session) in (Failure.NONSENSE, None)
        assert most[0] < MAX_DATA  # 0 where it was gone before anybody looked

    @pytest.mark.parametrize("answer", SAID)
    def test_to_the_silent_question(self, bench: Bench, answer: str) -> None:
        bench.key("hostile").inject(answer={GET_ASSERTION: answer})
        with bench.session(assertion(ABSENT)) as session:
            assert outcome(session) is Failure.NONSENSE

    @pytest.mark.parametrize("answer", SAID)
    def test_to_the_one_that_counts(self, bench: Bench, answer: str) -> None:
        bench.key("hostile").inject(answer={MAKE_CREDENTIAL: answer})
        with bench.session(make()) as session:
            assert outcome(session) is Failure.NONSENSE

    def test_another_credential_than_the_wanted_one(self, bench: Bench) -> None:
        key = bench.key("hostile")
        made = bench.make()
        key.inject(credential_id=b"z" * 64)
        with bench.session(assertion(made)) as session:
            assert outcome(session) is Failure.NONSENSE

    def test_a_user_handle_without_end(self, bench: Bench) -> None:
        key = bench.key("hostile")
        made = bench.make()
        key.inject(user_handle=bytes(2000))
        with bench.session(assertion(made)) as session:
            assert outcome(session) is Failure.NONSENSE

    def test_words_are_printable(self, bench: Bench) -> None:
        bench.key("hostile", versions=("FIDO_2_1", "\x1b[2J\n\u202e" * 99))
        with bench.session(List(5)) as session:
            strange = session.until(Described).versions[1]
        assert strange == "?[2J" + "??[2J" * 99 if len(strange) > 64 else strange.isprintable() and strange.isascii()

    @pytest.mark.parametrize("status", [0x00, 0x05, 0x11, 0x2E, 0x33, 0x3D, 0x7F, 0xDF, 0xF0, 0xFF])
    def test_codes_of_every_kind(self, bench: Bench, status: int) -> None:
        bench.key("hostile").inject(status={MAKE_CREDENTIAL: status})
        with bench.session(make()) as session:
            assert outcome(session) is not None

    @USB
    def test_busy_for_ever(self, bench: Bench) -> None:
        bench.key("hostile").inject(busy=10**9)
        with bench.session(List(20)) as session:
            assert outcome(session) is Failure.BUSY

    def test_busy_for_a_while(self, bench: Bench) -> None:
        key = bench.key("slow")
        key.inject(busy=3)
        with bench.session(List(20)) as session:
            session.until(Described)


class TestTime:
    @pytest.fixture
    def good(self, bench: Bench) -> tuple[Any, Made]:
        """A key that is all right, with a credential."""
        key = bench.key("good")
        return key, bench.make()

    @USB
    @pytest.mark.parametrize(
        "fault", [{"mute": True}, {"flood": True}, {"flood": True, "keepalive": 1}], ids=["mute", "cues", "keepalives"]
    )
    def test_one_without_end(self, bench: Bench, good: tuple[Any, Made], fault: dict[str, Any]) -> None:
        """It is out at its deadline; the good one, and other sessions, never notice."""
        bench.key("hostile").inject(**fault)
        with (
            memory_watched(bench) as most,
            bench.session(List(30)) as session,
            bench.session(assertion(good[1])) as other,
        ):
            other.until(Asserted)
            session.until(Described)
            # BUSY where the other session was the first to have it.
            assert outcome(session) in (Failure.SILENT, Failure.NOT_TOUCHED, Failure.BUSY)
        assert 0 < most[0] < MAX_DATA
        wait_for("the end of the helpers", lambda: not bench.helpers())
        with bench.session(assertion(good[1])) as session:
            session.until(Asserted)

    @USB
    @pytest.mark.parametrize("fault", [{"mute": True}, {"flood": True}], ids=["mute", "cues"])
    def test_hanging_up_on_one(self, bench: Bench, fault: dict[str, Any]) -> None:
        bench.key("hostile").inject(**fault)
        with bench.session(assertion(ABSENT)):
            wait_for("a helper", bench.helpers)
        wait_for("the end of the helpers", lambda: not bench.helpers())

    def test_thinking_for_ever(self, bench: Bench) -> None:
        bench.key("hostile").inject(think={GET_ASSERTION: 600})
        with bench.session(assertion(ABSENT)) as session:
            assert outcome(session) is Failure.SILENT

    def test_packets_of_others_are_skipped(self, bench: Bench) -> None:
        bench.key("shared").inject(foreign=20)
        made = bench.make()
        with bench.session(assertion(made)) as session:
            session.until(Asserted)

    @USB
    def test_pieces_in_another_order(self, bench: Bench) -> None:
        bench.key("hostile").inject(wrong_sequence=True)
        with bench.session(List(5)) as session:
            assert outcome(session) is Failure.NONSENSE

    def test_a_helper_that_hangs_is_killed(self, bench: Bench) -> None:
        """Stopped, it hears nothing and its watchdog rests."""
        key = bench.key("blue")
        key.inject(touch="never")
        with bench.session(make()) as session:
            session.until(Touch)
            wait_for_user(key)
            for pid in bench.helpers():
                signal.pidfd_send_signal(signal_fd(pid), signal.SIGSTOP)
        wait_for("the end of the helpers", lambda: not bench.helpers())


@READERS
class TestCards:
    @pytest.mark.parametrize("answer", ["endless", "one", "6F00", "long", "wrong length"])
    @pytest.mark.parametrize("ins", [SELECT, MESSAGE], ids=["SELECT", "getInfo"])
    def test_answers(self, bench: Bench, answer: str, ins: int) -> None:
        key: CardKey = bench.key("hostile")
        key.card.faults.answer = {ins: answer, 0xC0: "endless"}
        with memory_watched(bench) as most, bench.session(List(20)) as session:
            assert outcome(session) in (Failure.NONSENSE, None)
        assert most[0] < MAX_DATA  # 0 where it was gone before anybody looked
        assert len(key.card.commands(0xC0)) < 200

    def test_an_empty_answer(self, bench: Bench) -> None:
        """pcscd itself waits for more of it; so does nobody else."""
        key: CardKey = bench.key("hostile")
        good = bench.key("good")
        key.card.faults.answer = {SELECT: "empty"}
        with bench.session(List(20)) as session:
            session.until(Described)
            assert outcome(session) is Failure.SILENT
        assert good.trace()

    def test_an_answer_that_never_comes(self, bench: Bench) -> None:
        key: CardKey = bench.key("hostile")
        key.card.faults.late = {SELECT: 600}
        with bench.session(List(20)) as session:
            assert outcome(session) is Failure.SILENT

    def test_status_updates_without_end(self, bench: Bench) -> None:
        key: CardKey = bench.key("hostile")
        key.card.faults.answer = {0x10: b"\x01\x91\x00", 0x11: b"\x01\x91\x00"}
        with bench.session(List(20)) as session:
            assert outcome(session) is Failure.SILENT

    def test_another_applet_is_no_key(self, bench: Bench) -> None:
        key: CardKey = bench.key("card")
        key.card.applets = ()
        with bench.session(List(5)) as session:
            assert session.until(Idle) == Idle(0)

    def test_no_pcscd(self, bench: Bench, pcscd: Any) -> None:
        pcscd.stop()
        with bench.session(List(5)) as session:
            assert session.reply() == Idle(0)

    def test_pcscd_that_hangs(self, bench: Bench, pcscd: Any) -> None:
        process = signal_fd(pcscd.pid)
        signal.pidfd_send_signal(process, signal.SIGSTOP)
        try:
            with bench.session(assertion(ABSENT)) as session:
                assert session.reply() == Idle(0)
        finally:
            signal.pidfd_send_signal(process, signal.SIGCONT)
        wait_for("the end of the helpers", lambda: not bench.helpers())

    def test_pcscd_comes_later(self, bench: Bench, pcscd: Any) -> None:
        pcscd.stop()
        with bench.session(assertion(ABSENT)) as session:
            session.until(Idle)
            pcscd.start()
            bench.key("late")
            session.until(Strange)


def signal_fd(pid: int) -> int:
    """A process that stays that one."""
    return os.pidfd_open(pid)
