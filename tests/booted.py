"""A private machine with systemd as its first process: real units, real journal, real sandboxes."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine import Base, Machine, wait_for

# Only what a bare system has is started: nothing of this system's own services, nothing that looks at hardware.
BOOT = """
set -eu
mkdir "$1"
echo $$ > "$1/cgroup.procs"
exec unshare --cgroup --pid --ipc --mount --propagation=private --fork --kill-child /bin/sh -euc '
mount -o remount,ro,bind /sys
umount --recursive /sys/fs/cgroup || true
mount -t cgroup2 none /sys/fs/cgroup
mount -t proc proc /proc
mount -o bind,ro /proc/sys /proc/sys
umount /dev/log
rm /dev/log
cd /etc/systemd/system
rm -rf ./*.wants ./*.requires default.target
ln -s /lib/systemd/system/multi-user.target default.target
for unit in d.service d-kernel.socket d-control.socket -trigger.service; do ln -sf /dev/null "systemd-udev$unit"; done
echo > /etc/fstab
echo machine > /etc/hostname
mount --make-rshared /
export container=other
exec /lib/systemd/systemd --system --log-target=journal --show-status=0
'
"""


class Booted(Machine):
    """A machine that was booted; everything in it runs below its systemd.

    Args:
        base, shared_network: as for Machine.

    Raises RuntimeError where there is no cgroup2 file system, TimeoutError where systemd does not come up.
    """

    def __init__(self, base: Base, shared_network: bool = False) -> None:
        super().__init__(base, shared_network=shared_network)
        self._cgroup = cgroup_root() / f"machine-{self.pid}"
        self._init = ""
        boot = self.popen(["/bin/sh", "-c", BOOT, "boot", str(self._cgroup)], stdin=subprocess.DEVNULL)
        self._init = wait_for("systemd", lambda: child_of(boot.pid, "systemd"))
        wait_for("the end of the boot", self._is_up)

    def _is_up(self) -> bool:
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return state in ("running", "degraded")

    def command(self, argv: Sequence[str], user: str | None = None, env: Mapping[str, str] | None = None) -> list[str]:
        """As for Machine, below the machine's systemd."""
        words = super().command(argv, user, env)
        if not self._init:
            return words
        spaces = ["--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup"]
        return [words[0], f"--target={self._init}", *spaces, *words[words.index("--uts") + 1 :]]

    def records(self, *matches: str) -> str:
        """The journal, as `journalctl` prints it for these matches or options."""
        return self.run(["journalctl", "--no-pager", "--quiet", *matches]).stdout

    def close(self) -> None:
        """As for Machine; also gives the cgroup back."""
        super().close()
        wait_for("the machine's cgroup to be empty", lambda: remove_cgroup(self._cgroup))


def remove_cgroup(root: Path) -> bool:
    """Whether the cgroup and all below it are gone now; one whose last process is just ending is busy."""
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not root.exists()


def cgroup_root() -> Path:
    """Where the cgroup2 file system is mounted, beside the old kind or alone."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    raise RuntimeError("no cgroup2 file system: a systemd cannot be booted here")


def child_of(pid: int, name: str) -> str:
    """The id of the child that runs program `name`, "" while there is none."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().strip() == name:
            return child
    return ""
