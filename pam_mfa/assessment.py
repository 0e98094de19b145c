"""Who wants in, and what the rules say of it: the facts that they turn on, found out as far as they do.

Nothing is counted here and nothing changes, so `pam-mfa explain` and whoever manages credentials run it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from . import tickets
from .config import Settings
from .conversation import Locate, Located, LookedUp, LookUp, Steps, expect, read
from .errors import LookupFailed
from .factors.base import Factor, Place, is_device
from .origin import UNKNOWN, Facts as Whereabouts, Origin, origin, source, surely_remote
from .policy import TOTP, Decision, Entry, Facts, Missing, choose, decide, may_use
from .rules import LocalKey, Rule, Subject
from .store.base import FindAccount
from .store.rows import DECOY_UID, Account
from .structure import replace, structure
from .throttle import Instant, Standing, Tally, standing

if TYPE_CHECKING:
    from .first import Start


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
        bound: what a lease for this login is bound to; empty where it can have none (lease.py).
        ago: for whom a lease lets by, how many seconds ago they proved who they are.
    """

    rule: Rule
    decision: Decision
    uid: int | None
    user: str
    account: Account
    facts: Facts
    bound: tuple[str, ...] = ()
    ago: int | None = None


def assess(
    request: Request, settings: Settings, now: Callable[[], Instant], where: Origin | None = None
) -> Steps[Assessment]:
    """Sub-flow: what the rules say. It asks and changes nothing, so `pam-mfa explain` runs it too.

    Args:
        where: local or remote, where that is not to be found out.
    """
    rule, facts = yield from find_rule(request, settings, where)
    uid, user = yield from _subject(request, rule)
    whence = source(request.service, request.rhost, request.tty, request.ruser, user, request.peer_uid)
    account: Account = yield from read(FindAccount(DECOY_UID if uid is None else uid, user, whence))
    known = request.uid is not None and uid is not None
    authinfo = request.authinfo if request.peer_uid == 0 else ()
    decision = decide(rule, known, account.enrolled, authinfo, now(), account.graced)
    if decision.entry is Entry.ENROL and not (
        yield from _may_enrol(request, settings, rule, account, facts.where, now())
    ):
        decision = Decision(Entry.PROVE, "unenrolled")
    found = Assessment(rule, decision, uid if known else None, user, account, facts)
    if rule.lease is None:
        return found
    from .lease import look  # few rules have one

    return (yield from look(request, found, now))


def _may_enrol(
    request: Request, settings: Settings, rule: Rule, account: Account, where: Origin | None, now: Instant
) -> Steps[bool]:
    """Sub-flow: whether that user, at a host that root runs, may enrol their first credential in the login."""
    from . import first

    permitted = first.may_enrol_first(settings.first_enrolment, rule.first_factor, tickets.held(account, now))
    waits = standing(account.tallies.get(TOTP, Tally()), now) is not Standing.OPEN  # of an app that it had
    if request.peer_uid != 0 or account.user != request.user or waits or not permitted:
        return False
    if not (settings.enrol_from.networks or settings.enrol_from.services):
        return True
    return first.from_there(settings.enrol_from, (yield from start(request, where)))


def find_rule(request: Request, settings: Settings, where: Origin | None = None) -> Steps[tuple[Rule, Facts]]:
    """Sub-flow: the rule for a login, and what had to be known for that."""
    facts = Facts(request.service, request.user, request.rhost, believed=request.peer_uid == 0, where=where)
    while isinstance(found := choose(settings.policy, settings.rules, facts), Missing):
        if found is Missing.GROUPS:
            facts = replace(facts, groups=(yield from _groups(request)))
        else:
            facts = replace(facts, where=(yield from _origin(request)))
    return found, facts


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


def start(request: Request, where: Origin | None = None) -> Steps[Start]:
    """Sub-flow: how the session began in which somebody asks. A host that begins one says it itself.

    Args:
        where: local or remote, if that was found out already.
    """
    from .first import Start

    if surely_remote(request.service, request.rhost, request.tty):
        return Start(request.service, request.rhost, Origin.REMOTE)
    known = yield from _whereabouts(request.uid)
    return Start(known.service or request.service, known.host, where or _origin_by(request, known))


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
