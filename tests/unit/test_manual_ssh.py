"""packaging/manual/ssh.md says what the program says, and its settings are settings."""

from __future__ import annotations

import re
from pathlib import Path

from flows import FACTORS

from pam_mfa.cli.checks.sk_keys import TOUCH, VERIFY
from pam_mfa.config import parse
from pam_mfa.enroll import NOTHING_TO_ASK
from pam_mfa.factors.ssh_key import REFUSALS
from pam_mfa.importers import authorized_keys

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "packaging/manual/ssh.md").read_text()
MESSAGES = re.findall(r"^\| `(.*?)` \| ", MANUAL.partition("## What a message means")[2], re.MULTILINE)
SAID = {
    NOTHING_TO_ASK,
    *REFUSALS.values(),
    authorized_keys.PLAIN,
    authorized_keys.UNTOUCHED,
    authorized_keys.CERTIFICATE,
}


def test_messages_are_what_is_said() -> None:
    assert set(MESSAGES) <= SAID
    assert {authorized_keys.PLAIN, authorized_keys.UNTOUCHED, authorized_keys.CERTIFICATE} <= set(MESSAGES)


def test_its_settings_give_credit() -> None:
    (text,) = (re.sub("^ {3}", "", each, flags=re.MULTILINE) for each in re.findall(r"```toml\n(.*?)```", MANUAL, re.S))
    settings = parse(text, FACTORS)
    assert settings.sshd_touch_required
    assert settings.rules[0].credit_ssh_keys


def test_what_sshd_is_told_is_what_doctor_looks_for() -> None:
    assert f"PubkeyAuthOptions {TOUCH}\n" in MANUAL
    assert f"PubkeyAuthOptions {TOUCH} {VERIFY}\n" in MANUAL


def test_it_is_found() -> None:
    assert "packaging/manual/ssh.md" in (ROOT / "README.md").read_text()
