"""A session without sockets: its peer, its link, a backend that answers at once or when it is told to, and a clock."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pyotp
import pytest
from flows import ALICE, FACTORS, Clock, Memory, account, code_at, recovery, totp, wrong_for

from pam_mfa import wire
from pam_mfa.audit import Record
from pam_mfa.config import Settings
from pam_mfa.conversation import Checked, CheckPassword, CheckPath, Commit, LookedUp, LookUp, PathChecked, Read, Wait
from pam_mfa.errors import StoreError
from pam_mfa.factors.base import Factor
from pam_mfa.outcome import Outcome
from pam_mfa.service.channel import Answered, Backend, Done, found, stored
from pam_mfa.service.manage import Management
from pam_mfa.service.session import Ground, Session
from pam_mfa.service.transaction import Transaction
from pam_mfa.store.base import Store
from pam_mfa.verify import base as verify

NONCE = bytes(range(16))


class Monotonic:
    """The clock that sessions measure their deadlines with; stands still until it is turned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in ("session", "transaction"):
            monkeypatch.setattr(f"pam_mfa.service.{module}.time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr("pam_mfa.service.channel.monotonic", lambda: self.now)

    def sleep(self, seconds: float, *sessions: Session) -> None:
        """Let time pass, in the half seconds in which the service's loop looks at its sessions."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for session in sessions:
                session.tick(self.now)


class Held(Backend):
    """A backend that does everything at once; with `hold` it waits until `release`.

    Args:
        store: answers Read and Commit.
        names, groups, passwords: as in flows.World.
    """

    def __init__(
        self,
        store: Store | None = None,
        names: Mapping[int, str] | None = None,
        groups: Mapping[str, frozenset[str]] | None = None,
        passwords: Mapping[str, str] | None = None,
    ) -> None:
        self.store: Store = store or Memory()
        self.names = {ALICE: "alice", 0: "root"} if names is None else names
        self.groups = groups or {}
        self.passwords = passwords or {}
        self.verdict = verify.Checked(verify.Trust.UNKNOWN, "no_path_checker")  # what is said of every path
        self.hold = False
        self.held: list[tuple[Done, Callable[[], Answered]]] = []
        self.waits: list[tuple[Wait, Done]] = []

    def release(self) -> None:
        """Answer everything that waits."""
        held, self.held = self.held, []
        for done, answer in held:
            done(answer())

    def read(self, want: Read, done: Done) -> None:
        self._answer(done, lambda: found(self.store.read(want.query)))  # type: ignore[arg-type]

    def commit(self, want: Commit, done: Done) -> None:
        self._answer(done, lambda: stored(self.store.apply([want.operations])[0]))  # type: ignore[list-item]

    def look_up(self, want: LookUp, done: Done) -> None:
        if want.uid is not None:
            name = self.names.get(want.uid)
            return self._answer(done, lambda: LookedUp(name))
        uid = next((uid for uid, name in self.names.items() if name == want.user), None)
        name = None if uid is None else want.user
        self._answer(done, lambda: LookedUp(name, self.groups.get(name or "", frozenset()), uid))

    def check_password(self, want: CheckPassword, done: Done) -> None:
        self._answer(done, lambda: Checked(self.passwords.get(want.user) == want.password))

    def check_path(self, want: CheckPath, done: Done) -> None:
        self._answer(done, lambda: PathChecked(self.verdict))

    def wait(self, want: Wait, done: Done) -> None:
        self.waits.append((want, done))

    def _answer(self, done: Done, answer: Callable[[], Answered]) -> None:
        def guarded() -> Answered:
            try:
                return answer()
            except StoreError as problem:
                return problem

        if self.hold:
            self.held.append((done, guarded))
        else:
            done(guarded())


class Link:
    """What a session sends, records and closes.

    A `deaf` peer leaves its frames unread, one that is `gone` has closed its end; `room` is called when a deaf one
    reads again. With `written` False no record can be written; `waiting` keeps those that are not written yet.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.frames: list[tuple[wire.Type, bytes]] = []
        self.records: list[Record] = []
        self.required: list[bool] = []
        self.closed = 0
        self.deaf = False
        self.gone = False
        self.room: Callable[[], None] | None = None
        self.written = True
        self.waiting: list[Callable[[], None]] | None = None

    def send(self, frame: bytes) -> None:
        if self.gone or self.closed:
            raise BrokenPipeError
        if self.deaf:
            raise BlockingIOError
        self.frames.append(wire.decode(frame))

    def when_writable(self, call: Callable[[], None]) -> None:
        self.room = call

    def record(self, record: Record, required: bool, done: Callable[[bool], None]) -> None:
        self.records.append(record)
        self.required.append(required)
        if self.waiting is None:
            done(self.written)
        else:
            self.waiting.append(lambda: done(self.written))

    def close(self) -> None:
        self.closed += 1


class Peer:
    """The other end of one session.

    Args:
        kind: Transaction or Management.
        backend: does what its flow wants.
        settings: in force.
        uid: of the peer, as the kernel says.
        factors: the registry.
    """

    def __init__(
        self,
        kind: type[Session] = Transaction,
        backend: Backend | None = None,
        settings: Settings | None = Settings(),  # noqa: B008 - frozen
        uid: int = 0,
        factors: Mapping[str, Factor] = FACTORS,
    ) -> None:
        self.link = Link(backend or Held())
        self.ground = Ground("service", settings, factors, Clock(), "host.example", lambda: {"version": "1"})
        self.session = kind(self.link, self.ground, uid)

    def send(self, kind: wire.Type, payload: bytes = b"") -> Peer:
        """Send one frame."""
        self.session.receive(wire.encode(kind, payload))
        return self

    def hello(self, user: str = "alice", uid: int | None = ALICE, service: str = "sshd", **more: Any) -> Peer:
        """Send HELLO."""
        self.session.receive(wire.encode_hello(wire.Hello(NONCE, service, user, uid, **more)))
        return self

    def reply(self, *answers: str | bytes) -> Peer:
        """Answer prompts."""
        for answer in answers:
            self.send(wire.Type.REPLY, answer.encode(errors="surrogateescape") if isinstance(answer, str) else answer)
        return self

    def request(self, verb: str, account: Mapping[str, Any] | None = None, **args: Any) -> Peer:
        """Send REQUEST."""
        request = {"verb": verb, "args": args, "account": account}
        return self.send(wire.Type.REQUEST, json.dumps(request).encode())

    @property
    def kinds(self) -> list[str]:
        """The names of the frames so far."""
        return [kind.name for kind, _ in self.link.frames]

    @property
    def texts(self) -> list[str]:
        """The prompts and messages so far."""
        shown = {wire.Type.ASK, wire.Type.ASK_SECRET, wire.Type.WARN}
        return [
            payload[kind is wire.Type.TELL :].decode()
            for kind, payload in self.link.frames
            if kind in shown or kind is wire.Type.TELL
        ]

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The records so far."""
        return [json.loads(payload) for kind, payload in self.link.frames if kind is wire.Type.PART]

    @property
    def result(self) -> tuple[Outcome, int, bytes]:
        """Outcome, delay in milliseconds and nonce of the one RESULT, which is the last frame."""
        assert self.kinds.count("RESULT") == 1
        assert self.kinds[-1] == "RESULT"
        assert self.session.over
        assert self.link.closed == 1
        code, delay, nonce = wire.RESULT.unpack(self.link.frames[-1][1])
        return Outcome(code), delay, nonce

    @property
    def outcome(self) -> Outcome:
        """The outcome of the one RESULT."""
        return self.result[0]

    @property
    def done(self) -> dict[str, Any]:
        """What the one DONE says, which is the last frame."""
        assert self.kinds.count("DONE") == 1
        assert self.kinds[-1] == "DONE"
        assert self.session.over
        assert self.link.closed == 1
        content = json.loads(self.link.frames[-1][1])
        assert isinstance(content, dict)
        return content


def manager(uid: int = ALICE, backend: Backend | None = None, **more: Any) -> Peer:
    """The peer of a management session."""
    return Peer(Management, backend, uid=uid, **more)


ROOT_FOR_ALICE = {"uid": ALICE, "name": "alice"}
PASSWORD = "correct horse"
POINT = (
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)  # the generator of P-256
COSE = bytes.fromhex(f"a5010203262001215820{POINT[:64]}225820{POINT[64:]}")
U2F_KEY = json.dumps([{
    "rp_id": "pam://host", "credential_id": "b25l", "public_key": b64encode(COSE).decode(), "verified": False,
    "discoverable": False, "user_handle": "",
}])  # fmt: skip


def managing(store: Store, uid: int = ALICE, **more: Any) -> Peer:
    """The peer of a management session; alice's password is PASSWORD."""
    return manager(uid, Held(store, passwords={"alice": PASSWORD}), **more)


def app(one: Peer) -> str:
    """The code that an app shows which scanned what this peer was shown."""
    shown = pyotp.parse_uri(next(part["uri"] for part in one.parts if part["kind"] == "totp"))
    assert isinstance(shown, pyotp.TOTP)
    return shown.at(Clock().wall)


PHONE = totp()
RIGHT, WRONG = code_at(PHONE, Clock()()), wrong_for(PHONE, Clock()())


def peer(**more: Any) -> Peer:
    """The peer of a login session; alice has a phone and recovery codes."""
    return Peer(backend=Held(Memory(account(PHONE, recovery()))), **more)


def held(one: Peer) -> Held:
    """The backend of a peer's session."""
    backend = one.link.backend
    assert isinstance(backend, Held)
    return backend


# A login that has come so far:


def fresh() -> Peer:
    """The peer has said nothing yet."""
    return peer()


def introduced() -> Peer:
    """HELLO was said, AUTHINFO is still to come."""
    return peer().hello(authinfo=2)


def asking() -> Peer:
    """A prompt is up."""
    return peer().hello()


def committing() -> Peer:
    """The store is busy with a right answer."""
    one = asking()
    held(one).hold = True
    return one.reply(RIGHT)


def reading() -> Peer:
    """The store is busy with looking for the account."""
    one = peer()
    held(one).hold = True
    return one.hello()
