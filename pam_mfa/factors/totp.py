"""Time-based one-time passwords, RFC 6238.

pyotp makes secrets and provisioning URIs. The search over time steps is ours: it has to know which step
matched (a step is accepted once, and never one before it) and takes ASCII digits only.
"""

from __future__ import annotations

import base64
import hmac
import re
import struct
from collections.abc import Mapping
from typing import Any

from ..conversation import Steps, ask, show
from ..errors import RefusedError
from ..store.base import Advance
from ..store.rows import DECOY_UID, Credential
from ..structure import field, structure
from ..throttle import Instant
from .base import MAX_TRIES, Enrolment, Made

ALGORITHMS = ("SHA1", "SHA256", "SHA512")
DIGITS = (6, 7, 8)
PERIODS = (30, 60)
STEPS_EACH_SIDE = 1  # RFC 6238 section 5.2
SECRET_BYTES = 20  # RFC 4226 section 4, R6: 160 bits recommended
_FORM = re.compile(r"[0-9]{6,8}", re.ASCII)
_HEAD = struct.Struct(">BBB")


@structure
class Parameters:
    """How an authenticator app computes its codes.

    Args:
        secret: the shared key, 10 to 128 bytes.
        algorithm: one of ALGORITHMS.
        digits: 6 to 8.
        period: seconds in a time step, 30 or 60.
    """

    secret: bytes = field(repr=False)
    algorithm: str = "SHA1"
    digits: int = 6
    period: int = 30

    def pack(self) -> bytes:
        """The credential's material."""
        return _HEAD.pack(ALGORITHMS.index(self.algorithm), self.digits, self.period) + self.secret

    @staticmethod
    def unpack(material: bytes) -> Parameters:
        """The other way round. Material was sealed by us, so its form is not checked again."""
        algorithm, digits, period = _HEAD.unpack_from(material)
        return Parameters(material[_HEAD.size :], ALGORITHMS[algorithm], digits, period)

    def code(self, step: int) -> str:
        """The code of one time step (RFC 4226 section 5.3)."""
        mac = hmac.digest(self.secret, step.to_bytes(8, "big"), self.algorithm)
        offset = mac[-1] & 15
        value = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
        return f"{value % 10**self.digits:0{self.digits}d}"

    def find(self, answer: str, wall: int) -> int | None:
        """The time step whose code the answer is, around `wall` (seconds since the epoch, UTC).

        All steps are computed and compared, whichever matches; the latest one counts.
        """
        now = wall // self.period
        found = None
        for step in range(max(0, now - STEPS_EACH_SIDE), now + STEPS_EACH_SIDE + 1):
            if hmac.compare_digest(self.code(step), answer):
                found = step
        return found


class Totp:
    """The factor."""

    name = "totp"
    decoy = Credential("", DECOY_UID, "", name, "", Parameters(bytes(SECRET_BYTES)).pack())

    def fits(self, answer: str) -> bool:
        return _FORM.fullmatch(answer) is not None

    def match(self, credential: Credential, answer: str, now: Instant) -> Advance | None:
        step = Parameters.unpack(credential.material).find(answer, now.wall)
        return None if step is None else Advance(credential.id, step)

    def aftermath(self, credential: Credential, use: object) -> str | None:
        return None

    def details(self, credential: Credential) -> Mapping[str, Any]:
        found = Parameters.unpack(credential.material)
        return {"algorithm": found.algorithm, "digits": found.digits, "period": found.period}

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        return now.wall // Parameters.unpack(credential.material).period + STEPS_EACH_SIDE

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow: show secret and URI, then take one right code before the credential counts."""
        parameters = _choose(enrolment.options)
        yield from show(
            kind="totp",
            secret=base64.b32encode(parameters.secret).decode(),
            uri=_uri(parameters, enrolment),
            label=enrolment.label,
        )
        prompt = "Code that the app shows now: "
        for _ in range(MAX_TRIES):
            answer = yield from ask(prompt, secret=False)
            step = parameters.find(answer, enrolment.now().wall) if self.fits(answer) else None
            if step is not None:
                return Made(enrolment.credential(self.name, parameters.pack(), mark=step))
            prompt = "That is not the code of now; check the clocks of both devices. Code: "
        raise RefusedError("refused", "no right code was given, nothing was enrolled: scan the QR code again and retry")


def _choose(options: Mapping[str, Any]) -> Parameters:
    """Parameters with a fresh secret. Raises RefusedError for an option outside of what RFC 6238 apps know."""
    import pyotp  # 25 ms: paid at enrolment only

    algorithm, digits, period = (options.get(k) for k in ("algorithm", "digits", "period"))
    for name, value, allowed in (
        ("algorithm", algorithm, ALGORITHMS),
        ("digits", digits, DIGITS),
        ("period", period, PERIODS),
    ):
        # JSON's 6.0 and true are equal to numbers that are allowed, and are none of them.
        if value is not None and (type(value) is not type(allowed[0]) or value not in allowed):
            raise RefusedError("invalid", f"{name} must be one of {', '.join(map(str, allowed))}")
    secret = base64.b32decode(pyotp.random_base32(SECRET_BYTES * 8 // 5))
    return Parameters(secret, algorithm or "SHA1", digits or 6, period or 30)


def _uri(parameters: Parameters, enrolment: Enrolment) -> str:
    import hashlib

    import pyotp

    totp = pyotp.TOTP(
        base64.b32encode(parameters.secret).decode(),
        digits=parameters.digits,
        digest=getattr(hashlib, parameters.algorithm.lower()),
        interval=parameters.period,
    )
    return totp.provisioning_uri(name=f"{enrolment.user}@{enrolment.host}", issuer_name=enrolment.host)
