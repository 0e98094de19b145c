"""Certificate revocation lists (RFC 5280 sections 5 and 6.3): whether one of them tells that a certificate was revoked.

Complete lists, signed by the certificate's own issuer, count. Deltas, indirect lists, lists of some reasons only and
lists of another distribution point do not: they are as good as absent, so nobody takes their silence for an answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
MALFORMED = (ValueError, TypeError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType, x509.DuplicateExtension)
"""What cryptography raises for bytes that look like a certificate or a list, and are none."""

E = TypeVar("E", bound=x509.ExtensionType)


class Status(Enum):
    """What the lists say of a certificate; the word is the reason."""

    GOOD = ""
    REVOKED = "revoked"
    STALE = "crl_stale"
    MISSING = "crl_missing"


def extension(of: x509.Certificate | x509.CertificateRevocationList, kind: type[E]) -> E | None:
    """One extension, None where there is none. Raises those of MALFORMED."""
    try:
        return of.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def spki(certificate: x509.Certificate) -> bytes:
    """Its subject public key info, DER. Raises those of MALFORMED."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class Lists:
    """All the lists that there are."""

    def __init__(self, lists: Iterable[x509.CertificateRevocationList]) -> None:
        self._by_issuer: defaultdict[x509.Name, list[x509.CertificateRevocationList]] = defaultdict(list)
        self._signed: dict[tuple[int, bytes], bool] = {}  # by the list's identity, and the key
        for each in lists:
            self._by_issuer[each.issuer].append(each)

    def prepare(self, issuers: Iterable[x509.Certificate]) -> None:
        """Check signatures now that requests would have to wait for."""
        for issuer in issuers:
            self.signed_by(issuer)

    def signed_by(self, issuer: x509.Certificate) -> list[x509.CertificateRevocationList]:
        """Those that an authority has signed, and may sign."""
        found = self._by_issuer.get(issuer.subject, [])
        if not found or not _may_sign(issuer):
            return []
        key = spki(issuer)
        for each in found:
            if (id(each), key) not in self._signed:
                self._signed[id(each), key] = _is_signed(each, issuer)
        return [each for each in found if self._signed[id(each), key]]

    def status(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Status:
        """Of one certificate.

        Args:
            issuer: who signed it, on a path that was found good.
            now: with its time zone.
        """
        found = [each for each in self.signed_by(issuer) if _covers(each, certificate)]
        if any(each.get_revoked_certificate_by_serial_number(certificate.serial_number) for each in found):
            return Status.REVOKED  # also by a list that is out of date: what it says stays true
        if any(_fresh(each, now) for each in found):
            return Status.GOOD
        return Status.STALE if found else Status.MISSING


def _fresh(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    return crl.next_update_utc is not None and crl.last_update_utc <= now <= crl.next_update_utc


def _may_sign(issuer: x509.Certificate) -> bool:
    usage = extension(issuer, x509.KeyUsage)
    return usage is None or usage.crl_sign


def _is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        key: Any = issuer.public_key()
        return isinstance(crl.signature_hash_algorithm, HASHES) and crl.is_signature_valid(key)
    except MALFORMED:
        return False


def _covers(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Whether a list would name this certificate if it was revoked (RFC 5280 section 6.3.3 b)."""
    known = (x509.IssuingDistributionPoint, x509.CRLNumber, x509.AuthorityKeyIdentifier)
    if any(each.critical and not isinstance(each.value, known) for each in crl.extensions):
        return False  # a delta among others
    if extension(crl, x509.DeltaCRLIndicator) is not None:
        return False
    point = extension(crl, x509.IssuingDistributionPoint)
    return point is None or _within(point, certificate)


def _within(point: x509.IssuingDistributionPoint, certificate: x509.Certificate) -> bool:
    constraints = extension(certificate, x509.BasicConstraints)
    authority = constraints is not None and constraints.ca
    if point.indirect_crl or point.only_some_reasons or point.only_contains_attribute_certs or point.relative_name:
        return False
    if point.only_contains_user_certs if authority else point.only_contains_ca_certs:
        return False
    return point.full_name is None or not set(point.full_name).isdisjoint(_points(certificate))


def _points(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    """Where its issuer says that lists for it are found."""
    for point in extension(certificate, x509.CRLDistributionPoints) or ():
        yield from point.full_name or ()
