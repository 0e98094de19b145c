"""The files of break-glass codes: one for each, made by root alone, taken away by whoever lets somebody in with it.

The directory is root's, and the group pam-mfa may take files away. What counts is root's, too: who has become pam-mfa
can hide codes or do away with them, but can make none, nor make one again that was used.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from ..conversation import BreakGlass, GlassBroken
from ..structure import field, structure

FOLDER = "/var/lib/pam-mfa-break-glass"
SECONDS = 2.0  # after which nobody waits for the disk any more
NAME = re.compile(r"[0-9a-f]{8}", re.ASCII)
LABEL = re.compile(r"[ -~]{1,64}", re.ASCII)
MAX_SIZE = 1024
MAX_LOOKED_AT = 1000  # names in the directory; whoever can put more there could remove the codes as well
DIGEST_BYTES = 32
ROOT = 0
KINDS: dict[str, tuple[type, ...]] = {
    "digest": (str,), "label": (str,), "created": (int,), "expires": (int, type(None)), "user": (str, type(None)),
}  # fmt: skip


@structure
class Code:
    """One code.

    Args:
        id: the name of its file, 8 hex digits.
        digest: of the code; 32 bytes.
        label: what its maker called it.
        created, expires: seconds since the epoch, UTC; None: never. One that never expires asks no clock.
        user: the only account that it opens; None: any.
    """

    id: str
    digest: bytes = field(repr=False)
    label: str = ""
    created: int = 0
    expires: int | None = None
    user: str | None = None

    def expired(self, at: int) -> bool:
        """Whether it opens nothing at a time: also before it was made, lest a clock that is set back revives it."""
        return self.expires is not None and not self.created <= at < self.expires

    def pack(self) -> bytes:
        """The content of its file."""
        import json

        values = {"label": self.label, "created": self.created, "expires": self.expires, "user": self.user}
        return json.dumps({"digest": self.digest.hex(), **values}).encode() + b"\n"


def unpack(name: str, data: bytes) -> Code:
    """The other way round. Raises ValueError for what no file of ours holds."""
    import json

    values = json.loads(data)
    if not isinstance(values, dict) or values.keys() != KINDS.keys():
        raise ValueError("it holds something else")
    if any(type(values[key]) not in kinds for key, kinds in KINDS.items()) or not LABEL.fullmatch(values["label"]):
        raise ValueError("it holds values of another kind")
    digest = bytes.fromhex(values.pop("digest"))
    if len(digest) != DIGEST_BYTES:
        raise ValueError("it holds no hash")
    return Code(name, digest, **values)


def codes(folder: int) -> Iterator[tuple[str, Code | str]]:
    """Every file of a code in an open directory by its name, and the code, or why it does not count."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, MAX_LOOKED_AT) if NAME.fullmatch(entry.name)]
    for name in sorted(names):
        try:
            yield name, unpack(name, _content(folder, name))
        except (OSError, ValueError, RecursionError) as problem:
            yield name, str(getattr(problem, "strerror", None) or problem)


def break_glass(want: BreakGlass, path: str = FOLDER) -> GlassBroken:
    """Take the code that is wanted; blocks for as long as the disk does. What fails on the way opens nothing.

    It may use the code up, though: where its file is gone and the disk does not confirm that.
    """
    try:
        with opened(path) as folder:
            found = [code for _, code in codes(folder) if isinstance(code, Code)]
            left = [code for code in found if not code.expired(want.at)]
            if want.digest is None:
                return GlassBroken(len(left))
            # All of them, always: time tells nothing.
            fitting = [code for code in found if hmac.compare_digest(code.digest, want.digest)]
            return _take(folder, fitting[0], want, len(left)) if fitting else GlassBroken(len(left))
    except OSError:
        return GlassBroken(0)


def _take(folder: int, code: Code, want: BreakGlass, left: int) -> GlassBroken:
    """Remove its file: of all who try only one does. It counts once that is on disk.

    A disk that fails just then gives `break_glass_not_taken` for a code that is gone nevertheless, or back after a
    crash: it has opened nothing.
    """
    if code.expired(want.at):
        return GlassBroken(left, reason="break_glass_expired")
    if code.user not in (None, want.user):
        return GlassBroken(left, reason="break_glass_of_another")
    try:
        os.unlink(code.id, dir_fd=folder)
        os.fsync(folder)
    except FileNotFoundError:
        return GlassBroken(left)
    except OSError:
        return GlassBroken(left, reason="break_glass_not_taken")
    return GlassBroken(left - 1, code.id, code.label)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the directory. Raises OSError where there is none, or somebody else could put codes in it."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(folder)
        if found.st_uid != ROOT or found.st_mode & stat.S_IWOTH:
            raise PermissionError(f"{path} is not root's alone")
        yield folder
    finally:
        os.close(folder)


def _content(folder: int, name: str) -> bytes:
    """What a file of root's holds. A second name of it would outlive its use. Raises OSError, ValueError."""
    # O_NONBLOCK: a FIFO that lies in the way must not wait for its other end.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != ROOT or found.st_mode & 0o022 or found.st_nlink != 1:
            raise ValueError("not a file that only root can have made")
        if found.st_size > MAX_SIZE:
            raise ValueError("too large")
        return os.read(fd, MAX_SIZE)
    finally:
        os.close(fd)
