"""Enrolling smartcards: what is shown, agreed to and proven, and everything that is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ca import Authority, Leaf, new_key
from cardflows import ANCHOR, CHAINED, ISSUING, LISTS, PIN, PLACE, enrolled, requests, trusting
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Memory, World, account
from softcard import NINE_A, SoftCard, idle

from pam_mfa.config import Settings, Smartcard
from pam_mfa.conversation import DeviceGone, DeviceReply, Expired
from pam_mfa.devices.base import Failed, Failure, Release, Scheme, Sign, Slot, Use
from pam_mfa.enroll import Caller, Desk, enroll
from pam_mfa.errors import LookupFailed, RefusedError
from pam_mfa.factors.base import Enrolment, Made, Place
from pam_mfa.factors.card_ceremonies import PATHS, SHARED, UNDECIDED
from pam_mfa.factors.card_dialogue import BAD_PIN, NO_CARD, NO_SERVICE, WORDS
from pam_mfa.factors.card_enrolment import ENROL, REFUSALS, STOPPED
from pam_mfa.factors.piv import Material, credential_name, pinned
from pam_mfa.store.rows import Account, Credential
from pam_mfa.structure import replace

UPN = "alice@corp.example"
NAMED = replace(CHAINED, smartcard=replace(CHAINED.smartcard, upn_anchors=frozenset({ANCHOR})))
GOOD = trusting(*LISTS)


@pytest.fixture(scope="module")
def leaf() -> Leaf:
    return ISSUING.leaf(upns=[UPN])


@pytest.fixture
def card(leaf: Leaf) -> SoftCard:
    return SoftCard(leaf)


def made_by(
    device: Sequence[Any],
    answers: Sequence[str] = ("yes", PIN),
    place: Place = PLACE,
    held: Sequence[Credential] = (),
    others: Sequence[Account] = (),
    paths: Any = None,
    **options: Any,
) -> tuple[Made | RefusedError, World]:
    enrolment = Enrolment(
        ALICE,
        "alice",
        "0" * 32,
        "work",
        "host",
        Clock(),
        options,
        SESSION,
        tuple(held),
        replace(place, service="pam-mfa"),
    )
    world = World(Memory(*others), answers, device=device, paths=paths)
    try:
        return world.run(FACTORS["smartcard"].enrol(enrolment)), world
    except RefusedError as refused:
        return refused, world


def refusal(*args: Any, **more: Any) -> str:
    refused, world = made_by(*args, **more)
    assert isinstance(refused, RefusedError)
    assert refused.code == "refused"
    assert world.kinds[-1] == "HangUp"
    return refused.message.removeprefix("nothing was enrolled. ")


# -------------------------------------------------------------------------------------------------------- what is made


def test_it_is_shown_agreed_to_and_proven(card: SoftCard, leaf: Leaf) -> None:
    made, world = made_by([idle(), card.carries, Expired(), card.sign])
    assert isinstance(made, Made)
    assert world.told == [ENROL]
    (record,) = world.records
    assert record == {
        "kind": "certificate",
        "subject": "CN=alice,O=Example",
        "issuer": "CN=Issuing,O=Example",
        "serial": f"{leaf.serial:x}",
        "valid_from": leaf.certificate.not_valid_before_utc.date().isoformat(),
        "valid_until": leaf.certificate.not_valid_after_utc.date().isoformat(),
        "key": "p-256",
        "slot": "9a",
        "by": "key",
        "matches": Material.unpack(made.credential.material).value.hex(),
    }
    assert world.asked == ["Enrol this certificate for alice? (yes or no) ", "PIN of the smartcard (3 tries left): "]
    assert world.kinds.index("Show") < world.kinds.index("Ask") < world.kinds.index("AskSecret")
    assert requests(world)[1:] == [Use(1, NINE_A, PIN)]
    expected = enrolled(leaf)
    assert made.credential == replace(expected, created=Clock()().wall)
    assert made.reveal is None


@pytest.mark.parametrize("slot", ["9c", "9d"])
def test_another_slot(leaf: Leaf, slot: str) -> None:
    number = Slot(int(slot, 16))
    card = SoftCard({NINE_A: ISSUING.leaf("other"), number: leaf})
    place = replace(PLACE, smartcard=Smartcard(slots=("9a", "9c", "9d")))
    device = [card.carries, Expired(), lambda request: DeviceReply(card.signed(request, number))]
    made, world = made_by(device, place=place, slot=slot)
    assert isinstance(made, Made)
    assert Material.unpack(made.credential.material).slot == number
    sign = requests(world)[0]
    assert isinstance(sign, Sign)
    assert sign.slots == (number,)


@pytest.mark.parametrize("by", ["key", "issuer-serial", "subject-key-id", "upn"])
def test_by_what_it_is_recognised(card: SoftCard, by: str) -> None:
    made, world = made_by([card.carries, Expired(), card.sign], place=NAMED, paths=GOOD, by=by)
    assert isinstance(made, Made)
    found = Material.unpack(made.credential.material)
    assert made.credential.id == credential_name(found.kind, found.value)
    assert world.records[0]["by"] == by
    assert (found.value == UPN.encode()) is (by == "upn")


@pytest.mark.parametrize(
    "options",
    [
        {"slot": "9e"},
        {"slot": "9c"},
        {"slot": 0x9A},
        {"by": "cn"},
        {"by": ["key"]},
        {"by": "upn"},
        {"by": "issuer-serial"},
    ],
)
def test_options_that_make_no_sense(options: Any) -> None:
    """P08: 9e; and what does not count with pinned trust."""
    refused, world = made_by([], **options)
    assert isinstance(refused, RefusedError)
    assert refused.code == "invalid"
    assert world.wants == []


# -------------------------------------------------------------------------------------------------------- what is not


@pytest.mark.parametrize("answer", ["", "no", "n", "yes please", "123456"])
def test_who_does_not_agree_enrols_nothing(card: SoftCard, answer: str) -> None:
    assert refusal([card.carries, Expired()], [answer]) == STOPPED


def test_a_card_that_cannot_sign(card: SoftCard) -> None:
    """P01: a copy of somebody's certificate, and another key."""
    nonsense = WORDS[Failure.NONSENSE]
    for how in ({"key": new_key()}, {"message": bytes(32)}, {"scheme": Scheme.PSS}):
        answer = lambda request, how=how: DeviceReply(card.signed(request, **how))  # noqa: E731
        assert refusal([card.carries, Expired(), answer]) == nonsense


def test_several_cards(card: SoftCard) -> None:
    second = SoftCard(ISSUING.leaf(), device=2)
    assert refusal([card.carries, second.carries, Expired()]) == REFUSALS["several"]


def test_a_card_that_has_none_in_that_slot_is_no_second_one(card: SoftCard, leaf: Leaf) -> None:
    other = SoftCard({Slot.SIGNATURE: leaf}, device=2)
    made, world = made_by([other.carries, card.carries, Expired(), card.sign])
    assert isinstance(made, Made)
    assert Release(2) in requests(world)


def test_no_card(card: SoftCard) -> None:
    assert refusal([idle(), Expired()]) == NO_CARD
    assert refusal([DeviceGone("no_device_service")]) == NO_SERVICE
    assert refusal([card.carries, Expired()], ["yes", "1"]) == BAD_PIN


@pytest.mark.parametrize("failure", WORDS)
def test_each_failure_says_what_to_do(card: SoftCard, failure: Failure) -> None:
    assert refusal([card.carries, Expired(), DeviceReply(Failed(1, failure))]) == WORDS[failure]


def test_one_that_this_account_has(card: SoftCard, leaf: Leaf) -> None:
    assert refusal([card.carries, Expired()], held=[enrolled(leaf)]) == REFUSALS["known"]
    upn = enrolled(leaf, kind=4, value=UPN.encode())
    assert refusal([card.carries, Expired()], held=[upn], place=NAMED, paths=GOOD) == REFUSALS["known"]


def test_p05_one_that_somebody_else_has(card: SoftCard, leaf: Leaf) -> None:
    bobs = account(enrolled(leaf, uid=BOB, user="bob"), uid=BOB)
    assert refusal([card.carries, Expired()], others=[bobs]) == REFUSALS["taken"]


def test_a_key_that_is_too_weak() -> None:
    weak = SoftCard(ISSUING.leaf(key=new_key("rsa-1024")))
    assert refusal([weak.carries, Expired()]) == REFUSALS["key"]


def test_p03_a_certificate_that_is_no_good() -> None:
    expired, foreign = ISSUING.leaf(days=(-10, -1)), Authority.root("Else").leaf()
    device = [SoftCard(expired).carries, Expired()]
    assert refusal(device, place=CHAINED, paths=GOOD) == PATHS["expired"]
    assert "not accepted" in refusal([SoftCard(foreign).carries, Expired()], place=CHAINED, paths=GOOD)
    made, _ = made_by([*device, SoftCard(expired).sign])
    assert isinstance(made, Made)  # pinned trust asks for no dates


@pytest.mark.parametrize("paths", [trusting(), lambda check: LookupFailed("gone")], ids=["absent", "gone"])
def test_p04_a_certificate_that_nobody_can_check(card: SoftCard, paths: Any) -> None:
    assert refusal([card.carries, Expired()], place=CHAINED, paths=paths) == UNDECIDED


def test_p05_names_that_do_not_count(card: SoftCard) -> None:
    device = [card.carries, Expired()]
    assert refusal(device, place=CHAINED, paths=GOOD, by="upn") == REFUSALS["no_name"]
    assert refusal(device, place=NAMED, paths=GOOD, by="mail") == REFUSALS["no_name"]
    two = SoftCard(ISSUING.leaf(upns=[UPN, "bob@corp.example"]))
    assert refusal([two.carries, Expired()], place=NAMED, paths=GOOD, by="upn") == SHARED


def test_every_text_is_one_line_of_ascii() -> None:
    texts = [*REFUSALS.values(), *WORDS.values(), *PATHS.values(), UNDECIDED, SHARED, NO_CARD, NO_SERVICE, BAD_PIN]
    assert all(text.isascii() and text.isprintable() and len(text) < 200 and text.endswith(".") for text in texts)


def test_what_is_pinned_is_the_key(leaf: Leaf) -> None:
    renewed = ISSUING.leaf("alice again", key=leaf.key)
    assert enrolled(renewed).id == enrolled(leaf).id
    assert len(pinned(b"")) == 32


def test_the_settings_reach_the_enrolment() -> None:
    world = World(Memory(), device=[Expired()])
    settings = Settings(smartcard=Smartcard(slots=("9d",)))
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), settings, FACTORS, Clock())
    with pytest.raises(RefusedError):
        world.run(enroll(desk, {"factor": "smartcard"}))
    (sign,) = requests(world)
    assert isinstance(sign, Sign)
    assert sign.slots == (Slot.KEY_MANAGEMENT,)
