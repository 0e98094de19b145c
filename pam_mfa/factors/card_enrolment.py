"""Enrolling a smartcard: what is on it is shown, agreed to, and proven by one signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Smartcard as Rules, Trust
from ..conversation import Steps, ask, hang_up, show
from ..devices.base import Carries, Certified, Failure, Sign, Signed, Slot
from ..errors import RefusedError
from ..structure import replace
from .assertion import Unproven, demand
from .base import Enrolment, Made, other_owner
from .card_ceremonies import REQUEST_SECONDS, SHARED, UNDECIDED, bad_words, check, in_order
from .card_dialogue import WORDS, Dialogue
from .card_signature import key_name
from .certificates import AMBIGUOUS, Believed, Undecided, believe, slots
from .challenge import challenge
from .piv import KEY, KINDS, Material

ENROL = "Insert the smartcard that you want to enrol"
STOPPED = "stopped."
REFUSALS = {
    AMBIGUOUS: SHARED,
    "declined": STOPPED,
    "taken": "That smartcard belongs to another account: use another one.",
    "known": "That smartcard is enrolled already: use another one.",
    "key": "The key of that certificate cannot be used: it has to be RSA of 2048, 3072 or 4096 bits, P-256 or P-384.",
    "no_name": "That certificate has no such name, or its issuer is not trusted with it (settings upn_anchors, "
    "mail_anchors).",
    "several": "There are several smartcards: leave only the one that you want to enrol.",
}
NONSENSE = frozenset({"signature", "scheme", "slot"})


def enrol(enrolment: Enrolment, factor: str) -> Steps[Made]:
    """Flow: show what is on a card, ask, and have it sign. Raises RefusedError."""
    kind, wanted = _options(enrolment.options, enrolment.place.smartcard)
    request = Sign(challenge(enrolment.place, enrolment.session), wanted, REQUEST_SECONDS)
    dialogue: Dialogue[Certified] = Dialogue(request, enrolment.now, cue=ENROL)
    try:
        card, certified = yield from _only(dialogue, wanted)
        believed = yield from _free(enrolment, factor, certified)
        material = _material(believed, kind)
        yield from _agree(enrolment, material, certified)
        check(believed, request, (yield from _signed(dialogue, card, certified)))
    except Unproven as bad:
        yield from hang_up()
        raise _refused(_words(bad.reason, dialogue.words)) from None
    except Undecided:
        yield from hang_up()
        raise _refused(UNDECIDED) from None
    yield from hang_up()
    return Made(replace(enrolment.credential(factor, material.pack()), id=material.id))


def _options(options: Mapping[str, Any], rules: Rules) -> tuple[int, tuple[Slot, ...]]:
    """By what a certificate is to be recognised, and in which slots it may be. Raises RefusedError."""
    by, slot = options.get("by"), options.get("slot")
    kinds = {word: kind for kind, word in KINDS.items()}
    if by is not None and (not isinstance(by, str) or by not in kinds):
        raise RefusedError("invalid", f"by is one of {', '.join(kinds)}")
    if by not in (None, KINDS[KEY]) and rules.trust is not Trust.CHAIN:
        raise RefusedError("invalid", 'only the key counts with trust = "pinned" in [smartcard] of the settings')
    if slot is not None and (not isinstance(slot, str) or slot not in rules.slots):
        raise RefusedError("invalid", f"slot is one of {', '.join(rules.slots)}, as the settings say")
    return kinds[by or KINDS[KEY]], (Slot(int(slot, 16)),) if slot else slots(rules)


def _only(dialogue: Dialogue[Certified], wanted: tuple[Slot, ...]) -> Steps[tuple[Carries, Certified]]:
    """The one card that is there, and its certificate. Raises Unproven."""

    def judge(card: Carries) -> Steps[Certified | None]:
        yield from ()
        return next(iter(in_order(card, wanted)), None)

    found = yield from dialogue.find(judge, several=True)
    demand(bool(found), "none")
    demand(len(found) == 1, "several")
    return found[0]


def _free(enrolment: Enrolment, factor: str, certified: Certified) -> Steps[Believed]:
    """A certificate that this account may enrol. Raises Unproven, Undecided."""
    key_name(certified.public_key)
    believed = yield from believe(certified, enrolment.place.smartcard)
    demand(not believed.ids.keys() & {held.id for held in enrolment.held if held.factor == factor}, "known")
    demand((yield from other_owner(enrolment.uid, believed.ids)) is None, "taken")
    return believed


def _material(believed: Believed, kind: int) -> Material:
    """What is to be stored. Raises Unproven."""
    value = next((value for each, value in believed.names if each == kind), None)
    if value is None:
        raise Unproven("no_name")
    of = believed.certified
    return Material(kind, value, of.slot, of.key, of.subject, of.issuer, of.number, of.valid_until)


def _agree(enrolment: Enrolment, material: Material, certified: Certified) -> Steps[None]:
    """Show it and ask. Raises Unproven."""
    yield from show(
        kind="certificate",
        subject=material.subject,
        issuer=material.issuer,
        serial=material.number,
        valid_from=certified.valid_from,
        valid_until=material.valid_until,
        key=material.key,
        slot=f"{material.slot:02x}",
        by=KINDS[material.kind],
        matches=material.shown,
    )
    answer = yield from ask(f"Enrol this certificate for {enrolment.user}? (yes or no) ", secret=False)
    demand(answer.strip().lower() in ("y", "yes"), "declined")


def _signed(dialogue: Dialogue[Certified], card: Carries, certified: Certified) -> Steps[Signed]:
    """Raises Unproven where there is none; the dialogue says why."""
    pin = yield from dialogue.pin(card, "")
    signed = None if pin is None else (yield from dialogue.sign(card, certified.slot, pin, ""))
    if signed is None:
        raise Unproven("none")
    return signed


def _words(reason: str, said: str) -> str:
    if reason == "none":
        return said or STOPPED
    if reason in NONSENSE:
        return WORDS[Failure.NONSENSE]
    return REFUSALS.get(reason) or bad_words(reason)


def _refused(words: str) -> RefusedError:
    return RefusedError("refused", f"nothing was enrolled. {words}")
