"""Cards in other hands, secrets, and a pcscd that is none (P10, P11, P12)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from cards import Client, transmit
from devices_bench import Bench
from machine import wait_for
from smartcards import PIN, SIGN, outcome, pins_sent, piv, use
from vdev.iso7816 import Card, Command
from vdev.pcscd import Pcscd, Reader
from vdev.piv import (
    AUTHENTICATION,
    CERTIFICATES,
    GENERAL_AUTHENTICATE,
    GET_DATA,
    VERIFY,
    PivApplet,
)

from pam_mfa.devices.base import Carries, Failed, Failure, Idle, Signed, Slot, Use

SELECT = 0xA4
SELECT_PIV = bytes.fromhex("00A4040005A00000030800")
OK = b"\x90\x00"


class TestP10OtherHands:
    """A twin has the same certificates, which are public, and the victim's number or none of it."""

    @pytest.mark.parametrize(
        "another",
        [
            piv("p384"),
            piv(guid=b"another one     "),
            piv(objects={CERTIFICATES[AUTHENTICATION]: b"\x70\x84\xff"}),
            None,
        ],
        ids=["certificate", "number", "nonsense", "no PIV"],
    )
    def test_p10_swapped_while_the_pin_is_typed(
        self, card_bench: Bench, readers: list[Reader], another: PivApplet | None
    ) -> None:
        card = Card(*[another] if another else [])
        readers[0].insert(Card(piv()))
        with card_bench.session(SIGN) as session:
            session.until(Carries)
            readers[0].swap(card, unseen=True)
            assert session.ask(Use(1, Slot.AUTHENTICATION, PIN)).failure() is Failure.SWAPPED
        assert pins_sent(card) == 0

    @pytest.mark.parametrize("ins", [VERIFY, GENERAL_AUTHENTICATE])
    def test_p10_swapped_in_the_middle(self, card_bench: Bench, readers: list[Reader], ins: int) -> None:
        card, another = Card(piv()), Card(piv("p384"))
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            session.until(Carries)

            def swap(command: Command) -> None:
                if command.data:
                    readers[0].swap(another, unseen=True)

            card.faults.before[ins] = swap
            assert session.ask(Use(1, Slot.AUTHENTICATION, PIN)).failure() is Failure.SWAPPED

    @pytest.mark.parametrize("another", [piv("p384"), piv(guid=b"another one     ")], ids=["certificate", "number"])
    def test_p10_swapped_after_the_signature(
        self, card_bench: Bench, readers: list[Reader], another: PivApplet
    ) -> None:
        """What the right card has signed is good, but it is gone. PIV is selected on the other one already."""
        applet = piv()
        said: list[Any] = []
        card, twin = Card(applet), Card(another)
        readers[0].insert(card)

        def swap(command: Command) -> None:
            said.append(applet.process(command))
            twin.exchange(SELECT_PIV)
            readers[0].swap(twin, unseen=True)

        card.faults.before[GENERAL_AUTHENTICATE] = swap
        twin.faults.before[GENERAL_AUTHENTICATE] = lambda command: b"".join(said) + OK
        with card_bench.session(SIGN) as session:
            assert use(session).failure() is Failure.SWAPPED
        assert said

    def test_p10_nobody_else_has_the_card_meanwhile(
        self, card_bench: Bench, readers: list[Reader], client: Client, background: Callable[..., Future[Any]]
    ) -> None:
        """Before the PIN, between it and the signature, and up to the reset."""
        applet = piv()
        card = Card(applet)
        readers[0].insert(card)
        other = client.connect()
        asked, go_on = threading.Event(), threading.Event()

        def wait(command: Command) -> None:
            asked.set()
            go_on.wait(30)

        card.faults.before[GENERAL_AUTHENTICATE] = wait
        with card_bench.session(SIGN) as session:
            session.until(Carries)
            waiting = background(transmit, other, bytes.fromhex("00870011") + b"\x9a")
            session.ask(Use(1, Slot.AUTHENTICATION, PIN))
            assert asked.wait(30)
            assert applet.verified
            assert not waiting.done()
            go_on.set()
            session.until(Signed)
        assert waiting.exception(30), "it was told of the reset"
        assert not applet.verified

    @pytest.mark.parametrize("how", ["wrong PIN", "refused", "hung up", "killed"])
    def test_p10_whatever_the_end_the_card_is_reset(self, card_bench: Bench, readers: list[Reader], how: str) -> None:
        applet = piv()
        card = Card(applet)
        asked, go_on = threading.Event(), threading.Event()

        def wait(command: Command) -> bytes | None:
            asked.set()
            go_on.wait(30)
            return b"\x6f\x00" if how == "refused" else None

        card.faults.before[GENERAL_AUTHENTICATE] = wait
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            use(session, "654321" if how == "wrong PIN" else PIN)
            if how != "wrong PIN":
                assert asked.wait(30)
                assert applet.verified
            if how == "killed":
                for pid in card_bench.helpers():
                    os.kill(pid, signal.SIGKILL)
            if how != "hung up":
                go_on.set()
                session.failure()
        go_on.set()
        wait_for("the reset", lambda: not applet.verified and card._selected is None)

    def test_p10_another_s_pin_does_not_count(self, card_bench: Bench, readers: list[Reader], client: Client) -> None:
        """Somebody has verified their PIN, and a wrong one comes."""
        applet = piv()
        card = Card(applet)
        readers[0].insert(card)
        card.faults.before[SELECT] = lambda command: OK if applet.verified else None  # it goes on counting
        other = client.connect()
        transmit(other, SELECT_PIV)
        transmit(other, b"\x00\x20\x00\x80\x08123456\xff\xff")
        with card_bench.session(SIGN) as session:
            carries = session.until(Carries)
            assert carries.tries == 255
            assert session.ask(Use(carries.device, Slot.AUTHENTICATION, "654321")).failure() is Failure.PIN_WRONG
        assert not card.commands(GENERAL_AUTHENTICATE)


class TestP11Secrets:
    def test_p11_the_pin_stays_where_it_is_sent(
        self, card_bench: Bench, readers: list[Reader], pcscd: Pcscd, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Not in what broker, helper and pcscd write, not in arguments or environment; and there is no core."""
        canary = "8Kq#vZ2x"
        asked, go_on = threading.Event(), threading.Event()

        def wait(command: Command) -> None:
            asked.set()
            go_on.wait(30)

        applet = piv()
        applet.faults.any_pin = True
        card = Card(applet)
        card.faults.before[VERIFY] = lambda command: OK if command.data else None
        card.faults.before[GENERAL_AUTHENTICATE] = wait
        readers[0].insert(card)
        request = Use(1, Slot.AUTHENTICATION, canary)
        with card_bench.session(SIGN) as session:
            session.until(Carries)
            session.ask(request)
            assert asked.wait(30)
            processes = [Path("/proc", str(pid)) for pid in card_bench.helpers()]
            assert processes
            seen = [(place / name).read_bytes() for place in processes for name in ("cmdline", "environ")]
            limits = [(place / "limits").read_text() for place in processes]
            go_on.set()
            session.until(Failed)
        assert canary not in repr(request)
        assert canary.encode() not in b"".join(seen)
        assert all("Max core file size        0                    0" in text for text in limits)
        written = capfd.readouterr()
        assert canary not in written.out + written.err + (pcscd._home / "log").read_text(errors="replace")
        assert any(canary.encode() in each.command for each in card.commands(VERIFY))


class TestP12Pcscd:
    def test_p12_absent(self, card_bench: Bench, pcscd: Pcscd, readers: list[Reader]) -> None:
        pcscd.stop()
        with card_bench.session(SIGN) as session:
            assert session.reply() == Idle(0)
            pcscd.start()
            readers[0].insert(Card(piv()))
            use(session).until(Signed)

    def test_p12_refused(self, card_bench: Bench, pcscd: Pcscd) -> None:
        """As by polkit."""
        pcscd.refuse()
        with card_bench.session(SIGN) as session:
            assert session.reply() == Idle(0)

    def test_p12_hung(self, card_bench: Bench, pcscd: Pcscd) -> None:
        os.kill(pcscd.pid, signal.SIGSTOP)
        try:
            with card_bench.session(SIGN) as session:
                assert session.reply() == Idle(0)
            wait_for("the end of the helpers", lambda: not card_bench.helpers())
        finally:
            os.kill(pcscd.pid, signal.SIGCONT)

    def test_p12_killed_while_a_pin_is_typed(self, card_bench: Bench, pcscd: Pcscd, readers: list[Reader]) -> None:
        readers[0].insert(Card(piv()))
        with card_bench.session(SIGN) as session:
            session.until(Carries)
            os.kill(pcscd.pid, signal.SIGKILL)
            assert session.failure() is Failure.UNPLUGGED
            assert session.until(Idle) == Idle(0)

    def test_p12_a_reader_that_hangs_in_connect(self, card_bench: Bench, readers: list[Reader]) -> None:
        """It is given up, and the other reader goes on."""
        card, hung, go_on = Card(piv()), threading.Event(), threading.Event()

        def power() -> None:
            hung.set()
            go_on.wait(60)

        readers[0].insert(card)
        readers[2].insert(Card(piv()))
        card.faults.power = power
        assert hung.wait(30)
        try:
            with card_bench.session(SIGN) as session:
                said: dict[type[Any], Any] = {}
                while not {Carries, Signed, Failed} <= said.keys():
                    reply = session.reply()
                    said[type(reply)] = reply
                    if isinstance(reply, Carries):
                        assert reply.name == readers[2].name
                        session.ask(Use(reply.device, Slot.AUTHENTICATION, PIN))
            assert said[Failed].why is Failure.BUSY
        finally:
            go_on.set()
        wait_for("the end of the helpers", lambda: not card_bench.helpers())

    @pytest.mark.parametrize("ins", [SELECT, GET_DATA, VERIFY, GENERAL_AUTHENTICATE])
    def test_p12_a_card_that_hangs(self, card_bench: Bench, readers: list[Reader], ins: int) -> None:
        """It is given up while the request still has time."""
        card = Card(piv())
        card.faults.late[ins] = 3600
        readers[0].insert(card)
        try:
            assert outcome(card_bench) is Failure.SILENT
            wait_for("the end of the helpers", lambda: not card_bench.helpers())
        finally:
            readers[0].remove(wait=False)
