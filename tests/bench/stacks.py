"""A machine in which four PAM stacks can be measured side by side: no factor at all, two peers, and ours.

Everybody gets the same users, the same secrets and the same harness (pam_bench.c: one login is a new process,
pam_start, pam_authenticate, pam_end). The peers are Debian's own packages with their one-use rules on.
"""

from __future__ import annotations

import base64
import json
import random
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import Base, Machine

HERE = Path(__file__).resolve().parent
USERS = 2000
FIRST_UID = 20_000
RECOVERY_USERS = 100  # ten codes each
STATE = "/disk/bench"
GA_OPTIONS = '" WINDOW_SIZE 3\n" DISALLOW_REUSE\n" TOTP_AUTH\n'
OURS = "auth [success=ok ignore=ignore default=die] pam_mfa.so\nauth required pam_permit.so\n"
STACKS = {
    "permit": "auth required pam_permit.so\n",
    "google-authenticator": f"auth required pam_google_authenticator.so secret={STATE}/ga/${{USER}} user=root\n",
    "oath": f"auth required pam_oath.so usersfile={STATE}/users.oath window=3 digits=6\n",
    "totp": OURS,
    "recovery": OURS,
    "other": "auth required pam_deny.so\n",  # without it libpam writes a log line for each login
}

# Enrols users in the store as an installer would: as user pam-mfa, with the seal key read before the drop.
ENROL = """
import json, os, pwd, secrets, sys, time
key = open("/etc/pam-mfa/seal.key", "rb").read()
account = pwd.getpwnam("pam-mfa")
os.setgroups([]); os.setgid(account.pw_gid); os.setuid(account.pw_uid)
from pam_mfa.factors import registry
from pam_mfa.factors.totp import Parameters
from pam_mfa.store.base import Enrol
from pam_mfa.store.rows import Credential
from pam_mfa.store.seal import Sealer
from pam_mfa.store.sqlite import SqliteStore
sealer = Sealer(key)
store = SqliteStore("/var/lib/pam-mfa/store.db", sealer)
def rows():
    for line in sys.stdin:
        name, uid, factor, secret = json.loads(line)
        if factor == "totp":
            material = Parameters(bytes.fromhex(secret)).pack()
        else:
            material = b"".join(sealer.mac("recovery code", code.encode()) for code in secret)
        yield (Enrol((Credential(secrets.token_hex(16), uid, name, factor, factor, material, 0, int(time.time())),)),)
batch = []
def flush():
    for result in store.apply(batch):
        if isinstance(result, Exception):
            raise result
    batch.clear()
for row in rows():
    batch.append(row)
    if len(batch) == 1000:
        flush()
flush()
os._exit(0)
"""


@dataclass(frozen=True)
class User:
    """Somebody who logs in with the code of `secret`."""

    name: str
    uid: int
    secret: bytes


class Track:
    """The machine, furnished; a context manager.

    Args:
        base: the staged build.
    """

    def __init__(self, base: Base) -> None:
        self._disk = Path(tempfile.mkdtemp(dir=HERE.parents[1] / "build", prefix="bench-"))
        self.machine = Machine(base, disk=self._disk)
        rng = random.Random(7)
        self.users = [User(f"bench{i:06d}", FIRST_UID + i, rng.randbytes(20)) for i in range(USERS)]
        self._skip: dict[str, int] = {}

    def __enter__(self) -> Track:
        self._peers()
        self._ours()
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()
        shutil.rmtree(self._disk)

    def run(self, stack: str, count: int, procs: int = 1, **options: Any) -> dict[str, Any]:
        """Measure `count` logins of a stack, each by another user; pam_bench's report."""
        argv = ["pam_bench", "--confdir", f"{STATE}/pam.d", "--service", stack, "--json", "--count", str(count)]
        argv += ["--procs", str(procs)]
        if stack == "permit":
            argv += ["--user", "nobody"]
        else:
            skip = self._skip.get(stack, 0)
            self._skip[stack] = skip + count
            code, users = ("column", "recovery.tsv") if stack == "recovery" else ("totp", "users.tsv")
            argv += ["--users", f"{STATE}/{users}", "--code", code, "--skip", str(skip)]
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        done = self.machine.run(argv, check=False, timeout=300)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def enrol(self, rows: Sequence[tuple[str, int, str, object]]) -> None:
        """Put credentials into our store."""
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        self.machine.python(ENROL, input=lines, timeout=300)

    def _peers(self) -> None:
        machine = self.machine
        furnish(machine, STACKS)
        folder = machine.path(f"{STATE}/ga")
        folder.mkdir(mode=0o700)
        for user in self.users:
            path = folder / user.name
            path.write_text(base64.b32encode(user.secret).decode() + "\n" + GA_OPTIONS)
            path.chmod(0o400)
        machine.write(
            f"{STATE}/users.oath", "".join(f"HOTP/T30/6 {u.name} - {u.secret.hex()}\n" for u in self.users), 0o600
        )
        machine.write(
            f"{STATE}/users.tsv", "".join(f"{u.name}\t{base64.b32encode(u.secret).decode()}\n" for u in self.users)
        )

    def _ours(self) -> None:
        passwd = "".join(f"{u.name}:x:{u.uid}:{u.uid}::/:/bin/sh\n" for u in self.users)
        self.machine.run(["/bin/sh", "-c", "cat >> /etc/passwd"], input=passwd)
        rows: list[tuple[str, int, str, object]] = [(u.name, u.uid, "totp", u.secret.hex()) for u in self.users]
        codes = []
        for user in self.users[:RECOVERY_USERS]:
            own = ["".join(secrets.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(24)) for _ in range(10)]
            rows.append((user.name, user.uid, "recovery", own))
            codes.append([(user.name, code) for code in own])
        # Codes of one user do not follow each other: every login finds another user, as with TOTP.
        lines = [f"{name}\t{code}\n" for turn in zip(*codes, strict=True) for name, code in turn]
        self.machine.write(f"{STATE}/recovery.tsv", "".join(lines))
        put_on_disk(self.machine)
        self.enrol(rows)
        self.machine.service.start()


def furnish(machine: Machine, stacks: Mapping[str, str]) -> None:
    """Put the harness and the PAM files into a machine."""
    built = HERE.parents[1] / "build/pam_bench"
    subprocess.run(["cc", "-O2", "-o", built, HERE / "pam_bench.c", "-lpam"], check=True)
    shutil.copy(built, machine.path("/usr/bin/pam_bench"))
    for name, text in stacks.items():
        machine.write(f"{STATE}/pam.d/{name}", text)


def put_on_disk(machine: Machine) -> None:
    """Our store lies on a disk like the peers' files: what one stack pays for durability all have to pay."""
    machine.run(["cp", "-a", "/var/lib/pam-mfa", "/disk/store"])
    machine.run(["mount", "--bind", "/disk/store", "/var/lib/pam-mfa"])


def resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def settle(pid: int) -> int:
    """Resident memory once it has stopped changing."""
    last, end = -1, time.monotonic() + 10
    while (now := resident(pid)) != last and time.monotonic() < end:
        last = now
        time.sleep(0.2)
    return now
