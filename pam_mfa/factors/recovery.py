"""Recovery codes: a set of ten, 120 random bits each, hashed, each used once (SP 800-63B 3.1.2 and 4.2.1.1)."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any

from ..conversation import Steps
from ..store.base import Burn, Use
from ..store.rows import DECOY_UID, Credential
from ..throttle import Instant
from .base import Enrolment, Made

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32
LENGTH = 24
GROUP = 4
SET = 10
MAC_BYTES = 32
# What people write for what they read (Crockford), and what they put between the groups.
_FOLD = str.maketrans("OIL", "011", "- ")


class Recovery:
    """The factor.

    Args:
        mac: HMAC-SHA-256 under a key derived from the seal key for this purpose alone.
    """

    name = "recovery"
    decoy = Credential("", DECOY_UID, "", name, "", bytes(SET * MAC_BYTES))

    def __init__(self, mac: Callable[[bytes], bytes]) -> None:
        self._mac = mac

    def fits(self, answer: str) -> bool:
        code = fold(answer)
        return len(code) == LENGTH and set(code) <= set(ALPHABET)

    def match(self, credential: Credential, answer: str, now: Instant) -> Burn | None:
        mac = self._mac(fold(answer).encode())
        found = None
        for bit in range(SET):
            if hmac.compare_digest(mac, credential.material[bit * MAC_BYTES : (bit + 1) * MAC_BYTES]):
                found = Burn(credential.id, bit)
        return found

    def aftermath(self, credential: Credential, use: Use) -> str | None:
        left = remaining(credential) - 1
        hint = " Make new ones with: pam-mfa recovery --new" if left <= 3 else ""
        return f"Recovery code used: {left} left.{hint}"

    def details(self, credential: Credential) -> Mapping[str, Any]:
        return {"left": remaining(credential), "of": SET}

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        return None

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow: make the set; there is nothing to prove, its user is only about to get it."""
        import secrets  # a login makes no codes

        codes = ["".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for _ in range(SET)]
        material = b"".join(self._mac(code.encode()) for code in codes)
        yield from ()
        return Made(
            enrolment.credential(self.name, material), {"kind": "recovery", "codes": [grouped(c) for c in codes]}
        )


def remaining(credential: Credential) -> int:
    """How many codes of a set are unused."""
    return SET - credential.mark.bit_count()


def fold(answer: str) -> str:
    """An answer as the code it may be; "" for what is none."""
    # upper() may lengthen foreign letters; only ASCII can be a code anyway
    return answer.upper().translate(_FOLD) if answer.isascii() else ""


def grouped(code: str) -> str:
    """A code as it is shown."""
    return "-".join(code[i : i + GROUP] for i in range(0, len(code), GROUP))
