"""Any packets, any time, any answer of the world: a session ends, once, and lets in only whom it may."""

from __future__ import annotations

from typing import Any

import pytest
from deviceflows import FACTORS_AND_KEY, key
from flows import ALICE, BOB, CODES, NOBODY, Clock, Memory, account, code_at, recovery, totp
from hypothesis import HealthCheck, settings as tried, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from peers import NONCE, Held, Monotonic, Peer

from pam_mfa import wire
from pam_mfa.config import Settings
from pam_mfa.conversation import (
    Aborted,
    Answer,
    Ask,
    AskSecret,
    Committed,
    DeviceGone,
    DeviceReply,
    DeviceTouch,
    Expired,
    Found,
    LookedUp,
    Shown,
    Skipped,
    Wait,
)
from pam_mfa.errors import LookupFailed, StoreError, StoreMissing
from pam_mfa.outcome import Outcome
from pam_mfa.rules import FirstFactor, Match, Rule, Session, Subject, Unenrolled
from pam_mfa.service.channel import Answered
from pam_mfa.store.base import Tried
from pam_mfa.structure import replace
from pam_mfa.wire import Type

PHONE, KEY = totp(), key()
RIGHT = code_at(PHONE, Clock()())
LETS_IN = {Outcome.GRANTED, Outcome.EXEMPT}
RESCUE = Rule(exempt=True, match=Match(groups=("rescue",)))
ALLOW = Rule(unenrolled=Unenrolled.ALLOW)
PLAIN = Settings()
RULES = [
    PLAIN,
    Settings(ALLOW),
    Settings(rules=(RESCUE,)),
    Settings(Rule(methods=("key", "totp"))),
    Settings(Rule(methods=("recovery", "key"), unenrolled=Unenrolled.ALLOW), (RESCUE,)),
    Settings(Rule(first_factor=FirstFactor.PUBLICKEY, unenrolled=Unenrolled.ALLOW)),
    Settings(rules=(Rule(unenrolled=Unenrolled.ALLOW, match=Match(session=Session.REMOTE)),)),
    Settings(Rule(subject=Subject.CALLER), (RESCUE,)),
]
PEOPLE = [
    ("alice", ALICE),
    ("bob", BOB),
    ("dave", NOBODY),
    ("mallory", None),
    ("alice", BOB),
    ("mallory", ALICE),
    ("bob", NOBODY),
    ("bob", None),
]
STEP = Clock().wall // 30
PAST = {
    "fresh": account(PHONE, KEY, recovery()),
    "used": account(replace(PHONE, mark=STEP + 1), replace(KEY, mark=9), recovery(mark=1023)),
    "waiting": account(PHONE, KEY, recovery(), failures=6, last=Clock()()),
    "disabled": account(PHONE, KEY, recovery(), failures=100, last=Clock()()),
}
# What a world out of its mind may answer. An acceptance is not among it: the store's word is believed.
NONSENSE: list[Answered] = [
    StoreError("full"),
    StoreMissing("gone"),
    LookupFailed("hangs"),
    RuntimeError("a bug"),
    SystemExit(0),
    KeyboardInterrupt(),
    MemoryError(),
    GeneratorExit(),
    Aborted(),
    Expired(),
    Skipped(),
    Shown(),
    Answer(RIGHT),
    Found(None),
    Found(True),
    Committed(()),
    Committed((True,)),
    Committed((Tried.WRONG,)),
    Committed((Tried.GONE,)),
    LookedUp(None),
    DeviceTouch(),
    DeviceReply(b"wrong"),
    DeviceGone("unplugged"),
]
frames = st.builds(wire.encode, st.sampled_from(list(Type)), st.binary(max_size=40))
SIGNALS = [wire.encode(kind) for kind in (Type.ABORT, Type.SKIP, Type.AUTHINFO)]
ENDS = [Aborted(), Expired(), StoreError("x")]
packets = frames | st.binary(max_size=60) | st.sampled_from([b"", bytes(4101), b"\x01\x02\xff\xff"])


class World(Held):
    """Answers when it is told to, truly or not; remembers what it said truly."""

    def __init__(self, store: Memory, groups: dict[str, frozenset[str]]) -> None:
        super().__init__(store, {ALICE: "alice", BOB: "bob", NOBODY: "dave"}, groups)
        self.hold = True
        self.truth: list[object] = []

    def answer(self, number: int, lie: Answered | None) -> None:
        """Answer one of those that wait."""
        done, answer = self.held.pop(number % len(self.held))
        if lie is not None:
            done(lie)
            return
        answered = answer()
        self.truth.append(answered)
        done(answered)

    def touch(self, number: int, event: Answered) -> None:
        """The device of one of the waits, also of one that has ended, says something."""
        _, done = self.waits[number % len(self.waits)]
        done(event)


class Login(RuleBasedStateMachine):
    """One PAM transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Monotonic(self.patch)

    @initialize(
        policy=st.sampled_from(RULES),
        peer=st.sampled_from([0, 0, 0, ALICE, BOB]),
        groups=st.sampled_from([frozenset(), frozenset({"rescue"})]),
        required=st.booleans(),
        guest=st.sampled_from([*PEOPLE[:1] * 4, *PEOPLE]),
        past=st.sampled_from(["fresh", *PAST]),
    )
    def connect(
        self,
        policy: Settings,
        peer: int,
        groups: frozenset[str],
        required: bool,
        guest: tuple[str, int | None] = PEOPLE[0],
        past: str = "fresh",
    ) -> None:
        self.policy, self.guest = policy, guest
        store = Memory(PAST[past], account(totp("bobs", BOB, "bob", secret=b"b" * 20), uid=BOB))
        self.world = World(store, {name: groups for name, _ in PEOPLE})
        settings = replace(policy, audit_required=required)
        self.peer = Peer(backend=self.world, settings=settings, uid=peer, factors=FACTORS_AND_KEY)
        self.peer_uid = peer
        self.who: tuple[str, int | None] = ("", None)
        self.peer.link.waiting = [] if required else None

    def _over(self) -> bool:
        return self.peer.session.over

    # --------------------------------------------------------------------------------- as it should go

    @rule(times=st.integers(1, 4))
    def go_on(self, times: int) -> None:
        """What a good shim, its user and the world would do next; without this nobody would ever get in."""
        for _ in range(times):
            want = self.peer.session._channel.want if self.peer.session._channel else None
            if self.world.held:
                self.world.answer(0, None)
            elif self.peer.link.waiting:
                self.peer.link.waiting.pop()()
            elif isinstance(want, Ask | AskSecret):
                self.peer.reply(RIGHT)
            elif isinstance(want, Wait):
                self.world.touch(-1, DeviceReply(KEY.material))
            elif want is None:
                self.hello(self.guest, 0, "sshd")

    # ------------------------------------------------------------------------------------------- the peer

    @rule(who=st.sampled_from(PEOPLE), authinfo=st.integers(0, 1), service=st.sampled_from(["sshd", "login", "sudo"]))
    def hello(self, who: tuple[str, int | None], authinfo: int, service: str) -> None:
        if self.peer.session._channel is None:
            self.who = who
        self.peer.hello(*who, service=service, authinfo=authinfo)

    @rule(answer=st.sampled_from([RIGHT, CODES[0], CODES[0].lower(), "", "000000", "x" * 513, "١٢٣٤٥٦"]))
    def reply(self, answer: str) -> None:
        self.peer.reply(answer)

    @rule(trouble=packets | st.sampled_from(SIGNALS) | st.booleans() | st.sampled_from(ENDS))
    def trouble(self, trouble: Any) -> None:
        if isinstance(trouble, bytes):
            self.peer.session.receive(trouble)
        elif isinstance(trouble, bool):
            self.peer.link.deaf = trouble
        else:
            self.peer.session.stop(trouble)

    # ------------------------------------------------------------------------------------------ the world

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 10.0, 30.0, 100.0]))
    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds, self.peer.session)

    @precondition(lambda self: self.world.held)
    @rule(number=st.integers(0, 3), lie=st.none() | st.sampled_from(NONSENSE))
    def answer(self, number: int, lie: Answered | None) -> None:
        self.world.answer(number, lie)

    @precondition(lambda self: self.world.waits)
    @rule(number=st.integers(0, 3), event=st.sampled_from([*NONSENSE, DeviceTouch(), DeviceReply(KEY.material)]))
    def device(self, number: int, event: Answered) -> None:
        self.world.touch(number, event)

    @precondition(lambda self: self.peer.link.waiting)
    @rule(written=st.booleans())
    def write_the_record(self, written: bool) -> None:
        assert self.peer.link.waiting
        self.peer.link.written = written
        self.peer.link.waiting.pop()()

    # ---------------------------------------------------------------------------------------- what holds

    @invariant()
    def it_ends_once(self) -> None:
        link = self.peer.link
        assert link.closed == self._over()
        assert len(link.records) <= 1
        assert self.peer.kinds.count("RESULT") <= 1
        if not self._over():
            assert "RESULT" not in self.peer.kinds

    @invariant()
    def it_lets_in_only_whom_it_may(self) -> None:
        if "RESULT" not in self.peer.kinds:
            return
        code, _, nonce = wire.RESULT.unpack(self.peer.link.frames[-1][1])
        outcome = Outcome(code)
        user, uid = self.who
        truth = self.world.truth
        if outcome in LETS_IN:
            assert nonce == NONCE
            assert uid is not None
            assert self.peer_uid in (0, uid)
            assert self.peer.link.waiting is None or self.peer.link.written
        if outcome is Outcome.GRANTED:
            assert any(isinstance(t, Committed) and t.results[0] is Tried.ACCEPTED for t in truth)
            assert user == "alice"
        if outcome is Outcome.EXEMPT:
            found = next(t.value for t in truth if isinstance(t, Found))
            assert found.uid == uid
            rescued = RESCUE in self.policy.rules and any(
                isinstance(t, LookedUp) and "rescue" in t.groups for t in truth
            )
            allowed = any(rule.unenrolled is Unenrolled.ALLOW for rule in (self.policy.policy, *self.policy.rules))
            assert rescued or (allowed and not found.credentials)
            assert self.policy.policy.first_factor is not FirstFactor.PUBLICKEY

    def teardown(self) -> None:
        try:
            if hasattr(self, "peer"):
                self._end()
        finally:
            self.patch.undo()

    def _end(self) -> None:
        self.clock.sleep(200, self.peer.session)
        for done in self.peer.link.waiting or []:
            done()
        assert self._over()
        self.it_ends_once()
        self.it_lets_in_only_whom_it_may()


TestLogin = Login.TestCase
TestLogin.settings = tried(
    max_examples=1000, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize(("policy", "outcome"), [(PLAIN, Outcome.GRANTED), (RULES[2], Outcome.EXEMPT)])
def test_the_machine_itself_can_get_in(policy: Settings, outcome: Outcome) -> None:
    """Otherwise it would prove nothing."""
    login = Login()
    login.connect(policy=policy, peer=0, groups=frozenset({"rescue"} if policy.rules else ()), required=False)
    login.go_on(times=4)
    assert login.peer.outcome is outcome
    login.teardown()
