"""The flow of one login: store, policy, factors, verdict.

Whoever cannot be let in - unknown, not enrolled, waiting, disabled - is asked like everybody else and gives
three answers before the refusal: until the first factor has passed nobody learns which of these it was.
The audit record says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import cast

from .config import LocalKey, Rule, Settings
from .conversation import Locate, Located, LookedUp, LookUp, Steps, expect, read
from .errors import LookupFailed
from .factors import code
from .factors.base import Ceremony, CodeFactor, DeviceFactor, Factor, Place
from .origin import UNKNOWN, Facts as Whereabouts, origin, surely_remote
from .outcome import Outcome, Proof, Verdict, grant
from .policy import Entry, Facts, decide, may_use, wants_groups
from .store.base import DECOY_UID, Account, FindAccount
from .structure import replace, structure
from .throttle import Instant


@structure
class Request:
    """Who wants in, and where.

    Args:
        session: id of this session, 32 hex digits.
        peer_uid: of the process that asks, as the kernel says.
        service, user, uid, ruser, rhost, tty: as in wire.Hello.
        host: this host's name.
    """

    session: str
    peer_uid: int
    service: str
    user: str
    uid: int | None
    ruser: str = ""
    rhost: str = ""
    tty: str = ""
    host: str = ""


def login(
    request: Request, settings: Settings, factors: Mapping[str, Factor], now: Callable[[], Instant]
) -> Steps[Verdict]:
    """Flow of one login. Returns its verdict; raises PamMfaError where none can be reached."""
    if not (yield from _peer_may_ask(request)):
        return Verdict(Outcome.DENIED, "peer_denied")
    rule = settings.rule(request.service)
    account = yield from _find(request)
    groups = (yield from _groups(request.user)) if wants_groups(rule, request.uid is not None) else frozenset()
    decision = decide(rule, Facts(request.uid is not None, bool(account.credentials), groups))
    if decision.entry is Entry.EXEMPT:
        return Verdict(Outcome.EXEMPT, decision.reason)
    here = yield from place(request, settings, rule, [factors[name] for name in rule.methods if account.of(name)])
    ceremony = Ceremony(request.session, request.uid, account, now, place=here)
    proof = yield from prove(ceremony, rule.methods, factors)
    if proof is None or request.uid is None:
        return _refusal(ceremony)
    verdict = grant(proof, request.session, request.uid)
    return replace(verdict, reason=f"{verdict.reason}_{ceremony.caveat}") if ceremony.caveat else verdict


def _refusal(ceremony: Ceremony) -> Verdict:
    if not ceremony.tries:
        return Verdict(Outcome.TRIES_SPENT, ceremony.reason)
    if ceremony.undecided:
        return Verdict(Outcome.UNAVAILABLE, ceremony.undecided)
    return Verdict(Outcome.DENIED, ceremony.reason)


def place(request: Request, settings: Settings, rule: Rule, held: Iterable[Factor]) -> Steps[Place]:
    """Sub-flow: where a login, or the proof for a change, takes place.

    Args:
        held: the factors of which the account has credentials. Only whoever has a device pays for asking logind.
    """
    # Somebody's session asks: its own, or the one that sudo and su name.
    owner = request.uid if request.ruser else None
    items = (request.service, request.rhost, request.tty)
    facts = UNKNOWN
    if rule.local_key is LocalKey.AUTO and any(map(is_device, held)) and not surely_remote(*items):
        facts = yield from _whereabouts(request.uid)
    where = origin(*items, request.peer_uid, owner, facts)
    return Place(
        host=request.host,
        service=request.service,
        user=request.user,
        rhost=request.rhost,
        local=may_use(rule.local_key, where),
        rule=rule,
        fido2=settings.fido2,
        smartcard=settings.smartcard,
    )


def _whereabouts(uid: int | None) -> Steps[Whereabouts]:
    try:
        facts = expect((yield Locate(uid)), Located).facts
    except LookupFailed:  # it took too long: the other rules decide
        return UNKNOWN
    return facts if isinstance(facts, Whereabouts) else UNKNOWN


def prove(ceremony: Ceremony, methods: Sequence[str], factors: Mapping[str, Factor]) -> Steps[Proof | None]:
    """Flow: offer the methods in their order until one is proven. Codes that follow each other share a prompt."""
    for device, group in groupby((factors[name] for name in methods), key=is_device):
        run = tuple(group)
        if ceremony.tries <= 0:
            return None
        proof = yield from (_devices(ceremony, run) if device else code.prove(ceremony, _codes(run)))
        if proof is not None:
            return proof
    return None


def _devices(ceremony: Ceremony, factors: Iterable[Factor]) -> Steps[Proof | None]:
    for factor in cast("Iterable[DeviceFactor]", factors):
        proof = yield from factor.prove(ceremony)
        if proof is not None:
            return proof
    return None


def _codes(factors: Iterable[Factor]) -> tuple[CodeFactor, ...]:
    return tuple(cast("Iterable[CodeFactor]", factors))


def is_device(factor: Factor) -> bool:
    """Whether a factor is a DeviceFactor."""
    return hasattr(factor, "prove")


def _peer_may_ask(request: Request) -> Steps[bool]:
    """uid 0 may ask for anyone; everybody else for the account of that uid alone, by the name the system knows."""
    if request.peer_uid == 0:
        return True
    if request.uid != request.peer_uid:
        return False
    return expect((yield LookUp(uid=request.peer_uid)), LookedUp).name == request.user


def _find(request: Request) -> Steps[Account]:
    # An unknown user costs the same look-up as a known one.
    uid = DECOY_UID if request.uid is None else request.uid
    account: Account = yield from read(FindAccount(uid, request.user))
    return account


def _groups(user: str) -> Steps[frozenset[str]]:
    return expect((yield LookUp(user=user)), LookedUp).groups
