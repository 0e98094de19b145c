"""Logins with virtual smartcards: readers in a machine, enrolling a card, its PIN, and a CA."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

from ca import Leaf, der
from e2e.keyed import PAM_MFA, start_device_service
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from machine import wait_for
from people import hear
from vdev.iso7816 import Card
from vdev.pcscd import Pcscd, Reader
from vdev.piv import AUTHENTICATION, PivApplet

LOCAL = '[policy]\nlocal_key = "always"\n'
CHAIN = f'{LOCAL}[smartcard]\ntrust = "chain"\nupn_anchors = ["company.pem"]\n'
NAME, PIN, WRONG_PIN = "work", "246801", "975310"
PROMPT = f'PIN of your smartcard "{NAME}" (3 tries left): '
LAST_BUT_ONE = f'PIN of your smartcard "{NAME}" (2 tries left: the next mistake leaves one): '
INSERT = f'Insert your smartcard "{NAME}"'
VERIFY = "/usr/lib/pam-mfa/pam-mfa-verify"
CA = "/etc/pam-mfa/ca"


class Cards:
    """A machine's readers."""

    def __init__(self, site: SiteMachine) -> None:
        self._pcscd = Pcscd(path=site.machine.path("/run/pcscd/pcscd.comm"))
        self.readers: list[Reader] = self._pcscd.readers

    def close(self) -> None:
        """Everything is out."""
        self._pcscd.close()

    def insert(self, leaf: Leaf, reader: int = 0, **more: Any) -> PivApplet:
        """A card with this certificate in 9A."""
        applet = PivApplet({AUTHENTICATION: leaf.key}, {AUTHENTICATION: der(leaf.certificate)[0]}, pin=PIN, **more)
        self.readers[reader].insert(Card(applet))
        return applet

    def insert_again(self, applet: PivApplet, reader: int = 0, pulled_at: int | None = None) -> None:
        """The same card; it comes out when it is given the instruction `pulled_at`, and something with it."""
        card, place = Card(applet), self.readers[reader]
        if pulled_at is not None:
            card.faults.before[pulled_at] = lambda command: place.remove(wait=False) if command.data else None
        place.insert(card)


def start(site: SiteMachine, config: str = LOCAL) -> None:
    """The service with those beside it, or nothing: engines bring their own."""
    if site.side == "service":
        start_device_service_first(site)
        place = site.machine.path("/run/pam-mfa/verify.sock")
        site.machine.popen([VERIFY], stdin=subprocess.DEVNULL)
        wait_for("the path checker", place.exists)
    site.start(config)


def start_device_service_first(site: SiteMachine) -> None:
    """By hand, as systemd would."""
    place = site.machine.path("/run/pam-mfa/device.sock")
    if place.exists():
        return start_device_service(site)
    site.machine.popen(["/usr/lib/pam-mfa/pam-mfa-device"], stdin=subprocess.DEVNULL)
    wait_for("the device service", place.exists)


def enrol(site: SiteMachine, leaf: Leaf, *more: str, user: str = "alice", name: str = NAME) -> Terminal:
    """Root enrols the card that is there for somebody: what is shown, the agreement, the PIN."""
    argv = [PAM_MFA, "enroll", "smartcard", "--user", user, "--name", name, *more]
    child = site.terminals.run(argv, user=None)
    child.expect(f"Subject    CN={leaf.certificate.subject.rdns[-1].rfc4514_string().partition('=')[2]},O=Example")
    child.expect(f"Serial     {leaf.serial:x}")
    child.expect(f"Enrol this certificate for {user}? (yes or no) ")
    child.type("yes")
    child.answer("PIN of the smartcard (3 tries left): ", PIN)
    child.expect(f'Enrolled smartcard "{name}".')
    child.ends_with(0)
    hear(site.machine)
    return child


def lay(site: SiteMachine, **folders: Mapping[str, bytes]) -> None:
    """Put a CA's files where the path checker looks."""
    for folder in ("anchors", "intermediates", "crls"):
        site.machine.run(["/bin/mkdir", "-p", "-m", "0755", f"{CA}/{folder}"])
        for name, content in folders.get(folder, {}).items():
            path = site.machine.path(f"{CA}/{folder}/{name}")
            path.write_bytes(content)
            path.chmod(0o644)


def said_nothing_secret(site: SiteMachine) -> bool:
    """Neither PIN is in the machine's log."""
    log = "".join(site.machine.journal())
    return PIN not in log and WRONG_PIN not in log
