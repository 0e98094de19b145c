"""What a store is asked and told, and what it promises. Factors and flows see stores through this file alone.

Promises, kept by every store and tested by tests/contract:
- A query is answered positively or raises a StoreError. "No such account" is an answer; silence is not.
- `apply` is one durable transaction for each tuple of operations: all on disk, or none and a StoreError.
- Rows are keyed by uid. An account stored under another name than the one asked for raises NameMismatch.
- Columns that never change (uid, user, factor, id, created, material) are sealed and authenticated together, and
  so is the set of an account's credentials.
- Counters have their rows from enrolment on; a login only updates in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

from ..structure import structure
from ..throttle import Instant
from .rows import Credential, Lease, Notice


@structure
class FindAccount:
    """-> Account. Raises NameMismatch where the uid is stored under another name.

    Args:
        source: where its answers come from: an address or network, somebody on this host, "" for its user on this
            host; None for nowhere in particular.
    """

    uid: int
    user: str
    source: str | None = None


@structure
class FindBudgets:
    """-> dict of throttle.Budget, by factor: what is counted of an account, wherever it comes from."""

    uid: int


@structure
class ListAccounts:
    """-> tuple of (uid, user), by uid: everybody with at least one credential."""


@structure
class FindOwners:
    """-> tuple of (credential id, uid, user): who has credentials of these ids."""

    credentials: tuple[str, ...]


@structure
class KeptConfig:
    """-> the last good text of the settings file, None where there never was one."""


@structure
class FindLease:
    """-> Lease, or None: the one that was given with this very binding. Whether its time is over is not judged.

    Args:
        uid: whose factor was proven.
        bound: what else has to be as it was then.
        boot_id: of now.
    """

    uid: int
    bound: tuple[str, ...]
    boot_id: str


@structure
class ListLeases:
    """-> tuple of Lease, by its begin: all of an account, also those whose time is over."""

    uid: int


@structure
class Advance:
    """Use a credential: its mark must grow to `to` (time step)."""

    credential: str
    to: int


@structure
class Burn:
    """Use a credential: bit number `bit` of its mark must not be set yet (recovery codes)."""

    credential: str
    bit: int


@structure
class Count:
    """Use a credential: its sign count must grow to `to`, or stay 0 (WebAuthn Level 3 section 7.2, step 22).

    Where it does not, the credential is marked as suspect, whatever becomes of the answer. A suspect is refused
    whatever it counts to: a copy that may try again catches up with the key.

    Args:
        tolerant: let a count pass that did not grow, and a suspect; the mark keeps the highest count.
    """

    credential: str
    to: int
    tolerant: bool = False


@structure
class Noted:
    """Use a credential that nothing can be counted of: the answer was to a question that is never asked again."""

    credential: str


Use = Advance | Burn | Count | Noted


@structure
class Attempt:
    """-> Tried. One answer, counted before it is believed.

    Where what counts for the source lets the account answer at `at`: the failure is counted, then, if there is a `use`,
    the use is made and the source's count is reset (throttle.Budget); a use that cannot be made (REPLAYED, CLONE, GONE)
    stays counted. Otherwise nothing changes, also where there is no tally because the account went (GONE).

    Args:
        uid: the account, or DECOY_UID.
        factor: whose tally counts.
        use: what the right answer uses up; None for a wrong answer.
        source: where the answer comes from, as in FindAccount.
    """

    uid: int
    factor: str
    use: Use | None
    at: Instant
    source: str | None = None


class Tried(Enum):
    """What became of an Attempt. Only ACCEPTED and TOLERATED are successes."""

    ACCEPTED = "accepted"
    TOLERATED = "tolerated"  # a sign count fell back, and the settings let that pass
    WRONG = "wrong"
    REPLAYED = "replayed"
    CLONE = "clone_suspect"  # a sign count fell back
    WAITING = "waiting"
    DISABLED = "disabled"
    GONE = "gone"  # the credential was removed while its user was typing


@structure
class Enrol:
    """-> None. Add credentials with their counter and tally rows; the account row is made if need be.

    A factor in `replace` loses the account's older credentials in the same transaction (a new set of
    recovery codes); a ticket that is replaced takes its failures along.

    Args:
        expected: ids of the credentials that the account must have just then; None for any. What somebody was
            allowed to do to an account was decided on these.
        alone: nobody may have one of these credentials just then; looks through the whole store.

    Raises NameMismatch, ChangedMeanwhile.
    """

    credentials: tuple[Credential, ...]
    replace: frozenset[str] = frozenset()
    expected: frozenset[str] | None = None
    alone: bool = False


@structure
class Rename:
    """-> bool: whether that account has that credential."""

    uid: int
    credential: str
    label: str


@structure
class Remove:
    """-> bool: whether that account had that credential. The last one takes the account row with it."""

    uid: int
    credential: str


@structure
class Unlock:
    """-> int: how many tallies were reset; familiar sources stay. Suspicions end.

    Args:
        capped: (credential id, highest mark it may keep): a time step from a clock that ran ahead.
        now: seconds since the epoch; no credential was used later. None: whenever they were.
    """

    uid: int
    capped: tuple[tuple[str, int], ...] = ()
    now: int | None = None


@structure
class Lend:
    """-> bool. Give a lease, unless the credential that was proven is gone; one of the same binding is replaced.

    An account has at most 16: those of its own whose time is over go, then the oldest. All of them go with any
    credential of the account, with a failure from anywhere after which there is a wait, and with Unlock.

    Args:
        uid, factor, credential: what was proven.
        bound: as in FindLease.
    """

    uid: int
    factor: str
    credential: str
    bound: tuple[str, ...]
    lease: Lease


@structure
class EndLeases:
    """-> int: how many leases went: those of an account, or with None all."""

    uid: int | None


@structure
class Grace:
    """-> int or None. One login without a credential: how many of `most` are left after it; None where none was left.

    The number stays with the uid, whatever is enrolled and removed: nobody gets the logins twice.
    """

    uid: int
    most: int


@structure
class Reset:
    """-> int: how many credentials went. All that an account has goes, and its tallies.

    No seal is looked at, nor whose name it bears: this is for what is damaged, or was somebody else's, as well.
    What Grace counted stays; a number of it that is damaged becomes one that leaves no login.
    """

    uid: int


@structure
class Announce:
    """-> what its operation gives. Unless that is False, the notice is kept in the same transaction.

    An account keeps its last MAX_NOTICES, and counts those before them.
    """

    operation: Operation
    notice: Notice


@structure
class Heard:
    """-> None. Forget the oldest notices of an account, earlier ones among them.

    Args:
        last: the number of the last one that its user has heard of (Account.heard). No other notice ever gets it, so
            those that came meanwhile stay.
    """

    uid: int
    user: str
    last: int


@structure
class KeepConfig:
    """-> None. Remember a settings text that was found good."""

    text: str


Query = FindAccount | FindBudgets | ListAccounts | FindOwners | KeptConfig | FindLease | ListLeases
Change = Enrol | Rename | Remove | Unlock | Reset | Announce | Heard
Operation = Attempt | Change | Grace | KeepConfig | Lend | EndLeases
MAX_NOTICES = 8


class Store(Protocol):
    """One open store. Not thread-safe: the service gives each thread its own."""

    def read(self, query: Query) -> Any:
        """Answer a query. Raises StoreError."""

    def apply(self, batch: Sequence[tuple[Operation, ...]]) -> list[tuple[Any, ...] | Exception]:
        """Run each tuple of operations in its own savepoint, then commit them all at once.

        Returns, in order, each tuple's results, or the exception that undid that tuple alone. Raises
        StoreError, with nothing changed, when the batch as a whole could not be made durable.
        """
