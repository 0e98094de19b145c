"""The first credential of an account: who may enrol it, and from where (settings `first_enrolment`, `enrol_from`).

Whoever enrols first is the account's owner from then on. So what is not known of a session does not count for it.
"""

from __future__ import annotations

from .config import EnrolFrom, FirstEnrolment
from .origin import Origin
from .policy import in_networks, is_service
from .rules import FirstFactor
from .structure import structure

ELSEWHERE = (
    "the first credential cannot be enrolled from here (setting enrol_from): "
    "do it where your administrator allows it, or ask them to run sudo pam-mfa enroll"
)


@structure
class Start:
    """How a session began.

    Args:
        service: the PAM service that began it, "" where that is not known.
        host: the address that it comes from, "" where that is not known.
        where: local or remote.
    """

    service: str
    host: str
    where: Origin


def from_there(wanted: EnrolFrom, start: Start) -> bool:
    """Whether first credentials are enrolled in such a session. Who sits at this host is in all networks."""
    if wanted.services and not is_service(wanted.services, start.service):
        return False
    return not wanted.networks or start.where is Origin.LOCAL or in_networks(wanted.networks, start.host)


def may_enrol_first(costs: FirstEnrolment, proven: FirstFactor, ticket: bool) -> bool:
    """Whether what was proven before a login, and can be proven in it, is what the first credential costs.

    A public key is not the account's password.

    Args:
        ticket: there is one that can be used.
    """
    if costs is FirstEnrolment.SELF or (costs is FirstEnrolment.TICKET and ticket):
        return proven in (FirstFactor.STACK, FirstFactor.PUBLICKEY)
    return costs is FirstEnrolment.PASSWORD and proven is FirstFactor.STACK
