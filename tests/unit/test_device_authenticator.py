"""What is made of getInfo, and of long lists of credentials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pam_mfa.devices.authenticator import batches, chosen, number, words
from pam_mfa.devices.base import MAX_CREDENTIAL_ID, MAX_NAME
from pam_mfa.devices.ctap import FIRST_MESSAGE, Info
from pam_mfa.devices.terms import printable

AAGUID = bytes(range(16))
IDS = [bytes([number]) * 64 for number in range(20)]


def authenticator(**changes: Any) -> Any:
    """One with these fields in getInfo."""
    labels = {"longest_message": 0x05, "most_in_list": 0x07, "longest_id": 0x08}
    return SimpleNamespace(
        info=Info.read({1: ["FIDO_2_0"], 3: AAGUID} | {labels[name]: value for name, value in changes.items()})
    )


class TestInfo:
    def test_what_it_does_not_say(self) -> None:
        info = Info.read({3: AAGUID})
        assert (info.longest_message, info.most_in_list, info.longest_id) == (FIRST_MESSAGE, 1, MAX_CREDENTIAL_ID)
        assert (info.min_pin, info.firmware, info.pin_change, info.options) == (4, 0, False, {})

    @pytest.mark.parametrize("label", [1, 2, 4, 5, 6, 7, 8, 10, 12, 13, 14, 17])
    def test_fields_of_another_kind(self, label: int) -> None:
        with pytest.raises(TypeError):
            Info.read({3: AAGUID, label: "text"})

    @pytest.mark.parametrize("aaguid", [None, b"", bytes(15), bytes(17), "x" * 16])
    def test_another_aaguid(self, aaguid: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            Info.read({} if aaguid is None else {3: aaguid})


class TestBatches:
    def test_as_many_as_it_takes(self) -> None:
        found = list(batches(authenticator(most_in_list=8, longest_message=7609), IDS))
        assert [len(batch) for batch in found] == [8, 8, 4]
        assert [each for batch in found for each in batch] == IDS

    def test_one_where_it_does_not_say(self) -> None:
        assert list(batches(authenticator(), IDS)) == [[each] for each in IDS]

    def test_no_more_than_a_message_holds(self) -> None:
        found = list(batches(authenticator(most_in_list=64, longest_message=1024), IDS))
        assert [each for batch in found for each in batch] == IDS
        assert max(len(batch) for batch in found) == 6

    def test_those_longer_than_its_own_are_left_out(self) -> None:
        assert list(batches(authenticator(longest_id=63), IDS)) == []
        assert list(batches(authenticator(longest_id=64), IDS)) != []

    def test_nothing_asks_nothing(self) -> None:
        assert list(batches(authenticator(), [])) == []


class TestWords:
    def test_printable(self) -> None:
        assert printable(" \x1b[2J\u202ekey\n ") == "?[2J?key?"
        assert len(printable("x" * 1000)) == MAX_NAME
        with pytest.raises(TypeError):
            printable(b"key")

    def test_a_few(self) -> None:
        assert len(words(["x"] * 1000)) == 32

    @pytest.mark.parametrize(("said", "taken"), [(-1, 0), (5, 5), (2**63, 2**31 - 1)])
    def test_numbers_that_fit(self, said: int, taken: int) -> None:
        assert number(said) == taken


class TestChosen:
    def test_the_one_that_it_names(self) -> None:
        assert chosen({1: {"id": b"b", "type": "public-key"}}, [b"a", b"b"]) == b"b"

    def test_the_only_one_need_not_be_named(self) -> None:
        assert chosen({}, [b"a"]) == b"a"

    @pytest.mark.parametrize("answer", [{}, {1: {}}, {1: {"id": b"c"}}, {1: {"id": "a"}}, {1: b"a"}])
    def test_none_of_them(self, answer: dict[int, Any]) -> None:
        with pytest.raises((KeyError, ValueError, TypeError)):
            chosen(answer, [b"a", b"b"])
