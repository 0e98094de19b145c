"""A card is had alone, bounded, and left as it was."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from smartcard import scard

from pam_mfa.devices import pcsc, readers
from pam_mfa.devices.helper import Child
from pam_mfa.devices.line import Line, Out, Stranger
from pam_mfa.devices.readers import CardPort, CardReaders, ReaderPort

OK = scard.SCARD_S_SUCCESS
SELECT, VERIFY = [0x00, 0xA4, 0x04, 0x00], [0x00, 0x20, 0x00, 0x80, 0x08, *b"123456\xff\xff"]


class Scard:
    """libpcsclite, as far as a Card uses it; keeps what was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, list[Any]] = {
            "SCardEstablishContext": [(OK, 1)],
            "SCardConnect": [(OK, 2, scard.SCARD_PROTOCOL_T1)],
            "SCardReconnect": [(OK, scard.SCARD_PROTOCOL_T1)],
            "SCardTransmit": [(OK, [0x90, 0x00])],
        }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("SCard") or name == "SCardGetErrorMessage":
            return getattr(scard, name)

        def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            answers = self.answers.get(name, [OK])
            return answers.pop(0) if len(answers) > 1 else answers[0]

        return call

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of these calls."""
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Scard:
    library = Scard()
    monkeypatch.setattr(pcsc, "scard", library)
    return library


@pytest.fixture
def card(library: Scard) -> Iterator[pcsc.Card]:
    """Connected."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        card = pcsc.Card("Reader", Line(ours, 1, 30))
        yield card


def test_a_transaction_from_beginning_to_end(library: Scard, card: pcsc.Card) -> None:
    card.connect()
    card.transmit(SELECT)
    card.disconnect()
    wanted = "Establish Connect BeginTransaction Transmit EndTransaction Disconnect Release".split()
    assert [name for name, *_ in library.calls] == [
        f"SCard{name}{'Context' if name in ('Establish', 'Release') else ''}" for name in wanted
    ]
    assert library.called("SCardEndTransaction") == [(2, scard.SCARD_LEAVE_CARD)]
    assert library.called("SCardDisconnect") == [(2, scard.SCARD_LEAVE_CARD)]


def test_nobody_finds_it_verified(library: Scard, card: pcsc.Card) -> None:
    card.connect()
    card.transmit(VERIFY)
    card.disconnect()
    assert library.called("SCardEndTransaction") == [(2, scard.SCARD_RESET_CARD)]
    assert library.called("SCardDisconnect") == [(2, scard.SCARD_RESET_CARD)]


def test_to_ask_for_the_tries_takes_nothing_from_others(library: Scard, card: pcsc.Card) -> None:
    card.connect()
    card.transmit(VERIFY[:4])
    card.disconnect()
    assert library.called("SCardDisconnect") == [(2, scard.SCARD_LEAVE_CARD)]


def test_it_was_reset_before_us(library: Scard, card: pcsc.Card) -> None:
    library.answers["SCardBeginTransaction"] = [scard.SCARD_W_RESET_CARD, OK]
    card.connect()
    assert library.called("SCardReconnect")[0][-1] == scard.SCARD_LEAVE_CARD


@pytest.mark.parametrize(
    ("result", "raised"),
    [
        (scard.SCARD_E_SHARING_VIOLATION, Out),
        (scard.SCARD_W_UNRESPONSIVE_CARD, Stranger),
        (scard.SCARD_E_PROTO_MISMATCH, Stranger),
        (scard.SCARD_E_NO_SMARTCARD, OSError),
        (scard.SCARD_E_NO_SERVICE, OSError),
    ],
)
def test_it_cannot_be_had(library: Scard, card: pcsc.Card, result: int, raised: type[Exception]) -> None:
    library.answers["SCardConnect"] = [(result, 0, 0)]
    with pytest.raises(raised):
        card.connect()
    card.disconnect()
    assert not library.called("SCardDisconnect")
    assert library.called("SCardReleaseContext")


@pytest.mark.parametrize("answer", [[0x90], [0] * 8000 + [0x90, 0x00]], ids=["one", "long"])
def test_answers_that_are_none(library: Scard, card: pcsc.Card, answer: list[int]) -> None:
    library.answers["SCardTransmit"] = [(OK, answer)]
    card.connect()
    with pytest.raises(Out, match="NONSENSE"):
        card.transmit(SELECT)


def test_no_answer_at_all(library: Scard, card: pcsc.Card) -> None:
    library.answers["SCardTransmit"] = [(OK, [])]
    card.connect()
    with pytest.raises(OSError, match="no answer"):
        card.transmit(SELECT)


def test_more_without_end(library: Scard, card: pcsc.Card) -> None:
    library.answers["SCardTransmit"] = [(OK, [0x61, 0x01])]
    card.connect()
    for _ in range(pcsc.MAX_ROUNDS):
        card.transmit(SELECT)
    with pytest.raises(Out, match="NONSENSE"):
        card.transmit(SELECT)


def test_long_answers_one_after_the_other(library: Scard, card: pcsc.Card) -> None:
    library.answers["SCardTransmit"] = [(OK, [0] * 7600 + [0x90, 0x00])]
    card.connect()
    for _ in range(10):
        card.transmit(SELECT)


def test_bytes_may_be_signed(library: Scard, card: pcsc.Card) -> None:
    library.answers["SCardTransmit"] = [(OK, [-1, -112, 0])]
    card.connect()
    assert card.transmit(SELECT) == ([0xFF], 0x90, 0x00)


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (b"\n", set()),
        (b"3 A reader 00\n- Other", {CardPort("A reader 00", 3), ReaderPort("Other")}),
        (b"x Reader\n1\n2 \n-1 Reader\n-\n- \n\xff\xff", set()),
        (b"1 " + b"x" * 300, {CardPort("x" * 300, 1)}),
    ],
    ids=["none", "two", "garbage", "long"],
)
def test_what_the_lister_says(said: bytes, known: set[CardPort | ReaderPort]) -> None:
    cards = CardReaders()
    assert cards.ports() is None
    cards._heard(said)
    assert set(cards.ports() or ()) == known


class Readers:
    """Listers that end at once, and what they were to be told of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pcscd: str = __file__) -> None:
        monkeypatch.setattr(readers, "PCSCD", pcscd)
        self.now = 0.0
        self.ended: list[Callable[[int], None]] = []
        monkeypatch.setattr(readers, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(readers, "fork", lambda *_: cast(Child, SimpleNamespace(hang_up=lambda: None)))
        self.cards = CardReaders()
        self.cards.start(lambda child, heard, ended: self.ended.append(ended))

    def look(self, after: float = 0.0) -> set[str] | None:
        """What is known so much later."""
        self.now += after
        ports = self.cards.ports()
        return None if ports is None else {port.reader for port in ports}


def test_a_lister_that_ends_is_started_again_but_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Readers(monkeypatch)
    for number in range(1, 5):
        assert len(one.ended) == number
        one.ended[-1](-9)
        for _ in range(15):
            one.look(readers.AGAIN_SECONDS / 16)
            assert len(one.ended) == number
        one.look(readers.AGAIN_SECONDS / 16)


def test_one_that_ends_when_nobody_asks_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Readers(monkeypatch)
    one.cards.stop()
    one.ended[-1](0)
    one.look(60)
    assert len(one.ended) == 1


def test_an_old_lister_ends_late(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Readers(monkeypatch)
    one.cards.stop()
    one.cards.start(lambda child, heard, ended: one.ended.append(ended))
    one.ended[0](0)
    one.look(60)
    assert len(one.ended) == 2


def test_whoever_asks_next_has_a_lister_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Readers(monkeypatch)
    for number in range(2, 5):
        one.cards.stop()
        one.cards.start(lambda child, heard, ended: one.ended.append(ended))
        assert len(one.ended) == number


def test_no_processes_are_left_for_a_lister(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Readers(monkeypatch)
    one.ended[-1](0)
    forked: list[object] = []

    def fork(*work: object) -> Child:
        forked.append(work)
        raise OSError(11, "none")

    monkeypatch.setattr(readers, "fork", fork)
    for _ in range(3):
        one.look(readers.AGAIN_SECONDS)
    assert len(forked) == 3


def test_cards_stay_where_they_are_while_a_lister_takes_anothers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Readers(monkeypatch)
    assert one.look() is None
    one.cards._heard(b"1 Reader")
    one.ended[-1](0)
    assert one.look() == {"Reader"}
    assert one.look(readers.AGAIN_SECONDS) == {"Reader"}
    one.cards._heard(b"1 Reader")
    assert one.look(60) == {"Reader"}


def test_but_not_when_none_of_them_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Readers(monkeypatch)
    one.cards._heard(b"1 Reader")
    for _ in range(3):
        one.ended[-1](0)
        one.look(readers.AGAIN_SECONDS)
    assert one.look() == set()


def test_without_pcscd_there_are_no_cards_and_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is known at once; pcscd may still come, and go."""
    one = Readers(monkeypatch, str(tmp_path / "comm"))
    assert one.look() == set()
    assert one.ended == []
    (tmp_path / "comm").touch()
    one.look()
    assert len(one.ended) == 1
    one.cards._heard(b"1 Reader")
    assert one.look(60) == {"Reader"}
    (tmp_path / "comm").unlink()
    one.ended[-1](0)
    assert one.look() == set()
    assert len(one.ended) == 1
