"""The registry: every factor by its name. A new factor is one file beside this one and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .base import Factor
from .fido2 import Fido2
from .piv import Smartcard
from .recovery import Recovery
from .ssh_key import SshKey
from .ticket import Ticket
from .totp import Totp

ISSUED = frozenset({Ticket.name})  # given out by root: nobody enrols them
UNASKED = frozenset({SshKey.name})  # what proves them has happened before


def registry(mac: Callable[[bytes], bytes]) -> dict[str, Factor]:
    """All factors, in the order in which they are offered to somebody who enrols.

    Args:
        mac: keyed hash: for codes that are stored hashed, and for what is asked of those who have no key.
    """
    factors: tuple[Factor, ...] = (Fido2(mac), Smartcard(), Totp(), Recovery(mac), SshKey(), Ticket(mac))
    return {factor.name: factor for factor in factors}


def methods(factors: Iterable[str]) -> tuple[str, ...]:
    """The names that rules may list, and users be asked for."""
    return tuple(name for name in factors if name not in ISSUED | UNASKED)


def enrolled_by_users(factors: Iterable[str]) -> tuple[str, ...]:
    """The names of what users enrol."""
    return tuple(name for name in factors if name not in ISSUED)


def load() -> None:
    """Import what factors load at their first use: for a process that serves many logins, before the first one."""
    from . import assertion, card_ceremonies, ceremonies, ssh_public  # noqa: F401

    assertion.load()
