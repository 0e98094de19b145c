"""How often one user may come: so that nobody floods the audit log, the user database or the accept queue."""

from __future__ import annotations

BURST = 64
PER_SECOND = 8.0
MOST_USERS = 4096


class Budget:
    """Connections per uid: BURST at once, PER_SECOND in the long run (a token bucket).

    Memory is bounded: when MOST_USERS are known those whose bucket is full again are forgotten, and where there are
    none everybody new is refused: a full table refuses, it never lets anybody pass uncounted.
    """

    def __init__(self) -> None:
        self._spent: dict[int, tuple[float, float]] = {}

    def take(self, uid: int, now: float) -> bool:
        """Whether `uid` may come now; `now` in seconds of a monotonic clock."""
        if uid not in self._spent and len(self._spent) >= MOST_USERS:
            self._forget(now)
            if len(self._spent) >= MOST_USERS:
                return False
        spent = self._owed(uid, now)
        if spent + 1 > BURST:
            return False
        self._spent[uid] = (spent + 1, now)
        return True

    def _owed(self, uid: int, now: float) -> float:
        spent, at = self._spent.get(uid, (0.0, now))
        return max(0.0, spent - (now - at) * PER_SECOND)

    def _forget(self, now: float) -> None:
        for uid in [uid for uid in self._spent if not self._owed(uid, now)]:
            del self._spent[uid]
