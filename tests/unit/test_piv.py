"""Proving with smartcards: which card is asked, which answer counts, and every way in which none comes (P01-P10)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from ca import Leaf, new_key
from cardflows import INSERT, ISSUING, PHONE, PIN, PLACE, enrolled, requests, run
from cryptography.hazmat.primitives.hashes import SHA384
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, account, code_at
from softcard import NINE_A, SoftCard, certified, idle

from pam_mfa.assessment import Request
from pam_mfa.config import Settings, Smartcard
from pam_mfa.conversation import DeviceGone, DeviceReply, Event, Expired
from pam_mfa.devices.base import Carries, Failure, Release, Scheme, Sign, Signed, Slot, Touch, Use
from pam_mfa.errors import PamMfaError, ProtocolError
from pam_mfa.factors import card_dialogue
from pam_mfa.factors.card_dialogue import NO_CARD, NOT_ACCEPTED, WORDS
from pam_mfa.factors.piv import KINDS, Material
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Proof
from pam_mfa.rules import LocalKey, Rule
from pam_mfa.store.base import Attempt, Noted
from pam_mfa.store.rows import DECOY_UID
from pam_mfa.structure import replace
from pam_mfa.throttle import FREE
from pam_mfa.verify.base import Kind

PROMPT = 'PIN of your smartcard "work" (3 tries left): '
SIGNATURE = Slot.SIGNATURE


@pytest.fixture(scope="module")
def leaf() -> Leaf:
    return ISSUING.leaf()


@pytest.fixture
def card(leaf: Leaf) -> SoftCard:
    return SoftCard(leaf)


# ------------------------------------------------------------------------------------------------------ the proof


def test_the_right_pin_proves(card: SoftCard, leaf: Leaf) -> None:
    work = enrolled(leaf)
    proof, world, ceremony = run(account(work, PHONE), [card.carries, card.sign])
    assert proof == Proof(SESSION, ALICE, "smartcard", work.id, "work")
    assert world.kinds == ["Wait", "Read", "AskSecret", "Wait", "Commit", "HangUp"]
    assert (world.asked, world.told) == ([PROMPT], [])
    sign, use = requests(world)
    assert isinstance(sign, Sign)
    assert (sign.slots, len(sign.message)) == ((NINE_A,), 32)
    assert use == Use(card.device, NINE_A, PIN)
    assert PIN not in repr(use)
    ((attempt,),) = world.operations
    assert attempt == Attempt(ALICE, "smartcard", Noted(work.id), ceremony.now())


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-4096", "p-256", "p-384"])
@pytest.mark.parametrize("pss", [False, True])
def test_every_kind_of_key_proves(kind: str, pss: bool) -> None:
    leaf = ISSUING.leaf(key=new_key(kind))
    card = SoftCard(leaf)

    def sign(request: Sign) -> Any:
        return DeviceReply(card.signed(request, scheme=Scheme.PSS if pss and kind.startswith("rsa") else None))

    assert run(account(enrolled(leaf)), [card.carries, sign])[0] is not None


def test_whoever_has_no_card_sees_none_of_this() -> None:
    for of in (account(PHONE), account()):
        proof, world, _ = run(of, [], ["1"] * 3, ["smartcard", "totp"])
        assert proof is None
        assert set(world.kinds) == {"AskSecret", "Commit"}


def test_a_login_by_code_imports_nothing_of_cards() -> None:
    wanted = "('devices', 'verify', 'card_ceremonies', 'card_enrolment', 'card_dialogue', 'certificates')"
    program = f"""if True:
        import sys, pam_mfa.login, pam_mfa.enroll, pam_mfa.credentials, pam_mfa.factors
        loaded = [name for name in sys.modules if name.rpartition('.')[2] in {wanted}]
        assert not loaded, loaded"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_kinds_are_those_of_the_path_checker() -> None:
    assert set(KINDS) == set(Kind)


def test_nobody_elsewhere_is_asked_for_a_card_of_this_host(leaf: Leaf) -> None:
    _, world, _ = run(account(enrolled(leaf)), [], place=replace(PLACE, local=False))
    assert world.wants == []


@pytest.mark.parametrize(
    ("service", "tty", "local_key", "asked"),
    [("login", "tty1", LocalKey.AUTO, True), ("login", "tty1", LocalKey.NEVER, False), ("sshd", "ssh", "auto", False)],
)
def test_who_sits_at_the_host(leaf: Leaf, service: str, tty: str, local_key: LocalKey, asked: bool) -> None:
    card, of = SoftCard(leaf), account(enrolled(leaf))
    settings = Settings(policy=Rule(methods=("smartcard",), local_key=local_key))
    world = World(Memory(of), [PIN], device=[card.carries, card.sign])
    request = Request(SESSION, 0, service, "alice", ALICE, "", "", tty, "host")
    verdict = world.run(login(request, settings, FACTORS, Clock()))
    assert verdict.outcome is (Outcome.GRANTED if asked else Outcome.DENIED)
    assert ("Wait" in world.kinds) is asked


def test_the_settings_reach_the_cards(leaf: Leaf) -> None:
    settings = Settings(policy=Rule(methods=("smartcard",)), smartcard=Smartcard(slots=("9d", "9c")))
    world = World(Memory(account(enrolled(leaf))), device=[Expired()])
    request = Request(SESSION, 0, "login", "alice", ALICE, "", "", "tty1", "host")
    assert world.run(login(request, settings, FACTORS, Clock())).outcome is Outcome.DENIED
    (sign,) = requests(world)
    assert isinstance(sign, Sign)
    assert sign.slots == (Slot.KEY_MANAGEMENT, Slot.SIGNATURE)


# -------------------------------------------------------------------------------------------- answers that are wrong


def refused(card: SoftCard, answer: Any, reason: str, **more: Any) -> None:
    """It is a wrong answer: counted, a try spent, told, and the reason for the log."""
    proof, world, ceremony = run(account(enrolled(card.leaves[NINE_A])), [card.carries, answer], **more)
    assert proof is None
    assert (ceremony.reason, ceremony.tries) == (reason, 2)
    assert world.told == [NOT_ACCEPTED]
    assert world.operations == [(Attempt(ALICE, "smartcard", None, ceremony.now()),)]


def test_p01_a_card_with_the_certificate_and_another_key(card: SoftCard) -> None:
    refused(card, lambda request: DeviceReply(card.signed(request, key=new_key())), "signature")


def test_p02_a_card_that_signs_what_it_chose(card: SoftCard) -> None:
    refused(card, lambda request: DeviceReply(card.signed(request, message=bytes(32))), "signature")


def test_p02_a_card_that_says_success_and_gives_nothing(card: SoftCard) -> None:
    refused(card, DeviceReply(Signed(1, NINE_A, Scheme.ECDSA, b"")), "signature")


def test_p02_an_answer_to_another_question(card: SoftCard) -> None:
    kept: list[Any] = []

    def record(request: Sign) -> Any:
        kept.append(card.sign(request))
        return kept[0]

    of = account(enrolled(card.leaves[NINE_A]))
    assert run(of, [card.carries, record])[0] is not None
    refused(card, kept[0], "signature")


def test_p08_a_signature_of_another_slot(leaf: Leaf) -> None:
    card = SoftCard({NINE_A: leaf, SIGNATURE: leaf})
    rules = replace(PLACE, smartcard=Smartcard(slots=("9a", "9c")))
    refused(card, lambda request: DeviceReply(card.signed(request, SIGNATURE)), "slot", place=rules)


def test_p08_only_the_slots_of_the_settings_count(leaf: Leaf) -> None:
    """Also where a helper tells of one that nobody asked for."""
    told = DeviceReply(Carries(1, "Reader", b"", 3, (certified(leaf, SIGNATURE),)))
    proof, world, ceremony = run(account(enrolled(leaf)), [told, idle(1), Expired()])
    assert proof is None
    assert (ceremony.reason, world.told) == ("no_card", [INSERT, NO_CARD])
    assert requests(world)[1:] == [Release(1)]


def test_p08_the_first_slot_of_the_settings_that_fits_is_used(leaf: Leaf) -> None:
    card = SoftCard({SIGNATURE: leaf, NINE_A: ISSUING.leaf()})
    place = replace(PLACE, smartcard=Smartcard(slots=("9a", "9c")))
    answer = [card.carries, lambda request: DeviceReply(card.signed(request, SIGNATURE))]
    proof, world, _ = run(account(enrolled(leaf)), answer, place=place)
    assert proof is not None
    assert requests(world)[1] == Use(1, SIGNATURE, PIN)


@pytest.mark.parametrize(
    "how",
    [{"hashed": SHA384()}, {"scheme": Scheme.PKCS1}, {"scheme": Scheme.PSS}],
    ids=["hash", "pkcs1", "pss"],
)
def test_p09_a_signature_by_another_scheme(card: SoftCard, how: Any) -> None:
    def answer(request: Sign) -> Any:
        return DeviceReply(card.signed(request, **how))

    refused(card, answer, "signature" if "hashed" in how else "scheme")


@pytest.mark.parametrize(("said", "done"), [(Scheme.PSS, Scheme.PKCS1), (Scheme.PKCS1, Scheme.PSS)])
def test_p09_paddings_are_not_confused(said: Scheme, done: Scheme) -> None:
    card = SoftCard(ISSUING.leaf(key=new_key("rsa-2048")))
    refused(card, lambda request: DeviceReply(replace(card.signed(request, scheme=done), scheme=said)), "signature")


def test_a_wrong_pin_counts_as_a_wrong_answer_and_is_the_only_one(card: SoftCard, leaf: Leaf) -> None:
    of = account(enrolled(leaf), PHONE)
    answers = [PIN, code_at(PHONE, Clock()())]
    proof, world, ceremony = run(of, [card.carries, card.failed(Failure.PIN_WRONG)], answers, ["smartcard", "totp"])
    assert proof is not None
    assert proof.factor == "totp"
    assert world.told == [WORDS[Failure.PIN_WRONG]]
    assert ceremony.tries == 1
    assert world.operations[0] == (Attempt(ALICE, "smartcard", None, ceremony.now()),)
    assert len([one for one in requests(world) if isinstance(one, Use)]) == 1


def test_a_wrong_pin_is_the_reason_in_the_log(card: SoftCard, leaf: Leaf) -> None:
    proof, _, ceremony = run(account(enrolled(leaf)), [card.carries, card.failed(Failure.PIN_WRONG)])
    assert (proof, ceremony.reason) == (None, "pin_wrong")


def test_during_a_wait_the_pin_is_asked_for_and_goes_nowhere(card: SoftCard, leaf: Leaf) -> None:
    """It would spend tries of the card on an answer that is refused whatever it is."""
    of = account(enrolled(leaf), failures=FREE + 1, last=Clock()())
    proof, world, ceremony = run(of, [card.carries])
    assert (proof, ceremony.reason) == (None, "waiting")
    waits = "Too many wrong answers: smartcard counts again in 30 s."
    assert (world.asked, world.told) == ([PROMPT], [waits, NOT_ACCEPTED])
    assert [type(one) for one in requests(world)] == [Sign]
    assert world.operations == [(Attempt(DECOY_UID, "smartcard", None, ceremony.now()),)]


# ------------------------------------------------------------------------------------------------------------ the PIN


@pytest.mark.parametrize(
    ("tries", "prompt"),
    [
        (3, PROMPT),
        (255, 'PIN of your smartcard "work": '),
        (2, 'PIN of your smartcard "work" (2 tries left: the next mistake leaves one): '),
    ],
)
def test_p06_the_tries_that_are_left_are_shown(leaf: Leaf, tries: int, prompt: str) -> None:
    card = SoftCard(leaf, tries=tries)
    proof, world, _ = run(account(enrolled(leaf)), [card.carries, card.sign])
    assert proof is not None
    assert world.asked == [prompt]


@pytest.mark.parametrize(("tries", "why"), [(1, Failure.PIN_LAST_TRIES), (0, Failure.PIN_BLOCKED)])
def test_p06_the_last_try_is_not_asked_for(leaf: Leaf, tries: int, why: Failure) -> None:
    proof, world, ceremony = run(account(enrolled(leaf)), [SoftCard(leaf, tries=tries).carries], [])
    assert (proof, ceremony.reason) == (None, why.name.lower())
    assert (world.asked, world.told) == ([], [WORDS[why]])
    assert [type(one) for one in requests(world)] == [Sign]
    assert (ceremony.tries, world.operations) == (3, [])


@pytest.mark.parametrize("typed", ["", "12345", "123456789", "12345\x00", "1234é6", "１２３４５６", "12345\n"])
def test_p06_what_cannot_be_a_pin_spends_no_try(card: SoftCard, leaf: Leaf, typed: str) -> None:
    proof, world, ceremony = run(account(enrolled(leaf)), [card.carries], [typed])
    assert (proof, ceremony.reason) == (None, "pin_form")
    assert world.told == [card_dialogue.BAD_PIN]
    assert [type(one) for one in requests(world)] == [Sign]


@pytest.mark.parametrize("why", [why for why in Failure if why in WORDS and why is not Failure.PIN_WRONG])
def test_what_fails_behind_the_pin_is_told_and_not_counted(card: SoftCard, leaf: Leaf, why: Failure) -> None:
    proof, world, ceremony = run(account(enrolled(leaf)), [card.carries, card.failed(why)])
    assert (proof, ceremony.reason, ceremony.tries) == (None, why.name.lower(), 3)
    assert world.told == [WORDS[why]]
    assert world.operations == []


def test_p10_a_card_that_was_exchanged_behind_the_pin(card: SoftCard, leaf: Leaf) -> None:
    proof, _, ceremony = run(account(enrolled(leaf)), [card.carries, card.failed(Failure.SWAPPED), card.sign])
    assert (proof, ceremony.reason) == (None, "swapped")


# -------------------------------------------------------------------------------------------------------- not a reply


@pytest.mark.parametrize(
    "reply", [Signed(1, NINE_A, Scheme.ECDSA, b""), Touch(1, False), object()], ids=["signed", "touch", "object"]
)
def test_what_was_not_asked_for_ends_it(leaf: Leaf, reply: object) -> None:
    with pytest.raises(ProtocolError):
        run(account(enrolled(leaf)), [DeviceReply(reply)])


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("wrong", [Expired(), DeviceGone("x"), DeviceReply(b"")], ids=repr)
def test_nothing_in_the_place_of_any_event_grants(card: SoftCard, leaf: Leaf, number: int, wrong: Event) -> None:
    of = account(enrolled(leaf))
    world = World(Memory(of), [PIN], device=[card.carries, card.sign], instead={number: wrong})
    settings = Settings(policy=Rule(methods=("smartcard",), local_key=LocalKey.ALWAYS))
    request = Request(SESSION, 0, "login", "alice", ALICE, "", "", "tty1", "host")
    try:
        verdict = world.run(login(request, settings, FACTORS, Clock()))
    except (PamMfaError, AssertionError):  # the script has ended
        return
    assert verdict.outcome is Outcome.DENIED


def test_a_signature_of_another_card_than_was_asked(card: SoftCard, leaf: Leaf) -> None:
    other = SoftCard(leaf, device=2)
    with pytest.raises(ProtocolError):
        run(account(enrolled(leaf)), [card.carries, other.sign])


def test_material_travels() -> None:
    whole = Material(1, bytes(32), 0x9A, "p-256", "CN=alice", "CN=ca", "1f", "2030-01-01")
    assert Material.unpack(whole.pack()) == whole
    assert whole.value.hex() not in repr(whole)
