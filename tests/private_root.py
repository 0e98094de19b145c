"""Become a private machine: own mounts, network and host name over an overlay of this system's root.

Run by tests/machine.py with /usr/bin/python3 -I as root; one JSON argument (see `Plan` there). Says "ready" on standard
output when the machine stands, then waits for the end of standard input, which also comes when the tests die. It then
kills whatever still runs in the machine and leaves; the kernel takes the mounts away with the last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x20000, 0x04000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raises OSError with `what` where a system call returned -1."""
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    data = options.encode() or None
    check(libc.mount(source.encode(), str(target).encode(), kind.encode() or None, flags, data), f"mount {target}")


def bind(source: str, target: Path, flags: int = 0) -> None:
    """The file or directory `source` once more at `target`, which is made."""
    if os.path.isdir(source):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, flags=MS_BIND | MS_REC)
    if flags:
        mount(source, target, flags=MS_BIND | MS_REMOUNT | flags)


def lay_root(plan: dict[str, str | bool]) -> Path:
    """The overlay over a system's root; returns where it is mounted."""
    scratch, base = Path(str(plan["scratch"])), Path(str(plan["base"]))
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", scratch, "tmpfs", options="mode=0755")
    for name in ("upper", "work", "root"):
        (scratch / name).mkdir(mode=0o755)
    system = plan["system"]
    options = f"lowerdir={base}/layer:{system},upperdir={scratch}/upper,workdir={scratch}/work"
    if plan["fill"]:
        options = f"lowerdir={system},upperdir={base}/layer,workdir={base}/work"
    mount("overlay", scratch / "root", "overlay", options=options)
    return scratch / "root"


def lay_system(root: Path, plan: dict[str, str | bool]) -> None:
    """The file systems a running system has, fresh where they hold state."""
    mount("proc", root / "proc", "proc")
    bind("/sys", root / "sys")
    mount("tmpfs", root / "run", "tmpfs", options="mode=0755")
    mount("tmpfs", root / "tmp", "tmpfs", options="mode=1777")
    mount("tmpfs", root / "dev", "tmpfs", options="mode=0755")
    for name in DEVICES:
        bind(f"/dev/{name}", root / "dev" / name)
    bind("/dev/pts", root / "dev/pts")  # the system's own: the tests' terminals come from there
    # Not bound: the kernel looks for pts/ beside the node that was opened.
    os.mknod(root / "dev/ptmx", 0o666 | stat.S_IFCHR, os.makedev(5, 2))
    os.chmod(root / "dev/ptmx", 0o666)
    (root / "dev/shm").mkdir()
    mount("tmpfs", root / "dev/shm", "tmpfs", options="mode=1777")
    for name, target in {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        (root / "dev" / name).symlink_to(target)
    bind(str(plan["log"]), root / "dev/log")
    if plan["disk"]:
        bind(str(plan["disk"]), root / "disk")
    project = Path(str(plan["project"]))
    bind(str(project), root / project.relative_to("/"), MS_RDONLY)
    for folder in project.parents:  # a home directory may be closed to other users
        inside = root / folder.relative_to("/")
        inside.chmod(inside.stat().st_mode | 0o111)


def enter(root: Path) -> None:
    """Make `root` the only file system there is."""
    os.chdir(root)
    subprocess.run(["/usr/sbin/pivot_root", ".", "."], check=True)
    check(libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def loopback_up() -> None:
    """Raise the `lo` of the new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def namespaces(pid: int | str) -> set[str]:
    """Mounts and network of a process. Raises OSError for one that is gone."""
    return {os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "net")}


def inhabitants(own: set[str]) -> list[int]:
    """An open pidfd of every other process in one of the namespaces `own`."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()):
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            inside = bool(own & namespaces(pid))
        except OSError:
            inside = False
        if inside:
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


def clear(own: set[str]) -> None:
    """Kill until nobody is left: a process may fork while we look."""
    while pidfds := inhabitants(own):
        for pidfd in pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


def main() -> None:
    """See the module's text."""
    plan = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the tests' Ctrl-C is not ours: the end of stdin is
    outside = namespaces("self")
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | (0 if plan["shared_network"] else CLONE_NEWNET)), "unshare")
    root = lay_root(plan)
    lay_system(root, plan)
    enter(root)
    socket.sethostname("machine")
    if not plan["shared_network"]:
        loopback_up()
    print("ready", flush=True)
    sys.stdin.read()
    clear(namespaces("self") - outside)


if __name__ == "__main__":
    main()
