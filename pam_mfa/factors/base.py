"""What a factor is, and the ceremony in which it is proven."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ..config import Fido2, Smartcard
from ..conversation import Alert, Shown, Steps, commit, expect, read
from ..outcome import Proof
from ..rules import FirstFactor, Rule
from ..store.base import Attempt, Count, FindOwners, Tried, Use
from ..store.rows import DECOY_UID, TICKET, Account, Credential
from ..structure import field, replace, structure
from ..throttle import LIMIT, Instant, Standing, Tally, remaining, standing

MAX_TRIES = 3
SET_BACK = 120  # seconds by which the clock may have been corrected
SPOKEN: Mapping[str, str] = {TICKET: "one-time code"}  # what users call a factor, where that is not its name
DEFAULT_RULE, DEFAULT_FIDO2, DEFAULT_SMARTCARD = Rule(), Fido2(), Smartcard()


@structure
class Place:
    """Where something is proven or enrolled, and by which rules.

    Args:
        host: this host's name.
        service, user, rhost: the PAM items, "" where unset.
        local: whether this host's own devices may be asked (origin.py, and the rule's local_key).
        rule: of the PAM service.
        fido2, smartcard: what holds for security keys and for smartcards in all services.
    """

    host: str = ""
    service: str = ""
    user: str = ""
    rhost: str = ""
    local: bool = False
    rule: Rule = DEFAULT_RULE
    fido2: Fido2 = DEFAULT_FIDO2
    smartcard: Smartcard = DEFAULT_SMARTCARD

    @property
    def uniform(self) -> bool:
        """Whether nothing was proven before us: then no word may depend on the account."""
        return self.rule.first_factor is FirstFactor.NONE

    @property
    def rp_id(self) -> str:
        """The relying party id of new credentials (WebAuthn section 5.1.2)."""
        return self.fido2.rp_id or self.host.lower()


NOWHERE = Place()


@structure(frozen=False)
class Ceremony:
    """One account being proven in one session; it lives as long as the login or the change it protects.

    Args:
        session: id of the session, part of every proof.
        uid: the account, None where there is no such user.
        account: what the store knows of it; without credentials everything is asked and nothing fits.
        now: reads both clocks.
        tries: answers that may still be given.
        reason: why the last answer was refused, for the audit record.
        undecided: why nobody could say whether a credential is good, "" where that was not met.
        caveat: what was let pass of the proof, as the settings say, for the audit record; "" where nothing was.
        place: where; by default somewhere without devices.
        clock_told: whether an administrator was told of a clock that was set back.
        otherwise: takes a typed answer that has no factor's form; None: nobody does.
    """

    session: str
    uid: int | None
    account: Account
    now: Callable[[], Instant]
    tries: int = MAX_TRIES
    reason: str = "unenrolled"
    undecided: str = ""
    caveat: str = ""
    place: Place = NOWHERE
    clock_told: bool = False
    otherwise: Callable[[Ceremony, str], Steps[Proof | None]] | None = None


class Factor(Protocol):
    """One kind of credential. A factor is one file here and one line in the registry."""

    name: str

    def enrol(self, enrolment: Enrolment) -> Steps[Made]:
        """Flow that makes a credential and, where it can be, proves that it works.

        Raises RefusedError where the user could not prove it.
        """

    def details(self, credential: Credential) -> Mapping[str, Any]:
        """What `pam-mfa list` may show of a credential; nothing secret."""

    def ceiling(self, credential: Credential, now: Instant) -> int | None:
        """The highest mark that the clock explains, None where marks do not come from a clock."""


class CodeFactor(Factor, Protocol):
    """A factor whose answer is typed. All of them share one prompt (factors/code.py).

    `decoy` is a credential of nobody's: answers that are not compared are matched with it, which takes as long.
    """

    decoy: Credential

    def fits(self, answer: str) -> bool:
        """Whether the answer has the form of this factor's codes."""

    def match(self, credential: Credential, answer: str, now: Instant) -> Use | None:
        """What the answer would use up if it is right. Constant time; changes nothing."""

    def aftermath(self, credential: Credential, use: Use) -> str | None:
        """What the user is told after this use."""


class DeviceFactor(Factor, Protocol):
    """A factor that waits for a device; it runs its own conversation."""

    def prove(self, ceremony: Ceremony) -> Steps[Proof | None]:
        """Flow to a proof, or None: skipped, declined, timed out, wrong. Uses `settle` to count and record."""


def is_device(factor: Factor) -> bool:
    """Whether a factor is a DeviceFactor."""
    return hasattr(factor, "prove")


@structure
class Enrolment:
    """A credential about to be made.

    Args:
        uid, user: its owner.
        id: 32 hex digits, fresh; for a factor that has no better one.
        label: what its user calls it.
        host: this host's name as authenticator apps show it.
        now: reads both clocks.
        options: of the factor, as the CLI sent them; checked by the factor.
        session: id of the session.
        held: what its owner has of all factors.
        place: where.
    """

    uid: int
    user: str
    id: str
    label: str
    host: str
    now: Callable[[], Instant]
    options: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    held: tuple[Credential, ...] = ()
    place: Place = NOWHERE

    def credential(self, factor: str, material: bytes, mark: int = 0) -> Credential:
        """The finished credential."""
        return Credential(self.id, self.uid, self.user, factor, self.label, material, mark, created=self.now().wall)


@structure
class Made:
    """A credential that is not on disk yet.

    Args:
        credential: to be stored.
        reveal: a record the user sees once it is stored, and never before: what is shown counts.
    """

    credential: Credential
    reveal: Mapping[str, Any] | None = field(default=None, repr=False)


def other_owner(uid: int, ids: Iterable[str]) -> Steps[str | None]:
    """Sub-flow: a user who is not `uid` and has a credential of one of these ids, None where nobody has (K07, P05)."""
    owners = yield from read(FindOwners(tuple(ids)))
    return next((user for _, owner, user in owners if owner != uid), None)


def comparable(ceremony: Ceremony, factor: str) -> bool:
    """Whether an answer is compared at all: not where nothing is enrolled, not during a wait, not when disabled."""
    if ceremony.uid is None or not ceremony.account.of(factor):
        ceremony.reason = "wrong" if ceremony.account.enrolled else ceremony.reason
        return False
    state = standing(_tally(ceremony, factor), ceremony.now())
    if state is not Standing.OPEN:
        ceremony.reason = state.value
    return state is Standing.OPEN


def waits(ceremony: Ceremony, factors: Iterable[str]) -> str:
    """What a user who waits is told inside the prompt, "" where nothing is to be told.

    Strangers learn of no wait: neither where nothing was proven before us, nor of an account that cannot get in.
    """
    if ceremony.place.uniform or ceremony.uid is None:
        return ""
    told, now = [], ceremony.now()
    for name in filter(ceremony.account.of, factors):
        tally, spoken = _tally(ceremony, name), SPOKEN.get(name, name)
        if standing(tally, now) is Standing.WAITING:
            told.append(f"{spoken} counts again in {duration(remaining(tally, now))}")
        elif standing(tally, now) is Standing.DISABLED:
            where = "here " if tally.limit < LIMIT else ""  # not where it was proven lately
            told.append(f"{spoken} is locked {where}until an administrator unlocks it")
    return f"Too many wrong answers: {', '.join(told)}. " if told else ""


def duration(seconds: int) -> str:
    """A time to wait in few words, never less than it is: "30 s", "8 min"."""
    return f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"


def settle(
    ceremony: Ceremony, factor: str, compared: bool, matched: tuple[Credential, Use] | None
) -> Steps[Proof | None]:
    """Count one answer, record its use, and only then make the proof.

    Args:
        compared: what `comparable` said when the answer came. An answer that was not compared is counted on the
            decoy instead, so that it costs the same and tells nothing.
        matched: the credential that the answer fits and what it uses up; None for a wrong answer.
    """
    source = ceremony.account.source
    if not compared or ceremony.uid is None:
        yield from commit(Attempt(DECOY_UID, factor, None, ceremony.now(), source))
        return None
    now = ceremony.now()
    yield from _watch_clock(ceremony, factor, now)
    (tried,) = yield from commit(Attempt(ceremony.uid, factor, matched[1] if matched else None, now, source))
    ceremony.reason = tried.value
    if matched and tried in (Tried.CLONE, Tried.TOLERATED):
        expect((yield Alert(Tried.CLONE.value, factor, matched[0].id, matched[0].label)), Shown)
    good = tried is Tried.ACCEPTED or (tried is Tried.TOLERATED and matched is not None and _tolerant(matched[1]))
    if not good:
        yield from _count_refusal(ceremony, factor, tried, now)
    if not good or matched is None:
        return None
    credential = matched[0]
    return Proof(ceremony.session, ceremony.uid, factor, credential.id, credential.label)


def _count_refusal(ceremony: Ceremony, factor: str, tried: Tried, now: Instant) -> Steps[None]:
    """Sub-flow: what the ceremony knows of the account is what the store knows after that answer."""
    account = ceremony.account
    if tried in (Tried.WRONG, Tried.REPLAYED, Tried.CLONE):
        counted = _tally(ceremony, factor).failed(now)
        ceremony.account = replace(account, tallies={**account.tallies, factor: counted})
    else:  # another session spent the account's answers meanwhile
        yield from commit(Attempt(DECOY_UID, factor, None, now, account.source))


def _watch_clock(ceremony: Ceremony, factor: str, now: Instant) -> Steps[None]:
    """Sub-flow: tell an administrator of a clock that was set back: no old code counts again, and no new one either."""
    latest = max(ceremony.account.of(factor), key=_last_used, default=None)  # none before it is enrolled in the login
    if latest is not None and _last_used(latest) - now.wall > SET_BACK and not ceremony.clock_told:
        ceremony.clock_told = True
        expect((yield Alert("clock_back", factor, latest.id, latest.label)), Shown)


def _last_used(credential: Credential) -> int:
    return credential.used or 0


def _tolerant(use: Use) -> bool:
    return isinstance(use, Count) and use.tolerant is True


def _tally(ceremony: Ceremony, factor: str) -> Tally:
    return ceremony.account.tallies.get(factor, Tally())
