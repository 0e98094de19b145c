"""Cards that mean harm: PINs, answers, slots (P06, P07, P08)."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from devices_bench import Bench, memory_watched
from smartcards import MESSAGE, PIN, SIGN, certificate, outcome, pins_sent, piv, private, use, verify
from vdev.iso7816 import Card
from vdev.pcscd import Reader
from vdev.piv import (
    AUTHENTICATION,
    CARD_AUTHENTICATION,
    CERTIFICATES,
    CHUID,
    DISCOVERY,
    GENERAL_AUTHENTICATE,
    GET_DATA,
    KEY_MANAGEMENT,
    SIGNATURE,
    VERIFY,
    PivApplet,
    tlv,
)

from pam_mfa.devices.base import Carries, Failure, Sign, Signed, Slot, Use
from pam_mfa.devices.helper import MAX_DATA
from pam_mfa.errors import Gone

SELECT, GET_RESPONSE = 0xA4, 0xC0
OK = b"\x90\x00"


class TestP06Pin:
    def test_p06_a_wrong_pin_is_sent_once(self, card_bench: Bench, readers: list[Reader]) -> None:
        applet = piv()
        card = Card(applet)
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert use(session, "654321").failure() is Failure.PIN_WRONG
        assert (pins_sent(card), applet.tries_left) == (1, 2)
        assert not card.commands(GENERAL_AUTHENTICATE)

    @pytest.mark.parametrize(("left", "why"), [(1, Failure.PIN_LAST_TRIES), (0, Failure.PIN_BLOCKED)])
    def test_p06_the_last_try_is_the_users_own(
        self, card_bench: Bench, readers: list[Reader], left: int, why: Failure
    ) -> None:
        """63C1 and 6983. The session that was told asks for no PIN; were it to, none would be sent."""
        applet = piv()
        applet.tries_left = left
        card = Card(applet)
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            carries = session.until(Carries)
            assert carries.tries == left
            assert session.ask(Use(carries.device, Slot.AUTHENTICATION, PIN)).failure() is why
        assert (pins_sent(card), applet.tries_left) == (0, left)

    def test_p06_tries_are_counted_again_before_the_pin_is_sent(self, card_bench: Bench, readers: list[Reader]) -> None:
        applet = piv()
        card = Card(applet)
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert session.until(Carries).tries == 3
            applet.tries_left = 1
            assert session.ask(Use(1, Slot.AUTHENTICATION, PIN)).failure() is Failure.PIN_LAST_TRIES
        assert pins_sent(card) == 0

    def test_p06_two_tries_are_enough_for_one(self, card_bench: Bench, readers: list[Reader]) -> None:
        applet = piv()
        applet.tries_left = 2
        readers[0].insert(Card(applet))
        with card_bench.session(SIGN) as session:
            use(session).until(Signed)

    @pytest.mark.parametrize(
        "pin", ["", "12345", "123456789", "12345\n", "12345\u00e9", "\uff11\uff12\uff13\uff14\uff15\uff16"]
    )
    def test_p06_a_pin_of_another_form_costs_no_try(self, card_bench: Bench, readers: list[Reader], pin: str) -> None:
        applet = piv()
        card = Card(applet)
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert use(session, pin).failure() is Failure.PIN_WRONG
        assert (pins_sent(card), applet.tries_left) == (0, 3)

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            ("63c0", Failure.PIN_BLOCKED),
            ("6983", Failure.PIN_BLOCKED),
            ("6300", Failure.PIN_WRONG),
            ("6a80", Failure.PIN_WRONG),
            ("6984", Failure.PIN_CHANGE),
            ("6985", Failure.PIN_CHANGE),
            ("6d00", Failure.UNSUPPORTED),
            ("6f00", Failure.UNSUPPORTED),
        ],
    )
    def test_p06_what_a_card_says_to_a_pin(
        self, card_bench: Bench, readers: list[Reader], answer: str, why: Failure
    ) -> None:
        """Also that it must be changed first. Nothing is tried again."""
        card = Card(piv())
        card.faults.before[VERIFY] = lambda command: bytes.fromhex(answer) if command.data else None
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert use(session).failure() is why
        assert pins_sent(card) == 1
        assert not card.commands(GENERAL_AUTHENTICATE)


CUT = certificate(private("p256"))
OBJECTS = {
    "indefinite length": b"\x70\x80" + CUT + bytes(2),
    "length of three bytes": b"\x70\x83\x00\x01\x00" + bytes(256),
    "length of four bytes": b"\x70\x84\xff\xff\xff\xff",
    "length without its bytes": b"\x70\x82\x01",
    "no length": b"\x70",
    "longer than the object": b"\x70\x82\x10\x00" + CUT,
    "long tag": b"\x7f\x81\x81\x01\x00",
    "half a tag": b"\x7f",
    "twice": tlv(0x70, CUT) * 2,
    "truncated certificate": tlv(0x70, CUT[:-1]),
    "bytes behind the certificate": tlv(0x70, CUT + b"\x00"),
    "no certificate": tlv(0x70, b"x" * 100),
    "nested": tlv(0x70, tlv(0x30, tlv(0x30, tlv(0x30, tlv(0x30))))),
    "gzip bomb": tlv(0x70, gzip.compress(bytes(5_000_000))) + tlv(0x71, b"\x01"),
    "half a gzip": tlv(0x70, gzip.compress(CUT)[:-9]) + tlv(0x71, b"\x01"),
    "no gzip": tlv(0x70, CUT) + tlv(0x71, b"\x01"),
}


class TestP07Answers:
    @pytest.mark.parametrize("content", OBJECTS.values(), ids=OBJECTS.keys())
    def test_p07_certificates_that_are_none(self, card_bench: Bench, readers: list[Reader], content: bytes) -> None:
        readers[0].insert(Card(piv(objects={CERTIFICATES[AUTHENTICATION]: content})))
        with memory_watched(card_bench) as most:
            assert outcome(card_bench) is Failure.NONSENSE
        assert most[0] < MAX_DATA  # 0 where it was gone before anybody looked

    @pytest.mark.parametrize("tag", [CHUID, DISCOVERY], ids=["CHUID", "discovery"])
    @pytest.mark.parametrize("content", [b"\x34\x84\xff", b"\x34", b"\x5f", tlv(0x34, b"x") * 2])
    def test_p07_other_objects_that_are_none(
        self, card_bench: Bench, readers: list[Reader], tag: bytes, content: bytes
    ) -> None:
        """What is wrong in the one is an end, the other need not be there."""
        readers[0].insert(Card(piv(objects={tag: content})))
        if tag == CHUID:
            assert outcome(card_bench) is Failure.NONSENSE
        else:
            with card_bench.session(SIGN) as session:
                use(session).until(Signed)

    @pytest.mark.parametrize(
        "answer", ["", "53", "5380", "5382ffff00", "53847fffffff", "530053", "7e0053", "5300" * 50]
    )
    def test_p07_objects_around_nothing(self, card_bench: Bench, readers: list[Reader], answer: str) -> None:
        card = Card(piv())
        card.faults.answer[GET_DATA] = bytes.fromhex(answer) + OK
        readers[0].insert(card)
        assert outcome(card_bench) is Failure.NONSENSE

    def test_p07_an_empty_object_is_none(self, card_bench: Bench, readers: list[Reader]) -> None:
        readers[0].insert(Card(piv(objects={CERTIFICATES[AUTHENTICATION]: b""})))
        assert outcome(card_bench) is Failure.NO_CERTIFICATE

    @pytest.mark.parametrize("answer", ["endless", "one", "long", "wrong length"])
    @pytest.mark.parametrize("ins", [SELECT, GET_DATA, VERIFY, GENERAL_AUTHENTICATE])
    def test_p07_answers_without_end(self, card_bench: Bench, readers: list[Reader], ins: int, answer: str) -> None:
        """61xx for ever, 6Cxx for ever, 60,000 bytes, one byte."""
        card = Card(piv())
        card.faults.answer = {ins: answer, GET_RESPONSE: "endless"}
        readers[0].insert(card)
        with memory_watched(card_bench) as most:
            why = outcome(card_bench)
        assert why in (Failure.NONSENSE, Failure.UNSUPPORTED)
        assert most[0] < MAX_DATA  # 0 where it was gone before anybody looked
        assert len(card.commands(GET_RESPONSE)) < 64
        assert len(card.commands(ins)) <= 4
        assert pins_sent(card) <= 1

    @pytest.mark.parametrize(
        "answer", ["", "7c", "7c00", "7c80", "7c028200", "7c0482038282", "7c03820182", "82027c00", "7c0581038200ff"]
    )
    def test_p07_signatures_that_are_none(self, card_bench: Bench, readers: list[Reader], answer: str) -> None:
        """The last but two has one byte of signature: that it is none is for the session to say."""
        card = Card(piv())
        card.faults.answer[GENERAL_AUTHENTICATE] = bytes.fromhex(answer) + OK
        readers[0].insert(card)
        if answer == "7c03820182":
            with card_bench.session(SIGN) as session:
                assert use(session).until(Signed).signature == b"\x82"
        else:
            assert outcome(card_bench) is Failure.NONSENSE

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP521R1()),
            rsa.generate_private_key(65537, 1024),
        ],
        ids=["p-521", "rsa-1024"],
    )
    def test_p07_a_key_that_nothing_is_signed_with(self, card_bench: Bench, readers: list[Reader], key: Any) -> None:
        card = Card(PivApplet({}, {AUTHENTICATION: certificate(key)}))
        readers[0].insert(card)
        assert outcome(card_bench) is Failure.UNSUPPORTED
        assert pins_sent(card) == 0


class TestP08Slots:
    def test_p08_only_the_wanted_slot_is_read(self, card_bench: Bench, readers: list[Reader]) -> None:
        """9C, 9D, and 9E which demands no PIN, are there."""
        card = Card(piv(slots=(SIGNATURE, KEY_MANAGEMENT, CARD_AUTHENTICATION)))
        readers[0].insert(card)
        assert outcome(card_bench) is Failure.NO_CERTIFICATE
        asked = b"".join(each.command for each in card.commands(GET_DATA))
        assert CERTIFICATES[AUTHENTICATION] in asked
        assert not [slot for slot in (SIGNATURE, KEY_MANAGEMENT, CARD_AUTHENTICATION) if CERTIFICATES[slot] in asked]

    def test_p08_a_slot_that_was_not_asked_for_is_not_used(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv(slots=(AUTHENTICATION, SIGNATURE)))
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            session.until(Carries)
            session.ask(Use(1, Slot.SIGNATURE, PIN))
            with pytest.raises(Gone):
                session.until(Signed)
        assert pins_sent(card) == 0

    def test_p08_a_slot_without_a_certificate_is_not_used(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv(slots=(AUTHENTICATION,)))
        readers[0].insert(card)
        with card_bench.session(Sign(MESSAGE, tuple(Slot), 30)) as session:
            session.until(Carries)
            assert session.ask(Use(1, Slot.SIGNATURE, PIN)).failure() is Failure.NO_CERTIFICATE
        assert pins_sent(card) == 0

    def test_p08_the_slot_without_a_pin_is_no_slot(self) -> None:
        with pytest.raises(ValueError, match="158"):
            Slot(CARD_AUTHENTICATION)

    def test_p08_the_key_of_the_slot_signs(self, card_bench: Bench, readers: list[Reader]) -> None:
        applet = piv("p256", slots=(AUTHENTICATION,))
        applet.keys[CARD_AUTHENTICATION] = applet.keys[SIGNATURE] = ec.generate_private_key(ec.SECP256R1())
        card = Card(applet)
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            verify("p256", use(session).until(Signed), MESSAGE)
        assert {each.command[3] for each in card.commands(GENERAL_AUTHENTICATE)} == {AUTHENTICATION}
