"""What is being tried, on disk: it has to outlive the shell, the terminal and a reboot.

/var/lib/pam-mfa-try (root, 0700) holds `pending.json` while something is tried, `last.json` about what was tried last,
`lock`, and the FIFO `bell`: who watches the time holds it open, so it also tells whether somebody does.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import RefusedError
from .. import paths, wholefile
from ..paths import Paths, only_root_writes
from ..wholefile import Kind, Whole
from .files import Saved

PENDING, LAST, LOCK, BELL = "pending.json", "last.json", "lock", "bell"


@dataclass(frozen=True, slots=True)
class Tryout:
    """A change that is being tried.

    Args:
        life: of the system, as life() says; in another one the change has to go.
        deadline: when it is taken back, on CLOCK_MONOTONIC: no clock that somebody may set.
        seconds: how long there is to confirm it.
        changed: when the change was complete, on CLOCK_BOOTTIME; None as long as it is being made.
        programs: names of those of which one must have let somebody in since; none for any.
        about: what was changed, as far as that is known.
        saved: everything as it was before.
    """

    life: str
    deadline: float
    seconds: int
    changed: float | None
    programs: tuple[str, ...]
    about: tuple[str, ...]
    saved: Saved

    def left(self) -> float:
        """Seconds until it is taken back, 0 or less where it is time."""
        return self.deadline - time.monotonic() if self.life == life() else 0.0


def life() -> str:
    """A word for this run of the system: a reboot makes another one, and so does the restart of a container."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return f"{boot} {started(1)}"


def started(pid: int) -> int:
    """When a process started, in clock ticks since the boot. Raises OSError where there is none (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def folder(where: Paths) -> Path:
    """The directory, made where it is missing. Raises RefusedError where others could write to it."""
    path = where.at(paths.TRYOUT)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not only_root_writes(path, stat.S_IFDIR):
        raise RefusedError("refused", f"{path} is not root's alone; look who made it, and remove it")
    return path


@contextlib.contextmanager
def locked(where: Paths) -> Iterator[None]:
    """One step at a time: to begin, to confirm, to take back."""
    fd = os.open(folder(where) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def load(where: Paths) -> Tryout | None:
    """What is being tried now. Raises RefusedError where that cannot be read."""
    path = where.at(paths.TRYOUT) / PENDING
    try:
        found = json.loads(path.read_bytes())
        return Tryout(
            life=found["life"],
            deadline=found["deadline"],
            seconds=found["seconds"],
            changed=found["changed"],
            programs=tuple(found["programs"]),
            about=tuple(found["about"]),
            saved={Path(name): _whole(fields) for name, fields in found["saved"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError("unavailable", f"{path} cannot be read ({error}); put your files right by hand") from None


def keep(where: Paths, tryout: Tryout) -> None:
    """Write it down, so that whatever happens finds either this or what was there before."""
    body = {
        "life": tryout.life,
        "deadline": tryout.deadline,
        "seconds": tryout.seconds,
        "changed": tryout.changed,
        "programs": tryout.programs,
        "about": tryout.about,
        "saved": {str(path): _fields(whole) for path, whole in tryout.saved.items()},
    }
    _write(folder(where) / PENDING, body)


def forget(where: Paths, how: str, about: Sequence[str]) -> None:
    """It is over: from here on nobody takes it back.

    Args:
        how: "confirmed", "restored" or "unchanged".
        about: of the tryout.
    """
    (folder(where) / PENDING).unlink()
    _write(folder(where) / LAST, {"state": how, "about": list(about)})
    ring(where)


def last(where: Paths) -> Mapping[str, Any]:
    """How the last one ended: `state` and `about` as given to forget(); empty where there was none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((where.at(paths.TRYOUT) / LAST).read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def hang_bell(where: Paths) -> None:
    """A new bell, which nobody hears yet: whoever waits at an older one ends by itself."""
    path = folder(where) / BELL
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)


def ring(where: Paths) -> bool:
    """Have whoever watches the time look again; returns whether somebody does."""
    try:
        fd = os.open(where.at(paths.TRYOUT) / BELL, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    try:
        with contextlib.suppress(BlockingIOError):  # it is full of rings
            os.write(fd, b".")
    finally:
        os.close(fd)
    return True


def _write(path: Path, body: Mapping[str, Any]) -> None:
    wholefile.put(path, Whole(Kind.FILE, 0o600, content=json.dumps(body).encode()))


def _fields(whole: Whole | None) -> Mapping[str, Any] | None:
    if whole is None:
        return None
    return {
        "kind": whole.kind,
        "mode": whole.mode,
        "uid": whole.uid,
        "gid": whole.gid,
        "attributes": {name: base64.b64encode(value).decode() for name, value in whole.attributes.items()},
        "content": base64.b64encode(whole.content).decode(),
    }


def _whole(fields: Mapping[str, Any] | None) -> Whole | None:
    if fields is None:
        return None
    attributes = {name: base64.b64decode(value) for name, value in fields["attributes"].items()}
    content = base64.b64decode(fields["content"])
    return Whole(Kind(fields["kind"]), fields["mode"], fields["uid"], fields["gid"], attributes, content)
