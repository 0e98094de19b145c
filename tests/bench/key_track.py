"""A machine in which logins by security key can be measured side by side: pam_u2f and ours, with the same virtual key.

Both know the key from the same line: pam_u2f's own pamu2fcfg enrolled it, and `pam-mfa import` took it over.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from machine import Base, Machine
from people import configure
from vdev.keys import Key, Keys

from pam_mfa import wire

from .stacks import HERE, OURS, STATE, furnish, put_on_disk

USER = "alice"
PARTY = "pam://bench"
MAPPING = "/etc/u2f_mappings"
STACKS = {
    "permit": "auth required pam_permit.so\n",
    "pam_u2f": f"auth required pam_u2f.so authfile={MAPPING} origin={PARTY} appid={PARTY} cue\n",
    "ours": OURS,
    "other": "auth required pam_deny.so\n",
}
ASSERTION = 0x02

# As user pam-mfa, with the seal key read before the drop: users with a key each, like an import of so many.
CROWD = """
import os, pwd, secrets, sys, time
key = open("/etc/pam-mfa/seal.key", "rb").read()
account = pwd.getpwnam("pam-mfa")
os.setgroups([]); os.setgid(account.pw_gid); os.setuid(account.pw_uid)
from pam_mfa.factors.fido2 import Material
from pam_mfa.store.base import Enrol
from pam_mfa.store.rows import Credential
from pam_mfa.store.seal import Sealer
from pam_mfa.store.sqlite import SqliteStore
store = SqliteStore("/var/lib/pam-mfa/store.db", Sealer(key))
first, last, now = int(sys.argv[1]), int(sys.argv[2]), int(time.time())
def credential(number):
    material = Material("host.example", secrets.token_bytes(64), secrets.token_bytes(77), transport=1).pack()
    name = f"crowd{number:06d}"
    return Credential(secrets.token_hex(16), 1_000_000 + number, name, "fido2", "key 1", material, 0, now)
for start in range(first, last, 1000):
    numbers = range(start, min(start + 1000, last))
    for result in store.apply([(Enrol((credential(number),)),) for number in numbers]):
        if isinstance(result, Exception):
            raise result
os._exit(0)
"""


@dataclass(frozen=True)
class Timed:
    """One login that a test drove itself, in seconds.

    Args:
        verdict: from the key's last answer to the verdict.
        whole: from HELLO to the verdict.
    """

    verdict: float
    whole: float


class KeyTrack:
    """The machine, with an enrolled key called `blue` and a stranger's called `red`; a context manager.

    Args:
        base: the staged build.
    """

    def __init__(self, base: Base) -> None:
        self._disk = Path(tempfile.mkdtemp(dir=HERE.parents[1] / "build", prefix="bench-"))
        self.machine = Machine(base, disk=self._disk)
        self.keys = Keys(self.machine.command, self.machine.path)

    def __enter__(self) -> KeyTrack:
        self.keys.start()
        self.keys.show_to()
        self.red = self.keys.key("red", insert=False)
        self.blue = self.keys.key("blue")
        furnish(self.machine, STACKS)
        put_on_disk(self.machine)
        configure(self.machine, '[policy]\nlocal_key = "always"\n')
        self.machine.service.start()
        self._enrol()
        return self

    def __exit__(self, *_: object) -> None:
        self.keys.stop()
        self.machine.close()
        shutil.rmtree(self._disk)

    def run(self, stack: str, count: int) -> list[float]:
        """Milliseconds that each of `count` logins of a stack takes, one after the other. Raises AssertionError."""
        argv = ["pam_bench", "--confdir", f"{STATE}/pam.d", "--service", stack, "--json", "--count", str(count)]
        # What sees the key is pam_u2f in the login's own process, and with ours another one.
        seen = self.keys.environment() if stack == "pam_u2f" else {}
        argv += ["--user", USER, "--save", "/tmp/samples"]
        done = self.machine.run(argv, check=False, env=seen, timeout=300)
        report = json.loads(done.stdout)
        assert report["ok"] == count, (report, self.machine.journal()[-3:])
        return [float(line.split("\t")[2]) for line in self.machine.read("/tmp/samples").splitlines()]

    def plug(self, *keys: Key) -> None:
        """These are plugged in, in this order, and no others."""
        for key in (self.blue, self.red):
            key.remove()
        for key in keys:
            key.insert()

    def delay(self, seconds: float) -> None:
        """How long the user takes to touch the key."""
        self.blue.inject(touch_delay=seconds)

    def login(self) -> Timed:
        """One login of ours on the service's socket, whose moments are known."""
        self.blue.trace(clear=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(30)
            connection.connect(str(self.machine.path("/run/pam-mfa/priv.sock")))
            begun = time.monotonic()
            connection.send(wire.encode_hello(wire.Hello(bytes(16), "ours", USER, self.uid)))
            kind = None
            while kind is not wire.Type.RESULT:
                kind, _ = wire.decode(connection.recv(wire.RECEIVE_SIZE))
            over = time.monotonic()
        (answered,) = (note["answered"] for note in self.blue.trace() if note["command"] == ASSERTION and note["up"])
        return Timed(over - answered, over - begun)

    def crowd(self, first: int, last: int) -> None:
        """Enrol users up to number `last` with a key each, at both; those below `first` are."""
        self.machine.python(CROWD, str(first), str(last), timeout=300)
        line = self.machine.read(MAPPING).splitlines()[-1]
        rest = line.partition(":")[2]
        text = "".join(f"crowd{number:06d}:{rest}\n" for number in range(last))
        self.machine.write(MAPPING, f"{text}{line}\n", 0o600)

    def _enrol(self) -> None:
        self.uid = int(self.machine.run(["/usr/bin/id", "-u", USER]).stdout)
        tool = ["/usr/bin/pamu2fcfg", f"--username={USER}", f"--origin={PARTY}", f"--appid={PARTY}"]
        self.machine.write(MAPPING, self.machine.run(tool, env=self.keys.environment()).stdout + "\n", 0o600)
        self.machine.run(["/usr/bin/pam-mfa", "import", "pam-u2f", MAPPING, "--origin", PARTY, "--apply"])
