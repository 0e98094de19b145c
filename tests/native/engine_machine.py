"""Machines whose pam_mfa.engine is a stub: the executable is real, what it starts is one test's own code."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from machine import DEADLINE, PASSWORDS, STAGE, Base, Machine

ENGINE = "/usr/lib/pam-mfa/pam-mfa-engine"
DAEMON = "/usr/lib/pam-mfa/pam-mfad"
DEVICE = "/usr/lib/pam-mfa/pam-mfa-device"
VERIFY = "/usr/lib/pam-mfa/pam-mfa-verify"
STUB = "/usr/lib/pam-mfa/stub"
KEY = bytes(range(32))

# The staged executables, the accounts, the key, people; in place of the site directory one of cffi and the stub.
# The path checker's account is made where a test is about it; an installation on this system may have brought it.
FURNISH = """
set -eu
rm -rf /usr/lib/pam-mfa /etc/pam-mfa /var/lib/pam-mfa
mkdir -p /usr/lib/pam-mfa /etc/pam-mfa
cp -a "$1"/usr/lib/pam-mfa/. /usr/lib/pam-mfa/
! getent passwd pam-mfa-verify >/dev/null || userdel pam-mfa-verify
for user in pam-mfa pam-mfa-device; do
    getent passwd $user >/dev/null ||
        useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin $user
done
umask 077
cat > /etc/pam-mfa/seal.key
chmod 0400 /etc/pam-mfa/seal.key
umask 022
chmod 0755 /etc/pam-mfa
site=$(readlink -f /usr/lib/pam-mfa/site)
mkdir -p "$2/pam_mfa/devices" "$2/pam_mfa/verify"
cp -a "$site"/*cffi* "$2"
touch "$2/pam_mfa/__init__.py" "$2/pam_mfa/devices/__init__.py" "$2/pam_mfa/verify/__init__.py"
ln -sfn "${2##*/}" /usr/lib/pam-mfa/site
for user in $3; do getent passwd "$user" >/dev/null || useradd --create-home "$user"; done
"""

# What a stub can say of the process it finds itself in.
REPORT = """
import os, resource, sys

def status():
    with open("/proc/self/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}

def inode(fd):
    about = os.fstat(fd)
    return [about.st_dev, about.st_ino, about.st_rdev]

def report(role, sockets):
    import ctypes, fcntl
    before = set(sys.modules)
    umask = os.umask(0o077)
    return {
        "role": role, "sockets": sockets, "status": status(), "environment": dict(os.environ), "path": sys.path,
        "flags": {name: getattr(sys.flags, name) for name in
                  ("isolated", "no_site", "dont_write_bytecode", "utf8_mode", "ignore_environment", "safe_path")},
        "prefixes": [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix],
        "modules": sorted(before), "argv": sys.argv, "cwd": os.getcwd(), "umask": umask,
        "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        "core": resource.getrlimit(resource.RLIMIT_CORE), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "fds": {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                if os.path.lexists(f"/proc/self/fd/{name}")},
        "cloexec": [fd for fd in range(3, 64) if os.path.lexists(f"/proc/self/fd/{fd}")
                    and fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC],
        "key": os.pread(4, 64, 0).hex(), "key_mode": fcntl.fcntl(4, fcntl.F_GETFL) & os.O_ACCMODE,
    }
"""

# The same for device service and path checker, which have no key to tell.
DEVICE_REPORT = """
import os, resource

def denied(path):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).close()
    except OSError as error:
        return error.strerror
    return ""

def about():
    import sys
    with open("/proc/self/status") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    return {
        "status": status, "environment": dict(os.environ), "modules": sorted(sys.modules), "argv": sys.argv,
        "isolated": sys.flags.isolated, "core": resource.getrlimit(resource.RLIMIT_CORE),
        "fds": {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                if os.path.lexists(f"/proc/self/fd/{name}")},
        "denied": {path: denied(path) for path in ("/var/lib/pam-mfa", "/etc/pam-mfa/seal.key")},
    }
"""

# By default: tell everything on the session socket, or where there is none on standard output; then end well.
TELL = """
def run(role, sockets):
    import json, os
    text = json.dumps(report(role, sockets)).encode()
    os.write(sockets.get("session", 1), text)
    return 0
"""


@dataclass
class Ended:
    """What is left of a process: exit status, standard error, what the session's other end received."""

    status: int
    stderr: str
    report: dict[str, Any] = field(default_factory=dict)


def stub_base() -> Base:
    """The base of all stub machines. Raises as machine.Base."""
    base = Base(furnish=False)
    with Machine(base, fill=True) as machine:
        furnish = ["/bin/bash", "-c", FURNISH, "furnish", str(STAGE), STUB, " ".join(PASSWORDS)]
        machine.run(furnish, input=KEY.decode("ascii"))
        passwords = "".join(f"{user}:{password}\n" for user, password in PASSWORDS.items())
        machine.run(["/usr/sbin/chpasswd", "--crypt-method", "SHA512", "--sha-rounds", "1000"], input=passwords)
    return base


class StubMachine(Machine):
    """A machine whose pam-mfad and pam-mfa-engine run a stub."""

    def stub(self, code: str = TELL) -> None:
        """Make `code` the engine module; it must define run(role, sockets)."""
        self.write(f"{STUB}/pam_mfa/engine.py", REPORT + code)

    def stub_devices(self, code: str) -> None:
        """Make `code` the device service; it must define serve(listener) or serve_one(connection)."""
        self.write(f"{STUB}/pam_mfa/devices/service.py", DEVICE_REPORT + code)

    def stub_paths(self, code: str) -> None:
        """Make `code` the path checker, in the same way."""
        self.write(f"{STUB}/pam_mfa/verify/service.py", DEVICE_REPORT + code)

    def start(
        self,
        argv: Sequence[str],
        session: socket.socket | None = None,
        redirect: str = "",
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        before: str = "",
    ) -> subprocess.Popen[bytes]:
        """Start `argv`, `session` as its fd 3; `redirect` and `before` are words of the shell that execs it."""
        fds = (session.fileno(),) if session else ()
        if session:
            redirect += f" 3<&{session.fileno()} {session.fileno()}<&-"
        script = f'{before}\nexec "$@" {redirect}'
        return self.popen(
            ["/bin/bash", "-c", script, "start", *argv], user, env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=fds,
        )  # fmt: skip

    def session(self, *arguments: str, code: str | None = TELL, **options: Any) -> Ended:
        """Run the engine over a socket pair to its end."""
        if code is not None:
            self.stub(code)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            process = self.start([ENGINE, *arguments], theirs, **options)
            theirs.close()
            ours.settimeout(DEADLINE)
            data = ours.recv(65536)
            _, stderr = process.communicate(timeout=DEADLINE)
        return Ended(process.returncode, stderr.decode(), json.loads(data) if data else {})

    def to_end(self, argv: Sequence[str], **options: Any) -> Ended:
        """Run `argv` without a session to its end; its report is what it wrote to standard output."""
        process = self.start(argv, **options)
        stdout, stderr = process.communicate(timeout=DEADLINE)
        return Ended(process.returncode, stderr.decode(), json.loads(stdout) if stdout else {})
