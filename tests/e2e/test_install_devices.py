"""What packaging/install does for security keys and cards: names, accounts, units, rules."""

from __future__ import annotations

import pexpect
import pytest
from e2e.installing import INSTALL, PROVEN, SETTINGS, Installed
from machine import Machine

FILES_OF_DEVICES = [
    "/usr/lib/pam-mfa/pam-mfa-device",
    "/usr/lib/systemd/system/pam-mfa-device.service",
    "/usr/lib/systemd/system/pam-mfa-device.socket",
    "/usr/lib/udev/rules.d/71-pam-mfa-device.rules",
    "/usr/share/polkit-1/rules.d/pam-mfa-device.rules",
]
FORGET_DEVICES = f"userdel pam-mfa-device; rm {' '.join(FILES_OF_DEVICES)}"

# pcscd's own, of the builds that ask polkit; Debian 12's does not.
ACTIONS = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/PolicyKit/1/policyconfig.dtd">
<policyconfig>
  <action id="org.debian.pcsc-lite.access_pcsc"><defaults><allow_any>no</allow_any></defaults></action>
  <action id="org.debian.pcsc-lite.access_card"><defaults><allow_any>no</allow_any></defaults></action>
  <action id="org.debian.pcsc-lite.other"><defaults><allow_any>no</allow_any></defaults></action>
</policyconfig>
"""


def test_what_security_keys_are_enrolled_for(bare: Machine) -> None:
    assert "relying party: login.example.org, for" in bare.run([*INSTALL, "--rp-id", "login.example.org"]).stdout
    assert '\nrp_id = "login.example.org"\n' in bare.read(SETTINGS)
    assert "is for a first installation" in bare.run([*INSTALL, "--rp-id", "other.example.org"]).stdout
    assert '\nrp_id = "login.example.org"\n' in bare.read(SETTINGS)


def test_security_keys_are_enrolled_for_the_full_name_of_the_host(bare: Machine) -> None:
    bare.write("/etc/hosts", "127.0.0.1 machine.example.net machine localhost\n")
    assert "relying party: machine.example.net" in bare.run(INSTALL).stdout
    assert '\nrp_id = "machine.example.net"\n' in bare.read(SETTINGS)


@pytest.mark.parametrize("name", ["Example.org", "https://example.org", "", "-x"])
def test_what_is_no_domain_name_is_refused_before_anything_is_done(bare: Machine, name: str) -> None:
    done = bare.run([*INSTALL, f"--rp-id={name}"] if name else INSTALL, env={"PAM_MFA_RP_ID": "a b"}, check=False)
    assert done.returncode == 1
    assert "is no domain name" in done.stderr
    assert bare.run(["test", "-e", SETTINGS], check=False).returncode == 1


def test_security_keys_are_asked_about_at_a_terminal(bare: Machine) -> None:
    terminal = bare.spawn(INSTALL)
    terminal.expect_exact("Domain name that security keys are enrolled for, the same on every host of a fleet")
    terminal.sendline("fleet.example.org")
    terminal.expect_exact("relying party: fleet.example.org")
    terminal.expect(pexpect.EOF)
    assert '\nrp_id = "fleet.example.org"\n' in bare.read(SETTINGS)


def test_installation_of_before_security_keys(bare: Machine) -> None:
    """It has one account, settings without [fido2], and neither units nor rules for devices."""
    bare.run(INSTALL)
    old = "fail_delay = 1.5\n[[rule]]\nservices = ['pam-mfa']\nunenrolled = 'allow'\n"
    bare.run(["/bin/sh", "-c", FORGET_DEVICES])
    bare.write(SETTINGS, old)
    done = bare.run(INSTALL).stdout
    assert "account: made pam-mfa-device" in done
    assert "seal key: kept" in done
    assert PROVEN in done
    assert bare.read(SETTINGS) == old
    assert bare.run(["find", *FILES_OF_DEVICES]).stdout.split() == FILES_OF_DEVICES


ASK = """
import select
from pam_mfa.devices.base import List
from pam_mfa.devices.client import Client

client = Client()
client.send(List(seconds=5))
while (reply := client.receive()) is None:
    select.select([client], [], [])
print(reply)
"""


def test_the_unit_answers_the_service_and_nobody_else(installed: Installed) -> None:
    """The whole way: socket unit, sandbox, the helper that lists readers."""
    assert installed.python(ASK, user="pam-mfa").stdout == "Idle(devices=0)\n"
    assert "no_device_service" in installed.python(ASK, user="alice", check=False).stderr
    assert "no_device_service" in installed.python(ASK, user="pam-mfa-device", check=False).stderr


@pytest.mark.parametrize("path", ["/var/lib/pam-mfa", "/etc/pam-mfa", "/etc/pam-mfa/seal.key", "/home/alice"])
def test_the_unit_sees_neither_store_nor_key_nor_homes(installed: Installed, path: str) -> None:
    installed.run(["systemctl", "start", "pam-mfa-device"])
    enter = ["nsenter", f"--target={installed.main_pid('pam-mfa-device')}", "--mount"]
    found = installed.run([*enter, "stat", "-c", "%a", path], check=False)
    assert found.stdout in ("", "0\n"), "absent, or masked"


@pytest.mark.parametrize("action", ["access_pcsc", "access_card", "other"])
@pytest.mark.parametrize("user", ["pam-mfa-device", "pam-mfa", "alice"])
def test_polkit_lets_the_device_service_use_readers(installed: Installed, user: str, action: str) -> None:
    installed.write("/usr/share/polkit-1/actions/org.debian.pcsc-lite.policy", ACTIONS)
    with installed.popen(["/bin/sleep", "60"], user=user) as process:
        found = 'until pid=$(pgrep --newest --euid "$1" --exact sleep); do sleep 0.01; done'
        script = f'{found}; pkcheck --action-id "$0" --process "$pid"'
        words = ["/bin/sh", "-c", script, f"org.debian.pcsc-lite.{action}", user]
        allowed = installed.run(words, check=False)
        process.kill()
    expected = user == "pam-mfa-device" and action != "other"
    assert (allowed.returncode == 0) is expected, allowed.stderr
