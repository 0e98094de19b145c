"""The private machine: a whole system of its own for one test, in a few milliseconds.

A `Machine` has its own mounts, network, host name, /run, /tmp, /dev/log, users and an installed pam-mfa, all laid over
this system's root; nothing outside changes and nothing stays. Process ids are the system's own: a test may signal them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pexpect
from syslog_socket import SyslogSocket

PROJECT = Path(__file__).resolve().parent.parent
STAGE = PROJECT / "build/stage"
PYTHON = "/usr/bin/python3"
SITE = "/usr/lib/pam-mfa/site"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "TERM": "xterm", "HOME": "/root"}
PASSWORDS = {"alice": "correct horse", "bob": "battery staple", "carol": "tractor seven"}
DEADLINE = 30.0  # seconds; for whatever should have happened long before

# Begins a change of the store, and makes none.
WRITE = 'import sqlite3; sqlite3.connect("/var/lib/pam-mfa/store.db", timeout=1).execute("BEGIN IMMEDIATE")'
# A frame of the manage socket (native/PROTOCOL.md): REQUEST, "how are you".
STATUS = b"\x01\x06\x00\x11" + b'{"verb":"status"}'

# What packaging/install does to a running system after its build, and people to log in.
FURNISH = """
set -eu
rm -rf /etc/pam-mfa /var/lib/pam-mfa /var/lib/pam-mfa-break-glass /usr/lib/pam-mfa
cp -a "$1/." /
for user in pam-mfa pam-mfa-device pam-mfa-verify; do
    getent passwd $user >/dev/null || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin $user
done
install -m 0400 /dev/null /etc/pam-mfa/seal.key
head -c 32 /dev/urandom > /etc/pam-mfa/seal.key
install -d -m 0700 -o pam-mfa -g pam-mfa /var/lib/pam-mfa
install -d -m 0770 -o root -g pam-mfa /var/lib/pam-mfa-break-glass
if test -x /usr/lib/pam-mfa/pam-mfa-engine; then /usr/lib/pam-mfa/pam-mfa-engine --prepare; fi
for user in $2; do getent passwd "$user" >/dev/null || useradd --create-home --shell /bin/sh "$user"; done
chpasswd --crypt-method SHA512 --sha-rounds 1000
printf '127.0.0.1 localhost machine\\n::1 localhost\\n' > /etc/hosts
"""


def wait_for(what: str, ready: Callable[[], object], deadline: float = DEADLINE) -> Any:
    """The first true answer of `ready`, asked every 5 ms. Raises TimeoutError with `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (answer := ready()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline} s")
        time.sleep(0.005)
    return answer


@dataclass(frozen=True)
class Plan:
    """What tests/private_root.py is told.

    Args:
        scratch: an empty directory to mount on, outside of the machine.
        base: the home of a Base: layer/ is laid over the system's root.
        log: the socket that becomes /dev/log.
        system: root directory of the Debian below, "/" for this one.
        fill: what the machine writes goes into the Base's layer.
        shared_network: keep the system's network (for apt and pip) instead of a lone loopback.
        disk: directory of the system shown at /disk, for what must not lie in memory; "" for none.
        project: directory shown read-only at its own place.
    """

    scratch: str
    base: str
    log: str
    system: str
    fill: bool
    shared_network: bool
    disk: str = ""
    project: str = str(PROJECT)


class Base:
    """What all machines of a test run have in common, in memory: made once, never written to again.

    Args:
        furnish: with the staged pam-mfa and the users of PASSWORDS; without, machines are the system as it is.
        system: root directory of the Debian that machines are laid over.

    Raises PermissionError where we are not root, FileNotFoundError where there is no staged build.
    """

    def __init__(self, furnish: bool = True, system: str = "/") -> None:
        if os.geteuid() != 0:
            raise PermissionError("private machines need root: run the tests with sudo ./tests/run")
        if furnish and not (STAGE / "usr/lib/pam-mfa/site").is_symlink():
            raise FileNotFoundError(f"no build in {STAGE}: make it with sudo ./packaging/install --destdir build/stage")
        self.home, self.system = Path(tempfile.mkdtemp(prefix="machines-")), system
        script = 'mount -t tmpfs -o mode=0755 tmpfs "$1" && mkdir "$1/layer" "$1/work" && echo ready && exec cat'
        self._holder = hold(
            ["/usr/bin/unshare", "--mount", "--propagation=private", "/bin/sh", "-c", script, "base", str(self.home)]
        )
        self.mounts = f"/proc/{self._holder.pid}/ns/mnt"
        if furnish:
            passwords = "".join(f"{user}:{password}\n" for user, password in PASSWORDS.items())
            with Machine(self, fill=True) as machine:
                machine.run(["/bin/sh", "-c", FURNISH, "furnish", str(STAGE), " ".join(PASSWORDS)], input=passwords)

    def close(self) -> None:
        """Forget it. Machines that run keep what they have."""
        release(self._holder)
        self.home.rmdir()


def hold(argv: Sequence[str]) -> subprocess.Popen[str]:
    """Start a process that holds namespaces until the end of its standard input; returns when it said "ready"."""
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True)
    assert holder.stdout
    if holder.stdout.readline() != "ready\n":
        release(holder)
        raise RuntimeError("a private machine did not come up; its reason is on standard error")
    return holder


def release(holder: subprocess.Popen[str]) -> None:
    """Let a held process go, and wait until it is gone. Twice is once."""
    assert holder.stdin
    assert holder.stdout
    holder.stdin.close()
    holder.stdout.close()
    holder.wait(DEADLINE)


class Machine:
    """One private machine; a context manager, or close() it.

    Args:
        base: what it stands on.
        fill: add what it writes to `base`, which no other machine may use yet.
        shared_network: keep the system's network instead of a lone loopback.
        disk: directory of the system that the machine sees as /disk.
    """

    def __init__(self, base: Base, fill: bool = False, shared_network: bool = False, disk: Path | None = None) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="machine-"))
        (self._home / "root").mkdir()
        self._log = SyslogSocket(self._home / "log")
        scratch, log = str(self._home / "root"), str(self._home / "log")
        plan = Plan(scratch, str(base.home), log, base.system, fill, shared_network, str(disk or ""))
        become = [PYTHON, "-I", str(PROJECT / "tests/private_root.py"), json.dumps(asdict(plan))]
        self._holder = hold(["/usr/bin/nsenter", f"--mount={base.mounts}", *become])
        self.pid = self._holder.pid
        self.service = Service(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the machine, and the machine. Twice is once."""
        release(self._holder)
        self._log.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def command(self, argv: Sequence[str], user: str | None = None, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `argv` in the machine, as `user` (default root); `env` adds to a bare one."""
        enter = ["/usr/bin/nsenter", f"--target={self.pid}", "--mount", "--net", "--uts"]
        settings = dict(ENVIRONMENT)
        if user:
            enter += ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"]
            settings |= {"HOME": f"/home/{user}", "USER": user, "LOGNAME": user, "SHELL": "/bin/sh"}
        settings |= env or {}
        return [*enter, "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in settings.items()), *argv]

    def popen(
        self, argv: Sequence[str], user: str | None = None, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """subprocess.Popen inside; the process id is the command's own."""
        return subprocess.Popen(self.command(argv, user, env), **options)

    def run(
        self,
        argv: Sequence[str],
        user: str | None = None,
        input: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        timeout: float = DEADLINE * 2,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end inside, text in and out. Raises AssertionError with the output where `check` and it failed."""
        done = subprocess.run(
            self.command(argv, user, env),
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def spawn(
        self,
        argv: Sequence[str],
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = DEADLINE,
        **options: Any,
    ) -> pexpect.spawn[str]:
        """A pexpect child on a terminal of its own inside; `options` as pexpect.spawn takes them."""
        first, *rest = self.command(argv, user, env)
        return pexpect.spawn(first, rest, encoding="utf-8", timeout=timeout, dimensions=(40, 120), **options)

    def python(self, code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run Python `code` with the installed pam_mfa on its path; options as `run`. A module: `runpy` in the code."""
        prelude = f"import sys; sys.path.insert(0, {SITE!r})\n"
        return self.run([PYTHON, "-I", "-S", "-B", "-c", prelude + code, *arguments], **options)

    def write(self, path: str, text: str, mode: int = 0o644, owner: str = "root:root") -> None:
        """Put a file in place in one step; its directory is made where missing."""
        script = (
            'set -eu; mkdir -p "${1%/*}"; umask 077; cat > "$1.new"; '
            'chown "$3" "$1.new"; chmod "$2" "$1.new"; mv "$1.new" "$1"'
        )
        self.run(["/bin/sh", "-c", script, "write", path, f"{mode:o}", owner], input=text)

    def read(self, path: str) -> str:
        """The text of a file inside. Raises AssertionError where it cannot be read."""
        return self.run(["/bin/cat", path]).stdout

    def path(self, path: str) -> Path:
        """A path of the machine as seen from outside, e.g. to connect to a socket. Not where it has absolute links."""
        return Path(f"/proc/{self.pid}/root{path}")

    def journal(self) -> list[str]:
        """Every line sent to the machine's /dev/log so far, as sent (with its <priority>)."""
        return self._log.lines()

    def wait_for_journal(self, words: str, count: int = 1, deadline: float = DEADLINE) -> list[str]:
        """The lines that contain `words`, once there are `count`. Raises TimeoutError."""

        def found() -> list[str]:
            lines = [line for line in self.journal() if words in line]
            return lines if len(lines) >= count else []

        lines: list[str] = wait_for(f"{count} journal lines with {words!r}", found, deadline)
        return lines

    def processes(self, name: str = "") -> list[int]:
        """Ids of the machine's processes, of those whose command line contains `name`."""
        home, found = os.readlink(f"/proc/{self.pid}/ns/mnt"), []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == self.pid:
                continue
            try:
                if os.readlink(entry / "ns/mnt") == home and name.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
        return found

    def engines(self) -> list[int]:
        """Ids of the engines; each one's own helpers have the same command line and run as somebody else."""
        others, found = [self.uid("pam-mfa-device"), self.uid("pam-mfa-verify")], []
        for pid in self.processes("pam-mfa-engine"):
            with suppress(OSError):  # it ended meanwhile
                if os.stat(f"/proc/{pid}").st_uid not in others:
                    found.append(pid)
        return found

    def uid(self, user: str) -> int:
        """Of one of the machine's users. Raises LookupError."""
        for line in self.path("/etc/passwd").read_text().splitlines():
            name, _, uid, *_ = line.split(":")
            if name == user:
                return int(uid)
        raise LookupError(user)


class Service:
    """pam-mfad of one machine, started by hand as root."""

    program = "/usr/lib/pam-mfa/pam-mfad"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._process: subprocess.Popen[Any] | None = None
        self._output: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running service. Raises AssertionError where it was not started."""
        assert self._process, "the service was not started"
        return self._process.pid

    def start(self, *arguments: str, wait: bool = True, env: Mapping[str, str] | None = None) -> None:
        """Start it; with `wait` return when it takes connections."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the machine)
        self._process = self._machine.popen(
            [self.program, *arguments], env=env, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until it answers a request. Raises AssertionError with its output where it ended instead."""

        def ready() -> bool:
            assert self._process
            assert self._process.poll() is None, f"the service ended: {self.output()}"
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                probe.settimeout(DEADLINE)
                if probe.connect_ex(str(self._machine.path("/run/pam-mfa/manage.sock"))):
                    return False
                probe.send(STATUS)
                return bool(probe.recv(65536))

        wait_for("the service", ready)

    def output(self) -> str:
        """What it wrote to standard output and error so far."""
        assert self._output
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def send(self, number: int) -> None:
        """Send a signal, e.g. SIGSTOP to hang it."""
        os.kill(self.pid, number)

    def freeze(self) -> None:
        """Hang it while it writes nothing: whoever hangs in a write keeps everybody from writing, as they find out."""

        def frozen() -> bool:
            self.send(signal.SIGSTOP)
            if self._machine.python(WRITE, user="pam-mfa", check=False).returncode == 0:
                return True
            self.send(signal.SIGCONT)
            return False

        wait_for("a moment in which the service writes nothing", frozen)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; returns its exit status (negative: the signal that ended it)."""
        assert self._process, "the service was not started"
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        status = self._process.wait(DEADLINE)
        self._process = None
        return status

    def kill(self) -> None:
        """As a crash would."""
        self.stop(signal.SIGKILL)
