"""Does sshd demand of security keys what the rules believe that it does? It does not say what it saw of a key."""

from __future__ import annotations

from collections.abc import Iterator

from ...rules import Rule, UserVerification
from .finding import Finding, bad, warn

TOUCH, VERIFY = "touch-required", "verify-required"


def crediting(rules: list[Rule]) -> list[Rule]:
    """Those that take a security key which sshd has seen for the second factor."""
    return [rule for rule in rules if rule.credit_ssh_keys and not rule.exempt]


def verifying(rules: list[Rule]) -> list[Rule]:
    """Those of them for which it has to verify its user."""
    return [rule for rule in crediting(rules) if rule.user_verification is UserVerification.REQUIRED]


def judge(options: frozenset[str], credit: str, verified: str, believed: bool) -> Iterator[Finding]:
    """What is wrong with sshd's PubkeyAuthOptions.

    Args:
        options: the words of it; without touch-required a user's own line no-touch-required holds.
        credit: rules that give credit, in words.
        verified: those that want the user verified.
        believed: sshd_touch_required is true.
    """
    demanded = f"{TOUCH} {VERIFY}" if verified else TOUCH
    set_them = f"set PubkeyAuthOptions {demanded} in /etc/ssh/sshd_config, then reload sshd"
    if not believed:
        yield warn(
            "sshd",
            f"{credit} says credit_ssh_keys = true, which has no effect: sshd_touch_required is false",
            f"{set_them}, and set sshd_touch_required = true in /etc/pam-mfa/config.toml",
        )
        return
    if TOUCH not in options:
        yield bad("sshd", f"it takes security keys that nobody touches, and {credit} takes them for a proof", set_them)
    if verified and VERIFY not in options:
        yield bad("sshd", f"it takes security keys without PIN, and {verified} wants their users verified", set_them)
