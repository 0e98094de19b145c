"""What is asked of the device service, and what it answers: fixed structures over one SOCK_SEQPACKET connection.

One connection is one request. The service answers with any number of replies, each about one device, until the
other side hangs up, which cancels whatever the devices are doing. `Pin` and `Choose` go on with a running `Assert`
or `Make`, `Use` and `Release` with a `Sign`. Nothing here is CBOR, JSON or pickle: a reply's bytes have been parsed by
the helper that talked to the device, and whoever reads them checks what they mean (factors/assertion.py). Nobody
believes a device's words.

What they are made of is in terms.py, how they travel in codec.py.
"""

from __future__ import annotations

from typing import ClassVar

from ..structure import field, structure
from .terms import (
    HASH_BYTES as HASH_BYTES,
    MAX_AUTHENTICATOR_DATA as MAX_AUTHENTICATOR_DATA,
    MAX_CERTIFICATE as MAX_CERTIFICATE,
    MAX_CREDENTIAL_ID as MAX_CREDENTIAL_ID,
    MAX_CREDENTIALS as MAX_CREDENTIALS,
    MAX_NAME as MAX_NAME,
    MAX_PACKET as MAX_PACKET,
    TOUCH_SECONDS as TOUCH_SECONDS,
    Certified as Certified,
    Failure as Failure,
    PinReason as PinReason,
    Scheme as Scheme,
    Slot as Slot,
    Transport as Transport,
    Verification as Verification,
    Wanted as Wanted,
)

# --------------------------------------------------------------------------------------------------------- requests


@structure
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


@structure
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


@structure
class List:
    """Say of every device what it is (Described, Carries, Reader), then Idle; nothing is touched."""

    TYPE: ClassVar[int] = 0x03

    seconds: int


@structure
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


@structure
class Pin:
    """The PIN of a device that wanted one; at most 63 bytes of UTF-8."""

    TYPE: ClassVar[int] = 0x11

    device: int
    pin: str = field(repr=False)


@structure
class Choose:
    """Several devices want a PIN: have them blink, and say which is touched (CTAP 2.1 section 6.9)."""

    TYPE: ClassVar[int] = 0x12


@structure
class Use:
    """Sign with this card: it is one of the account's. Its PIN has 6 to 8 characters of printable ASCII."""

    TYPE: ClassVar[int] = 0x13

    device: int
    slot: Slot
    pin: str = field(repr=False)


@structure
class Release:
    """Let go of this card: it is none of the account's."""

    TYPE: ClassVar[int] = 0x14

    device: int


# ---------------------------------------------------------------------------------------------------------- replies


@structure
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


@structure
class Holds:
    """Silently asked, a device says that it has these of the wanted credentials; it works on."""

    TYPE: ClassVar[int] = 0x82

    device: int
    transport: Transport
    name: str
    credential_ids: tuple[bytes, ...]


@structure
class Strange:
    """Silently asked, a device has none of the wanted credentials; it is left alone."""

    TYPE: ClassVar[int] = 0x83

    device: int
    name: str


@structure
class PinWanted:
    """A device waits for Pin. `tries` are left, the one that is asked for included; 255 where it does not say."""

    TYPE: ClassVar[int] = 0x84

    device: int
    reason: PinReason
    tries: int


@structure
class Touch:
    """A device waits for its user, who touches it or, where `verifies`, puts a finger on its reader."""

    TYPE: ClassVar[int] = 0x85

    device: int
    verifies: bool


@structure
class Chosen:
    """After Choose: this one was touched. It wants its PIN; the others are out."""

    TYPE: ClassVar[int] = 0x86

    device: int


@structure
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


@structure
class Made:
    """A device has made a credential; which one and its public key are in the authenticator data."""

    TYPE: ClassVar[int] = 0x88

    device: int
    transport: Transport
    name: str
    authenticator_data: bytes


@structure
class Carries:
    """A PIV card. In answer to Sign it has a certificate, and waits for Use or Release.

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


@structure
class Signed:
    """A card has signed, and was the same one before and after."""

    TYPE: ClassVar[int] = 0x8C

    device: int
    slot: Slot
    scheme: Scheme
    signature: bytes


@structure
class Reader:
    """A reader without a card that answers; told to List. `name` is printable ASCII of at most 64 characters."""

    TYPE: ClassVar[int] = 0x8D

    device: int
    name: str


@structure
class Failed:
    """A device is out of this request."""

    TYPE: ClassVar[int] = 0x89

    device: int
    why: Failure


@structure
class Idle:
    """Every device that is there has been asked, and none works on: plug one in.

    Args:
        devices: so many are there, and are one in question.
    """

    TYPE: ClassVar[int] = 0x8A

    devices: int


Request = Assert | Make | List | Sign
Followup = Pin | Choose | Use | Release
Told = Described | Carries | Reader  # the answers to List
Reply = Told | Holds | Strange | PinWanted | Touch | Chosen | Asserted | Made | Signed | Failed | Idle
Structure = Request | Followup | Reply
