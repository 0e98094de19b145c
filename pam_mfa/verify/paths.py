"""Whether a certificate is good for a login: path to an anchor, dates, usages (RFC 5280 section 6), then revocation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from ..structure import replace
from .authorities import Authorities
from .base import MAX_CHAIN, Check, Checked, Revocation, Trust
from .crls import MALFORMED, Status, extension, spki
from .names import names
from .reasons import weak_key, why

ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


class Refused(Exception):
    """An extension forbids this path; the text is the reason."""


def check(request: Check, authorities: Authorities, now: datetime) -> Checked:
    """The verdict.

    Args:
        now: with its time zone.
    """
    if not authorities.anchors:
        return Checked(Trust.UNKNOWN, "no_anchors")
    try:
        leaf = x509.load_der_x509_certificate(request.chain[0])
        return _check(leaf, [*authorities.intermediates, *_readable(request.chain[1:])], request, authorities, now)
    except MALFORMED:
        return Checked(Trust.BAD, "unreadable")


def _check(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], request: Check, authorities: Authorities, now: datetime
) -> Checked:
    rules = _Rules(leaf, request.usages)
    builder = PolicyBuilder().time(now).store(Store(list(authorities.anchors))).max_chain_depth(MAX_CHAIN)
    verifier = builder.extension_policies(
        ca_policy=rules.of_authorities, ee_policy=rules.of_leaf
    ).build_client_verifier()
    try:
        path = verifier.verify(leaf, list(others)).chain
    except VerificationError:
        return Checked(Trust.BAD, why(leaf, others, authorities.anchors, now, rules.reason))
    if weak_key(leaf):
        return Checked(Trust.BAD, "weak_key")  # the library looks at the keys of authorities only
    verdict = _unrevoked(path, request.revocation, authorities, now)
    if verdict.trust is not Trust.GOOD:
        return verdict
    try:
        known_by = names(leaf)
    except ValueError:
        return Checked(Trust.BAD, "bad_name")
    return replace(verdict, public_key=spki(leaf), anchor=authorities.anchors[path[-1]], names=known_by)


def _unrevoked(path: Sequence[x509.Certificate], rule: Revocation, authorities: Authorities, now: datetime) -> Checked:
    """The verdict of the lists on all of a path but its anchor: the worst of what they say."""
    found = [authorities.lists.status(*pair, now) for pair in pairwise(path)]
    if Status.REVOKED in found:
        return Checked(Trust.BAD, "revoked" if found[0] is Status.REVOKED else "authority_revoked")
    silent = [status for status in found if status is not Status.GOOD]
    if not silent:
        return Checked(Trust.GOOD, "")
    return Checked(Trust.GOOD if rule is Revocation.SOFT else Trust.UNKNOWN, silent[0].value)


def _readable(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """What else a card holds may help, and need not."""
    found = []
    for der in chain:
        try:
            certificate = x509.load_der_x509_certificate(der)
            list(certificate.extensions)
        except MALFORMED:
            continue
        found.append(certificate)
    return found


class _Rules:
    """What the extensions of a path's certificates must say. The library itself refuses critical ones that are unknown.

    Name constraints forbid a path: no more than some kinds of names are compared by the library, and no subjects.
    """

    def __init__(self, leaf: x509.Certificate, usages: Sequence[str]) -> None:
        self.reason = ""
        wanted = {x509.ObjectIdentifier(usage) for usage in usages}
        given = set(extension(leaf, x509.ExtendedKeyUsage) or ())
        both = wanted & given
        ee, ca = ExtensionPolicy.permit_all(), ExtensionPolicy.permit_all()
        either = Criticality.AGNOSTIC
        ee = ee.may_be_present(x509.BasicConstraints, either, self._rule("is_authority", lambda it: not it.ca))
        ee = ee.may_be_present(x509.KeyUsage, either, self._rule("key_usage", lambda it: it.digital_signature))
        ee = ee.may_be_present(x509.NameConstraints, either, self._rule("name_constraints", lambda it: False))
        ca = ca.require_present(x509.BasicConstraints, either, None)  # the library wants its cA itself
        ca = ca.may_be_present(x509.KeyUsage, either, self._rule("authority_key_usage", lambda it: it.key_cert_sign))
        ca = ca.may_be_present(x509.NameConstraints, either, self._rule("name_constraints", lambda it: False))
        if wanted:
            ee = ee.may_be_present(
                x509.ExtendedKeyUsage, either, self._rule("extended_key_usage", lambda it: both, absent=False)
            )
            ca = ca.may_be_present(
                x509.ExtendedKeyUsage,
                either,
                self._rule("authority_extended_key_usage", lambda it: not both.isdisjoint(it) or ANY in it),
            )
        self.of_leaf, self.of_authorities = ee, ca

    def _rule(
        self, reason: str, holds: Callable[[Any], object], absent: bool = True
    ) -> Callable[[Any, Any, Any], None]:
        """One rule as the library calls it. `absent`: whether it holds where there is no such extension."""

        def rule(policy: object, certificate: object, value: object) -> None:
            if not (absent if value is None else holds(value)):
                self.reason = reason
                raise Refused(reason)

        return rule
