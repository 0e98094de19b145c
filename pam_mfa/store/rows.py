"""What a store keeps, as the rest of the program sees it."""

from __future__ import annotations

from ..structure import field, structure
from ..throttle import Tally

# The account that answers of unknown and unenrolled users are counted against, so that refusing them
# costs what refusing an enrolled user costs. Its failures never lock anything.
DECOY_UID = 0xFFFF_FFFF
TICKET = "ticket"  # the factor of what root gives out: whoever has nothing else has enrolled nothing


@structure
class Credential:
    """One enrolled thing.

    Args:
        id: 32 lower-case hex digits, random; of a key or card made from what tells it from others, so that a second
            owner is found.
        uid, user: its owner.
        factor: name of the factor in the registry.
        label: the name its user gave it; the only text that may change.
        material: what the factor needs to verify it, in the factor's own encoding; secret.
        mark: the highest time step, the bits of the used recovery codes, the sign count.
        created, used: integer seconds since the epoch, UTC; used is None before the first use.
        suspect: its sign count fell back once, so there may be a copy of it; refused, unless the settings tolerate
            that, until an administrator unlocks it.
    """

    id: str
    uid: int
    user: str
    factor: str
    label: str
    material: bytes = field(repr=False)
    mark: int = 0
    created: int = 0
    used: int | None = None
    suspect: bool = False


@structure
class Notice:
    """A change of what an account has, for its user to hear of at the next login.

    Args:
        uid, user: whose account.
        what: one word of notices.WORDS; "" where the store's words are damaged, and nothing else is known.
        about: which credential, in words; "" where it is about none.
        by_root: root did it, not the user.
        at: integer seconds since the epoch, UTC.
    """

    uid: int
    user: str
    what: str
    about: str
    by_root: bool
    at: int


@structure
class Account:
    """Everything a login needs to know of one account. `credentials` is empty where nobody is enrolled.

    Args:
        tallies: by factor, what counts for answers from there.
        source: where its answers come from (FindAccount).
        graced: how often it was let in without a credential (Grace); where the store's number is damaged, more often
            than any rule allows.
        notices: what its user has not heard of yet, oldest first.
        earlier: how many notices came before these and are forgotten.
        heard: the number of the last notice before all of these; the others follow it one by one.
    """

    uid: int
    user: str
    credentials: tuple[Credential, ...] = ()
    tallies: dict[str, Tally] = field(default_factory=dict)
    graced: int = 0
    notices: tuple[Notice, ...] = ()
    earlier: int = 0
    heard: int = 0
    source: str | None = None

    @property
    def enrolled(self) -> bool:
        """Whether its user has enrolled anything."""
        return any(c.factor != TICKET for c in self.credentials)

    def of(self, factor: str) -> tuple[Credential, ...]:
        """The credentials of one factor, oldest first."""
        return tuple(c for c in self.credentials if c.factor == factor)


@structure
class Lease:
    """That a proof also holds for further logins.

    Args:
        service, place, user: for which: kind of service, terminal or address, and the account that is entered.
        began, ends: seconds since the boot of that time (CLOCK_BOOTTIME).
        boot_id: which boot that was.
    """

    service: str
    place: str
    user: str
    began: int
    ends: int
    boot_id: str
