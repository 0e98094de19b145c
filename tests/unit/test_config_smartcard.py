"""The settings of smartcards: what each key means, and every refusal by its key path."""

from __future__ import annotations

import pytest

from pam_mfa import config
from pam_mfa.config import Revocation, Settings, Smartcard, Trust
from pam_mfa.errors import ConfigError

FACTORS = ("smartcard", "totp")
OID = "is not a dotted object identifier, for example 1.3.6.1.5.5.7.3.2"
FILE = "is not the name of a file in /etc/pam-mfa/ca/anchors"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, FACTORS)
    return caught.value.problems


def test_by_default_a_pinned_key_in_9a_counts() -> None:
    found = Settings().smartcard
    assert (found.trust, found.revocation, found.slots) == (Trust.PINNED, Revocation.STRICT, ("9a",))
    assert found.usages == ("1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311.20.2.2")
    assert found.upn_anchors == found.mail_anchors == frozenset()
    assert config.parse("", FACTORS).smartcard == found


def test_every_key_is_read() -> None:
    settings = config.parse(
        """
        [smartcard]
        trust = "chain"
        revocation = "soft"
        slots = ["9c", "9a"]
        usages = []
        upn_anchors = ["company.pem"]
        mail_anchors = ["company.pem", "partner-2.crt"]
        """,
        FACTORS,
    )
    mails = frozenset({"company.pem", "partner-2.crt"})
    expected = Smartcard(Trust.CHAIN, Revocation.SOFT, ("9c", "9a"), (), frozenset({"company.pem"}), mails)
    assert settings.smartcard == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trust = 'any'", 'smartcard.trust: "any"; one of: pinned, chain'),
        ("trust = true", "smartcard.trust: a boolean; one of: pinned, chain"),
        ("revocation = 'off'", 'smartcard.revocation: "off"; one of: strict, soft'),
        ("slots = []", "smartcard.slots: empty; at least one of: 9a, 9c, 9d"),
        # P08: this key demands no PIN
        ("slots = ['9e']", 'smartcard.slots[0]: unknown slot "9e"; one of: 9a, 9c, 9d'),
        ("slots = ['9A']", 'smartcard.slots[0]: unknown slot "9A"; one of: 9a, 9c, 9d'),
        ("slots = '9a'", "smartcard.slots: a text; must be a list of texts"),
        ("slots = ['9a', '9a']", 'smartcard.slots[1]: "9a" is named twice'),
        ("usages = ['clientAuth']", f'smartcard.usages[0]: "clientAuth" {OID}'),
        ("usages = ['1.3.06']", f'smartcard.usages[0]: "1.3.06" {OID}'),
        ("usages = ['3.1']", f'smartcard.usages[0]: "3.1" {OID}'),
        ("usages = ['1']", f'smartcard.usages[0]: "1" {OID}'),
        (f"usages = {['1.' + str(n) for n in range(17)]}", "smartcard.usages: at most 16"),
        ("upn_anchors = ['../ca.pem']", f'smartcard.upn_anchors[0]: "../ca.pem" {FILE}'),
        ("upn_anchors = ['']", f'smartcard.upn_anchors[0]: "" {FILE}'),
        ("mail_anchors = ['.hidden']", f'smartcard.mail_anchors[0]: ".hidden" {FILE}'),
        ("mail_anchors = 'ca.pem'", "smartcard.mail_anchors: a text; must be a list of texts"),
        ("anchors = []", "smartcard.anchors: unknown key; did you mean upn_anchors?"),
    ],
)
def test_refused_by_key_path(text: str, problem: str) -> None:
    assert problems(f"[smartcard]\n{text}\n") == [problem]


def test_smartcard_is_a_table() -> None:
    assert problems("smartcard = 1") == ["smartcard: a number; must be a table"]
