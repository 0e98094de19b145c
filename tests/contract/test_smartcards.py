"""What the device service promises about PIV cards: real pcscd, virtual readers, P06 to P12."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from cards import Client, transmit
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from devices_bench import Bench
from machine import wait_for
from smartcards import KINDS, MESSAGE, PIN, SIGN, certificate, pins_sent, piv, private, use, verify
from vdev.authenticator import Authenticator
from vdev.fido_card import FidoApplet
from vdev.iso7816 import PLAIN_ATR, YUBIKEY_ATR, Applet, Card, Command
from vdev.pcscd import Reader
from vdev.piv import (
    AUTHENTICATION,
    CARD_AUTHENTICATION,
    GENERAL_AUTHENTICATE,
    KEY_MANAGEMENT,
    SIGNATURE,
    PivApplet,
)

from pam_mfa.devices.base import (
    Carries,
    Choose,
    Described,
    Failure,
    Idle,
    List,
    Pin,
    Reader as Empty,
    Release,
    Scheme,
    Sign,
    Signed,
    Slot,
    Touch,
    Use,
)
from pam_mfa.errors import Gone

ALL = tuple(Slot)
METADATA = 0xF7
TOUCH_ALWAYS, TOUCH_NEVER, TOUCH_CACHED = (bytes.fromhex(f"0101110202020{policy}9000") for policy in (2, 1, 3))


class TestList:
    def test_readers_and_cards(self, card_bench: Bench, readers: list[Reader]) -> None:
        readers[1].insert(Card(piv("rsa2048", slots=(AUTHENTICATION, KEY_MANAGEMENT, CARD_AUTHENTICATION), tries=5)))
        readers[2].insert(Card())
        with card_bench.session(List(5)) as session:
            assert session.until(Idle) == Idle(1)
        carries = session.only(Carries)
        assert (carries.name, carries.serial, carries.tries) == (readers[1].name, b"pam-mfa PIV card", 5)
        assert [each.slot for each in carries.certificates] == [Slot.AUTHENTICATION, Slot.KEY_MANAGEMENT]
        empty = {reply.name for reply in session.replies if isinstance(reply, Empty)}
        assert empty == {readers[0].name, readers[3].name}

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_a_certificate_says(self, card_bench: Bench, readers: list[Reader], kind: str) -> None:
        readers[0].insert(Card(piv(kind)))
        with card_bench.session(List(5)) as session:
            (said,) = session.until(Carries).certificates
        key = private(kind)
        assert x509.load_der_x509_certificate(said.certificate).public_key() == key.public_key()
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert (said.slot, said.public_key) == (Slot.AUTHENTICATION, spki)
        assert (said.subject, said.issuer, said.number) == ("CN=alice", "CN=alice", "1")
        assert (said.valid_from, said.valid_until) == ("2020-01-01", "2119-12-08")
        assert said.key == {"rsa": f"rsa-{kind[3:]}", "p25": "p-256", "p38": "p-384"}[kind[:3]]

    def test_words_are_printable(self, card_bench: Bench, readers: list[Reader]) -> None:
        hostile = certificate(private("p256"), "\x1b[2J\u202e" * 7)
        readers[0].insert(Card(PivApplet({AUTHENTICATION: private("p256")}, {AUTHENTICATION: hostile})))
        with card_bench.session(List(5)) as session:
            (said,) = session.until(Carries).certificates
        assert said.subject.isascii()
        assert said.subject.isprintable()

    def test_a_card_without_certificates(self, card_bench: Bench, readers: list[Reader]) -> None:
        readers[0].insert(Card(PivApplet()))
        with card_bench.session(List(5)) as session:
            assert session.until(Carries).certificates == ()
            assert session.until(Idle) == Idle(1)

    def test_one_that_is_a_security_key_as_well(self, card_bench: Bench, readers: list[Reader]) -> None:
        readers[0].insert(Card(FidoApplet(Authenticator(b"seed")), piv()))
        with card_bench.session(List(5)) as session:
            carries, described = session.until(Carries), session.until(Described)
            assert session.until(Idle) == Idle(1)
        assert carries.device == described.device

    def test_nothing_is_spent_or_reset(self, card_bench: Bench, readers: list[Reader], client: Client) -> None:
        card = Card(piv())
        readers[0].insert(card)
        other = client.connect()
        with card_bench.session(List(5)) as session:
            session.until(Carries)
            session.until(Idle)
        assert transmit(other, b"\x00\x20\x00\x80") == (b"", 0x63C3)  # with no word of a reset
        assert pins_sent(card) == 0


class TestSign:
    @pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_signs_and_is_reset(self, card_bench: Bench, readers: list[Reader], kind: str, compressed: bool) -> None:
        applet = piv(kind, compressed=compressed)
        card = Card(applet)
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            carries = session.until(Carries)
            assert (carries.tries, carries.serial) == (3, applet.guid)
            assert carries.certificates[0].certificate == applet.certificates[AUTHENTICATION]
            session.ask(Use(carries.device, Slot.AUTHENTICATION, PIN))
            signed = session.until(Signed)
            assert session.until(Idle) == Idle(1)
        verify(kind, signed, MESSAGE)
        with pytest.raises(InvalidSignature):
            verify(kind, signed, bytes(32))
        assert signed.scheme is (Scheme.ECDSA if kind.startswith("p") else Scheme.PKCS1)
        assert pins_sent(card) == 1
        wait_for("the reset", lambda: not applet.verified)

    @pytest.mark.parametrize("slot", [SIGNATURE, KEY_MANAGEMENT])
    def test_other_slots(self, card_bench: Bench, readers: list[Reader], slot: int) -> None:
        readers[0].insert(Card(piv(slots=(slot,))))
        with card_bench.session(Sign(MESSAGE, ALL, 30)) as session:
            verify("p256", use(session, slot=Slot(slot)).until(Signed), MESSAGE)

    @pytest.mark.parametrize("slot", [AUTHENTICATION, SIGNATURE])
    @pytest.mark.parametrize("kind", ["rsa2048", "rsa3072"])
    def test_pss_where_it_refuses_the_other_padding(
        self, card_bench: Bench, readers: list[Reader], kind: str, slot: int
    ) -> None:
        card = Card(piv(kind, slots=(slot,)))
        card.faults.before[GENERAL_AUTHENTICATE] = lambda command: b"\x6a\x80" if b"\xff" * 20 in command.data else None
        readers[0].insert(card)
        with card_bench.session(Sign(MESSAGE, ALL, 30)) as session:
            signed = use(session, slot=Slot(slot)).until(Signed)
        assert signed.scheme is Scheme.PSS
        verify(kind, signed, MESSAGE)
        assert pins_sent(card) == (2 if slot == SIGNATURE else 1)

    def test_a_card_that_refuses_every_padding(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv("rsa2048"))
        card.faults.answer[GENERAL_AUTHENTICATE] = b"\x6a\x80"
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert use(session).failure() is Failure.UNSUPPORTED
        assert len(card.commands(GENERAL_AUTHENTICATE)) == 2 * 2  # each in two pieces

    def test_a_card_whose_primary_pin_is_the_global_one(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv(pin_reference=0x00))
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            verify("p256", use(session).until(Signed), MESSAGE)

    def test_released_it_is_left_as_it_was(
        self, card_bench: Bench, readers: list[Reader], background: Callable[..., Future[Any]], client: Client
    ) -> None:
        card = Card(piv())
        readers[0].insert(card)
        other = client.connect()  # before: pcscd lets nobody connect to a card that is in a transaction
        with card_bench.session(SIGN) as session:
            carries = session.until(Carries)
            waiting = background(transmit, other, b"\x00\x20\x00\x80")
            assert not waiting.done()
            session.ask(Release(carries.device))
            assert session.until(Idle) == Idle(1)
            assert waiting.result(30) == (b"", 0x63C3)  # PIV is selected still: it was not reset
        assert pins_sent(card) == 0

    def test_several_cards_at_once(self, card_bench: Bench, readers: list[Reader]) -> None:
        right, wrong = Card(piv("p384")), Card(piv("p256", guid=b"another one     "))
        readers[0].insert(wrong)
        readers[2].insert(right)
        with card_bench.session(SIGN) as session:
            both = {each.serial: each for each in (session.until(Carries), session.until(Carries))}
            mine, other = both[b"pam-mfa PIV card"], both[b"another one     "]
            session.ask(Release(other.device))
            session.ask(Use(mine.device, Slot.AUTHENTICATION, PIN))
            signed = session.until(Signed)
        assert signed.device == mine.device
        verify("p384", signed, MESSAGE)
        assert pins_sent(wrong) == 0

    def test_a_card_may_come_later(self, card_bench: Bench, readers: list[Reader]) -> None:
        with card_bench.session(SIGN) as session:
            assert session.until(Idle) == Idle(0)
            readers[0].insert(Card(piv()))
            verify("p256", use(session).until(Signed), MESSAGE)

    @pytest.mark.parametrize("applets", [[], [FidoApplet(Authenticator(b"seed"))]], ids=["nothing", "security key"])
    def test_what_is_no_piv_card(self, card_bench: Bench, readers: list[Reader], applets: list[Applet]) -> None:
        readers[0].insert(Card(*applets))
        with card_bench.session(SIGN) as session:
            assert session.failure() is Failure.UNSUPPORTED
            assert session.until(Idle) == Idle(1)

    def test_who_hangs_up_leaves_it_free(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv())
        readers[0].insert(card)
        for _ in range(3):
            with card_bench.session(SIGN) as session:
                session.until(Carries)
        with card_bench.session(SIGN) as session:
            use(session).until(Signed)
        wait_for("the end of the helpers", lambda: not card_bench.helpers())

    def test_another_session_has_it(self, card_bench: Bench, readers: list[Reader]) -> None:
        readers[0].insert(Card(piv()))
        with card_bench.session(SIGN) as first:
            first.until(Carries)
            with card_bench.session(SIGN) as second:
                assert second.failure() is Failure.BUSY
            use_again = first.ask(Use(1, Slot.AUTHENTICATION, PIN))
            use_again.until(Signed)

    def test_one_pin_is_all_there_is(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv())
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            use(session, "654321").ask(Use(1, Slot.AUTHENTICATION, PIN))
            assert session.failure() is Failure.PIN_WRONG
            assert session.until(Idle) == Idle(1)
        assert pins_sent(card) == 1

    @pytest.mark.parametrize("followup", [Pin(1, PIN), Choose(), SIGN], ids=["Pin", "Choose", "Sign"])
    def test_what_is_not_for_cards_ends_it(self, card_bench: Bench, readers: list[Reader], followup: Any) -> None:
        card = Card(piv())
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            session.until(Carries)
            session.ask(followup)
            with pytest.raises(Gone):
                session.until(Signed)
        assert pins_sent(card) == 0

    @pytest.mark.parametrize("policy", [TOUCH_ALWAYS, TOUCH_CACHED], ids=["always", "cached"])
    def test_a_yubikey_waits_for_a_touch(self, card_bench: Bench, readers: list[Reader], policy: bytes) -> None:
        card, touched = Card(piv(), atr=YUBIKEY_ATR), threading.Event()
        card.faults.answer[METADATA] = policy

        def wait(command: Command) -> None:
            touched.wait(30)

        card.faults.before[GENERAL_AUTHENTICATE] = wait
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert use(session).until(Touch) == Touch(1, False)
            touched.set()
            session.until(Signed)

    def test_a_yubikey_that_was_not_touched(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv(), atr=YUBIKEY_ATR)
        card.faults.answer |= {METADATA: TOUCH_ALWAYS, GENERAL_AUTHENTICATE: b"\x69\x82"}
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert use(session).failure() is Failure.NOT_TOUCHED

    @pytest.mark.parametrize(
        ("atr", "answer"),
        [(YUBIKEY_ATR, TOUCH_NEVER), (YUBIKEY_ATR, b"\x6d\x00"), (PLAIN_ATR, TOUCH_ALWAYS)],
        ids=["never", "old", "no YubiKey"],
    )
    def test_no_touch_is_asked_for(self, card_bench: Bench, readers: list[Reader], atr: bytes, answer: bytes) -> None:
        card = Card(piv(), atr=atr)
        card.faults.answer[METADATA] = answer
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            use(session).until(Signed)
        assert not [reply for reply in session.replies if isinstance(reply, Touch)]
        assert len(card.commands(METADATA)) == (atr is YUBIKEY_ATR)


class TestRemoval:
    def test_while_the_pin_is_typed_and_back_again(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv())
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            session.until(Carries)
            readers[0].remove()
            assert session.failure() is Failure.UNPLUGGED
            assert session.until(Idle) == Idle(0)
            readers[0].insert(card)
            use(session).until(Signed)

    def test_while_it_signs(self, card_bench: Bench, readers: list[Reader]) -> None:
        card = Card(piv())
        card.faults.before[GENERAL_AUTHENTICATE] = lambda command: readers[0].remove(wait=False)
        readers[0].insert(card)
        with card_bench.session(SIGN) as session:
            assert use(session).failure() is Failure.UNPLUGGED
            assert session.until(Idle) == Idle(0)


class TestOpenScAsWitness:
    @pytest.fixture(autouse=True)
    def cache_of_opensc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cards of several tests have the same number."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def test_it_sees_the_same_certificate_and_finds_the_card_as_it_was(
        self, card_bench: Bench, readers: list[Reader], tmp_path: Path
    ) -> None:
        readers[0].insert(Card(piv("rsa2048"), atr=YUBIKEY_ATR))
        with card_bench.session(SIGN) as session:
            carries = session.until(Carries)
            session.ask(Use(carries.device, Slot.AUTHENTICATION, PIN)).until(Signed)
        file = tmp_path / "certificate"
        pkcs11("--read-object", "--type", "cert", "--id", "01", "--output-file", str(file))
        assert file.read_bytes() == carries.certificates[0].certificate

    def test_it_sees_the_tries_that_a_wrong_pin_has_left(self, card_bench: Bench, readers: list[Reader]) -> None:
        applet = piv(tries=3)
        readers[0].insert(Card(applet, atr=YUBIKEY_ATR))
        with card_bench.session(SIGN) as session:
            assert use(session, "654321").failure() is Failure.PIN_WRONG
        wait_for("the end of the helpers", lambda: not card_bench.helpers())
        assert "CKR_PIN_INCORRECT" in pkcs11("--login", "--pin", "654321", "--list-objects", status=1)
        assert applet.tries_left == 1
        with card_bench.session(SIGN) as session:
            assert session.until(Carries).tries == 1


def pkcs11(*arguments: str, status: int = 0) -> str:
    """What OpenSC's tool says."""
    done = subprocess.run(["pkcs11-tool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done
    return done.stdout + done.stderr
