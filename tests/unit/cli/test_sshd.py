"""What the settings of sshd mean for us: made up, and as the real sshd prints them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pam_mfa.cli.checks import sshd
from pam_mfa.cli.checks.finding import Severity

GOOD = {
    "usepam": "yes",
    "kbdinteractiveauthentication": "yes",
    "passwordauthentication": "no",
    "pubkeyauthentication": "yes",
    "gssapiauthentication": "no",
    "hostbasedauthentication": "no",
    "logingracetime": "120",
    "authenticationmethods": "publickey,keyboard-interactive keyboard-interactive:pam",
}
ANY = {"authenticationmethods": "any", "pubkeyauthentication": "no"}


def judged(**settings: str) -> list[tuple[Severity, str]]:
    text = "".join(f"{key} {value}\n" for key, value in {**GOOD, **settings}.items())
    return [(finding.severity, finding.found) for finding in sshd.judge(text) if finding.severity is not Severity.OK]


def test_both_key_and_code() -> None:
    assert judged() == []


@pytest.mark.parametrize(
    ("settings", "severity", "words"),
    [
        ({"usepam": "no"}, Severity.BAD, "UsePAM"),
        ({"kbdinteractiveauthentication": "no"}, Severity.BAD, "keyboard-interactive"),
        ({"logingracetime": "30"}, Severity.WARN, "LoginGraceTime"),
        ({"authenticationmethods": "any"}, Severity.WARN, "a publickey login"),
        ({**ANY, "hostbasedauthentication": "yes"}, Severity.WARN, "a hostbased login"),
        ({"authenticationmethods": "publickey publickey,keyboard-interactive"}, Severity.WARN, "by publickey is"),
        ({"authenticationmethods": "publickey,password"}, Severity.WARN, "by publickey,password is"),
        ({**ANY, "passwordauthentication": "yes"}, Severity.WARN, "plain password"),
    ],
)  # fmt: skip
def test_what_goes_past_us(settings: dict[str, str], severity: Severity, words: str) -> None:
    found = judged(**settings)
    assert any(each == severity and words in text for each, text in found), found


@pytest.mark.parametrize("settings", [{"logingracetime": "0"}, {"passwordauthentication": "yes"}])
def test_what_is_no_harm(settings: dict[str, str]) -> None:
    assert judged(**settings) == []


def test_an_older_sshd_has_another_word() -> None:
    text = "".join(f"{key} {value}\n" for key, value in GOOD.items()).replace(
        "kbdinteractiveauthentication", "challengeresponseauthentication"
    )
    assert [finding.severity for finding in sshd.judge(text)] == [Severity.OK]


@pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin") is None, reason="needs openssh-server")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\n"
         "AuthenticationMethods publickey,keyboard-interactive\n", []),
        ("UsePAM no\nKbdInteractiveAuthentication no\nPasswordAuthentication no\nPubkeyAuthentication no\n",
         [Severity.BAD, Severity.BAD]),
        ("UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\n", [Severity.WARN]),
    ],
)  # fmt: skip
def test_as_the_real_sshd_prints_them(root: Path, config: str, expected: list[Severity]) -> None:
    key = root / "key"
    subprocess.run(["/usr/bin/ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(key)], check=True)
    (root / "config").write_text(f"HostKey {key}\n{config}")
    # sshd wants /run/sshd, which only its unit makes: an own mount of /run, so that nothing of this system changes.
    inside = 'mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -T -f "$0"'
    done = subprocess.run(
        ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", inside, str(root / "config")],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [finding.severity for finding in sshd.judge(done.stdout)]
    assert [severity for severity in found if severity is not Severity.OK] == expected
