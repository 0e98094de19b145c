"""The one prompt that all typed codes share, and its three tries."""

from __future__ import annotations

from ..conversation import Steps, ask, tell
from ..outcome import Proof
from ..store.base import Use
from ..store.rows import Credential
from .base import Ceremony, CodeFactor, comparable, settle, waits

PROMPT = "Verification code: "
# The same words whatever was wrong: nobody learns who is enrolled.
REFUSED = "Not accepted (each code works once). "


def prove(ceremony: Ceremony, factors: tuple[CodeFactor, ...]) -> Steps[Proof | None]:
    """Flow: ask until an answer is right or the tries are spent; None when they are."""
    lead = ""
    while ceremony.tries > 0:
        ceremony.tries -= 1
        answer = yield from ask(f"{lead}{waits(ceremony, (factor.name for factor in factors))}{PROMPT}")
        proof = yield from _judge(ceremony, factors, answer)
        if proof is not None:
            return proof
        lead = REFUSED
    return None


def _judge(ceremony: Ceremony, factors: tuple[CodeFactor, ...], answer: str) -> Steps[Proof | None]:
    factor = next((f for f in factors if f.fits(answer)), None)
    if factor is None and ceremony.otherwise and (other := (yield from ceremony.otherwise(ceremony, answer))):
        return other
    # An answer that has no factor's form is a wrong answer for the first one: it is counted like any other.
    name = (factor or factors[0]).name
    compared = comparable(ceremony, name)
    matched = _match(ceremony, factor, answer, compared) if factor else None
    proof = yield from settle(ceremony, name, compared, matched)
    if proof is not None and factor and matched and (text := factor.aftermath(*matched)):
        yield from tell(text)
    return proof


def _match(ceremony: Ceremony, factor: CodeFactor, answer: str, compared: bool) -> tuple[Credential, Use] | None:
    # All of them, always, and a decoy where none may be compared: time tells nothing.
    found = None
    for credential in ceremony.account.of(factor.name) if compared else (factor.decoy,):
        use = factor.match(credential, answer, ceremony.now())
        if use is not None:
            found = (credential, use)
    return found
