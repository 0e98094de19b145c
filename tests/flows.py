"""Stepping flows: the store for real or in memory, people by script, one wrong event wherever a test wants one."""

from __future__ import annotations

import hmac
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pam_mfa.conversation import (
    Answer,
    Ask,
    AskSecret,
    BreakGlass,
    Checked,
    CheckPassword,
    CheckPath,
    Commit,
    Committed,
    Event,
    Expired,
    Found,
    GlassBroken,
    Locate,
    Located,
    LookedUp,
    LookUp,
    PathChecked,
    Read,
    Show,
    Shown,
    Steps,
    Tell,
    Wait,
    Want,
    Warn,
)
from pam_mfa.devices.base import Choose, Pin, Release, Use as UseCard
from pam_mfa.errors import ChangedMeanwhile, NameMismatch, StoreError
from pam_mfa.factors import registry
from pam_mfa.factors.totp import Parameters
from pam_mfa.origin import UNKNOWN
from pam_mfa.store.base import (
    Announce,
    Attempt,
    Burn,
    Count,
    Enrol,
    FindAccount,
    FindLease,
    FindOwners,
    Grace,
    Heard,
    Lend,
    Noted,
    Operation,
    Query,
    Store,
    Tried,
    Use,
)
from pam_mfa.store.rows import DECOY_UID, Account, Credential, Lease
from pam_mfa.structure import replace
from pam_mfa.throttle import Instant, Standing, Tally, standing

T = TypeVar("T")
Response = Event | BaseException
SESSION = "5e" * 16
ALICE, BOB, NOBODY = 1000, 1001, 4242
SECRET = b"0123456789abcdefghij"
BOOT = "3f1c9d0e-0000-4000-8000-000000000001"


class Clock:
    """Both clocks of a machine; a test turns them."""

    def __init__(self, wall: int = 1_700_000_010, boot: int = 5_000, boot_id: str = BOOT) -> None:
        self.wall, self.boot, self.boot_id = wall, boot, boot_id

    def __call__(self) -> Instant:
        return Instant(self.wall, self.boot, self.boot_id)

    def sleep(self, seconds: int) -> None:
        """Time passes, on both."""
        self.wall += seconds
        self.boot += seconds


def mac(data: bytes) -> bytes:
    """A keyed hash, as the seal key gives one."""
    return hmac.digest(b"a key of the tests", data, "sha256")


FACTORS = registry(mac)
CODES = [char * 24 for char in "ABCDEFGHJK"]


def totp(name: str = "phone", uid: int = ALICE, user: str = "alice", **more: Any) -> Credential:
    """An enrolled TOTP credential; `parameters` go into its material."""
    material = Parameters(more.pop("secret", SECRET), **more.pop("parameters", {})).pack()
    return Credential(name.encode().hex().ljust(32, "0")[:32], uid, user, "totp", name, material, **more)


def recovery(codes: Sequence[str] = CODES, uid: int = ALICE, user: str = "alice", **more: Any) -> Credential:
    """An enrolled set of recovery codes."""
    material = b"".join(mac(code.encode()) for code in codes)
    return Credential("c0de" * 8, uid, user, "recovery", "recovery codes", material, **more)


def ticket(code: str = "T" * 16, valid: int = 3600, made: Instant | None = None, **more: Any) -> Credential:
    """A one-time code that alice was given."""
    at = made or Clock()()
    hashed = hmac.digest(mac(b"pam-mfa ticket"), code.encode(), "sha256")
    material = struct.pack(">IQ36s", valid, at.boot, at.boot_id.encode()) + hashed
    return Credential("71c7" * 8, ALICE, "alice", "ticket", "one-time code", material, created=at.wall, **more)


def code_at(credential: Credential, instant: Instant, steps: int = 0) -> str:
    """The code that an app shows, `steps` time steps away from a moment."""
    parameters = Parameters.unpack(credential.material)
    return parameters.code(instant.wall // parameters.period + steps)


def wrong_for(credential: Credential, instant: Instant) -> str:
    """A code of the right form that fits no step near a moment."""
    digits = Parameters.unpack(credential.material).digits
    near = {code_at(credential, instant, steps) for steps in range(-5, 6)}
    return next(code for number in range(424242, 424342) if (code := f"{number:0{digits}d}") not in near)


class Memory:
    """A store in memory that keeps what login flows change, and breaks where a test says so.

    Args:
        accounts: who is enrolled.
        broken: raised by every answer, where set.
        lent: when a lease of ten minutes was given to everybody, in seconds since the boot; None for no lease.
    """

    def __init__(self, *accounts: Account, broken: StoreError | None = None, lent: int | None = None) -> None:
        self.lent = lent
        self.accounts = {account.uid: account for account in accounts}
        self.broken = broken
        self.graced = Counter[int]()
        self.attempts: list[Attempt] = []
        self.source: str | None = None

    def read(self, query: Query) -> Any:
        if self.broken:
            raise self.broken
        if isinstance(query, FindOwners):
            held = [c for account in self.accounts.values() for c in account.credentials]
            return tuple((c.id, c.uid, c.user) for c in held if c.id in query.credentials)
        if isinstance(query, FindLease):
            assert query.bound
            return self.lent and Lease("sudo", "tty1", "alice", self.lent, self.lent + 600, query.boot_id)
        assert isinstance(query, FindAccount)
        account = self.accounts.get(query.uid, Account(query.uid, query.user))
        account = replace(account, graced=self.graced[query.uid], source=query.source)
        self.source = query.source
        if account.user != query.user:
            raise NameMismatch(f"uid {query.uid} is stored under another name")
        return account

    def apply(self, batch: Sequence[tuple[Operation, ...]]) -> list[tuple[Any, ...] | Exception]:
        if self.broken:
            raise self.broken
        return [tuple(self._do(operation) for operation in operations) for operations in batch]

    def _do(self, op: Operation) -> Any:
        if isinstance(op, Announce):  # what its user hears is the real store's
            return self._do(op.operation)
        do: Any = {Grace: self._grace, Enrol: self._enrol, Heard: self._hear}.get(type(op), self._attempt)
        return do(op)

    def _grace(self, op: Grace) -> int | None:
        left = op.most - self.graced[op.uid] - 1
        self.graced[op.uid] += left >= 0
        return left if left >= 0 else None

    def _enrol(self, op: Enrol) -> None:
        uid, user = op.credentials[0].uid, op.credentials[0].user
        before = self.accounts.get(uid, Account(uid, user))
        if op.expected is not None and op.expected != {c.id for c in before.credentials}:
            raise ChangedMeanwhile(f"the credentials of uid {uid} have changed")
        held = (*before.credentials, *op.credentials)
        tallies = {c.factor: Tally() for c in held} | before.tallies
        self.accounts[uid] = replace(before, credentials=held, tallies=tallies)

    def _hear(self, op: Heard) -> None:
        self._change(op.uid, notices=(), earlier=0)

    def _attempt(self, op: Operation) -> Tried | bool:
        if isinstance(op, Lend):
            return True
        assert isinstance(op, Attempt)
        self.attempts.append(op)
        assert op.source == self.source  # what was read is what is counted
        if op.uid == DECOY_UID:
            return Tried.WRONG
        account = self.accounts.get(op.uid)
        if account is None or op.factor not in account.tallies:
            return Tried.GONE
        tally = account.tallies[op.factor]
        if (state := standing(tally, op.at)) is not Standing.OPEN:
            return Tried(state.value)
        tried = self._use(account, op.use) if op.use else Tried.WRONG
        failed = Tally(tally.failures + 1, op.at)
        good = tried in (Tried.ACCEPTED, Tried.TOLERATED)
        self._change(op.uid, tallies={**account.tallies, op.factor: Tally() if good else failed})
        return tried

    def _use(self, account: Account, use: Use) -> Tried:
        old = next((c for c in account.credentials if c.id == use.credential), None)
        if old is None:
            return Tried.GONE
        if isinstance(use, Noted):
            return Tried.ACCEPTED
        fell_back = Tried.REPLAYED
        if isinstance(use, Burn):
            fresh, mark = not old.mark >> use.bit & 1, old.mark | 1 << use.bit
        else:
            fresh, mark = use.to > old.mark, use.to
        new = replace(old, mark=mark)
        if isinstance(use, Count):
            fresh = (fresh or use.to == old.mark == 0) and (use.tolerant or not old.suspect)
            new = new if fresh else replace(old, suspect=True)
            fell_back = Tried.TOLERATED if use.tolerant else Tried.CLONE
        if fresh or isinstance(use, Count):
            self._change(account.uid, credentials=tuple(new if c is old else c for c in account.credentials))
        return Tried.ACCEPTED if fresh else fell_back

    def forgive(self, uid: int) -> None:
        """Forget an account's failures."""
        self._change(uid, tallies=dict.fromkeys(self.accounts[uid].tallies, Tally()))

    def _change(self, uid: int, **changes: Any) -> None:
        self.accounts[uid] = replace(self.accounts[uid], **changes)


def account(*credentials: Credential, failures: int = 0, last: Instant | None = None, uid: int = ALICE) -> Account:
    """An account with these credentials, all of their factors having failed that often."""
    user = credentials[0].user if credentials else "alice"
    tallies = {c.factor: Tally(failures, last) for c in credentials}
    return Account(uid, user, credentials, tallies)


@dataclass
class World:
    """Does what a flow wants, and remembers it.

    Args:
        store: answers Read and Commit.
        answers: what the user types, one after the other; a function is asked with the prompt.
        names: names by uid, as the system knows them.
        groups: groups by user.
        passwords: right passwords by user.
        facts: what logind knows.
        paths: the path checker.
        glass: what there is of break-glass codes.
        device: events for Wait, one after the other; a function is called with the request that runs.
        instead: by number of the want: what happens instead of what was wanted.
    """

    store: Store
    answers: Iterable[str | Callable[[str], str]] = ()
    names: Mapping[int, str] = field(default_factory=lambda: {ALICE: "alice", BOB: "bob"})
    groups: Mapping[str, Iterable[str]] = field(default_factory=dict)
    passwords: Mapping[str, str] = field(default_factory=dict)
    facts: object = UNKNOWN
    paths: Callable[[Any], object] | None = None
    glass: Callable[[BreakGlass], Response] = lambda want: GlassBroken(0)
    device: Iterable[Event | Callable[[Any], Event]] = ()
    instead: Mapping[int, Response] = field(default_factory=dict)
    wants: list[Want] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.type(*self.answers)
        self._device = iter(self.device)
        self._request: object = None

    def type(self, *answers: str | Callable[[str], str]) -> None:
        """What the user types from now on."""
        self._answers = iter(answers)

    @property
    def kinds(self) -> list[str]:
        """The names of the wants so far."""
        return [type(want).__name__ for want in self.wants]

    @property
    def asked(self) -> list[str]:
        """The prompts so far."""
        return [want.text for want in self.wants if isinstance(want, Ask | AskSecret)]

    @property
    def told(self) -> list[str]:
        """The texts shown so far."""
        return [want.text for want in self.wants if isinstance(want, Tell | Warn)]

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """The records shown so far."""
        return [want.record for want in self.wants if isinstance(want, Show)]

    @property
    def operations(self) -> list[tuple[object, ...]]:
        """Every transaction so far."""
        return [want.operations for want in self.wants if isinstance(want, Commit)]

    def run(self, flow: Steps[T]) -> T:
        """Drive a flow to its end; returns or raises what it does."""
        response: Response | None = None
        try:
            while True:
                want = flow.throw(response) if isinstance(response, BaseException) else flow.send(response)  # type: ignore[arg-type]
                number = len(self.wants)
                self.wants.append(want)
                if isinstance(want, Wait) and not isinstance(want.request, Pin | Choose | UseCard | Release | None):
                    self._request = want.request
                response = self.instead[number] if number in self.instead else self._do(want)
        except StopIteration as end:
            value: T = end.value
            return value

    def _do(self, want: Want) -> Response:
        match want:
            case Read(query):
                return self._stored(lambda: Found(self.store.read(query)))  # type: ignore[arg-type]
            case Commit(operations):
                return self._stored(lambda: self._commit(operations))
            case Ask(text) | AskSecret(text):
                answer = next(self._answers, None)
                assert answer is not None, f"nobody answers {text!r}"
                return Answer(answer if isinstance(answer, str) else answer(text))
            case LookUp(user=None, uid=uid):
                assert uid is not None
                return LookedUp(self.names.get(uid))
            case LookUp(user=user):
                assert user is not None
                return self._account(user)
            case Locate():
                return Located(self.facts)
            case CheckPassword(user, password):
                return Checked(self.passwords.get(user) == password)
            case CheckPath(check):
                return self._checked(check)
            case Wait() | BreakGlass():
                return self._waited(want) if isinstance(want, Wait) else self.glass(want)
            case _:
                return Shown()

    def _checked(self, check: object) -> Response:
        assert self.paths is not None, "nobody checks paths"
        checked = self.paths(check)
        return checked if isinstance(checked, BaseException) else PathChecked(checked)

    def _waited(self, want: Wait) -> Response:
        if isinstance(want.request, Release) and want.seconds == 0:  # more is to be asked at once
            return Expired()
        event = next(self._device, None)
        assert event is not None, f"no device answers {want}"
        return event if isinstance(event, Event) else event(self._request)

    def _account(self, user: str) -> LookedUp:
        uid = next((uid for uid, name in self.names.items() if name == user), None)
        return LookedUp(None) if uid is None else LookedUp(user, frozenset(self.groups.get(user, ())), uid)

    def _commit(self, operations: tuple[object, ...]) -> Response:
        (results,) = self.store.apply([operations])  # type: ignore[list-item]
        return results if isinstance(results, Exception) else Committed(results)

    def _stored(self, answer: Callable[[], Response]) -> Response:
        try:
            return answer()
        except StoreError as problem:
            return problem
