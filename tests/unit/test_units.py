"""What the units must allow; that systemd understands them, and confines by them, is for the e2e tests."""

from __future__ import annotations

from pathlib import Path

UNITS = Path(__file__).resolve().parents[2] / "packaging/systemd"


def settings(unit: str) -> dict[str, str]:
    """NAME=VALUE of one unit, all sections."""
    lines = (UNITS / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_passwords_are_reported_to_the_kernels_audit() -> None:
    """By netlink, with the capability, and from the initial user namespace: libpam says nothing where it may not."""
    unit = settings("pam-mfa-password.service")
    assert unit["RestrictAddressFamilies"].split() == ["AF_UNIX", "AF_NETLINK"]
    assert "CAP_AUDIT_WRITE" in unit["CapabilityBoundingSet"].split()
    assert "PrivateUsers" not in unit


def test_the_network_stays_out_of_reach_of_whoever_reads_passwords() -> None:
    unit = settings("pam-mfa-password.service")
    assert (unit["PrivateNetwork"], unit["IPAddressDeny"]) == ("yes", "any")


def test_no_record_of_a_login_is_dropped_by_journald() -> None:
    assert settings("pam-mfad.service")["LogRateLimitIntervalSec"] == "0"
