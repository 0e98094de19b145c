"""The path checker as packaging/install leaves it: unit, sandbox, and the directory that administrators fill."""

from __future__ import annotations

import ca
import pytest
from ca import Authority
from e2e.installing import Installed, about

ASK = """
import sys
from pam_mfa.verify import client
from pam_mfa.verify.base import Check, Revocation

verdict = client.ask(Check((bytes.fromhex(sys.argv[1]),), Revocation[sys.argv[2]], ()))
print(verdict.trust.name, verdict.reason or verdict.anchor)
"""
ROOT = Authority.root()
ALICE = ROOT.leaf()


def verdict(system: Installed, rule: str = "STRICT", user: str = "pam-mfa") -> str:
    (certificate,) = ca.der(ALICE.certificate)
    return system.python(ASK, certificate.hex(), rule, user=user).stdout.strip()


def put(system: Installed, folder: str, name: str, content: bytes) -> None:
    path = system.path(f"/etc/pam-mfa/ca/{folder}/{name}")
    path.write_bytes(content)
    path.chmod(0o644)


def test_the_unit_believes_what_administrators_put_there(own: Installed) -> None:
    """P04: socket unit, sandbox, a list that arrives while it runs."""
    for folder in ("", "anchors", "intermediates", "crls"):
        assert about(own, f"/etc/pam-mfa/ca/{folder}") == "755 root"
    assert verdict(own) == "UNKNOWN no_anchors"
    put(own, "anchors", "root.pem", ca.pem(ROOT.certificate))
    assert verdict(own) == "UNKNOWN crl_missing"
    assert verdict(own, "SOFT") == "GOOD crl_missing"
    put(own, "crls", "root.crl", ROOT.crl())
    assert verdict(own) == "GOOD root.pem"
    put(own, "crls", "root.crl", ROOT.crl([ALICE.serial]))
    assert verdict(own, "SOFT") == "BAD revoked"
    own.run(["chown", "alice", "/etc/pam-mfa/ca/anchors/root.pem"])
    assert verdict(own) == "UNKNOWN no_anchors"
    assert "left out: /etc/pam-mfa/ca/anchors/root.pem" in own.run(["journalctl", "-u", "pam-mfa-verify"]).stdout


@pytest.mark.parametrize("user", ["alice", "pam-mfa-verify", "pam-mfa-device"])
def test_the_unit_answers_the_service_and_nobody_else(installed: Installed, user: str) -> None:
    assert verdict(installed) == "UNKNOWN no_anchors"
    assert verdict(installed, user=user) == "UNKNOWN no_path_checker"


@pytest.mark.parametrize("path", ["/var/lib/pam-mfa", "/etc/pam-mfa/seal.key", "/home/alice", "/run/pcscd"])
def test_the_unit_sees_neither_store_nor_key_nor_readers_nor_homes(installed: Installed, path: str) -> None:
    installed.run(["systemctl", "start", "pam-mfa-verify"])
    enter = ["nsenter", f"--target={installed.main_pid('pam-mfa-verify')}", "--mount"]
    found = installed.run([*enter, "stat", "-c", "%a", path], check=False)
    assert found.stdout in ("", "0\n"), "absent, or masked"
