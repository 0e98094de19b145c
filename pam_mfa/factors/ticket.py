"""Tickets: one-time codes that root gives out to somebody who has lost the rest. 80 random bits, hashed, for hours.

Nobody enrols one, and no rule lists it: it counts wherever a code is asked for. Whoever has nothing else has enrolled
nothing.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Mapping
from typing import Any

from ..conversation import Steps
from ..errors import RefusedError
from ..store.base import Burn
from ..store.rows import DECOY_UID, TICKET, Credential
from ..throttle import Instant
from .base import SPOKEN, Enrolment, Made
from .recovery import ALPHABET, MAC_BYTES, fold, grouped

LENGTH = 16
LABEL = SPOKEN[TICKET]
SHORTEST, LONGEST = 60, 24 * 3600  # seconds
USED = "One-time code used."
_HEAD = struct.Struct(">IQ36s")  # valid for so many seconds, and when it was made on the clock of which boot
_USED = 0  # the only bit of its mark


class Ticket:
    """The factor.

    Args:
        mac: keyed hash; of a label of its own it makes the key that tickets are hashed with.
        hint: what is told after a use, besides that.
    """

    name = TICKET
    decoy = Credential("", DECOY_UID, "", name, "", _HEAD.pack(0, 0, b"") + bytes(MAC_BYTES))

    def __init__(self, mac: Callable[[bytes], bytes], hint: str = " Enrol with: pam-mfa enroll") -> None:
        self._mac = mac
        self._hint = hint

    def plain(self) -> Ticket:
        """The same for somebody who is about to enrol."""
        return Ticket(self._mac, hint="")

    def fits(self, answer: str) -> bool:
        code = fold(answer)
        return len(code) == LENGTH and set(code) <= set(ALPHABET)

    def match(self, credential: Credential, answer: str, now: Instant) -> Burn | None:
        right = hmac.compare_digest(self._hash(fold(answer)), credential.material[_HEAD.size :])
        return Burn(credential.id, _USED) if right and not over(credential, now) else None

    def aftermath(self, credential: Credential, use: object) -> str | None:
        return USED + self._hint

    def details(self, credential: Credential) -> Mapping[str, Any]:
        return {"until": credential.created + _HEAD.unpack_from(credential.material)[0], "spent": credential.mark != 0}

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        return None

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow: make one, for `valid` seconds of the options. Raises RefusedError for another time than is allowed."""
        import secrets  # a login makes no codes

        valid = enrolment.options.get("valid")
        if type(valid) is not int or not SHORTEST <= valid <= LONGEST:
            raise RefusedError("invalid", "a one-time code holds for 1 minute to 24 hours")
        code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        now = enrolment.now()
        material = _HEAD.pack(valid, now.boot, now.boot_id.encode()) + self._hash(code)
        yield from ()
        made = enrolment.credential(self.name, material)
        return Made(made, {"kind": "issued", "code": grouped(code), "until": made.created + valid})

    def _hash(self, code: str) -> bytes:
        return hmac.digest(self._mac(b"pam-mfa ticket"), code.encode(), "sha256")


def over(credential: Credential, now: Instant) -> bool:
    """Whether a ticket's time is over: on the wall clock, or on the boot's, which nobody sets; nor is it there before
    it was made. A clock that is set back revives none within the boot.
    """
    valid, boot, boot_id = _HEAD.unpack_from(credential.material)
    running = now.boot - boot if boot_id.rstrip(b"\0").decode() == now.boot_id else now.boot
    return now.wall < credential.created or max(now.wall - credential.created, running) >= valid


def usable(credential: Credential, now: Instant) -> bool:
    """Whether a right answer would count."""
    return credential.mark == 0 and not over(credential, now)
