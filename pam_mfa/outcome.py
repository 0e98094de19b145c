"""What a login can end in, and the one place that says "granted".

The value of an outcome is the code byte of the RESULT frame. All of them are code words of the
extended Hamming code [8,4]: any two differ in at least four bits, and from 0 and 1 in at least three, so
neither a flipped bit nor a forgotten initialisation turns one verdict into another.
"""

from __future__ import annotations

from enum import IntEnum

from .structure import structure


class Outcome(IntEnum):
    """The end of one login; see PAM_CODE for what the host program is told."""

    GRANTED = 0xA5
    EXEMPT = 0x3C
    DENIED = 0x66
    LOCKED = 0x99
    TRIES_SPENT = 0x0F
    UNAVAILABLE = 0xF0
    ABORTED = 0xC3


# Linux-PAM's numbers (security/_pam_types.h); the shim holds the same table in C and a test compares the two.
PAM_CODE = {
    Outcome.GRANTED: ("PAM_SUCCESS", 0),
    Outcome.EXEMPT: ("PAM_IGNORE", 25),
    Outcome.DENIED: ("PAM_AUTH_ERR", 7),
    Outcome.LOCKED: ("PAM_AUTH_ERR", 7),
    Outcome.TRIES_SPENT: ("PAM_MAXTRIES", 11),
    Outcome.UNAVAILABLE: ("PAM_AUTHINFO_UNAVAIL", 9),
    Outcome.ABORTED: ("PAM_ABORT", 26),
}


@structure
class Proof:
    """That a credential's answer was right and its use is on disk.

    Made by a factor's verifier (`factors.base.settle`), by whoever takes a break-glass code, and nowhere else.

    Args:
        session: id of the session whose question was answered.
        uid: the account that was proven.
        factor: the factor's name.
        credential: id of the credential.
        label: the name its user gave it.
    """

    session: str
    uid: int
    factor: str
    credential: str
    label: str


@structure
class Verdict:
    """An outcome with what the audit record needs to explain it.

    Args:
        outcome: the end of the login.
        reason: one machine-readable word, for the log only.
        factor, credential, label: what was used, where something was.
    """

    outcome: Outcome
    reason: str
    factor: str | None = None
    credential: str | None = None
    label: str | None = None

    @property
    def grants(self) -> bool:
        """Whether it is one of `grant`."""
        return self.outcome is Outcome.GRANTED


def grant(proof: object, session: str, uid: int, caveat: str = "") -> Verdict:
    """The only way to GRANTED: a proof of this session and this account.

    Anything else, also a proof made for somebody else, ends in UNAVAILABLE.

    Args:
        caveat: what the settings let pass of it, in one word, for the log.
    """
    if type(proof) is not Proof or proof.session != session or proof.uid != uid:
        return Verdict(Outcome.UNAVAILABLE, "no_proof")
    reason = f"proven_{caveat}" if caveat else "proven"
    return Verdict(Outcome.GRANTED, reason, proof.factor, proof.credential, proof.label)
