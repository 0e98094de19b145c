"""Break-glass where pam-mfa was installed: the confined service may take codes away, an update keeps them."""

from __future__ import annotations

import json

from e2e.installing import INSTALL, Installed, about
from machine import wait_for
from people import BARE

FOLDER = "/var/lib/pam-mfa-break-glass"
CREATE = ["pam-mfa", "break-glass", "create", "--json"]
TEST = ["pam-mfa", "test", "mfa", "--user", "alice"]
LOSE_ALL = (
    "systemctl stop pam-mfad; rm /var/lib/pam-mfa/*; echo [policy > /etc/pam-mfa/config.toml; systemctl start pam-mfad"
)


def opened(own: Installed, count: int) -> None:
    """A new code opens; the service has said so, that often."""
    code = json.loads(own.run(CREATE).stdout)["code"]
    assert "PAM_SUCCESS" in own.run(TEST, input=f"{code}\n").stdout
    wait_for(
        "an alert",
        lambda: own.records("--unit=pam-mfad", "--priority=alert").count("break_glass_used role=service") == count,
    )
    assert own.run(["ls", FOLDER]).stdout == ""


def test_the_service_takes_codes_away(own: Installed) -> None:
    own.write("/etc/pam.d/mfa", f"{BARE.format('').splitlines()[0]}\naccount required pam_permit.so\n")
    opened(own, 1)
    own.run(["/bin/sh", "-euc", LOSE_ALL])
    opened(own, 2)


def test_an_update_keeps_codes(own: Installed) -> None:
    code = json.loads(own.run(CREATE).stdout)
    own.run(INSTALL)
    assert about(own, FOLDER) == "770 root"
    assert code["id"] in own.run(["pam-mfa", "break-glass", "list"]).stdout
