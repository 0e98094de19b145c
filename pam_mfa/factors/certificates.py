"""Which certificates are believed, and whose they are (P05)."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import Revocation, Smartcard, Trust
from ..conversation import CheckPath, PathChecked, Steps, expect
from ..devices.base import Certified, Slot
from ..errors import LookupFailed
from ..store.rows import Credential
from ..structure import structure
from ..verify import base as path
from .assertion import demand
from .base import other_owner
from .piv import KEY, MAIL, UPN, Material, credential_name, pinned

ONCE = (UPN, MAIL)  # kinds of which a certificate that counts has one name at most
AMBIGUOUS = "ambiguous"


class Undecided(Exception):
    """Nobody knows whether a certificate is good, and that matters.

    Args:
        reason: one machine-readable word, for the log only.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@structure
class Believed:
    """A certificate that counts just now.

    Args:
        certified: as the card's helper has read it.
        public_key: the key that must have signed.
        names: (kind, value) of everything that it may be recognised by.
        caveat: what the settings let pass, in one word; "" where nothing was.
    """

    certified: Certified
    public_key: bytes
    names: tuple[tuple[int, bytes], ...]
    caveat: str = ""

    @property
    def ids(self) -> dict[str, tuple[int, bytes]]:
        """The names by our id of a credential of that name."""
        return {credential_name(*name): name for name in self.names}


def slots(rules: Smartcard) -> tuple[Slot, ...]:
    """The keys of a card that count, the preferred one first."""
    return tuple(Slot(int(name, 16)) for name in rules.slots)


def counting(held: Sequence[Credential], rules: Smartcard) -> list[tuple[Credential, Material]]:
    """Those of an account's credentials that can count by the rules."""
    pairs = [(credential, Material.unpack(credential.material)) for credential in held]
    return [pair for pair in pairs if rules.trust is Trust.CHAIN or pair[1].kind == KEY]


def pins(certified: Certified, held: Sequence[tuple[Credential, Material]]) -> bool:
    """Whether the key of a certificate is one of the account's, whatever else is to be said of the certificate."""
    key = pinned(certified.public_key)
    return any(material.kind == KEY and material.value == key for _, material in held)


def may_fit(certified: Certified, held: Sequence[tuple[Credential, Material]]) -> bool:
    """Whether a certificate can be one of the account's. Of strangers' cards no path is checked, if that can be."""
    return pins(certified, held) or any(material.kind != KEY for _, material in held)


def believe(certified: Certified, rules: Smartcard) -> Steps[Believed]:
    """Sub-flow: what a certificate counts for by the rules.

    Raises:
        Unproven: its path is no good; the reason is the path checker's.
        Undecided: that could not be found out.
    """
    key = (KEY, pinned(certified.public_key))
    if rules.trust is Trust.PINNED:
        return Believed(certified, certified.public_key, (key,))
    checked = yield from _check(certified, rules)
    demand(checked.public_key == certified.public_key, "key_mismatch")
    names = {(int(name.kind), name.value) for name in checked.names if _counts(name, checked.anchor, rules)}
    demand(all(sum(kind == once for kind, _ in names) <= 1 for once in ONCE), AMBIGUOUS)
    return Believed(certified, checked.public_key, tuple(sorted({key, *names})), checked.reason)


def _check(certified: Certified, rules: Smartcard) -> Steps[path.Checked]:
    revocation = path.Revocation.SOFT if rules.revocation is Revocation.SOFT else path.Revocation.STRICT
    check = path.Check((certified.certificate,), revocation, rules.usages)
    try:
        checked = expect((yield CheckPath(check)), PathChecked).checked
    except LookupFailed:
        raise Undecided("no_path_checker") from None
    if not isinstance(checked, path.Checked) or checked.trust is path.Trust.UNKNOWN:
        raise Undecided(checked.reason if isinstance(checked, path.Checked) else "no_path_checker")
    demand(checked.trust is path.Trust.GOOD, checked.reason or "bad_path")
    return checked


def _counts(name: path.Name, anchor: str, rules: Smartcard) -> bool:
    """A name that anybody can be given counts only where the settings trust the authority with it."""
    if name.kind is path.Kind.UPN:
        return anchor in rules.upn_anchors
    if name.kind is path.Kind.MAIL:
        return anchor in rules.mail_anchors
    return True


def owned(believed: Believed, held: Sequence[tuple[Credential, Material]], uid: int) -> Steps[Credential | None]:
    """Sub-flow: the one credential of the account that a certificate fits, None where it fits none.

    Raises Unproven where it fits two, or somebody else's too.
    """
    fitting = [credential for credential, material in held if (material.kind, material.value) in believed.names]
    if not fitting:
        return None
    demand(len(fitting) == 1, AMBIGUOUS)
    demand((yield from other_owner(uid, believed.ids)) is None, AMBIGUOUS)
    return fitting[0]
