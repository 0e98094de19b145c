"""What the virtual cards make of APDUs, without a reader."""

from __future__ import annotations

import pytest
from vdev.iso7816 import GET_RESPONSE, Answer, Card, Command, Refused

AID = bytes.fromhex("F000000001")
ECHO = 0x0E


class Echo:
    """Answers with what it was told."""

    aid = AID

    def __init__(self) -> None:
        self.left = self.cut = 0

    def select(self) -> bytes:
        return b"echo"

    def process(self, command: Command) -> bytes | Answer:
        if command.ins != ECHO:
            raise Refused(0x6D00)
        return Answer(command.data, 0x9100) if command.p1 else command.data

    def leave(self) -> None:
        self.left += 1

    def power_off(self) -> None:
        self.cut += 1

    def interrupt(self) -> None:
        pass


@pytest.fixture
def card() -> Card:
    card = Card(Echo())
    assert card.exchange(b"\x00\xa4\x04\x00\x05" + AID) == b"echo\x90\x00"
    return card


@pytest.mark.parametrize(
    ("apdu", "data", "length"),
    [
        ("00 0E 00 00", "", 256),
        ("00 0E 00 00 00", "", 256),
        ("00 0E 00 00 05", "", 5),
        ("00 0E 00 00 02 AABB", "AABB", 256),
        ("00 0E 00 00 02 AABB 07", "AABB", 7),
        ("00 0E 00 00 02 AABB 00", "AABB", 256),
        ("00 0E 00 00 00 0000", "", 65536),
        ("00 0E 00 00 00 0102", "", 0x102),
        ("00 0E 00 00 00 0002 AABB", "AABB", 65536),
        ("00 0E 00 00 00 0002 AABB 0000", "AABB", 65536),
        ("00 0E 00 00 00 0002 AABB 0103", "AABB", 0x103),
    ],
)
def test_every_form_of_a_command(apdu: str, data: str, length: int) -> None:
    assert Command.parse(bytes.fromhex(apdu)) == Command(0, ECHO, 0, 0, bytes.fromhex(data), length)


@pytest.mark.parametrize(
    "apdu",
    [
        "",
        "00 0E 00",
        "00 0E 00 00 03 AABB",
        "00 0E 00 00 02 AABB 0000",
        "00 0E 00 00 00 0003 AABB",
        "00 0E 00 00 00 0002 AABB 00",
        "00 0E 00 00 00 0002 AABB 000000",
        "00 0E 00 00 00 00",
    ],
)
def test_lengths_that_do_not_fit(card: Card, apdu: str) -> None:
    assert card.exchange(bytes.fromhex(apdu)) == b"\x67\x00"


def test_pieces_are_put_together(card: Card) -> None:
    assert card.exchange(b"\x10\x0e\x00\x00\x02ab") == b"\x90\x00"
    assert card.exchange(b"\x10\x0e\x00\x00\x02cd") == b"\x90\x00"
    assert card.exchange(b"\x00\x0e\x00\x00\x02ef") == b"abcdef\x90\x00"
    assert card.exchange(b"\x00\x0e\x00\x00\x02gh") == b"gh\x90\x00"


def test_pieces_of_another_command_are_forgotten(card: Card) -> None:
    card.exchange(b"\x10\x0e\x00\x00\x02ab")
    assert card.exchange(b"\x00\x0e\x01\x00\x02cd") == b"cd\x91\x00"
    assert card.exchange(b"\x00\x0e\x00\x00\x02ef") == b"ef\x90\x00"


def test_pieces_without_end_are_refused(card: Card) -> None:
    piece = b"\x10\x0e\x00\x00\x00\xff\xff" + bytes(65535)
    assert card.exchange(piece) == b"\x90\x00"
    assert card.exchange(piece) == b"\x67\x00"


def test_long_answers_come_in_parts(card: Card) -> None:
    said = bytes(range(256)) * 2 + b"end"
    card.exchange(b"\x10\x0e\x00\x00\x00\x02\x03" + said)
    parts = [card.exchange(b"\x00\x0e\x00\x00\x00")]
    while parts[-1][-2] == 0x61:
        parts.append(card.exchange(b"\x80\xc0\x00\x00" + parts[-1][-1:]))
    assert b"".join(part[:-2] for part in parts) == said
    assert [part[-2:].hex() for part in parts] == ["61ff", "6104", "9000"]
    assert card.exchange(b"\x00\xc0\x00\x00\x00") == b"\x90\x00"


def test_an_extended_answer_comes_at_once(card: Card) -> None:
    said = bytes(5000)
    assert card.exchange(b"\x00\x0e\x00\x00\x00\x13\x88" + said + b"\x00\x00") == said + b"\x90\x00"


def test_the_rest_of_an_answer_is_gone_after_another_command(card: Card) -> None:
    card.exchange(b"\x00\x0e\x00\x00\x02ab\x01")
    card.exchange(b"\x00\x0e\x00\x00\x01c")
    assert card.exchange(b"\x00\xc0\x00\x00\x00") == b"\x90\x00"


def test_selection(card: Card) -> None:
    (echo,) = card.applets
    assert isinstance(echo, Echo)
    assert card.exchange(b"\x00\xa4\x04\x00\x05\xf0\x00\x00\x00\x02") == b"\x6a\x82"
    assert card.exchange(b"\x00\x0e\x00\x00\x01c") == b"c\x90\x00"  # the one before is still selected
    assert card.exchange(b"\x00\xa4\x04\x00\x03\xf0\x00\x00") == b"echo\x90\x00"  # by the beginning of its name
    assert echo.left == 1
    assert card.exchange(b"\x00\xa4\x04\x00\x00") == b"\x6a\x82"
    assert card.exchange(b"\x00\x99\x00\x00") == b"\x6d\x00"


@pytest.mark.parametrize("off", ["reset", "power_off"])
def test_a_reset_forgets_everything(card: Card, off: str) -> None:
    (echo,) = card.applets
    assert isinstance(echo, Echo)
    card.exchange(b"\x00\x0e\x00\x00\x02ab\x01")
    card.exchange(b"\x10\x0e\x00\x00\x02ab")
    getattr(card, off)()
    assert (echo.left, echo.cut) == (1, int(off == "power_off"))
    assert card.exchange(b"\x00\xc0\x00\x00\x00") == b"\x90\x00"
    assert card.exchange(b"\x00\x0e\x00\x00\x02cd") == b"\x6d\x00"


def test_faults(card: Card) -> None:
    card.faults.answer[ECHO] = "6F00"
    assert card.exchange(b"\x00\x0e\x00\x00\x01c") == b"\x6f\x00"
    assert card.exchange(b"\x10\x0e\x00\x00\x01c") == b"\x90\x00"  # a piece is no command yet
    card.faults.before[ECHO] = lambda command: command.data + b"\x63\xc1"
    assert card.exchange(b"\x00\x0e\x00\x00\x01d") == b"cd\x63\xc1"
    card.faults.answer = {GET_RESPONSE: b"\x61\xff"}
    card.faults.before[ECHO] = lambda command: None
    assert card.exchange(b"\x00\x0e\x00\x00\x01c") == b"c\x90\x00"
    assert card.exchange(b"\x00\xc0\x00\x00\x00") == b"\x61\xff"
    assert len(card.commands(GET_RESPONSE)) == 1
    card.remove()
    card.faults.late[ECHO] = 3600
    assert card.exchange(b"\x00\x0e\x00\x00\x01c") == b"c\x90\x00"  # nobody waits for a card that is out
