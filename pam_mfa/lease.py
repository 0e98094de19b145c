"""A proof that also holds for further logins, from the same place and for the time that their rule says (`lease`).

What a lease is bound to (R15): the boot, whose factor it was, the account that is entered, who enters it, the kind of
service, the rule with what it asks for; and where. That is the login session and the terminal of a program on this
machine, or the address and the public key of somebody at sshd. All of it is the kernel's, logind's or root's word;
a lease is neither asked for nor given where one of them is missing. Its time is the boot clock's, which nobody sets.

A lease lets by, and never grants: the verdict is EXEMPT. Neither such a login nor a recovery code gives one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .conversation import Locate, Located, Steps, commit, expect, read, warn
from .errors import LookupFailed, StoreError
from .factors.base import duration
from .origin import Facts, surely_remote
from .outcome import Verdict
from .policy import PUBLIC_KEY, Decision, Entry
from .rules import FirstFactor, Rule
from .store.base import FindLease, Lend
from .store.rows import Lease
from .structure import replace
from .throttle import Instant

if TYPE_CHECKING:
    from .assessment import Assessment, Request

SSHD = "sshd"
KINDS = {"sudo-i": "sudo", "su-l": "su"}  # all other services are a kind by themselves
AT_TERMINALS = frozenset({"sudo", "su"})
# What gives one. A recovery code is for the day on which nothing else is there, and lies about on paper.
LENDING = frozenset({"fido2", "smartcard", "totp"})


def look(request: Request, found: Assessment, now: Callable[[], Instant]) -> Steps[Assessment]:
    """Sub-flow: what becomes of an assessment by a rule with a lease. Whoever has one is let by."""
    found = replace(found, bound=(yield from _binding(request, found)))
    if not found.bound or found.uid is None:
        return found
    lease = yield from _kept(FindLease(found.uid, found.bound, now().boot_id))
    if lease is None or not holds(lease, found.rule, now()):
        return found
    return replace(found, decision=Decision(Entry.EXEMPT, "lease"), ago=now().boot - lease.began)


def holds(lease: Lease, rule: Rule, now: Instant) -> bool:
    """Whether the time of a lease is not over: what the rule said when it was given, and what it says now."""
    if rule.lease is None or lease.boot_id != now.boot_id:
        return False
    return lease.began <= now.boot < min(lease.ends, lease.began + rule.lease)


def lending(request: Request, found: Assessment, now: Callable[[], Instant], proving: Steps[Verdict]) -> Steps[Verdict]:
    """Sub-flow: prove, and have the proof hold for further logins. The verdict is that of `proving`, unchanged."""
    if text := hint(request, found.rule):
        yield from warn(text)
    verdict = yield from proving
    if verdict.grants and verdict.factor in LENDING and verdict.credential and found.bound:
        yield from _lend(request, found, now(), verdict.factor, verdict.credential)
    return verdict


def hint(request: Request, rule: Rule) -> str:
    """What a script reads that asks by sudo where nobody can be asked, "" for everybody else.

    It is told before the prompt, which ends the login where no terminal is there.
    """
    unfit = request.peer_uid != 0 or request.tty or rule.first_factor is FirstFactor.NONE
    if rule.lease is None or unfit or kind(request.service) not in AT_TERMINALS:
        return ""
    return f"No terminal to ask on: use one (ssh -t), where a proof holds for {duration(rule.lease)}, also for scripts"


def kind(service: str) -> str:
    """The kind of a PAM service: a lease holds for all of the same one."""
    return KINDS.get(service, service)


def _lend(request: Request, found: Assessment, now: Instant, factor: str, credential: str) -> Steps[None]:
    if found.uid is None or found.rule.lease is None:
        return
    place = request.rhost if request.service == SSHD else request.tty
    lease = Lease(kind(request.service), place, request.user, now.boot, now.boot + found.rule.lease, now.boot_id)
    try:
        yield from commit(Lend(found.uid, factor, credential, found.bound, lease))
    except StoreError:
        return  # it is only asked again: nobody is locked out by a full disk


def _kept(query: FindLease) -> Steps[Lease | None]:
    try:
        lease: Lease | None = yield from read(query)
    except StoreError:  # damaged, or forged: it is only asked again
        return None
    return lease


def _binding(request: Request, found: Assessment) -> Steps[tuple[str, ...]]:
    """Sub-flow: what a lease for this login is bound to, empty where it can have none."""
    rule = found.rule
    asked = found.decision.entry is Entry.PROVE and found.uid is not None and bool(found.account.credentials)
    if not asked or rule.lease is None or request.peer_uid != 0 or rule.first_factor is FirstFactor.NONE:
        return ()
    where = _at_sshd(request, rule) if request.service == SSHD else (yield from _at_terminal(request))
    if not where:
        return ()
    what = (kind(request.service), rule.name, ",".join(rule.methods), rule.user_verification.value)
    # Whose factor it is stands with it in the store.
    return (request.user, str(request.uid), request.ruser, *what, *where)


def _at_sshd(request: Request, rule: Rule) -> tuple[str, ...]:
    """The address, by the rule's own networks a literal one, and the keys; an address alone is that of many people."""
    keys = tuple(line.decode("latin-1") for line in request.authinfo if line.startswith(PUBLIC_KEY))
    return (request.rhost, *keys) if rule.match.networks and request.rhost and keys else ()


def _at_terminal(request: Request) -> Steps[tuple[str, ...]]:
    """The terminal in its session. Who comes from elsewhere through another service than sshd shows no key."""
    if not request.tty or surely_remote(request.service, request.rhost, request.tty):
        return ()
    try:
        facts = expect((yield Locate(request.uid)), Located).facts
    except LookupFailed:
        return ()
    if not isinstance(facts, Facts) or not facts.session or not facts.leader:
        return ()
    return (request.tty, facts.session, facts.leader)
