"""The flow of one login: store, policy, factors, verdict.

Whoever cannot be let in - unknown, not enrolled, waiting, disabled - is asked like everybody else and gives
three answers before the refusal: until the first factor has passed nobody learns which of these it was.
The audit record says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import cast

from . import break_glass
from .config import Settings
from .conversation import About, Locate, Located, LookedUp, LookUp, Shown, Steps, expect, read, tell
from .errors import ConfigError, LookupFailed, PamMfaError, StoreError
from .factors import code
from .factors.base import Ceremony, CodeFactor, DeviceFactor, Factor, Place
from .origin import UNKNOWN, Facts as Whereabouts, Origin, origin, surely_remote
from .outcome import Outcome, Proof, Verdict, grant
from .policy import Decision, Entry, Facts, Missing, choose, decide, may_use
from .rules import FirstFactor, LocalKey, Rule, Subject
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
        authinfo: what sshd says that it has proven (SSH_AUTH_INFO_0), a line each.
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
    authinfo: tuple[bytes, ...] = ()


@structure
class Assessment:
    """What the rules say of one login.

    Args:
        rule: the one that holds.
        decision: its word.
        uid, user: whose factor is asked for; no uid where that account, or the one that is entered, does not exist.
        account: what the store knows of them.
        facts: what the rules looked at, as far as they wanted to know.
    """

    rule: Rule
    decision: Decision
    uid: int | None
    user: str
    account: Account
    facts: Facts


def login(
    request: Request, settings: Settings | None, factors: Mapping[str, Factor], now: Callable[[], Instant]
) -> Steps[Verdict]:
    """Flow of one login, without settings by break-glass alone. Raises PamMfaError where no verdict can be reached."""
    if not (yield from _peer_may_ask(request)):
        return Verdict(Outcome.DENIED, "peer_denied")
    if settings is None:
        return (yield from _undecided(request, now, ConfigError(["no usable settings"])))
    try:
        found = yield from assess(request, settings, now)
    except (StoreError, LookupFailed) as problem:
        return (yield from _undecided(request, now, problem))
    if found.user != request.user:
        expect((yield About(found.uid, found.user)), Shown)
    if found.decision.entry is Entry.EXEMPT:
        return (yield from _let_by(found))
    if found.decision.entry is Entry.REFUSE:
        return Verdict(Outcome.DENIED, found.decision.reason)
    ceremony = yield from begin(request, settings, factors, now, found)
    ceremony.otherwise = break_glass.accept
    proof = yield from break_glass.backed(ceremony, prove(ceremony, found.rule.methods, factors))
    if proof is None or ceremony.uid is None:
        return _refusal(ceremony)
    return grant(proof, request.session, ceremony.uid, ceremony.caveat)


def _undecided(request: Request, now: Callable[[], Instant], problem: PamMfaError) -> Steps[Verdict]:
    """Flow: nobody can say what has to be proven. Break-glass counts all the same, else it is as if there were none."""
    place = Place(request.host, request.service, request.user, request.rhost)
    account = Account(DECOY_UID if request.uid is None else request.uid, request.user)
    ceremony = Ceremony(request.session, request.uid, account, now, place=place)
    proof = yield from break_glass.instead(ceremony, problem)
    if proof is None or ceremony.uid is None:
        return _refusal(ceremony)
    return grant(proof, request.session, ceremony.uid)


def _let_by(found: Assessment) -> Steps[Verdict]:
    if text := notice(found):
        yield from tell(text)
    return Verdict(Outcome.EXEMPT, found.decision.reason)


def _refusal(ceremony: Ceremony) -> Verdict:
    if not ceremony.tries:
        return Verdict(Outcome.TRIES_SPENT, ceremony.reason)
    if ceremony.undecided:
        return Verdict(Outcome.UNAVAILABLE, ceremony.undecided)
    return Verdict(Outcome.DENIED, ceremony.reason)


def assess(
    request: Request, settings: Settings, now: Callable[[], Instant], where: Origin | None = None
) -> Steps[Assessment]:
    """Sub-flow: what the rules say. It asks and changes nothing, so `pam-mfa explain` runs it too.

    Args:
        where: local or remote, where that is not to be found out.
    """
    rule, facts = yield from find_rule(request, settings, where)
    uid, user = yield from _subject(request, rule)
    account: Account = yield from read(FindAccount(DECOY_UID if uid is None else uid, user))
    known = request.uid is not None and uid is not None
    authinfo = request.authinfo if request.peer_uid == 0 else ()
    decision = decide(rule, known, bool(account.credentials), authinfo, now())
    return Assessment(rule, decision, uid if known else None, user, account, facts)


def notice(found: Assessment) -> str:
    """What somebody is told who gets in for a while without a credential; nothing where nothing was proven before."""
    days = found.decision.days
    if days is None or found.rule.first_factor is FirstFactor.NONE:
        return ""
    left = {0: "today is the last day", 1: "1 day is left"}.get(days, f"{days} days are left")
    return f"Enrol a second factor with: pam-mfa enroll ({left}; from then on it is needed here)"


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


def find_rule(request: Request, settings: Settings, where: Origin | None = None) -> Steps[tuple[Rule, Facts]]:
    """Sub-flow: the rule for a login, and what had to be known for that."""
    facts = Facts(request.service, request.user, request.rhost, believed=request.peer_uid == 0, where=where)
    while isinstance(found := choose(settings.policy, settings.rules, facts), Missing):
        if found is Missing.GROUPS:
            facts = replace(facts, groups=(yield from _groups(request)))
        else:
            facts = replace(facts, where=(yield from _origin(request)))
    return found, facts


def place(
    request: Request, settings: Settings, rule: Rule, held: Iterable[Factor], where: Origin | None = None
) -> Steps[Place]:
    """Sub-flow: where a login, or the proof for a change, takes place.

    Args:
        held: the factors of which the account has credentials. Only whoever has a device pays for asking logind.
        where: local or remote, if that was found out already.
    """
    if where is None:
        asked = rule.local_key is LocalKey.AUTO and any(map(is_device, held))
        where = (yield from _origin(request)) if asked else _origin_by(request, UNKNOWN)
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


def _origin(request: Request) -> Steps[Origin]:
    """Sub-flow: local or remote, with what logind knows where that can change anything."""
    remote = surely_remote(request.service, request.rhost, request.tty)
    return _origin_by(request, UNKNOWN if remote else (yield from _whereabouts(request.uid)))


def _origin_by(request: Request, facts: Whereabouts) -> Origin:
    # Somebody's session asks: its own, or the one that sudo and su name.
    owner = request.uid if request.ruser else None
    return origin(request.service, request.rhost, request.tty, request.peer_uid, owner, facts)


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


def _subject(request: Request, rule: Rule) -> Steps[tuple[int | None, str]]:
    """Sub-flow: whose factor is asked for, by uid and name.

    Only root's word on who called counts, and only of somebody on this machine: elsewhere rlogin takes it from afar.
    """
    called = request.peer_uid == 0 and not request.rhost and request.ruser not in ("", "root", request.user)
    if rule.subject is Subject.USER or not called:
        return request.uid, request.user
    caller = expect((yield LookUp(user=request.ruser)), LookedUp)
    return (request.uid, request.user) if caller.uid == 0 else (caller.uid, request.ruser)


def _groups(request: Request) -> Steps[frozenset[str]]:
    """Sub-flow: the groups of the account; asked also where there is none: that takes as long."""
    found = expect((yield LookUp(user=request.user)), LookedUp)
    if found.uid != request.uid:  # a host in a container of its own asks: these are not its user's groups
        raise LookupFailed("the name is another account's in the user database here")
    return found.groups
