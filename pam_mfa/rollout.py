"""Logins of users who have no credential yet: counted, told how many are left, and turned into an enrolment."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .config import FirstEnrolment, Settings
from .conversation import Ask, AskSecret, Event, Show, Shown, Steps, Want, ask, commit, show, tell, warn
from .errors import ChangedMeanwhile, RefusedError, StoreError
from .factors.base import Ceremony, Enrolment, Factor, Made, settle
from .notices import naming
from .outcome import Proof
from .policy import TOTP, Decision
from .store.base import Advance, Announce, Enrol, Grace
from .store.rows import TICKET, Notice
from .structure import replace
from .tickets import prove_ticket

T = TypeVar("T")
LABEL, RECOVERY_LABEL = "totp 1", "recovery codes"
NEEDED = "A second factor is needed here, and you have none yet. Add this account to an authenticator app:"
CODES = "Enrolled. Recovery codes, for when the app is not at hand; each of them works once. Write them down now:"
ENTER = "Press Enter to go on: "
CAVEAT = "enrolled"  # the proof came with the credential
GROUP = 4
COLUMNS = 2


def count(uid: int, most: int, decision: Decision) -> Steps[Decision]:
    """Sub-flow: use up one login without a credential; what is left may have changed since the decision.

    Raises ChangedMeanwhile where another login took the last one.
    """
    (left,) = yield from commit(Grace(uid, most))
    if type(left) is not int or not 0 <= left < most:
        raise ChangedMeanwhile("another login took the last one")
    return replace(decision, logins=left)


def left(decision: Decision) -> str:
    """How long a user without a credential goes on getting in, in words."""
    words = [_days(decision.days)] if decision.days is not None else []
    words += [_logins(decision.logins)] if decision.logins is not None else []
    return ", ".join(words)


def _days(days: int) -> str:
    return {0: "today is the last day", 1: "1 day is left"}.get(days, f"{days} days are left")


def _logins(logins: int) -> str:
    return {0: "this is the last login", 1: "1 login is left"}.get(logins, f"{logins} logins are left")


def refer(help: str, service: str) -> Steps[None]:
    """Sub-flow: whom to call. sshd before 10.3 keeps text back until there is a prompt, and loses it with a refusal."""
    if service == "sshd":
        yield from ask(f"{help}\n{ENTER}", secret=False)
    else:
        yield from warn(help)


def enrol(ceremony: Ceremony, factors: Mapping[str, Factor], settings: Settings) -> Steps[Proof | None]:
    """Flow: enrol an authenticator app within the login, to a proof by the code that it shows; None: no right one came.

    Where the first credential costs a ticket, that comes first, and lets in whoever enrols nothing with it.
    Everything that its user has to see stands in a prompt: some hosts hold back other text until there is one.
    """
    proven = None
    if settings.first_enrolment is FirstEnrolment.TICKET:
        proven = yield from prove_ticket(ceremony, factors)
        if proven is None or proven.factor != TICKET:  # a break-glass code opens one login, and enrols nothing
            return proven
        yield from show(kind="proven", id=proven.credential, factor=proven.factor, label=proven.label)
    yield from tell(NEEDED)
    return (yield from _enrol(ceremony, factors, settings.issuer, proven))


def _enrol(
    ceremony: Ceremony, factors: Mapping[str, Factor], issuer: str | None, before: Proof | None
) -> Steps[Proof | None]:
    phone = _enrolment(ceremony, LABEL, issuer)
    try:
        made = yield from _in_prompts(factors[TOTP].enrol(phone), _secret)
    except RefusedError:
        ceremony.tries, ceremony.reason = 0, "not_enrolled"
        return before
    codes = yield from factors["recovery"].enrol(_enrolment(ceremony, RECOVERY_LABEL, issuer))
    try:
        yield from _store(ceremony, made, codes)
    except StoreError:
        if before is None:
            raise
        return before  # a full disk has not taken the ticket's worth
    # Its time step is used up only now, by the attempt that makes the proof: each code opens one login.
    step = Advance(made.credential.id, made.credential.mark)
    proof = yield from settle(ceremony, TOTP, True, (made.credential, step))
    ceremony.caveat = CAVEAT
    yield from ask(f"{CODES}\n{_columns(codes)}{ENTER}", secret=False)
    return proof


def _enrolment(ceremony: Ceremony, label: str, issuer: str | None) -> Enrolment:
    if ceremony.uid is None:
        raise ChangedMeanwhile("nobody enrols for an account that does not exist")
    return Enrolment(
        ceremony.uid,
        ceremony.account.user,
        secrets.token_hex(16),
        label,
        issuer or ceremony.place.host,
        ceremony.now,
        session=ceremony.session,
        held=ceremony.account.credentials,
        place=ceremony.place,
    )


def _store(ceremony: Ceremony, made: Made, codes: Made) -> Steps[None]:
    """Whoever was not enrolled when the login began may not have become so meanwhile (S08)."""
    phone = replace(made.credential, mark=made.credential.mark - 1)
    expected = frozenset(credential.id for credential in ceremony.account.credentials)
    enrolled = Enrol((phone, codes.credential), expected=expected, alone=True)
    about = naming(phone.factor, phone.label)
    notice = Notice(phone.uid, phone.user, "enrolled", about, by_root=False, at=phone.created)
    yield from commit(Announce(enrolled, notice))
    for each in (phone, codes.credential):
        yield from show(kind="enrolled", id=each.id, factor=each.factor, label=each.label)


def _in_prompts(flow: Steps[T], words: Callable[[Mapping[str, Any]], str]) -> Steps[T]:
    """The flow, whose records are shown in front of its next prompt."""
    lead = ""
    event: Event | None = None
    try:
        while True:
            want: Want = flow.send(event)  # type: ignore[arg-type]
            if isinstance(want, Show):
                lead, event = words(want.record), Shown()
                continue
            if isinstance(want, Ask | AskSecret):
                want, lead = replace(want, text=lead + want.text), ""
            event = yield want
    except StopIteration as end:
        found: T = end.value
        return found
    finally:
        flow.close()


def _secret(record: Mapping[str, Any]) -> str:
    text = str(record["secret"])
    grouped = " ".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))
    return f"Secret: {grouped}\nOr as a link: {record['uri']}\n"


def _columns(codes: Made) -> str:
    listed = list((codes.reveal or {})["codes"])
    lines = ["  ".join(listed[at : at + COLUMNS]) for at in range(0, len(listed), COLUMNS)]
    return "".join(f"{line}\n" for line in lines)
