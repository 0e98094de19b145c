"""What requests and replies of the device service are made of (base.py): limits, enumerations, parts of structures."""

from __future__ import annotations

from enum import IntEnum

from ..structure import structure

MAX_PACKET = 64 * 1024
MAX_CREDENTIALS = 64  # of one account
MAX_CREDENTIAL_ID = 1023  # CTAP 2.1 section 6.1, WebAuthn Level 3 section 7.1
MAX_AUTHENTICATOR_DATA = 4096
MAX_CERTIFICATE = 16 * 1024
MAX_NAME = 64
HASH_BYTES = 32
TOUCH_SECONDS = 30


class Verification(IntEnum):
    """Whether the user proves to the authenticator who they are, by PIN or fingerprint (WebAuthn section 5.8.6)."""

    DISCOURAGED = 1
    PREFERRED = 2
    REQUIRED = 3


class Transport(IntEnum):
    """How a device is connected."""

    USB = 1
    NFC = 2  # any PC/SC reader, also a contact one


class PinReason(IntEnum):
    """Why a PIN is wanted."""

    FIRST = 1
    WRONG = 2  # the last one was
    VERIFICATION_BLOCKED = 3  # too many fingerprints that did not fit


class Slot(IntEnum):
    """A PIV key that demands a PIN (SP 800-73-5 part 1 section 5). 9E demands none, and is none of these."""

    AUTHENTICATION = 0x9A
    SIGNATURE = 0x9C
    KEY_MANAGEMENT = 0x9D


class Scheme(IntEnum):
    """How a card has signed."""

    PKCS1 = 1  # RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2) with SHA-256
    PSS = 2  # RSASSA-PSS (section 8.1) with SHA-256, and a salt of 32 bytes
    ECDSA = 3  # with SHA-256 on P-256, with SHA-384 on P-384


class Failure(IntEnum):
    """Why a device is out. Each has its own message; none of them is a guess."""

    BUSY = 1  # somebody else uses it
    UNPLUGGED = 2
    DECLINED = 3  # CTAP2_ERR_OPERATION_DENIED
    NOT_TOUCHED = 4  # CTAP2_ERR_USER_ACTION_TIMEOUT
    PIN_BLOCKED = 5  # for good, until it is reset
    PIN_PAUSED = 6  # CTAP2_ERR_PIN_AUTH_BLOCKED: until it is plugged in again
    PIN_LAST_TRIES = 7  # two or fewer are left, of a card one: they are the user's own
    PIN_UNSET = 8  # verification is required, and it has no PIN
    PIN_CHANGE = 9  # forcePINChange, or a card that says so
    PIN_WRONG = 10  # given once, and wrong: a login asks once
    VERIFICATION_BLOCKED = 11  # fingerprints, and there is no PIN to fall back on
    EXCLUDED = 12  # Make: it holds one of the excluded credentials already
    FULL = 13  # Make: no room for a discoverable credential
    UNSUPPORTED = 14  # it cannot do what is asked (CTAP1 only, no algorithm of ours, a platform's)
    NONSENSE = 15  # an answer that is none
    SILENT = 16  # killed at its deadline
    NO_CERTIFICATE = 17  # a PIV card without one in any of the slots
    SWAPPED = 18  # another card than before the PIN was asked for


@structure
class Wanted:
    """A credential that may answer.

    Args:
        rp_id: relying party id that it was made for.
        credential_id: at most 1,023 bytes.
    """

    rp_id: str
    credential_id: bytes


@structure
class Certified:
    """A certificate on a card, as its helper has read it. The texts are to be shown, nothing follows from them.

    Args:
        slot: where it is.
        certificate: DER, at most 16 KiB.
        public_key: its subject public key info, DER.
        subject, issuer: RFC 4514, printable ASCII of at most 256 characters.
        number: its serial number in hex.
        valid_from, valid_until: as in 2026-12-31.
        key: "rsa-2048", "p-256" and so on.
    """

    slot: Slot
    certificate: bytes
    public_key: bytes
    subject: str
    issuer: str
    number: str
    valid_from: str
    valid_until: str
    key: str


def printable(text: object, most: int = MAX_NAME) -> str:
    """A device's words as far as they may be shown. Raises TypeError."""
    if not isinstance(text, str):
        raise TypeError("no text")
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in text[:most])
    return shown.strip()
