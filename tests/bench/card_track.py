"""A machine in which logins by smartcard can be measured side by side: Debian's pam_p11 and ours, with the same card.

Both know the card from the same file: pam_p11's authorized_certificates, which `pam-mfa import` took over.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ca
from ca import Authority, Leaf
from machine import Base, Machine, wait_for
from people import configure
from vdev.iso7816 import YUBIKEY_ATR, Card
from vdev.pcscd import Pcscd
from vdev.piv import AUTHENTICATION, PivApplet

from pam_mfa import wire

from .stacks import HERE, OURS, STATE, furnish, put_on_disk

USER, PIN = "alice", "246801"
LIBRARIES = Path("/usr/lib")
OPENSC = next(LIBRARIES.glob("*/opensc-pkcs11.so"), None)
STACKS = {
    "permit": "auth required pam_permit.so\n",
    "pam_p11": f"auth required pam_p11.so {OPENSC}\n",
    "ours": OURS,
    "other": "auth required pam_deny.so\n",
}
LOCAL = '[policy]\nlocal_key = "always"\nmethods = ["smartcard"]\n'
CHAIN = f'{LOCAL}[smartcard]\ntrust = "chain"\n'
ROOT = Authority.root()
ISSUING = ROOT.authority()
PROGRAMS = {"pam-mfa-device": "device.sock", "pam-mfa-verify": "verify.sock"}


def missing() -> str | None:
    """What this system lacks beside pcscd."""
    return None if OPENSC and any(LIBRARIES.glob("*/security/pam_p11.so")) else "install libpam-p11 opensc"


@dataclass(frozen=True)
class Timed:
    """One login that a test drove itself, in seconds.

    Args:
        verdict: from the PIN to the verdict.
        whole: from HELLO to the verdict; the PIN is typed at once.
    """

    verdict: float
    whole: float


class CardTrack:
    """The machine, with a card in its reader; a context manager.

    Args:
        base: the staged build.
        kind: of the card's key, as tests/ca.py names it.
    """

    def __init__(self, base: Base, kind: str) -> None:
        self.kind = kind
        self._disk = Path(tempfile.mkdtemp(dir=HERE.parents[1] / "build", prefix="bench-"))
        self.machine = Machine(base, disk=self._disk)
        self.leaf = ISSUING.leaf(USER, key=ca.old_key(kind))
        self._pcscd = Pcscd(path=self.machine.path("/run/pcscd/pcscd.comm"))

    def __enter__(self) -> CardTrack:
        self.insert(self.leaf)
        furnish(self.machine, STACKS)
        put_on_disk(self.machine)
        configure(self.machine, LOCAL)
        for program, name in PROGRAMS.items():
            self.machine.popen([f"/usr/lib/pam-mfa/{program}"], stdin=subprocess.DEVNULL)
            wait_for(program, self.machine.path(f"/run/pam-mfa/{name}").exists)
        self.machine.service.start()
        self._enrol()
        return self

    def __exit__(self, *_: object) -> None:
        self._pcscd.close()
        self.machine.close()
        shutil.rmtree(self._disk)

    def insert(self, leaf: Leaf) -> None:
        """This card; OpenSC signs with ECDSA only where it knows the card by its ATR."""
        applet = PivApplet({AUTHENTICATION: leaf.key}, {AUTHENTICATION: ca.der(leaf.certificate)[0]}, pin=PIN)
        self._pcscd.readers[0].insert(Card(applet, atr=YUBIKEY_ATR))

    def chain(self, revoked: int) -> None:
        """From now on paths are checked, with a certificate list of that many others."""
        crls = {"root.crl": ROOT.crl(), "issuing.crl": ISSUING.crl(range(10**18, 10**18 + revoked))}
        self._lay(crls=crls, anchors={"root.pem": ca.pem(ROOT.certificate)})
        self._lay(intermediates={"issuing.pem": ca.pem(ISSUING.certificate)})
        configure(self.machine, CHAIN)
        self.machine.service.stop()
        self.machine.service.start()

    def run(self, stack: str, count: int) -> list[float]:
        """Milliseconds that each of `count` logins of a stack takes, one after the other. Raises AssertionError."""
        argv = ["pam_bench", "--confdir", f"{STATE}/pam.d", "--service", stack, "--json", "--count", str(count)]
        argv += ["--user", USER, "--answer", PIN, "--save", "/tmp/samples"]
        done = self.machine.run(argv, check=False, timeout=300)
        report = json.loads(done.stdout)
        assert report["ok"] == count, (report, self.machine.journal()[-3:])
        return [float(line.split("\t")[2]) for line in self.machine.read("/tmp/samples").splitlines()]

    def login(self) -> Timed:
        """One login of ours on the service's socket, whose moments are known."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(30)
            connection.connect(str(self.machine.path("/run/pam-mfa/priv.sock")))
            typed = begun = time.monotonic()
            connection.send(wire.encode_hello(wire.Hello(bytes(16), "ours", USER, self.uid)))
            kind, payload = None, b""
            while kind is not wire.Type.RESULT:
                kind, payload = wire.decode(connection.recv(wire.RECEIVE_SIZE))
                if kind is wire.Type.ASK_SECRET:
                    typed = time.monotonic()
                    connection.send(wire.encode(wire.Type.REPLY, PIN.encode()))
            over = time.monotonic()
        assert payload[0] == 0xA5, payload
        return Timed(over - typed, over - begun)

    def _lay(self, **folders: Mapping[str, bytes]) -> None:
        ca.lay(self.machine.path("/etc/pam-mfa/ca"), **folders)

    def _enrol(self) -> None:
        self.uid = int(self.machine.run(["/usr/bin/id", "-u", USER]).stdout)
        folder = f"/home/{USER}/.eid"
        self.machine.run(["/usr/bin/install", "-d", "-o", USER, "-m", "0700", folder])
        path = f"{folder}/authorized_certificates"
        self.machine.write(path, ca.pem(self.leaf.certificate).decode(), 0o600)
        self.machine.run(["/bin/chown", USER, path])
        self.machine.run(["/usr/bin/pam-mfa", "import", "pam-p11", path, "--apply"])
