"""Authorities and revocation lists: does the path checker find what it needs?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509

from ...config import Revocation, Smartcard, Trust, load
from ...errors import ConfigError
from ...factors import methods, registry
from ...verify.authorities import Authorities, Directory
from .. import paths
from ..paths import Paths
from .files import REINSTALL, uid_of
from .finding import Finding, bad, ok, warn

ACCOUNT = "pam-mfa-verify"
SUBJECT = "certificates"
SOON = timedelta(days=30)


def check(where: Paths) -> Iterator[Finding]:
    """The account, the files, and under trust `chain` whether they are enough."""
    if (uid := uid_of(where, ACCOUNT)) is None:
        yield warn(SUBJECT, f"there is no system user {ACCOUNT}: nobody checks paths", REINSTALL)
    elif uid in (0, uid_of(where, "pam-mfa"), uid_of(where, "pam-mfa-device")):
        yield bad(SUBJECT, f"{ACCOUNT} shares its uid {uid} with another service", "give it a uid of its own")
    found = Directory(where.at(paths.AUTHORITIES)).current()
    for problem in found.problems:
        yield warn(SUBJECT, f"left out: {problem}", "correct it, or remove it")
    settings = smartcards(where)
    if settings is None:
        return  # the service's check says why
    if settings.trust is Trust.PINNED:
        yield ok(SUBJECT, "no authority is asked: smartcards are known by their keys")
        return
    now = datetime.now(UTC)
    yield from _authorities(found, now)
    yield from _named(found, settings)
    yield from _lists(found, settings, now)


def smartcards(where: Paths) -> Smartcard | None:
    """What the settings say of smartcards, None where they are no good."""
    try:
        return load(str(where.at(paths.SETTINGS)), methods(registry(lambda data: data)))[1].smartcard
    except ConfigError:
        return None


def _authorities(found: Authorities, now: datetime) -> Iterator[Finding]:
    if not found.anchors:
        yield bad(
            SUBJECT,
            f"there is no anchor in {paths.AUTHORITIES}/anchors: no smartcard is accepted",
            'put the certificate of your authority there, or set trust = "pinned"',
        )
    for certificate in (*found.anchors, *found.intermediates):
        end, name = certificate.not_valid_after_utc, _name(certificate.subject)
        if end < now:
            yield bad(SUBJECT, f"{name} has expired on {end:%Y-%m-%d}", "put its new certificate beside it")
        elif end < now + SOON:
            yield warn(SUBJECT, f"{name} expires on {end:%Y-%m-%d}", "put its new certificate beside it")
        else:
            yield ok(SUBJECT, f"{name}, until {end:%Y-%m-%d}")


def _named(found: Authorities, settings: Smartcard) -> Iterator[Finding]:
    """Anchors that the settings speak of."""
    for name in sorted((settings.upn_anchors | settings.mail_anchors) - set(found.anchors.values())):
        yield warn(SUBJECT, f"the settings name the anchor {name}, which is not there", "correct the file's name")


def _lists(found: Authorities, settings: Smartcard, now: datetime) -> Iterator[Finding]:
    """Of whom there is none, and which is out of date. Under `soft` logins go on."""
    hurts = bad if settings.revocation is Revocation.STRICT else warn
    fix = f"fetch it regularly into {paths.AUTHORITIES}/crls"
    known: set[int] = set()
    for certificate in (*found.anchors, *found.intermediates):
        lists = found.lists.signed_by(certificate)
        ends = [each.next_update_utc for each in lists if each.next_update_utc]
        name = _name(certificate.subject)
        if not ends:
            yield hurts(SUBJECT, f"there is no revocation list of {name}", fix)
        elif max(ends) < now:
            yield hurts(SUBJECT, f"the revocation list of {name} is out of date since {max(ends):%Y-%m-%d %H:%M}Z", fix)
        else:
            yield ok(SUBJECT, f"revocation list of {name}, until {max(ends):%Y-%m-%d %H:%M}Z")
        known.update(map(id, lists))
    for path, crls in found.crls.items():
        if crls and known.isdisjoint(map(id, crls)):
            yield warn(SUBJECT, f"{os.path.basename(path)} is the list of no authority here", "remove it")


def _name(name: x509.Name) -> str:
    return ascii(name.rfc4514_string())[1:-1]
