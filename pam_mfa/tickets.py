"""Where a ticket counts: in every prompt for codes, and in one of its own behind devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from .conversation import Steps
from .factors import code
from .factors.base import Ceremony, CodeFactor, Factor
from .factors.ticket import Ticket, usable
from .outcome import Proof
from .store.rows import TICKET, Account
from .throttle import Instant


def joined(run: tuple[CodeFactor, ...], factors: Mapping[str, Factor]) -> tuple[CodeFactor, ...]:
    """The codes of one prompt, with tickets among them."""
    ticket = factors.get(TICKET)
    return run if ticket is None or ticket in run else (*run, cast(CodeFactor, ticket))


def held(account: Account, now: Instant) -> bool:
    """Whether an account has a ticket that can be used."""
    return any(usable(ticket, now) for ticket in account.of(TICKET))


def offered(ceremony: Ceremony) -> bool:
    """Whether there is a ticket that can be used in a login."""
    return ceremony.uid is not None and held(ceremony.account, ceremony.now())


def asked(ceremony: Ceremony, codes: bool) -> bool:
    """Whether the login asks for the ticket that its user has.

    Args:
        codes: the rule's methods have some that are typed.
    """
    return offered(ceremony) and (codes or not ceremony.place.uniform)


def prove_behind(ceremony: Ceremony, factors: Mapping[str, Factor]) -> Steps[Proof | None]:
    """Flow: where no code was asked for, ask whoever has a ticket for it.

    Not where nothing was proven before: the prompt would tell a stranger who has one.
    """
    if ceremony.tries <= 0 or not asked(ceremony, codes=False):
        return None
    return (yield from code.prove(ceremony, joined((), factors)))


def prove_ticket(ceremony: Ceremony, factors: Mapping[str, Factor]) -> Steps[Proof | None]:
    """Flow: a ticket and nothing else, used up for a first enrolment; None at once where there is none."""
    ticket = factors.get(TICKET)
    if not isinstance(ticket, Ticket) or not offered(ceremony):
        return None
    return (yield from code.prove(ceremony, (ticket.plain(),)))
