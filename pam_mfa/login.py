"""The flow of one login: store, policy, factors, verdict.

Whoever cannot be let in - unknown, not enrolled, waiting, disabled - is asked like everybody else and gives
three answers before the refusal: until the first factor has passed nobody learns which of these it was.
The audit record says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import cast

from . import break_glass, credit, notices, tickets
from .assessment import Assessment, Request, assess, place
from .config import Settings
from .conversation import About, LookedUp, LookUp, Shown, Steps, expect, tell
from .errors import ConfigError, LookupFailed, PamMfaError, StoreError
from .factors import code
from .factors.base import Ceremony, CodeFactor, DeviceFactor, Factor, Place, is_device
from .outcome import Outcome, Proof, Verdict, grant
from .policy import ENROLLED, Entry
from .rules import FirstFactor
from .store.rows import DECOY_UID, Account
from .structure import replace
from .throttle import Instant


def login(
    request: Request, settings: Settings | None, factors: Mapping[str, Factor], now: Callable[[], Instant]
) -> Steps[Verdict]:
    """Flow of one login, without settings by break-glass alone. Raises PamMfaError where no verdict can be reached."""
    if not (yield from _peer_may_ask(request)):
        return Verdict(Outcome.DENIED, "peer_denied")
    if settings is None:
        return (yield from _undecided(request, now, ConfigError(["no usable settings"])))
    try:
        found = yield from _counted((yield from assess(request, settings, now)))
    except (StoreError, LookupFailed) as problem:
        return (yield from _undecided(request, now, problem))
    if found.user != request.user:
        expect((yield About(found.uid, found.user)), Shown)
    if found.decision.entry is Entry.EXEMPT:
        return (yield from _let_by(found, now))
    if found.decision.entry is Entry.REFUSE:
        return Verdict(Outcome.DENIED, found.decision.reason)
    ceremony = yield from begin(request, settings, factors, now, found)
    return (yield from proven(request, settings, factors, found, ceremony))


def proven(
    request: Request, settings: Settings, factors: Mapping[str, Factor], found: Assessment, ceremony: Ceremony
) -> Steps[Verdict]:
    """Flow: the verdict on somebody who has to prove something. `pam-mfa explain` runs it to its first word."""
    proving = _proven(request, settings, factors, found, ceremony)
    if found.rule.lease is None:
        return (yield from proving)
    from .lease import lending  # few rules have one

    return (yield from lending(request, found, ceremony.now, proving))


def _proven(
    request: Request, settings: Settings, factors: Mapping[str, Factor], found: Assessment, ceremony: Ceremony
) -> Steps[Verdict]:
    ceremony.otherwise = break_glass.accept
    proof = yield from break_glass.backed(ceremony, _obtain(request, settings, factors, found, ceremony))
    if proof is None or ceremony.uid is None:
        return _refusal(ceremony)
    yield from notices.tell_news(found.account, found.facts.service, ceremony.now)
    return grant(proof, ceremony.session, ceremony.uid, ceremony.caveat)


def _undecided(request: Request, now: Callable[[], Instant], problem: PamMfaError) -> Steps[Verdict]:
    """Flow: nobody can say what has to be proven. Break-glass counts all the same, else it is as if there were none."""
    place = Place(request.host, request.service, request.user, request.rhost)
    account = Account(DECOY_UID if request.uid is None else request.uid, request.user)
    ceremony = Ceremony(request.session, request.uid, account, now, place=place)
    proof = yield from break_glass.instead(ceremony, problem)
    if proof is None or ceremony.uid is None:
        return _refusal(ceremony)
    return grant(proof, request.session, ceremony.uid)


def _let_by(found: Assessment, now: Callable[[], Instant]) -> Steps[Verdict]:
    if text := notice(found):
        yield from tell(text)
    if hears(found):
        yield from notices.tell_news(found.account, found.facts.service, now)
    return Verdict(Outcome.EXEMPT, found.decision.reason)


def _counted(found: Assessment) -> Steps[Assessment]:
    """Sub-flow: the login counted, where its rule lets in a number of them."""
    if found.decision.logins is None or found.uid is None or found.rule.logins_left is None:
        return found
    from . import rollout

    decision = yield from rollout.count(found.uid, found.rule.logins_left, found.decision)
    return replace(found, decision=decision)


def _help(found: Assessment) -> Steps[None]:
    """Sub-flow: whom to call, for an account without a credential; strangers learn nothing of it."""
    told = found.uid is not None and found.rule.first_factor is not FirstFactor.NONE
    if told and found.rule.help and found.decision.reason != ENROLLED:
        from . import rollout

        yield from rollout.refer(found.rule.help, found.facts.service)


def _refusal(ceremony: Ceremony) -> Verdict:
    if not ceremony.tries:
        return Verdict(Outcome.TRIES_SPENT, ceremony.reason)
    if ceremony.undecided:
        return Verdict(Outcome.UNAVAILABLE, ceremony.undecided)
    return Verdict(Outcome.DENIED, ceremony.reason)


def notice(found: Assessment) -> str:
    """What somebody is told who gets in for a while without a credential; nothing where nothing was proven before."""
    decision = found.decision
    if found.rule.first_factor is FirstFactor.NONE or (decision.days is None and decision.logins is None):
        return ""
    from .rollout import left

    return f"Enrol a second factor with: pam-mfa enroll ({left(decision)}; from then on it is needed here)"


def _obtain(
    request: Request, settings: Settings, factors: Mapping[str, Factor], found: Assessment, ceremony: Ceremony
) -> Steps[Proof | None]:
    """Flow: to a proof by one of the rule's methods, or by what is enrolled on the way; None: refused."""
    if found.decision.entry is Entry.ENROL:
        from . import rollout

        proof = yield from rollout.enrol(ceremony, factors, settings)
    else:
        proof = yield from credit.before(request, settings, ceremony, prove(ceremony, found.rule.methods, factors))
    if proof is None:
        yield from _help(found)
    return proof


def hears(found: Assessment) -> bool:
    """Whether who gets in without a proof is told what was changed: not where nothing was proven before.

    Nor where nothing is ever asked: there it may be a program that gets in, and nobody reads.
    """
    return not found.rule.exempt and found.rule.first_factor is not FirstFactor.NONE


def begin(
    request: Request,
    settings: Settings,
    factors: Mapping[str, Factor],
    now: Callable[[], Instant],
    found: Assessment,
) -> Steps[Ceremony]:
    """Sub-flow: the ceremony in which the factor is proven."""
    uniform = found.rule.first_factor is FirstFactor.NONE
    held = [factors[name] for name in found.rule.methods if uniform or found.account.of(name)]
    here = yield from place(request, settings, found.rule, held, found.facts.where)
    return Ceremony(request.session, found.uid, found.account, now, place=here)


def prove(ceremony: Ceremony, methods: Sequence[str], factors: Mapping[str, Factor]) -> Steps[Proof | None]:
    """Flow: offer the methods in their order until one is proven. Codes that follow each other share a prompt."""
    for device, group in groupby((factors[name] for name in methods), key=is_device):
        run = tuple(group)
        if ceremony.tries <= 0:
            return None
        proof = yield from (_devices(ceremony, run) if device else code.prove(ceremony, _codes(run, factors)))
        if proof is not None:
            return proof
    return (yield from tickets.prove_behind(ceremony, factors))


def _devices(ceremony: Ceremony, factors: Iterable[Factor]) -> Steps[Proof | None]:
    for factor in cast("Iterable[DeviceFactor]", factors):
        proof = yield from factor.prove(ceremony)
        if proof is not None:
            return proof
    return None


def _codes(run: Iterable[Factor], factors: Mapping[str, Factor]) -> tuple[CodeFactor, ...]:
    return tickets.joined(tuple(cast("Iterable[CodeFactor]", run)), factors)


def _peer_may_ask(request: Request) -> Steps[bool]:
    """uid 0 may ask for anyone; everybody else for the account of that uid alone, by the name the system knows."""
    if request.peer_uid == 0:
        return True
    if request.uid != request.peer_uid:
        return False
    return expect((yield LookUp(uid=request.peer_uid)), LookedUp).name == request.user
