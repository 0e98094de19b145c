"""How many wrong answers an account may give, and how long it then waits (RFC 4226 section 7.3, SP 800-63B 3.2.2).

Pure. Failures 1 to 5 are free, the sixth costs 30 s, each further one twice as long up to an hour;
at 100 the factor is disabled until an administrator unlocks it.

What others do elsewhere keeps nobody out: each of the sources from which an account was proven last has ten of the
hundred for itself, and waits for its own mistakes alone. All other sources share what is left.
"""

from __future__ import annotations

from enum import Enum

from .structure import structure

FREE = 5
FIRST_WAIT = 30
LONGEST_WAIT = 3600
LIMIT = 100
FAMILIAR = 4  # sources of an account that have a share of their own
SHARE = 10
FORGOTTEN = 30 * 24 * 3600  # seconds after which what others did elsewhere ends with a proof from anywhere


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
    """Failures with one factor since it was last proven, as they count for whoever answers.

    Args:
        failures: how many.
        last: when the last one was.
        limit: at how many nothing is compared any more.
        beyond: those of all other sources, that count as well once a familiar one has used up its share.
    """

    failures: int = 0
    last: Instant | None = None
    limit: int = LIMIT
    beyond: int = 0

    def failed(self, now: Instant) -> Tally:
        """After a wrong answer."""
        failures = self.failures + 1
        if failures < SHARE:
            return Tally(failures, now, self.limit, self.beyond)
        return Tally(failures + self.beyond, now, self.limit)


@structure
class Budget:
    """All failures of one account with one factor; between two proofs no more than LIMIT are ever compared.

    Args:
        others: of all sources that are not familiar, together.
        familiar: by source, of those from which the account was proven last, the latest first. One that has used up
            its share is familiar no longer, and its failures are the others'.
    """

    others: Tally = Tally()
    familiar: tuple[tuple[bytes, Tally], ...] = ()

    @property
    def failures(self) -> int:
        """From anywhere."""
        return self.others.failures + sum(tally.failures for _, tally in self.familiar)

    def of(self, source: bytes | None) -> Tally:
        """What counts for an answer from there; None is never familiar."""
        limit = LIMIT - SHARE * len(self.familiar)
        for known, tally in self.familiar:
            if known == source:
                return Tally(tally.failures, tally.last, limit + SHARE, self.others.failures)
        return Tally(self.others.failures, self.others.last, limit)

    def failed(self, source: bytes | None, now: Instant) -> Budget:
        """After a wrong answer."""
        counted = self.of(source).failed(now)
        tally = Tally(counted.failures, now)
        if self._knows(source) and counted.failures < SHARE:
            return Budget(
                self.others, tuple((known, tally if known == source else old) for known, old in self.familiar)
            )
        return Budget(tally, self._without(source))

    def proven(self, source: bytes | None, now: Instant) -> Budget:
        """After a right one.

        Who proves it where the account was proven before forgives nothing to the others, unless they stopped long ago.
        """
        last = self.others.last
        stopped = last is not None and elapsed(last, now) >= FORGOTTEN
        others = self.others if self._knows(source) and not stopped else Tally()
        own = () if source is None else ((source, Tally()),)
        return Budget(others, (*own, *self._without(source))[:FAMILIAR])

    def met(self, source: bytes | None) -> Budget:
        """After a right one with another factor: familiar here, too, where that gives nobody more guesses."""
        if source is None or self._knows(source):
            return self
        kept, gone = self.familiar[: FAMILIAR - 1], self.familiar[FAMILIAR - 1 :]
        others = self.others
        for _, tally in gone:
            others = Tally(others.failures + tally.failures, others.last or tally.last)
        if others.failures > LIMIT - SHARE * (len(kept) + 1):
            return self
        return Budget(others, ((source, Tally()), *kept))

    def forgiven(self) -> Budget:
        """Without any failure; what is familiar stays."""
        return Budget(familiar=tuple((source, Tally()) for source, _ in self.familiar))

    def _knows(self, source: bytes | None) -> bool:
        return any(known == source for known, _ in self.familiar)

    def _without(self, source: bytes | None) -> tuple[tuple[bytes, Tally], ...]:
        return tuple((known, tally) for known, tally in self.familiar if known != source)


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
    if tally.failures >= tally.limit:
        return Standing.DISABLED
    return Standing.WAITING if remaining(tally, now) else Standing.OPEN
