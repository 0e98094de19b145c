"""Proving with a smartcard: which of the account's it is, one PIN, one signature."""

from __future__ import annotations

from collections.abc import Sequence

from ..conversation import Steps, hang_up, warn
from ..devices.base import Carries, Certified, Sign, Signed, Slot
from ..outcome import Proof
from ..store.base import Noted
from ..store.rows import Credential
from .assertion import Unproven, demand
from .base import Ceremony, comparable, settle, waits
from .card_dialogue import LAST_TRY, NOT_ACCEPTED, Dialogue, Rejected
from .card_signature import verify
from .certificates import AMBIGUOUS, Believed, Undecided, believe, counting, may_fit, owned, pins, slots
from .challenge import challenge
from .piv import Material

REQUEST_SECONDS = 180  # the session ends it before that

BAD_PATH = "The certificate of that smartcard is not accepted: ask an administrator."
PATHS = {
    "expired": "The certificate of that smartcard has expired: get a new one.",
    "not_yet_valid": "The certificate of that smartcard is not valid yet: check the clock of this computer.",
    "revoked": "The certificate of that smartcard was revoked: get a new smartcard.",
}
UNDECIDED = "The certificate of that smartcard cannot be checked now: ask an administrator to run pam-mfa doctor."
SHARED = "That smartcard is not this account's alone: ask an administrator."

Held = Sequence[tuple[Credential, Material]]
Whose = tuple[Credential, Believed]


def prove(ceremony: Ceremony, factor: str) -> Steps[Proof | None]:
    """Flow to a proof by one card of the account, or None; then no card is held any more."""
    rules = ceremony.place.smartcard
    held = counting(ceremony.account.of(factor), rules)
    if not held and not ceremony.place.uniform:
        return None
    request = Sign(challenge(ceremony.place, ceremony.session), slots(rules), REQUEST_SECONDS)
    name = _label(ceremony, held[0][0]) if len(held) == 1 else ""
    if waiting := waits(ceremony, [factor]):
        yield from warn(waiting.strip())
    dialogue: Dialogue[Whose] = Dialogue(request, ceremony.now, name)
    proof = yield from _first(ceremony, factor, held, request, dialogue)
    yield from hang_up()
    if proof is None and dialogue.words:
        yield from warn(dialogue.words)
    return proof


def _first(
    ceremony: Ceremony, factor: str, held: Held, request: Sign, dialogue: Dialogue[Whose]
) -> Steps[Proof | None]:
    """One card, one PIN: whoever mistook the card does not lose a try of a second one as well."""
    chosen = yield from _chosen(ceremony, held, dialogue)
    if chosen is None:
        ceremony.reason = dialogue.reason if held else ceremony.reason
        return None
    card, whose, pin = chosen
    compared, signed = comparable(ceremony, factor), None
    if compared:  # else the PIN is nobody's business, and none of its tries is spent
        signed = yield from dialogue.sign(card, whose[1].certified.slot, pin, _label(ceremony, whose[0]))
        if signed is None and not dialogue.wrong_pin:
            ceremony.reason = dialogue.reason
            return None
    else:
        dialogue.words = NOT_ACCEPTED
    return (yield from _judge(ceremony, factor, compared, whose, request, signed, dialogue))


def _chosen(ceremony: Ceremony, held: Held, dialogue: Dialogue[Whose]) -> Steps[tuple[Carries, Whose, str] | None]:
    """A card of the account's, what it is, and the PIN that its user gave."""

    def judge(card: Carries) -> Steps[Whose | None]:
        return _whose(ceremony, held, card)

    found = yield from dialogue.find(judge, several=len(held) > 1)
    if not found:
        return None
    card, whose = _preferred(held, found)
    for other, _ in found:
        if other is not card:
            dialogue.release(other)
    pin = yield from dialogue.pin(card, _label(ceremony, whose[0]))
    return None if pin is None else (card, whose, pin)


def _label(ceremony: Ceremony, credential: Credential) -> str:
    """What the user calls a card, where that is nobody's secret."""
    return "" if ceremony.place.uniform else credential.label


def _preferred(held: Held, found: Sequence[tuple[Carries, Whose]]) -> tuple[Carries, Whose]:
    """Of several cards one whose PIN can be asked for, then the one that was enrolled first: every time the same."""
    order = [credential.id for credential, _ in held]
    return min(found, key=lambda one: (one[0].tries <= LAST_TRY, order.index(one[1][0].id)))


def _judge(
    ceremony: Ceremony,
    factor: str,
    compared: bool,
    whose: Whose,
    request: Sign,
    signed: Signed | None,
    dialogue: Dialogue[Whose],
) -> Steps[Proof | None]:
    """What came of the PIN: a signature, good or bad, or a mistake. Whatever does not prove counts as wrong."""
    ceremony.tries -= 1
    credential, believed = whose
    matched, why = None, dialogue.reason
    if signed is not None:
        dialogue.words = NOT_ACCEPTED
        try:
            check(believed, request, signed)
            matched = credential, Noted(credential.id)
            ceremony.caveat = believed.caveat
        except Unproven as bad:
            why = bad.reason
    proof = yield from settle(ceremony, factor, compared, matched)
    if compared and not matched:
        ceremony.reason = why
    return proof


def check(believed: Believed, request: Sign, signed: Signed) -> None:
    """Raises Unproven unless a card has signed what was asked, with the key of the certificate (P01, P02)."""
    demand(signed.slot is believed.certified.slot, "slot")
    verify(believed.public_key, signed.scheme, request.message, signed.signature)


# ------------------------------------------------------------------------------------------------- whose card it is


def _whose(ceremony: Ceremony, held: Held, card: Carries) -> Steps[Whose | None]:
    """The credential that a card is, and the certificate that says so. Raises Rejected."""
    rules = ceremony.place.smartcard
    rejected: Rejected | None = None
    for certified in in_order(card, slots(rules)):
        if not may_fit(certified, held):
            continue
        try:
            believed = yield from believe(certified, rules)
            credential = yield from owned(believed, held, ceremony.account.uid)
        except Unproven as bad:
            rejected = _reject(rejected, bad.reason, bad.reason == AMBIGUOUS or pins(certified, held))
        except Undecided as unclear:
            ceremony.undecided = unclear.reason
            rejected = Rejected(unclear.reason, UNDECIDED, final=True)
        else:
            if credential is not None:
                return credential, believed
    if rejected:
        raise rejected
    return None


def _reject(before: Rejected | None, reason: str, final: bool) -> Rejected:
    """Of several certificates of a card the one that is surely the account's says why."""
    return before if before and before.final else Rejected(reason, bad_words(reason), final)


def bad_words(reason: str) -> str:
    """What the user is told of a certificate that is not believed."""
    return SHARED if reason == AMBIGUOUS else PATHS.get(reason, BAD_PATH)


def in_order(card: Carries, wanted: Sequence[Slot]) -> list[Certified]:
    """The certificates of the slots that count, the preferred one first (P08)."""
    found = {certified.slot: certified for certified in card.certificates}
    return [found[slot] for slot in wanted if slot in found]
