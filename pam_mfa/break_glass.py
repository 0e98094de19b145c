"""Break-glass codes: a code that was locked away opens where nothing else does. It needs neither settings nor store.

Codes are files of root's (service/glass.py). A code is taken off the disk before it proves anything, so it opens once,
whoever answers and however many ask. It says nothing of who somebody is: it counts for every account that exists, or
for the one that it was made for.
"""

from __future__ import annotations

from .conversation import Alert, BreakGlass, GlassBroken, Shown, Steps, ask, expect, hang_up, tell
from .errors import LookupFailed, NameMismatch, PamMfaError, StoreError
from .factors.base import MAX_TRIES, Ceremony
from .factors.code import PROMPT, REFUSED
from .factors.recovery import ALPHABET, fold
from .outcome import Proof

FACTOR = "break-glass"
LENGTH = 32  # of ALPHABET: 160 bits, which nobody guesses, so nothing has to be counted
LAST_PROMPT = "Break-glass code (Enter for none): "
USED = "Break-glass code used: {} left. Make a new one with: sudo pam-mfa break-glass create"


def digest(code: str) -> bytes:
    """What is kept of a code: 160 random bits need no slow hash, and no key that might be lost as well."""
    from hashlib import sha256

    return sha256(b"pam-mfa break-glass v1 " + code.encode()).digest()


def accept(ceremony: Ceremony, answer: str) -> Steps[Proof | None]:
    """Sub-flow: an answer that no factor takes, for a break-glass code; None where it is none."""
    return (yield from _break(ceremony, answer)) if _fits(answer) else None


def backed(ceremony: Ceremony, proving: Steps[Proof | None]) -> Steps[Proof | None]:
    """Flow: prove as `proving` does; with break-glass where the store fails it, or devices are all that there is.

    Raises:
        StoreError: the store failed, and there is no break-glass code on this host.
    """
    try:
        proof = yield from proving
    except StoreError as problem:
        return (yield from instead(ceremony, problem))
    return proof if proof is not None else (yield from _last(ceremony))


def instead(ceremony: Ceremony, problem: PamMfaError) -> Steps[Proof | None]:
    """Flow: ask for a break-glass code, with the words that ask for any code, where a login cannot be decided.

    Raises:
        PamMfaError: `problem`, where there is no code on this host, or no answer left, or where the store has
            positively said that the account is not who it says.
    """
    if ceremony.tries <= 0 or isinstance(problem, NameMismatch) or not (yield from _look(ceremony, None)).left:
        raise problem
    yield from hang_up()
    lead = REFUSED if ceremony.tries < MAX_TRIES else ""
    while ceremony.tries > 0:
        ceremony.tries -= 1
        answer = yield from ask(f"{lead}{PROMPT}")
        proof = yield from _break(ceremony, answer)
        if proof is not None:
            return proof
        lead = REFUSED
    ceremony.reason = problem.reason
    return None


def _last(ceremony: Ceremony) -> Steps[Proof | None]:
    """Flow: one prompt after devices, for whoever has lost them; a prompt for codes leaves no answer for it.

    Strangers are shown what they always were.
    """
    if ceremony.place.uniform or ceremony.tries <= 0 or not (yield from _look(ceremony, None)).left:
        return None
    ceremony.tries -= 1
    answer = yield from ask(LAST_PROMPT)
    return (yield from _break(ceremony, answer)) if answer else None


def _break(ceremony: Ceremony, answer: str) -> Steps[Proof | None]:
    """Sub-flow: one attempt. It is recorded in any case; who does not exist costs the same, and takes nothing."""
    takes = ceremony.uid is not None and _fits(answer)
    broken = yield from _look(ceremony, digest(fold(answer)) if takes else None)
    if not takes or ceremony.uid is None or broken.taken is None:
        ceremony.reason = broken.reason or "break_glass_wrong"
        expect((yield Alert(ceremony.reason, FACTOR, "", "", loud=False)), Shown)
        return None
    expect((yield Alert("break_glass_used", FACTOR, broken.taken, broken.label)), Shown)
    yield from tell(USED.format(broken.left))
    return Proof(ceremony.session, ceremony.uid, FACTOR, broken.taken, broken.label)


def _look(ceremony: Ceremony, wanted: bytes | None) -> Steps[GlassBroken]:
    """Sub-flow: what there is, and what became of the code that is wanted; a disk that hangs has none."""
    try:
        return expect((yield BreakGlass(wanted, ceremony.place.user, ceremony.now().wall)), GlassBroken)
    except LookupFailed:
        return GlassBroken(0, reason="break_glass_no_answer")


def _fits(answer: str) -> bool:
    code = fold(answer)
    return len(code) == LENGTH and set(code) <= set(ALPHABET)
