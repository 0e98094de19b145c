"""What a virtual key can be told to do wrong, and how its user behaves; all of it may be changed while the key runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from . import cbor
from .ctap import UP_NEEDED

ANSWERS = {
    "empty": b"",
    "one": b"\x00",
    "garbage": b"\x00" + b"\xff\x9f\x3b\xfe" * 20,
    "truncated": b"\x00" + cbor.encode({1: ["FIDO_2_0"], 2: bytes(300)})[:-200],
    "deep": b"\x00" + b"\x81" * 3000 + b"\x00",
    "huge map": b"\x00\xbb" + b"\xff" * 8,
    "long": b"\x00" + cbor.encode(bytes(65531)),
}


@dataclass
class Faults:
    """All of them are off. Numbers of commands are those of ctap.Command.

    Args:
        touch: "yes", "deny" (0x27), "timeout" (0x2F), "never", or "manual": when Authenticator.touch() is called.
        touch_delay: seconds before the user does so.
        finger: whether the finger on the reader is an enrolled one.
        keepalive: status that is shown while the user is awaited.
        think: seconds that a command takes, by its number, with keepalive status 1 meanwhile.
        status: CTAP status with which a command is refused, by its number.
        answer: whole answer to a command, by its number: a name of ANSWERS, or bytes.
        counter: fixed sign count instead of one that counts.
        flags_on, flags_off: bits forced in the authenticator data (UP 1, UV 4, BE 8, BS 16).
        rp_id: relying party id that is signed instead of the right one.
        bad_signature: one bit of it is wrong.
        user_handle, credential_id: in answers to getAssertion, instead of the right ones.
        credential_id_length: of new credentials, at least 65.
        public_key: CBOR of the COSE key in new credentials, instead of the right one.
        busy: so many requests are answered CTAPHID "channel busy" (HID).
        foreign: so many packets of another channel go before the answer (HID).
        wrong_sequence: continuation packets are misnumbered (HID).
        mute: reports are read and nothing is ever answered, not even INIT (HID).
        silent: commands that are not answered (HID).
        flood: keepalives without end, a thousand in a second, cancelled or not (HID).
    """

    touch: str = "yes"
    touch_delay: float = 0.0
    finger: bool = True
    keepalive: int = UP_NEEDED
    think: dict[int, float] = field(default_factory=dict)
    status: dict[int, int] = field(default_factory=dict)
    answer: dict[int, str | bytes] = field(default_factory=dict)
    counter: int | None = None
    flags_on: int = 0
    flags_off: int = 0
    rp_id: str | None = None
    bad_signature: bool = False
    user_handle: bytes | None = None
    credential_id: bytes | None = None
    credential_id_length: int = 65
    public_key: bytes | None = None
    busy: int = 0
    foreign: int = 0
    wrong_sequence: bool = False
    mute: bool = False
    silent: tuple[int, ...] = ()
    flood: bool = False

    def set(self, **changes: Any) -> None:
        """Change some. Raises TypeError for a name that is none."""
        if unknown := changes.keys() - {field.name for field in fields(self)}:
            raise TypeError(f"no faults are called {', '.join(sorted(unknown))}")
        for name, value in changes.items():
            setattr(self, name, value)

    def canned(self, command: int) -> bytes | None:
        """The answer that a command is to get, if any."""
        if (status := self.status.get(command)) is not None:
            return bytes([status])
        answer = self.answer.get(command)
        return ANSWERS[answer] if isinstance(answer, str) else answer
