"""PIV cards: APDUs, data objects, paddings, and what leads to which end, on cards that are scripted."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import InvalidVersion
from hypothesis import given, settings, strategies as st
from smartcards import certificate, piv, private, verify
from vdev.iso7816 import PLAIN_ATR, Card
from vdev.piv import AUTHENTICATION, CERTIFICATES

from pam_mfa.devices.base import (
    MAX_CERTIFICATE,
    Carries,
    Failed,
    Failure,
    Followup,
    List,
    Release,
    Reply,
    Sign,
    Signed,
    Slot,
    Use,
)
from pam_mfa.devices.card import Commands, Refused, objects, tlv, value
from pam_mfa.devices.certificates import certified
from pam_mfa.devices.line import Left, Line, Out, Stranger
from pam_mfa.devices.padding import pkcs1, pss
from pam_mfa.devices.piv import Piv
from pam_mfa.devices.signing import serve

MESSAGE = bytes(range(32))
SIGN = Sign(MESSAGE, (Slot.AUTHENTICATION,), 30)
USE = Use(1, Slot.AUTHENTICATION, "123456")


DATA = st.sampled_from([b"", tlv(0x53, tlv(0x70, certificate(private("p256")))), tlv(0x53, tlv(0x34, bytes(16)))])
STATUS = st.sampled_from([bytes.fromhex(status) for status in ["9000"] * 5 + ["6102", "6C05", "6A82", "63C3", "6982"]])


class Scripted:
    """A connection with answers, the last of which comes again and again."""

    atr = PLAIN_ATR

    def __init__(self, *answers: str) -> None:
        self._answers = [bytes.fromhex(answer) for answer in answers]
        self.asked: list[str] = []

    def transmit(self, apdu: list[int], /) -> tuple[list[int], int, int]:
        """One exchange."""
        self.asked.append(bytes(apdu).hex())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return list(answer[:-2]), answer[-2], answer[-1]


class Virtual:
    """A connection to a virtual card."""

    atr = PLAIN_ATR

    def __init__(self, card: Card) -> None:
        self._card = card

    def transmit(self, apdu: list[int], /) -> tuple[list[int], int, int]:
        """One exchange."""
        answer = self._card.exchange(bytes(apdu))
        return list(answer[:-2]), answer[-2], answer[-1]


class Broker:
    """A line that says the same each time."""

    device = 1
    touching = False

    def __init__(self, followup: Followup) -> None:
        self.followup = followup
        self.said: list[Reply] = []
        self.say: Callable[[Reply], None] = self.said.append

    def hear(self) -> Followup:
        """The next one."""
        return self.followup


def run(connection: Virtual | Scripted, request: Sign | List = SIGN, followup: Followup = USE) -> list[Reply]:
    """What is said about a card."""
    broker = Broker(followup)
    try:
        serve(connection, "Reader", request, cast(Line, broker))
    except Out as out:
        broker.said.append(Failed(1, out.why))
    return broker.said


class TestCommands:
    def test_short_ones(self) -> None:
        connection = Scripted("9000")
        commands = Commands(connection)
        commands.send(0x20, 0, 0x80, answers=False)
        commands.send(0x20, 0, 0x80, b"\x01\x02", answers=False)
        commands.send(0xCB, 0x3F, 0xFF, b"\x01")
        assert connection.asked == ["00200080", "002000800201" + "02", "00cb3fff010100"]

    def test_long_ones_are_chained(self) -> None:
        connection = Scripted("9000")
        Commands(connection).send(0x87, 7, 0x9A, bytes(600))
        assert [(asked[:2], len(asked) // 2) for asked in connection.asked] == [("10", 260), ("10", 260), ("00", 96)]

    def test_a_piece_that_is_refused_is_the_end(self) -> None:
        connection = Scripted("6A80")
        with pytest.raises(Refused, match="6A80"):
            Commands(connection).send(0x87, 7, 0x9A, bytes(600))
        assert len(connection.asked) == 1

    def test_answers_in_pieces(self) -> None:
        connection = Scripted("01026102", "03046100", "059000")
        assert Commands(connection).send(0xCB, 0x3F, 0xFF) == b"\x01\x02\x03\x04\x05"
        assert connection.asked == ["00cb3fff00", "00c0000002", "00c0000000"]

    def test_another_length_is_asked_for_once(self) -> None:
        connection = Scripted("6C05", "01029000")
        assert Commands(connection).send(0xCB, 0x3F, 0xFF) == b"\x01\x02"
        assert connection.asked == ["00cb3fff00", "00cb3fff05"]
        again = Scripted("6C05")
        with pytest.raises(Refused, match="6C05"):
            Commands(again).send(0xCB, 0x3F, 0xFF)
        assert len(again.asked) == 2

    def test_p06_a_pin_is_sent_once_whatever_length_the_card_wants(self) -> None:
        connection = Scripted("6C05")
        with pytest.raises(Refused, match="6C05"):
            Commands(connection).send(0x20, 0, 0x80, b"123456\xff\xff", answers=False)
        assert len(connection.asked) == 1

    @pytest.mark.parametrize("answer", ["6100", "00" * 16 + "61FF"])
    def test_pieces_without_end(self, answer: str) -> None:
        connection = Scripted(answer)
        with pytest.raises(Out, match="NONSENSE"):
            Commands(connection).send(0xCB, 0x3F, 0xFF)
        assert len(connection.asked) == 64


class TestObjects:
    @given(st.lists(st.tuples(st.sampled_from([0x53, 0x70, 0x7F49, 0x5F2F]), st.binary(max_size=300)), max_size=5))
    def test_what_is_written_is_read(self, found: list[tuple[int, bytes]]) -> None:
        assert list(objects(b"".join(tlv(tag, content) for tag, content in found))) == found

    @given(st.binary(max_size=100))
    def test_nothing_but_value_errors(self, data: bytes) -> None:
        with suppress(ValueError):
            assert sum(len(content) for _, content in objects(data)) <= len(data)

    @pytest.mark.parametrize(
        "data", ["70", "7080", "708001", "7001", "70820001", "7083000001ff", "70848000000000", "7f", "7f8181", "5f"]
    )
    def test_what_is_none(self, data: str) -> None:
        with pytest.raises(ValueError, match=r"data object|tag|length"):
            list(objects(bytes.fromhex(data)))

    def test_there_is_one_of_a_kind(self) -> None:
        assert value(tlv(0x70, b"x") + tlv(0x71, b"y"), 0x71) == b"y"
        assert value(tlv(0x70, b"x"), 0x71) is None
        with pytest.raises(ValueError, match="twice"):
            value(tlv(0x70, b"x") * 2, 0x70)


class TestPaddings:
    @pytest.mark.parametrize("size", [2048, 3072, 4096])
    def test_what_a_card_makes_of_them_is_a_signature(self, size: int) -> None:
        key = private(f"rsa{size}")
        assert isinstance(key, rsa.RSAPrivateKey)
        public, numbers = key.public_key(), key.private_numbers()
        ways: Sequence[tuple[Callable[[bytes, int], bytes], padding.AsymmetricPadding]] = [
            (pkcs1, padding.PKCS1v15()),
            (pss, padding.PSS(padding.MGF1(hashes.SHA256()), 32)),
        ]
        for block, padded in ways:
            message = int.from_bytes(block(MESSAGE, size // 8), "big")
            signature = pow(message, numbers.d, numbers.public_numbers.n).to_bytes(size // 8, "big")
            public.verify(signature, MESSAGE, padded, hashes.SHA256())

    def test_each_has_a_salt_of_its_own(self) -> None:
        assert pss(MESSAGE, 256) != pss(MESSAGE, 256)

    def test_the_block_is_what_the_standard_says(self) -> None:
        block = pkcs1(MESSAGE, 256)
        assert block[:2] == b"\x00\x01"
        info = bytes.fromhex("3031300d060960864801650304020105000420")
        assert block.endswith(b"\x00" + info + hashlib.sha256(MESSAGE).digest())
        assert set(block[2:-52]) == {0xFF}
        assert len(block) == 256


class TestCard:
    def test_the_whole_way(self) -> None:
        carries, signed = run(Virtual(Card(piv())))
        assert isinstance(carries, Carries)
        assert isinstance(signed, Signed)
        verify("p256", signed, MESSAGE)

    def test_a_card_without_the_application(self) -> None:
        with pytest.raises(Stranger):
            run(Virtual(Card()))

    def test_a_released_one_says_no_more(self) -> None:
        (carries,) = run(Virtual(Card(piv())), followup=Release(1))
        assert isinstance(carries, Carries)

    def test_who_hears_nothing_leaves(self) -> None:
        with pytest.raises(Left):
            run(Virtual(Card(piv())), followup=cast(Followup, None))

    def test_list_waits_for_nobody(self) -> None:
        (carries,) = run(Virtual(Card(piv())), List(5), cast(Followup, None))
        assert isinstance(carries, Carries)

    @pytest.mark.parametrize("status", ["6982", "6D00", "6F00"])
    def test_a_card_that_refuses_what_it_must_not(self, status: str) -> None:
        assert run(Scripted("9000", status)) == [Failed(1, Failure.UNSUPPORTED)]

    @pytest.mark.parametrize(
        ("answer", "tries"), [("63C3", 3), ("63C0", 0), ("6983", 0), ("6300", 255), ("9000", 255), ("63CF", 15)]
    )
    def test_tries(self, answer: str, tries: int) -> None:
        assert Piv(Commands(Scripted("9000", "6A82", answer))).tries() == tries

    @pytest.mark.parametrize(
        ("policy", "reference"),
        [("5F2F026020", "00"), ("5F2F026010", "80"), ("5F2F024000", "80"), ("5F2F0160", "80"), ("5F2F024020", "80")],
    )
    def test_whose_pin_it_is(self, policy: str, reference: str) -> None:
        connection = Scripted("9000", f"7E{len(policy) // 2:02X}{policy}9000", "63C3")
        Piv(Commands(connection)).tries()
        assert connection.asked[-1] == f"002000{reference}"

    def test_a_long_certificate_is_none(self) -> None:
        applet = piv(compressed=True)
        applet.certificates[AUTHENTICATION] = bytes(MAX_CERTIFICATE + 1)
        with pytest.raises(ValueError, match="without end"):
            run(Virtual(Card(applet)))

    def test_p07_a_certificate_is_inflated_no_further_than_needed(self) -> None:
        bomb = tlv(0x70, gzip.compress(bytes(10**7))) + tlv(0x71, b"\x01")
        connection = Virtual(Card(piv(objects={CERTIFICATES[AUTHENTICATION]: bomb})))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="without end"):
                run(connection)
            assert tracemalloc.get_traced_memory()[1] < 10**6
        finally:
            tracemalloc.stop()

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.builds(bytes.__add__, st.binary(max_size=40) | DATA, STATUS).map(bytes.hex), min_size=1))
    def test_whatever_it_answers(self, answers: list[str]) -> None:
        """An end, soon, and of a kind that the helper knows."""
        connection = Scripted(*answers)
        with suppress(Stranger, ValueError, InvalidVersion):
            for reply in run(connection):
                assert isinstance(reply, Carries | Signed | Failed)
        assert len(connection.asked) < 1000
        assert len([asked for asked in connection.asked if b"123456".hex() in asked]) <= 1


class TestCertificates:
    def test_one_that_is_none(self) -> None:
        with pytest.raises(ValueError, match="parsing"):
            certified(Slot.AUTHENTICATION, b"x")

    @pytest.mark.filterwarnings("ignore")  # of cryptography, about what it takes all the same
    @given(st.integers(0, 280), st.integers(0, 255))
    @settings(max_examples=200, deadline=None)
    def test_damaged_ones(self, at: int, byte: int) -> None:
        der = bytearray(certificate(private("p256")))
        der[at % len(der)] = byte
        with suppress(ValueError, InvalidVersion):
            found = certified(Slot.AUTHENTICATION, bytes(der))
            assert found is None or (found.subject + found.issuer + found.number).isascii()
