"""What is asked of the device service, and what it answers: fixed structures over one SOCK_SEQPACKET connection.

One connection is one request. The service answers with any number of replies, each about one device, until the
other side hangs up, which cancels whatever the devices are doing. `Pin` and `Choose` go on with a running `Assert`
or `Make`, `Use` and `Release` with a `Sign`. Nothing here is CBOR, JSON or pickle: a reply's bytes have been parsed by the helper that talked to the
device, and whoever reads them checks what they mean (factors/assertion.py). Nobody believes a device's words.

How these travel is in codec.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

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
    PIN_LAST_TRIES = 7  # two or fewer are left, which are the user's own
    PIN_UNSET = 8  # verification is required, and it has no PIN
    PIN_CHANGE = 9  # forcePINChange
    PIN_WRONG = 10  # given once, and wrong: a login asks once
    VERIFICATION_BLOCKED = 11  # fingerprints, and there is no PIN to fall back on
    EXCLUDED = 12  # Make: it holds one of the excluded credentials already
    FULL = 13  # Make: no room for a discoverable credential
    UNSUPPORTED = 14  # not an authenticator that can do what is asked (CTAP1 only, no algorithm of ours, a platform's)
    NONSENSE = 15  # an answer that is none
    SILENT = 16  # killed at its deadline
    NO_CERTIFICATE = 17  # a PIV card without one in any of the slots
    SWAPPED = 18  # another card than before the PIN was asked for


@dataclass(frozen=True, slots=True)
class Wanted:
    """A credential that may answer.

    Args:
        rp_id: relying party id that it was made for.
        credential_id: at most 1,023 bytes.
    """

    rp_id: str
    credential_id: bytes


# --------------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Assert:
    """Have one of these credentials sign.

    Args:
        client_data_hash: 32 bytes.
        wanted: the account's credentials.
        verification: whether PIN or fingerprint are asked for.
        seconds: how long devices may come, go and wait for their user, at most 180.
    """

    TYPE: ClassVar[int] = 0x01

    client_data_hash: bytes
    wanted: tuple[Wanted, ...]
    verification: Verification
    seconds: int


@dataclass(frozen=True, slots=True)
class Make:
    """Make a credential on the device that the user touches (CTAP 2.1 section 6.1).

    Args:
        client_data_hash: 32 bytes.
        rp_id, rp_name: the relying party.
        user_handle: 1 to 64 bytes.
        user_name: shown by devices with a display.
        algorithms: COSE algorithm numbers, the preferred one first.
        excluded: what the account has: a device that holds one of these makes none.
        discoverable: keep the credential on the device.
        verification, seconds: as in Assert.
    """

    TYPE: ClassVar[int] = 0x02

    client_data_hash: bytes
    rp_id: str
    rp_name: str
    user_handle: bytes
    user_name: str
    algorithms: tuple[int, ...]
    excluded: tuple[Wanted, ...]
    discoverable: bool
    verification: Verification
    seconds: int


@dataclass(frozen=True, slots=True)
class List:
    """Say of every device what it is (Described), then Idle; nothing is touched."""

    TYPE: ClassVar[int] = 0x03

    seconds: int


@dataclass(frozen=True, slots=True)
class Sign:
    """Have a card sign with a key that demands its PIN (SP 800-73-5 part 2 section 3.2.4).

    Args:
        message: 32 bytes; the card signs their hash.
        slots: those that count.
        seconds: as in Assert.
    """

    TYPE: ClassVar[int] = 0x04

    message: bytes
    slots: tuple[Slot, ...]
    seconds: int


@dataclass(frozen=True, slots=True)
class Pin:
    """The PIN of a device that wanted one; at most 63 bytes of UTF-8."""

    TYPE: ClassVar[int] = 0x11

    device: int
    pin: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Choose:
    """Several devices want a PIN: have them blink, and say which is touched (CTAP 2.1 section 6.9)."""

    TYPE: ClassVar[int] = 0x12


@dataclass(frozen=True, slots=True)
class Use:
    """Sign with this card: it is one of the account's. Its PIN has 6 to 8 characters of printable ASCII."""

    TYPE: ClassVar[int] = 0x13

    device: int
    slot: Slot
    pin: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of this card: it is none of the account's."""

    TYPE: ClassVar[int] = 0x14

    device: int


# ---------------------------------------------------------------------------------------------------------- replies


@dataclass(frozen=True, slots=True)
class Described:
    """What a device is (authenticatorGetInfo, CTAP 2.1 section 6.4); the answer to List.

    Args:
        device: its number within this connection, as in every other reply.
        transport: how it is connected.
        name: of the product, printable ASCII of at most 64 characters.
        aaguid: 16 bytes.
        firmware: 0 where it does not say.
        versions, extensions: as it gives them, at most 32 each.
        options: "clientPin=1" and so on, sorted.
        algorithms: COSE numbers.
        pin_tries: left; 255 where it has no PIN or does not say.
        min_pin: shortest PIN that it takes, in code points.
        pin_change: forcePINChange.
    """

    TYPE: ClassVar[int] = 0x81

    device: int
    transport: Transport
    name: str
    aaguid: bytes
    firmware: int
    versions: tuple[str, ...]
    extensions: tuple[str, ...]
    options: tuple[str, ...]
    algorithms: tuple[int, ...]
    pin_tries: int
    min_pin: int
    pin_change: bool


@dataclass(frozen=True, slots=True)
class Holds:
    """Silently asked, a device says that it has these of the wanted credentials; it works on."""

    TYPE: ClassVar[int] = 0x82

    device: int
    transport: Transport
    name: str
    credential_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Strange:
    """Silently asked, a device has none of the wanted credentials; it is left alone."""

    TYPE: ClassVar[int] = 0x83

    device: int
    name: str


@dataclass(frozen=True, slots=True)
class PinWanted:
    """A device waits for Pin. `tries` are left, the one that is asked for included; 255 where it does not say."""

    TYPE: ClassVar[int] = 0x84

    device: int
    reason: PinReason
    tries: int


@dataclass(frozen=True, slots=True)
class Touch:
    """A device waits for its user, who touches it or, where `verifies`, puts a finger on its reader."""

    TYPE: ClassVar[int] = 0x85

    device: int
    verifies: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """After Choose: this one was touched. It wants its PIN; the others are out."""

    TYPE: ClassVar[int] = 0x86

    device: int


@dataclass(frozen=True, slots=True)
class Asserted:
    """A device has signed (CTAP 2.1 section 6.2).

    Args:
        rp_id: of the wanted credential that it used.
        user_handle: empty where it gave none.
    """

    TYPE: ClassVar[int] = 0x87

    device: int
    transport: Transport
    rp_id: str
    credential_id: bytes
    authenticator_data: bytes
    signature: bytes
    user_handle: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """A device has made a credential; which one and its public key are in the authenticator data."""

    TYPE: ClassVar[int] = 0x88

    device: int
    transport: Transport
    name: str
    authenticator_data: bytes


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Carries:
    """A card with certificates. In answer to Sign it waits for Use or Release; to List it is the last word.

    Args:
        name: of the reader.
        serial: the card's own number (CHUID's GUID), empty where it has none.
        tries: left for its PIN; 255 where it does not say.
    """

    TYPE: ClassVar[int] = 0x8B

    device: int
    name: str
    serial: bytes
    tries: int
    certificates: tuple[Certified, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """A card has signed, and was the same one before and after."""

    TYPE: ClassVar[int] = 0x8C

    device: int
    slot: Slot
    scheme: Scheme
    signature: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """A device is out of this request."""

    TYPE: ClassVar[int] = 0x89

    device: int
    why: Failure


@dataclass(frozen=True, slots=True)
class Idle:
    """Every device that is there has been asked, and none works on: plug one in. `devices` of them are there."""

    TYPE: ClassVar[int] = 0x8A

    devices: int


Request = Assert | Make | List | Sign
Followup = Pin | Choose | Use | Release
Reply = Described | Holds | Strange | PinWanted | Touch | Chosen | Asserted | Made | Carries | Signed | Failed | Idle
Structure = Request | Followup | Reply
