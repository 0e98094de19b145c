"""The flows that add credentials: who may, and what proves it.

The first credential of an account costs its password (setting `first_enrolment`), every later change costs a
proof with a credential that is already there. Root proves nothing: it could write the store's file anyway.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import first
from .assessment import Request, find_rule, place, start
from .config import FirstEnrolment, Settings
from .conversation import Checked, CheckPassword, Steps, ask, commit, expect, read, show, tell
from .errors import ChangedMeanwhile, RefusedError
from .factors import enrolled_by_users, methods
from .factors.base import MAX_TRIES, Ceremony, Enrolment, Factor, Made, Place, is_device
from .login import prove
from .notices import naming
from .origin import HERE
from .outcome import Proof
from .rules import FirstFactor, Rule, UserVerification
from .store.base import Announce, Enrol, FindAccount, Operation
from .store.rows import TICKET, Account, Notice
from .structure import replace as changed, structure
from .throttle import Instant
from .tickets import held, prove_ticket

MAX_LABEL = 64
MAX_CREDENTIALS = 20
RECOVERY_LABEL = "recovery codes"
SERVICE = "pam-mfa"  # whose rule holds for changes
NO_TICKET = (
    "the first credential needs a one-time code from your administrator, who gets one by: sudo pam-mfa issue-code"
)
ASK_TICKET = "Now the one-time code from your administrator."
NOTHING_TO_ASK = (
    "nothing was changed: it needs a proof, and an SSH key is all you have, which nobody can be asked for: "
    "an administrator can run pam-mfa enroll --user"
)
AWAY = (
    "a session from elsewhere may not use this host's security keys or smartcards (setting local_key): "
    "do it there, or with sudo"
)


@structure
class Caller:
    """Who manages which account.

    Args:
        session: id of this session, 32 hex digits.
        peer_uid: of the process that asks, as the kernel says.
        uid, user: the account that is managed: the peer's own, or any for root.
        host: this host's name as authenticator apps show it.
    """

    session: str
    peer_uid: int
    uid: int
    user: str
    host: str


@structure
class Desk:
    """What the management flows work with.

    Args:
        caller: who asks.
        settings: the settings in force.
        factors: the registry.
        now: reads both clocks.
    """

    caller: Caller
    settings: Settings
    factors: Mapping[str, Factor]
    now: Callable[[], Instant]

    def account(self) -> Steps[Account]:
        """Sub-flow: the account that is managed, as the store knows it; with the failures that count at this host."""
        account: Account = yield from read(FindAccount(self.caller.uid, self.caller.user, HERE))
        return account

    def announced(self, operation: Operation, what: str, about: str = "") -> Announce:
        """An operation with the notice of it: a word of notices.WORDS, and which credential it is about."""
        caller = self.caller
        by_root = caller.peer_uid == 0
        return Announce(operation, Notice(caller.uid, caller.user, what, about, by_root, self.now().wall))


def enroll(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: prove who you are, make a credential, and with the first one a set of recovery codes too."""
    wanted = args.get("factor")
    known = enrolled_by_users(desk.factors)
    if wanted not in known:
        raise RefusedError("invalid", f"choose a factor: {', '.join(known)}")
    factor = desk.factors[wanted]
    if is_device(factor):
        yield from at_host(desk)
    account = yield from desk.account()
    if factor.name == "recovery":
        yield from permit(desk, account)
        return (yield from renew_recovery(desk, account))
    label = _label(args.get("label"), factor.name, account)
    yield from _admit(desk, account)
    made = [(yield from factor.enrol(_enrolment(desk, account, label, args)))]
    if not account.of("recovery"):
        made.append((yield from desk.factors["recovery"].enrol(_enrolment(desk, account, RECOVERY_LABEL, {}))))
    yield from _pay(desk, account)
    yield from _store(desk, account, made)


def renew_recovery(desk: Desk, account: Account) -> Steps[None]:
    """Flow: a fresh set of recovery codes; the old set ends with the same transaction."""
    made = yield from desk.factors["recovery"].enrol(_enrolment(desk, account, RECOVERY_LABEL, {}))
    yield from _store(desk, account, [made], replace=frozenset({"recovery"}))


def at_host(desk: Desk) -> Steps[None]:
    """Sub-flow: the caller may use this host's own devices, as at a login. Raises RefusedError.

    Whoever is elsewhere could have them blink and keep them busy, and enrol one by the touch of whoever sits there.
    """
    if desk.caller.peer_uid == 0:
        return
    here = yield from _place(desk, desk.factors.values())
    if here.local is not True:
        raise RefusedError("not_allowed", AWAY)


def permit(desk: Desk, account: Account) -> Steps[None]:
    """Sub-flow: the caller may change this account. Raises RefusedError."""
    yield from _admit(desk, account)
    yield from _pay(desk, account)


def _admit(desk: Desk, account: Account) -> Steps[None]:
    """Sub-flow: the caller may change this account once `_pay` has taken what that costs. Raises RefusedError."""
    if desk.caller.peer_uid == 0:
        return
    if account.enrolled:
        return (yield from _prove_credential(desk, account))
    yield from _from_there(desk)
    if desk.settings.first_enrolment is FirstEnrolment.PASSWORD:
        yield from _prove_password(desk)
    elif desk.settings.first_enrolment is FirstEnrolment.TICKET:
        _demand_ticket(desk, account)


def _pay(desk: Desk, account: Account) -> Steps[None]:
    """Sub-flow: the ticket that a first credential costs, once nothing but storing it can fail. Raises RefusedError."""
    costs = desk.settings.first_enrolment is FirstEnrolment.TICKET
    if costs and not account.enrolled and desk.caller.peer_uid != 0:
        yield from _prove_ticket(desk, account)


def _demand_ticket(desk: Desk, account: Account) -> None:
    if not held(account, desk.now()):
        raise RefusedError("refused", f"nothing was changed: {NO_TICKET} {desk.caller.user}")


def _from_there(desk: Desk) -> Steps[None]:
    """Sub-flow: the caller's session is one in which first credentials are enrolled. Raises RefusedError."""
    wanted = desk.settings.enrol_from
    if wanted.networks or wanted.services:
        began = yield from start(_request(desk, service=""))
        if not first.from_there(wanted, began):
            raise RefusedError("not_allowed", first.ELSEWHERE)


def _prove_credential(desk: Desk, account: Account) -> Steps[None]:
    enrolled = [name for name in methods(desk.factors) if account.of(name)]
    if not enrolled and not held(account, desk.now()):
        raise RefusedError("refused", NOTHING_TO_ASK)
    ceremony = yield from _ceremony(desk, account, enrolled)
    proof = yield from prove(ceremony, enrolled, desk.factors)
    if not _is_callers(proof, desk):
        raise RefusedError("refused", "nothing was changed: a code of a credential you already have is needed")


def _prove_ticket(desk: Desk, account: Account) -> Steps[None]:
    _demand_ticket(desk, account)
    yield from tell(ASK_TICKET)
    ceremony = yield from _ceremony(desk, account, ())
    proof = yield from prove_ticket(ceremony, desk.factors)
    if proof is None or not _is_callers(proof, desk):
        raise RefusedError("refused", f"nothing was changed: {NO_TICKET} {desk.caller.user}")
    yield from show(kind="proven", id=proof.credential, factor=proof.factor, label=proof.label)


def _ceremony(desk: Desk, account: Account, names: Iterable[str]) -> Steps[Ceremony]:
    here = yield from _place(desk, [desk.factors[name] for name in names])
    return Ceremony(desk.caller.session, desk.caller.uid, account, desk.now, place=here)


def _is_callers(proof: Proof | None, desk: Desk) -> bool:
    return proof is not None and proof.session == desk.caller.session and proof.uid == desk.caller.uid


def _place(desk: Desk, factors: Iterable[Factor]) -> Steps[Place]:
    """Sub-flow: where the caller is, which is a session of its own.

    The kernel has said who that is: whatever was proven before logins, from nobody here need be hidden what they have.
    """
    request, settings = _request(desk), desk.settings
    rule, facts = yield from find_rule(request, settings)
    rule = changed(rule, first_factor=FirstFactor.STACK)
    return (yield from place(request, settings, rule, factors, facts.where))


def _request(desk: Desk, service: str = SERVICE) -> Request:
    caller = desk.caller
    return Request(caller.session, caller.peer_uid, service, caller.user, caller.uid, host=caller.host)


def _prove_password(desk: Desk) -> Steps[None]:
    prompt = f"Password of {desk.caller.user}: "
    for _ in range(MAX_TRIES):
        password = yield from ask(prompt)
        checked = expect((yield CheckPassword(desk.caller.user, password)), Checked)
        if checked.right is True:
            return
        prompt = f"That was not right. Password of {desk.caller.user}: "
    raise RefusedError("refused", "nothing was changed: the first credential needs the account's password")


def _label(wanted: object, factor: str, account: Account) -> str:
    """A label of the user's choice, or the factor's name with a number. Raises RefusedError."""
    taken = {c.label for c in account.credentials} | {RECOVERY_LABEL}
    added = 1 if account.of("recovery") else 2
    if crowded(account, added):
        raise RefusedError("invalid", "an account has at most 20 credentials: remove one first with pam-mfa remove")
    if wanted is None:
        return next(name for n in range(1, MAX_CREDENTIALS + 2) if (name := f"{factor} {n}") not in taken)
    return checked_label(wanted, taken)


def crowded(account: Account, added: int) -> bool:
    """Whether so many more are too many. A ticket, which nobody enrolled, takes nobody's place."""
    return sum(c.factor != TICKET for c in account.credentials) + added > MAX_CREDENTIALS


def checked_label(wanted: object, taken: set[str]) -> str:
    """`wanted` if it can be a label: printable, 1 to 64 characters, not taken. Raises RefusedError."""
    if not isinstance(wanted, str) or not wanted.isprintable() or not 1 <= len(wanted.strip()) <= MAX_LABEL:
        raise RefusedError("invalid", f"a name has 1 to {MAX_LABEL} printable characters")
    if wanted.strip() in taken:
        raise RefusedError("invalid", "you already have a credential of that name: choose another one")
    return wanted.strip()


def _enrolment(desk: Desk, account: Account, label: str, options: Mapping[str, Any]) -> Enrolment:
    caller = desk.caller
    return Enrolment(
        uid=caller.uid,
        user=caller.user,
        id=secrets.token_hex(16),
        label=label,
        host=desk.settings.issuer or caller.host,
        now=desk.now,
        options=options,
        session=caller.session,
        held=account.credentials,
        # What is enrolled may be used wherever its user logs in: the strictest rule counts.
        place=Place(
            caller.host,
            SERVICE,
            caller.user,
            rule=_strictest(desk.settings),
            fido2=desk.settings.fido2,
            smartcard=desk.settings.smartcard,
        ),
    )


def _strictest(settings: Settings) -> Rule:
    rules = [settings.policy, *settings.rules]
    return min(rules, key=lambda rule: list(UserVerification).index(rule.user_verification))


def _store(desk: Desk, account: Account, made: list[Made], replace: frozenset[str] = frozenset()) -> Steps[None]:
    # What the caller may do was decided on these credentials. An empty account costs less than any other: whoever
    # began when it was empty may not end there once it is not (S08).
    expected = frozenset(credential.id for credential in account.credentials)
    change = Enrol(tuple(m.credential for m in made), replace, expected, alone=True)
    first = made[0].credential
    what = "recovery" if first.factor == "recovery" else "enrolled"
    try:
        yield from commit(desk.announced(change, what, naming(first.factor, first.label)))
    except ChangedMeanwhile:
        raise RefusedError("refused", "nothing was changed: the account's credentials changed meanwhile") from None
    for credential in (m.credential for m in made):
        yield from show(kind="enrolled", id=credential.id, factor=credential.factor, label=credential.label)
    for record in (m.reveal for m in made if m.reveal):
        yield from show(**record)
