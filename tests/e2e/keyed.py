"""Logins with virtual keys: enrolling one, touching it, what it was asked, and a login at a virtual console."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from e2e.readme import below_include, sudo_line
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from machine import wait_for
from people import hear
from vdev.keys import Key

LOCAL = '[policy]\nlocal_key = "always"\n'
VERIFIED = f'{LOCAL}[[rule]]\nservices = ["sudo"]\nuser_verification = "required"\n'
ROOT = "\r\n0\r\n"
CODE = "Verification code: "
NAME = "blue nano"
TOUCH = f'Touch your security key "{NAME}"'
PIN, PROMPT = "135790", f'PIN of your security key "{NAME}" (8 tries left): '
WRONG_PIN = "975310"
PAM_MFA = "/usr/bin/pam-mfa"
PENDING = "/run/pam-mfa/pending"
DEVICE = "/usr/lib/pam-mfa/pam-mfa-device"
DEVICE_USER = "pam-mfa-device"
ASSERTION, CLIENT_PIN = 2, 6

NEWS = re.compile(r"^.*pam_(?:lastlog|lastlog2|mail|motd)\.so.*\n", re.MULTILINE)

# The terminal under the name of a virtual console, as getty has it.
CONSOLE = """
umount --lazy /dev/tty1 2>/dev/null || touch /dev/tty1
mount --bind "$(tty)" /dev/tty1
exec setsid --ctty --wait /bin/login "$1" <>/dev/tty1 >&0 2>&0
"""


def touched(key: Key) -> None:
    """Touch it as soon as it blinks."""
    key.wait_for_user()
    key.touch()


def blinking(site: SiteMachine, key: Key) -> Terminal:
    """alice's sudo, that waits for this key to be touched."""
    sudo = site.sudo()
    sudo.expect(TOUCH)
    key.wait_for_user()
    return sudo


def touch_opens(sudo: Terminal, key: Key) -> None:
    """The key is asked for and touched, which makes alice root."""
    sudo.expect(TOUCH)
    touched(key)
    assert sudo.ends_with(0) == ROOT


def shown_list(site: SiteMachine, user: str | None) -> str:
    """What alice has, but for her apps, as she or root (None) sees it."""
    command = "pam-mfa list | grep -v totp" if user else "pam-mfa list --user alice | grep -v totp"
    return site.terminals.run(["/bin/sh", "-c", command], user, command).ends_with(0)


def enrol(site: SiteMachine, key: Key, *more: str) -> Terminal:
    """Enrol a key as "blue nano"; from then on it waits for touches."""
    key.inject(touch="manual")
    enroll = [PAM_MFA, "enroll", "fido2", "--name", NAME, *more]
    if site.side == "service":
        child = site.terminals.run(enroll)
        child.answer(CODE, site.alice.code())
    else:
        child = site.terminals.run([*enroll, "--user", "alice"], user=None)
    return child


def enrolled(site: SiteMachine, key: Key, pin: str = "") -> Key:
    """The same, done; the key's trace is empty."""
    _finish(enrol(site, key), key, pin)
    hear(site.machine)
    return key


def enrolled_by_root(site: SiteMachine, key: Key, name: str, pin: str = "") -> Key:
    """A key of alice's, from wherever root is and without a proof by what she has."""
    key.inject(touch="manual")
    child = site.terminals.run([PAM_MFA, "enroll", "fido2", "--name", name, "--user", "alice"], user=None)
    _finish(child, key, pin)
    hear(site.machine)
    return key


def _finish(child: Terminal, key: Key, pin: str) -> None:
    if pin:
        child.answer("PIN of your security key (8 tries left): ", pin)
    child.expect("Touch the security key that you want to enrol")
    touched(key)
    child.expect("Now touch it once more")
    touched(key)
    child.ends_with(0)
    key.trace(clear=True)


def asked(key: Key) -> list[object]:
    """The assertions that it was asked for, each with whether its user was to touch it."""
    return [entry["up"] for entry in key.trace() if entry.get("command") == ASSERTION]


def wait_until_cancelled(key: Key) -> None:
    """Until a key blinks no more because it was told so."""
    wait_for("the end of a touch", lambda: {"cancel": True} in key.trace() and not key.state()["awaiting"])


def console(site: SiteMachine, user: str = "alice") -> Terminal:
    """login(1) at a virtual console, with the README's line; prepared once by `prepare_console`."""
    return site.terminals.run(["/bin/sh", "-euc", CONSOLE, "console", user], None, f"login {user}")


def prepare_console(site: SiteMachine) -> None:
    """The README's line in login's PAM file, without what that waits after a refusal, and news of the day."""
    text = NEWS.sub("", site.machine.read("/etc/pam.d/login").replace("delay=3000000", "delay=0"))
    site.machine.write("/etc/pam.d/login", below_include(text, sudo_line()))


def pending(site: SiteMachine) -> list[str]:
    """Uids of those whose login waits for a touch, as a desktop notifier sees it."""
    return sorted(site.machine.run(["/bin/ls", PENDING]).stdout.split())


def kill_broker(site: SiteMachine) -> None:
    """End the process that asks the devices' helpers, the service's or the engine's, without a word."""
    uid, own = site.machine.uid(DEVICE_USER), dict[int, int]()
    for pid in site.machine.processes("/pam-mfa-"):
        with suppress(OSError):  # helpers come and go
            if os.stat(f"/proc/{pid}").st_uid == uid:
                own[pid] = _parent(pid)
    parents = set(own.values()) & set(own)
    (broker,) = [pid for pid in parents if pid not in {own[parent] for parent in parents}] or own
    os.kill(broker, signal.SIGKILL)


def start_device_service(site: SiteMachine) -> None:
    """By hand, as systemd would."""
    place = site.machine.path("/run/pam-mfa/device.sock")
    before = place.stat().st_ino
    site.machine.popen([DEVICE], stdin=subprocess.DEVNULL)
    wait_for("the device service", lambda: place.exists() and place.stat().st_ino != before)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
