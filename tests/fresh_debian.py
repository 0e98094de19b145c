"""Install pam-mfa on a fresh Debian, twice, and run tests there: in a private machine over a minimal tree.

    build/tests/bin/python3 tests/fresh_debian.py SUITE [TIER...]

Needs root and mmdebstrap. The tree is made once, in build/; packages come from where this system's apt gets them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from machine import PROJECT, Base, Machine

COPY = "/root/pam-mfa"  # of the project, writable and without anything built
TIERS = ("unit", "contract", "native", "pam")
INCLUDE = "ca-certificates,dbus,libpam-systemd,systemd-sysv"
HOURS = 1
AUTHORITIES = Path("/usr/local/share/ca-certificates")
TAKE = f"""
set -eu
mkdir -p {COPY}
tar --create --directory "$1" --exclude=./build --exclude=./.git --exclude=__pycache__ . |
    tar --extract --directory {COPY} --no-same-owner
update-ca-certificates >/dev/null 2>&1
"""


def output(argv: Sequence[str]) -> str:
    """What a program says. Raises CalledProcessError."""
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout


def mirror() -> str:
    """Where apt gets Debian from. Raises LookupError."""
    archives = output(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"])
    for line in archives.splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian":
            return address
    raise LookupError("apt knows no Debian archive: run apt-get update")


def tree(suite: str) -> Path:
    """A minimal system of that suite, made if it is not there."""
    path = PROJECT / f"build/debian-{suite}"
    if not path.is_dir():
        unfinished = path.with_name(f".{path.name}")
        subprocess.run(["rm", "-rf", str(unfinished)], check=True)
        argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDE}", suite, str(unfinished), mirror()]
        subprocess.run(argv, check=True)
        unfinished.rename(path)
    return path


def prepare(machine: Machine) -> None:
    """What the new system needs of this one: how to reach the network, and the project."""
    machine.write("/etc/resolv.conf", Path("/etc/resolv.conf").read_text())
    proxies = [line for line in output(["apt-config", "dump"]).splitlines() if "::Proxy" in line]
    machine.write("/etc/apt/apt.conf.d/proxy", "\n".join(proxies) + "\n")
    for authority in AUTHORITIES.glob("*.crt"):
        machine.write(str(authority), authority.read_text())
    if Path("/etc/pip.conf").is_file():
        machine.write("/etc/pip.conf", Path("/etc/pip.conf").read_text())
    machine.run(["/bin/sh", "-c", TAKE, "take", str(PROJECT)])


def run(machine: Machine, *argv: str) -> None:
    """Run a program of the copy, its output on ours. Raises CalledProcessError."""
    start = time.monotonic()
    print("+", *argv, flush=True)
    command = machine.command([f"{COPY}/{argv[0]}", *argv[1:]], env={"CI": "true"})
    subprocess.run(command, check=True, timeout=HOURS * 3600)
    print(f"  {time.monotonic() - start:.0f} s", flush=True)


def main() -> int:
    """Install, install again, test. Raises what fails."""
    suite, *tiers = sys.argv[1:]
    base = Base(furnish=False, system=str(tree(suite)))
    with Machine(base, shared_network=True) as machine:
        prepare(machine)
        run(machine, "packaging/install")
        run(machine, "packaging/install")
        run(machine, "tests/run", *(tiers or TIERS))
    base.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
