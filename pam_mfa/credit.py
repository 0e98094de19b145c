"""Credit for what sshd proved: a login by a security key that is enrolled needs no second proof.

It counts where the rule says so and the administrator that sshd demands the touch; all else goes on as ever: nothing
that is looked at here refuses anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import Settings
from .conversation import Steps
from .factors import ssh_key
from .factors.base import Ceremony, comparable, settle
from .outcome import Proof
from .rules import UserVerification
from .store.base import Noted
from .store.rows import Credential

if TYPE_CHECKING:
    from .assessment import Request

SSHD = "sshd"
# How the method stands, for `pam-mfa explain`.
ABSENT, UNBELIEVED, UNSEEN, CREDITED = "not enrolled", "sshd not trusted", "not seen", "credited"


def before(
    request: Request, settings: Settings, ceremony: Ceremony, proving: Steps[Proof | None]
) -> Steps[Proof | None]:
    """Flow: the proof that sshd had, noted; where there is none that counts, what `proving` comes to."""
    credential = credited(request, settings, ceremony)
    if credential is not None:
        proof = yield from settle(ceremony, ssh_key.NAME, True, (credential, Noted(credential.id)))
        if proof is not None:
            return proof
    return (yield from proving)


def credited(request: Request, settings: Settings, ceremony: Ceremony) -> Credential | None:
    """The enrolled key that sshd has seen, where that counts. Changes nothing."""
    rule = ceremony.place.rule
    if not (rule.credit_ssh_keys and settings.sshd_touch_required):
        return None
    # It was shown for the account that is entered, and only root's word on that is worth anything.
    if request.service != SSHD or request.peer_uid != 0 or ceremony.uid is None or ceremony.uid != request.uid:
        return None
    verified = rule.user_verification is UserVerification.REQUIRED
    found = ssh_key.seen(ceremony.account.of(ssh_key.NAME), request.authinfo, verified)
    return found if found is not None and comparable(ceremony, ssh_key.NAME) else None


def stands(request: Request, settings: Settings, ceremony: Ceremony) -> dict[str, str]:
    """How the method stands, in a word; nothing where the rule gives no credit."""
    if not ceremony.place.rule.credit_ssh_keys or request.service != SSHD:
        return {}
    if credited(request, settings, ceremony) is not None:
        state = CREDITED
    elif ceremony.uid is None or not ceremony.account.of(ssh_key.NAME):
        state = ABSENT
    else:
        state = UNSEEN if settings.sshd_touch_required else UNBELIEVED
    return {ssh_key.NAME: state}
