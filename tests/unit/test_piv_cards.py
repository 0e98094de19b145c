"""Smartcards that come and go while a login waits: strangers', several at once, and none (P05, P12)."""

from __future__ import annotations

import pytest
from ca import Leaf
from cardflows import INSERT, ISSUING, PIN, enrolled, requests, run
from flows import BOB, account
from softcard import NINE_A, SoftCard, idle

from pam_mfa.conversation import DeviceGone, DeviceReply, Expired
from pam_mfa.devices.base import Failed, Failure, Idle, Release, Use
from pam_mfa.factors.card_dialogue import NO_CARD, NO_SERVICE, PUT_BACK, WORDS

PROMPT = 'PIN of your smartcard "work" (3 tries left): '


@pytest.fixture(scope="module")
def leaf() -> Leaf:
    return ISSUING.leaf()


@pytest.fixture
def card(leaf: Leaf) -> SoftCard:
    return SoftCard(leaf)


# ---------------------------------------------------------------------------------------------------- cards that come


def test_a_card_is_waited_for(card: SoftCard, leaf: Leaf) -> None:
    proof, world, _ = run(account(enrolled(leaf)), [idle(), card.carries, card.sign])
    assert proof is not None
    assert world.told == [INSERT]


def test_none_comes(leaf: Leaf) -> None:
    proof, world, ceremony = run(account(enrolled(leaf)), [idle(), Expired()])
    assert (proof, ceremony.reason) == (None, "no_card")
    assert world.told == [INSERT, NO_CARD]
    assert world.kinds[-2:] == ["HangUp", "Warn"]


def test_a_strangers_card_is_let_go_and_another_is_waited_for(card: SoftCard, leaf: Leaf) -> None:
    stranger = SoftCard(ISSUING.leaf("mallory"), device=2)
    proof, world, _ = run(account(enrolled(leaf)), [stranger.carries, idle(1), card.carries, card.sign])
    assert proof is not None
    assert requests(world)[1:] == [Release(2), Use(1, NINE_A, PIN)]
    assert world.told == [INSERT]


@pytest.mark.parametrize("why", [Failure.UNSUPPORTED, Failure.NO_CERTIFICATE])
def test_another_kind_of_card_is_left_where_it_is(card: SoftCard, leaf: Leaf, why: Failure) -> None:
    other = DeviceReply(Failed(7, why))
    assert run(account(enrolled(leaf)), [other, idle(1), card.carries, card.sign])[0] is not None
    proof, world, _ = run(account(enrolled(leaf)), [other, idle(1), Expired()])
    assert proof is None
    assert world.told[-1] == (NO_CARD if why is Failure.UNSUPPORTED else WORDS[why])


def test_a_card_that_was_pulled_is_asked_back(card: SoftCard, leaf: Leaf) -> None:
    gone = card.failed(Failure.UNPLUGGED)
    proof, world, _ = run(account(enrolled(leaf)), [gone, idle(), card.carries, card.sign])
    assert proof is not None
    assert world.told == [PUT_BACK]
    proof, world, ceremony = run(account(enrolled(leaf)), [gone, idle(), Expired()])
    assert (proof, ceremony.reason) == (None, "no_card")


@pytest.mark.parametrize("why", [Failure.BUSY, Failure.SILENT, Failure.NONSENSE])
def test_what_fails_is_told_at_once(leaf: Leaf, why: Failure) -> None:
    proof, world, ceremony = run(account(enrolled(leaf)), [DeviceReply(Failed(1, why)), idle()])
    assert (proof, ceremony.reason, world.told) == (None, why.name.lower(), [WORDS[why]])


def test_p12_no_device_service(card: SoftCard, leaf: Leaf) -> None:
    gone = DeviceGone("no_device_service")
    for device in ([gone], [card.carries, gone]):
        proof, world, ceremony = run(account(enrolled(leaf)), device)
        assert (proof, ceremony.reason) == (None, "no_device_service")
        assert world.told == [NO_SERVICE]
        assert world.operations == []


def test_p12_the_device_service_goes_while_another_card_is_waited_for(card: SoftCard, leaf: Leaf) -> None:
    of = account(enrolled(leaf), enrolled(ISSUING.leaf(), "zhome"))
    proof, world, ceremony = run(of, [card.carries, DeviceGone("device_service_gone")])
    assert (proof, ceremony.reason) == (None, "device_service_gone")
    assert (world.asked, world.told) == ([], [NO_SERVICE])


def test_p12_a_card_that_never_answers(card: SoftCard, leaf: Leaf) -> None:
    proof, world, ceremony = run(account(enrolled(leaf)), [card.carries, Expired()])
    assert (proof, ceremony.reason) == (None, "silent")
    assert world.told == [WORDS[Failure.SILENT]]


def test_a_card_that_wants_a_touch(card: SoftCard, leaf: Leaf) -> None:
    of = account(enrolled(leaf))
    proof, world, _ = run(of, [card.carries, card.touch, card.sign])
    assert proof is not None
    assert world.told == ['Touch your smartcard "work"']
    proof, world, ceremony = run(of, [card.carries, card.touch, Expired()])
    assert (proof, ceremony.reason) == (None, "not_touched")


def test_what_others_do_meanwhile_changes_nothing(card: SoftCard, leaf: Leaf) -> None:
    late, gone = SoftCard(leaf, device=5), DeviceReply(Failed(6, Failure.UNPLUGGED))
    proof, world, _ = run(account(enrolled(leaf)), [card.carries, late.carries, gone, DeviceReply(Idle(2)), card.sign])
    assert proof is not None
    assert requests(world)[1:] == [Use(1, NINE_A, PIN), Release(5)]


# ------------------------------------------------------------------------------------------------------ several cards


def test_of_two_cards_the_one_that_was_enrolled_first(card: SoftCard, leaf: Leaf) -> None:
    second = SoftCard(ISSUING.leaf(), device=2)
    home, work = enrolled(second.leaves[NINE_A], "zhome"), enrolled(leaf)
    for order in ([card, second], [second, card]):
        proof, world, _ = run(account(work, home), [*(one.carries for one in order), Expired(), card.sign])
        assert proof is not None
        assert proof.label == "work"
        assert world.asked == [PROMPT]
        assert requests(world)[1:] == [Release(2), Use(1, NINE_A, PIN)]


def test_of_two_cards_the_one_whose_pin_can_be_asked_for(leaf: Leaf) -> None:
    first, second = SoftCard(leaf, tries=1), SoftCard(ISSUING.leaf(), device=2)
    of = account(enrolled(leaf), enrolled(second.leaves[NINE_A], "zhome"))
    proof, _, _ = run(of, [first.carries, second.carries, Expired(), second.sign])
    assert proof is not None
    assert proof.label == "zhome"


def test_one_of_two_was_pulled_in_time(card: SoftCard, leaf: Leaf) -> None:
    second = SoftCard(ISSUING.leaf(), device=2)
    of = account(enrolled(leaf), enrolled(second.leaves[NINE_A], "zhome"))
    device = [card.carries, second.carries, card.failed(Failure.UNPLUGGED), Expired(), second.sign]
    assert run(of, device)[0] is not None


def test_p05_a_key_that_is_somebody_elses_too(card: SoftCard, leaf: Leaf) -> None:
    bobs = account(enrolled(leaf, uid=BOB, user="bob"), uid=BOB)
    proof, world, ceremony = run(account(enrolled(leaf)), [card.carries], others=[bobs])
    assert (proof, ceremony.reason) == (None, "ambiguous")
    assert (world.asked, world.operations) == ([], [])
