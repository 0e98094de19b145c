"""Numbers of CTAP 2.1: commands (section 6), status codes (section 8.2), flags of authenticator data (WebAuthn 6.1)."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Command(IntEnum):
    """First byte of a request."""

    MAKE_CREDENTIAL = 0x01
    GET_ASSERTION = 0x02
    GET_INFO = 0x04
    CLIENT_PIN = 0x06
    RESET = 0x07
    GET_NEXT_ASSERTION = 0x08
    SELECTION = 0x0B


class Status(IntEnum):
    """First byte of an answer."""

    OK = 0x00
    INVALID_COMMAND = 0x01
    INVALID_PARAMETER = 0x02
    CBOR_UNEXPECTED_TYPE = 0x11
    INVALID_CBOR = 0x12
    MISSING_PARAMETER = 0x14
    LIMIT_EXCEEDED = 0x15
    CREDENTIAL_EXCLUDED = 0x19
    UNSUPPORTED_ALGORITHM = 0x26
    OPERATION_DENIED = 0x27
    KEY_STORE_FULL = 0x28
    UNSUPPORTED_OPTION = 0x2B
    INVALID_OPTION = 0x2C
    KEEPALIVE_CANCEL = 0x2D
    NO_CREDENTIALS = 0x2E
    USER_ACTION_TIMEOUT = 0x2F
    NOT_ALLOWED = 0x30
    PIN_INVALID = 0x31
    PIN_BLOCKED = 0x32
    PIN_AUTH_INVALID = 0x33
    PIN_AUTH_BLOCKED = 0x34
    PIN_NOT_SET = 0x35
    PUAT_REQUIRED = 0x36
    PIN_POLICY_VIOLATION = 0x37
    REQUEST_TOO_LARGE = 0x39
    UV_BLOCKED = 0x3C
    INVALID_SUBCOMMAND = 0x3E
    UV_INVALID = 0x3F
    UNAUTHORIZED_PERMISSION = 0x40


class Flag(IntFlag):
    """Of authenticator data."""

    UP = 0x01
    UV = 0x04
    BE = 0x08
    BS = 0x10
    AT = 0x40


class Permission(IntFlag):
    """Of a pinUvAuthToken (CTAP 2.1 section 6.5.5.7)."""

    MC = 0x01
    GA = 0x02


PROCESSING = 1  # keepalive status (CTAP 2.1 section 11.2.9.1.8)
UP_NEEDED = 2


class Refused(Exception):
    """A command ends with a status other than OK."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status:#04x}")
        self.status = status
