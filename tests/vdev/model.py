"""What kind of key a virtual key is."""

from __future__ import annotations

from dataclasses import dataclass

from .credentials import ALGORITHMS


@dataclass(frozen=True)
class Model:
    """What kind of key it is.

    Args:
        aaguid: 16 bytes.
        firmware: version that it tells.
        versions: that it tells; without "FIDO_2_1" it is a key of 2018.
        pin: PIN that is set, None for none.
        min_pin: shortest PIN in code points.
        force_pin_change: forcePINChange.
        fingerprint: it has a reader, with a finger enrolled.
        always_uv: alwaysUv.
        uv_not_required: makeCredUvNotRqd.
        discoverable: room for so many discoverable credentials, 0 for a key that knows none.
        algorithms: COSE numbers, the preferred one first.
        protocols: PIN/UV auth protocols, the preferred one first.
        attestation: one of attestation.FORMATS.
        transports: that it tells.
        max_credential_id: that it tells.
        synced: its credentials are backed up (BE and BS).
    """

    aaguid: bytes = b"pam-mfa software"
    firmware: int = 0x050403
    versions: tuple[str, ...] = ("FIDO_2_0", "FIDO_2_1")
    pin: str | None = None
    min_pin: int = 4
    force_pin_change: bool = False
    fingerprint: bool = False
    always_uv: bool = False
    uv_not_required: bool = True
    discoverable: int = 25
    algorithms: tuple[int, ...] = ALGORITHMS
    protocols: tuple[int, ...] = (2, 1)
    attestation: str = "packed"
    transports: tuple[str, ...] = ("usb", "nfc")
    max_credential_id: int = 128
    synced: bool = False
