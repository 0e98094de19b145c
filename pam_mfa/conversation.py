"""The language of flows: what a flow may want, and what it is told.

A flow is a generator without I/O. It yields one Want and is sent exactly one Event for it; its return
value is the verdict. Whoever drives it (the service's loop, the engine's poll, a test) does the I/O:

    Tell, Warn       -> Shown                    Ask, AskSecret -> Answer
    Read, Commit     -> Found, Committed         Show           -> Shown
    LookUp           -> LookedUp                 CheckPassword  -> Checked
    Locate           -> Located                  CheckPath      -> PathChecked
    BreakGlass       -> GlassBroken
    Wait             -> DeviceTouch, DeviceReply, DeviceGone, or Skipped where it was skippable
    HangUp           -> Shown                    Alert, About   -> Shown
    any of them      -> Aborted or Expired

A driver that cannot do what is wanted throws a PamMfaError into the flow instead.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, TypeVar

from .errors import AbortedError, DeadlineError, ProtocolError
from .structure import field, structure


@structure
class Tell:
    """Show text; with `skippable` the user may end the Wait that follows."""

    text: str
    skippable: bool = False


@structure
class Warn:
    """Show text as an error message."""

    text: str


@structure
class Ask:
    """Ask, and let the answer be seen while it is typed."""

    text: str


@structure
class AskSecret:
    """Ask, and hide the answer."""

    text: str


@structure
class Read:
    """Ask the store; `query` is one of those in store/base.py."""

    query: object


@structure
class Commit:
    """Change the store: all operations (store/base.py) in one durable transaction, or none."""

    operations: tuple[object, ...]


@structure
class Wait:
    """Wait for a device: start `request`, or with None go on with the one that runs, or just let time pass.

    Its end is Expired, which the flow expects and handles: no device is also an answer. A request runs on while its
    flow wants other things, until there is a new one, the flow hangs up, or ends.

    Args:
        request: of devices/base.py: one that begins, or a follow-up of the one that runs.
        seconds: how long.
        skippable: the user may end it.
    """

    request: object | None
    seconds: float
    skippable: bool = False


@structure
class HangUp:
    """Let go of the devices: what they were asked for is cancelled, and none blinks any more."""


@structure
class Alert:
    """Have the audit trail tell an administrator at once, however the session goes on.

    Args:
        reason: one machine-readable word.
        factor, credential, label: what it is about.
        loud: False for what happens to anybody who mistypes: a record of its own, but nobody is woken up.
    """

    reason: str
    factor: str
    credential: str
    label: str
    loud: bool = True


@structure
class About:
    """Tell whose factor is asked for, where that is not the user's who is entered."""

    uid: int | None
    user: str


@structure
class LookUp:
    """Ask the system's user database, off the loop and for two seconds at most.

    Exactly one of the two: uid and groups of `user`, or the name of `uid`.
    """

    user: str | None = None
    uid: int | None = None


@structure
class Locate:
    """Ask logind where the peer is, off the loop and for two seconds at most.

    Args:
        uid: who is to log in; their own sessions count where nobody's session asks.
    """

    uid: int | None


@structure
class CheckPassword:
    """Have the account's password checked by PAM service `pam-mfa`, in a process of its own."""

    user: str
    password: str = field(repr=False)


@structure
class CheckPath:
    """Have a certificate's path checked, in a process of its own.

    Args:
        check: Check of verify/base.py.
    """

    check: object = field(repr=False)


@structure
class BreakGlass:
    """Take a break-glass code away, once and for all, off the loop; no store is needed for it.

    Args:
        digest: of what was typed; None: take none, only look how many there are.
        user: the account that is entered.
        at: seconds since the epoch, UTC.
    """

    digest: bytes | None = field(repr=False)
    user: str
    at: int


@structure
class Show:
    """Hand one record to the CLI; in a login only that something was enrolled, for the audit trail."""

    record: Mapping[str, Any] = field(repr=False)


@structure
class Shown:
    """Tell, Warn, Show or Alert was passed on; the devices are let go of."""


@structure
class Answer:
    """What the user typed, at most 512 bytes."""

    text: str = field(repr=False)


@structure
class Found:
    """The store's answer to Read."""

    value: Any


@structure
class Committed:
    """What became of each operation of Commit, in order; all of it is on disk."""

    results: tuple[Any, ...]


@structure
class LookedUp:
    """The user's name (None: no such user), the names of the groups asked for, and whose groups these are."""

    name: str | None
    groups: frozenset[str] = frozenset()
    uid: int | None = None


@structure
class Located:
    """What logind knows of the peer: Facts of origin.py."""

    facts: object


@structure
class Checked:
    """Whether the password was right."""

    right: bool


@structure
class PathChecked:
    """The verdict: Checked of verify/base.py."""

    checked: object = field(repr=False)


@structure
class GlassBroken:
    """What became of it.

    Args:
        left: how many codes there are now that have not expired, whoever they are for.
        taken: id of the code that was taken: on disk it is gone. None: no such code opens this account.
        label: its name.
        reason: why none was taken for certain, one word for the audit record.
    """

    left: int
    taken: str | None = None
    label: str = ""
    reason: str = ""


@structure
class DeviceTouch:
    """A device waits for its user's touch.

    Args:
        touch: which one, and what for: a fixed structure of devices/base.py.
    """

    touch: object | None = None


@structure
class DeviceReply:
    """The device's answer, a fixed structure of devices/base.py."""

    reply: object


@structure
class DeviceGone:
    """The device ended without an answer."""

    reason: str


@structure
class Skipped:
    """The user skipped a skippable wait."""


@structure
class Aborted:
    """The user gave up, or the peer is gone."""


@structure
class Expired:
    """The session's deadline, or the wait's, has passed."""


Asked = LookUp | Locate | CheckPassword | CheckPath | BreakGlass
Want = Tell | Warn | Ask | AskSecret | Read | Commit | Wait | HangUp | Asked | Show | Alert | About
Told = Shown | Answer | Found | Committed | LookedUp | Located | Checked | PathChecked | GlassBroken
Event = Told | Skipped | Aborted | Expired | DeviceTouch | DeviceReply | DeviceGone

T = TypeVar("T")
E = TypeVar("E")
Steps = Generator[Want, Event, T]


def expect(event: Event, kind: type[E]) -> E:
    """The event, if it is the one the flow can go on with.

    Raises:
        AbortedError, DeadlineError: the session has ended.
        ProtocolError: an event that was not asked for.
    """
    if isinstance(event, kind):
        return event
    if isinstance(event, Aborted):
        raise AbortedError("aborted")
    if isinstance(event, Expired):
        raise DeadlineError("deadline")
    raise ProtocolError(f"{type(event).__name__} where {kind.__name__} was wanted")


def ask(text: str, secret: bool = True) -> Steps[str]:
    """Sub-flow: ask and return what was typed."""
    event = yield AskSecret(text) if secret else Ask(text)
    return expect(event, Answer).text


def read(query: object) -> Steps[Any]:
    """Sub-flow: ask the store."""
    return expect((yield Read(query)), Found).value


def commit(*operations: object) -> Steps[tuple[Any, ...]]:
    """Sub-flow: change the store in one transaction; returns a result for each operation."""
    return expect((yield Commit(operations)), Committed).results


def tell(text: str) -> Steps[None]:
    """Sub-flow: show text."""
    expect((yield Tell(text)), Shown)


def warn(text: str) -> Steps[None]:
    """Sub-flow: show an error message."""
    expect((yield Warn(text)), Shown)


def show(**record: Any) -> Steps[None]:
    """Sub-flow: hand a record to the CLI."""
    expect((yield Show(record)), Shown)


def hang_up() -> Steps[None]:
    """Sub-flow: let go of the devices."""
    expect((yield HangUp()), Shown)
