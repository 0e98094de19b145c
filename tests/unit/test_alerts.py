"""What an administrator must know at once leaves its own record, however the session that met it goes on."""

from __future__ import annotations

from typing import Any

import pytest
from flows import ALICE, Memory, account, recovery
from keyflows import enrolled
from peers import PHONE, RIGHT, Held, Monotonic, Peer, manager
from softkey import SoftKey

from pam_mfa.audit import Record
from pam_mfa.config import Clone, Fido2, Settings
from pam_mfa.conversation import DeviceReply, Event, Expired
from pam_mfa.outcome import Outcome
from pam_mfa.rules import LocalKey, Rule
from pam_mfa.wire import Type

ALWAYS = Rule(local_key=LocalKey.ALWAYS)
DENY = Settings(policy=ALWAYS)
WARN = Settings(policy=ALWAYS, fido2=Fido2(clone=Clone.WARN))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


class Reset:
    """Alice's key, whose counter fell back behind what is stored."""

    def __init__(self) -> None:
        self.key = SoftKey()
        self.blue = enrolled(self.key, mark=40)
        self.backend = Held(Memory(account(self.blue, PHONE, recovery())))

    def signs(self) -> None:
        """It answers the request that waits; nothing else is plugged in."""
        want, done = self.backend.waits.pop()
        done(DeviceReply(self.key.asserted(want.request)))  # type: ignore[arg-type]

    def ends(self, event: Event) -> None:
        """The wait after that ends."""
        self.backend.waits.pop()[1](event)

    def alert(self, records: list[Record]) -> dict[str, Any]:
        """The one alert."""
        (found,) = [record for record in records if record.event == "alert"]
        assert (found.outcome, found.reason) == (None, "clone_suspect")
        assert (found.factor, found.credential, found.label) == ("fido2", self.blue.id, "blue nano")
        return {"user": found.user, "uid": found.uid, "service": found.service, "session": found.session}


@pytest.fixture
def reset() -> Reset:
    return Reset()


def login(reset: Reset, settings: Settings) -> Peer:
    one = Peer(backend=reset.backend, settings=settings).hello(service="login", tty="tty1")
    reset.signs()
    return one


def test_a_code_after_a_suspected_copy_grants_and_the_alert_is_out(reset: Reset) -> None:
    one = login(reset, DENY)
    alert = reset.alert(one.link.records)
    assert alert == {"user": "alice", "uid": ALICE, "service": "login", "session": one.session.id}
    reset.ends(Expired())
    assert one.reply(RIGHT).outcome is Outcome.GRANTED
    assert [record.event for record in one.link.records] == ["alert", "login"]


def test_a_user_who_gives_up_after_it_does_not_take_it_back(reset: Reset) -> None:
    one = login(reset, DENY)
    assert one.send(Type.ABORT).outcome is Outcome.ABORTED
    reset.alert(one.link.records)


def test_without_another_method_it_is_denied(reset: Reset) -> None:
    one = login(reset, Settings(policy=Rule(methods=("fido2",), local_key=LocalKey.ALWAYS)))
    reset.ends(Expired())
    assert one.outcome is Outcome.DENIED
    assert one.link.records[-1].reason == "clone_suspect"
    reset.alert(one.link.records)


def test_what_is_tolerated_is_told_all_the_same(reset: Reset) -> None:
    one = login(reset, WARN)
    assert one.outcome is Outcome.GRANTED
    reset.alert(one.link.records)


def test_management_meets_it_too(reset: Reset) -> None:
    one = manager(backend=reset.backend, settings=DENY).request("remove", credential="blue nano")
    reset.signs()
    assert reset.alert(one.link.records) == {"user": "alice", "uid": ALICE, "service": "", "session": one.session.id}
    assert not one.session.over
