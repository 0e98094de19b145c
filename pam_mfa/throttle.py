"""How many wrong answers an account may give, and how long it then waits (RFC 4226 section 7.3, SP 800-63B 3.2.2).

Pure. Failures 1 to 5 are free, the sixth costs 30 s, each further one twice as long up to an hour;
at 100 the factor is disabled until an administrator unlocks it.
"""

from __future__ import annotations

from enum import Enum

from .structure import structure

FREE = 5
FIRST_WAIT = 30
LONGEST_WAIT = 3600
LIMIT = 100


@structure
class Instant:
    """One moment on both clocks.

    Args:
        wall: integer seconds since the epoch, UTC.
        boot: seconds since this boot, suspend included (CLOCK_BOOTTIME).
        boot_id: which boot that was (/proc/sys/kernel/random/boot_id).
    """

    wall: int
    boot: int
    boot_id: str


@structure
class Tally:
    """Consecutive failures of one account with one factor, and when the last one was."""

    failures: int = 0
    last: Instant | None = None


class Standing(Enum):
    """What an account may do now."""

    OPEN = "open"
    WAITING = "waiting"
    DISABLED = "disabled"


def wait_after(failures: int) -> int:
    """Seconds to wait after that many consecutive failures."""
    if failures <= FREE:
        return 0
    return min(FIRST_WAIT << min(failures - FREE - 1, 16), LONGEST_WAIT)


def elapsed(last: Instant, now: Instant) -> int:
    """Seconds that have certainly passed between two moments.

    Within one boot the boot clock alone counts: setting the wall clock neither shortens nor prolongs a
    wait. Across a reboot the wall clock counts, but at least the age of this boot, so that a clock that
    was set back cannot lock anybody out for longer than the wait itself.
    """
    if last.boot_id == now.boot_id:
        return max(0, now.boot - last.boot)
    return max(now.boot, now.wall - last.wall)


def remaining(tally: Tally, now: Instant) -> int:
    """Seconds until the next answer is compared; 0 when it is compared at once."""
    if tally.last is None:
        return 0
    return max(0, wait_after(tally.failures) - elapsed(tally.last, now))


def standing(tally: Tally, now: Instant) -> Standing:
    """Whether an answer given now is compared."""
    if tally.failures >= LIMIT:
        return Standing.DISABLED
    return Standing.WAITING if remaining(tally, now) else Standing.OPEN
