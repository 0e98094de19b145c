"""The settings file: TOML in, frozen structures out, every problem at once by key path.

Nothing is guessed: an unknown key, a doubled name or a value out of range refuses the whole file, because a
setting that is silently not applied is a rule that its administrator believes in.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING

from . import trusted
from .errors import ConfigError
from .fields import given, toml
from .rules import Rule, RuleFields
from .structure import structure

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

MAX_SIZE = 256 * 1024
MAX_FAIL_DELAY = 10
MAX_ISSUER = 64
LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*", re.ASCII)
ARC = "(?:0|[1-9][0-9]{0,9})"
OID = re.compile(rf"[012](?:\.{ARC}){{1,15}}", re.ASCII)
FILE = re.compile(r"(?!\.)[A-Za-z0-9_.@+-]{1,128}", re.ASCII)
SLOTS = ("9a", "9c", "9d")
MAX_USAGES = 16
TOP_KEYS = (
    "first_enrolment", "enrol_from", "audit", "fail_delay", "issuer", "sshd_touch_required",
    "fido2", "smartcard", "policy", "rule",
)  # fmt: skip
ENROL_FROM_KEYS = ("networks", "services")
FIDO2_KEYS = ("rp_id", "synced", "clone")
SMARTCARD_KEYS = ("trust", "revocation", "slots", "usages", "upn_anchors", "mail_anchors")


class FirstEnrolment(StrEnum):
    """What the first credential of an account costs: its password, a code from root, or just being that user."""

    PASSWORD = "password"  # noqa: S105 - the word itself
    SELF = "self"
    TICKET = "ticket"


class Audit(StrEnum):
    """Whether a login may end without its audit record."""

    BEST_EFFORT = "best-effort"
    REQUIRED = "required"


class Synced(StrEnum):
    """Whether credentials count that can leave their authenticator (passkeys in a cloud)."""

    ALLOW = "allow"
    DENY = "deny"


class Clone(StrEnum):
    """What becomes of an answer whose sign count fell back."""

    DENY = "deny"
    WARN = "warn"


class Trust(StrEnum):
    """What a smartcard's certificate has to be: one whose key was enrolled, or one whose path was checked as well."""

    PINNED = "pinned"
    CHAIN = "chain"


class Revocation(StrEnum):
    """What holds where no certificate list tells whether a certificate was revoked: nothing, or that it was not."""

    STRICT = "strict"
    SOFT = "soft"


@structure
class Fido2:
    """What holds for security keys in all services.

    Args:
        rp_id: relying party id of new credentials; None for the host's name. Those that are there keep theirs.
        synced, clone: see there.
    """

    rp_id: str | None = None
    synced: Synced = Synced.ALLOW
    clone: Clone = Clone.DENY


@structure
class Smartcard:
    """What holds for smartcards in all services.

    Args:
        trust, revocation: see there; revocation is of trust `chain`.
        slots: PIV keys that count, the preferred one first: of SLOTS.
        usages: extended key usages, dotted OIDs, of which a checked certificate must have one; empty for any.
        upn_anchors, mail_anchors: file names of the trust anchors whose user principal names and mail addresses count.
    """

    trust: Trust = Trust.PINNED
    revocation: Revocation = Revocation.STRICT
    slots: tuple[str, ...] = ("9a",)
    usages: tuple[str, ...] = ("1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311.20.2.2")  # client authentication, smartcard logon
    upn_anchors: frozenset[str] = frozenset()
    mail_anchors: frozenset[str] = frozenset()


@structure
class EnrolFrom:
    """From where the first credential of an account is enrolled. What is empty holds for everywhere.

    Args:
        networks: of the address that the session comes from, as logind and root's hosts say; who sits at this host is
            in all of them.
        services: PAM services, with "*" and "?", that began the session.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    services: tuple[str, ...] = ()


@structure
class Settings:
    """The whole file.

    Args:
        policy: what holds where no rule does.
        rules: the first one that is for a login holds for it.
        first_enrolment: what the first credential of an account costs.
        enrol_from: from where.
        audit_required: a login whose record cannot be written is refused.
        fail_delay_ms: what PAM is asked to wait after a refusal, in milliseconds.
        issuer: the name shown in authenticator apps; None for the host's name.
        sshd_touch_required: the administrator's word that sshd takes no security key without a touch.
        fido2: of security keys.
        smartcard: of smartcards.
    """

    policy: Rule = Rule()
    rules: tuple[Rule, ...] = ()
    first_enrolment: FirstEnrolment = FirstEnrolment.PASSWORD
    enrol_from: EnrolFrom = EnrolFrom()
    audit_required: bool = False
    fail_delay_ms: int = 2000
    issuer: str | None = None
    sshd_touch_required: bool = False
    fido2: Fido2 = Fido2()
    smartcard: Smartcard = Smartcard()


def parse(text: str, factors: Collection[str]) -> Settings:
    """Convert the text of a settings file.

    Args:
        text: TOML.
        factors: the names of all factors that this program knows.

    Raises:
        ConfigError: with all problems of the text.
    """
    reading = _Reading(tuple(factors))
    settings = reading.settings(toml(text))
    if reading.problems:
        raise ConfigError(reading.problems)
    return settings


def load(path: str, factors: Collection[str], owner: int = 0) -> tuple[str, Settings]:
    """Read and convert a settings file that only its owner can have written.

    Args:
        path: the file; neither it nor its directory may be a symbolic link.
        factors: the names of all factors that this program knows.
        owner: the uid that must own the file and its directory.

    Returns:
        The text, so that it can be kept as the last good one, and the settings.

    Raises:
        ConfigError: with the path, or with all problems of the text.
    """
    text = trusted.text(path, MAX_SIZE, owner)
    return text, parse(text, factors)


class _Reading(RuleFields):
    """One conversion of a settings file."""

    def settings(self, top: dict[str, object]) -> Settings:
        self.table("", top, TOP_KEYS)
        default = Settings()
        policy = given(top, "policy", self.policy, default.policy)
        return Settings(
            policy=policy,
            rules=self.rules("rule", top.get("rule", []), policy),
            first_enrolment=given(top, "first_enrolment", self.choice, default.first_enrolment),
            enrol_from=given(top, "enrol_from", self._enrol_from, default.enrol_from),
            audit_required=given(top, "audit", self.choice, Audit.BEST_EFFORT) is Audit.REQUIRED,
            fail_delay_ms=given(top, "fail_delay", self._delay, default.fail_delay_ms),
            issuer=given(top, "issuer", self._issuer, default.issuer),
            sshd_touch_required=given(top, "sshd_touch_required", self.truth, False),
            fido2=given(top, "fido2", self._fido2, default.fido2),
            smartcard=given(top, "smartcard", self._smartcard, default.smartcard),
        )

    def _enrol_from(self, path: str, value: object, default: EnrolFrom) -> EnrolFrom:
        table = self.table(path, value, ENROL_FROM_KEYS)
        return EnrolFrom(
            networks=given(table, "networks", self._networks, default.networks, path),
            services=given(table, "services", self._services, default.services, path),
        )

    def _fido2(self, path: str, value: object, default: Fido2) -> Fido2:
        table = self.table(path, value, FIDO2_KEYS)
        return Fido2(
            rp_id=given(table, "rp_id", self._host, default.rp_id, path),
            synced=given(table, "synced", self.choice, default.synced, path),
            clone=given(table, "clone", self.choice, default.clone, path),
        )

    def _smartcard(self, path: str, value: object, default: Smartcard) -> Smartcard:
        table = self.table(path, value, SMARTCARD_KEYS)
        return Smartcard(
            trust=given(table, "trust", self.choice, default.trust, path),
            revocation=given(table, "revocation", self.choice, default.revocation, path),
            slots=given(table, "slots", self._slots, default.slots, path),
            usages=given(table, "usages", self._usages, default.usages, path),
            upn_anchors=given(table, "upn_anchors", self._files, default.upn_anchors, path),
            mail_anchors=given(table, "mail_anchors", self._files, default.mail_anchors, path),
        )

    def _slots(self, path: str, value: object, default: tuple[str, ...]) -> tuple[str, ...]:
        return self.some(path, value, SLOTS, "slot")

    def _usages(self, path: str, value: object, default: tuple[str, ...]) -> tuple[str, ...]:
        names = self.each(path, value, OID, "a dotted object identifier, for example 1.3.6.1.5.5.7.3.2")
        if len(names) > MAX_USAGES:
            self.problem(path, f"at most {MAX_USAGES}")
        return names

    def _files(self, path: str, value: object, default: frozenset[str]) -> frozenset[str]:
        return frozenset(self.each(path, value, FILE, "the name of a file in /etc/pam-mfa/ca/anchors"))

    def _delay(self, path: str, value: object, default: int) -> int:
        # bool is an int to Python; NaN compares as neither.
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_FAIL_DELAY:
            return round(value * 1000)
        self.problem(path, f"must be a number of seconds from 0 to {MAX_FAIL_DELAY}")
        return default

    def _issuer(self, path: str, value: object, default: str | None) -> str | None:
        # ":" parts issuer and account in the label of an otpauth URI.
        if isinstance(value, str) and ":" not in value and 0 < len(value) <= MAX_ISSUER and value.isprintable():
            return value
        self.problem(path, f"must be a text of 1 to {MAX_ISSUER} printable characters without a colon")
        return default

    def _host(self, path: str, value: object, default: str | None) -> str | None:
        if isinstance(value, str) and HOST.fullmatch(value):
            return value
        self.problem(path, "must be a domain name in lower case, for example example.org")
        return default
