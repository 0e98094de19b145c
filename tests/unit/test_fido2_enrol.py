"""Enrolling a security key: what is made, proven and stored, and every way in which nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Memory, Response, World
from keyflows import PLACE, enrolled
from softkey import BE, BS, UP, UV, SoftKey
from stores import SEALER, discard, enrol, make

from pam_mfa.config import Fido2, Settings, Synced
from pam_mfa.conversation import (
    Aborted,
    Commit,
    DeviceGone,
    DeviceReply,
    DeviceTouch,
    Event,
    Expired,
    HangUp,
    Shown,
    Skipped,
    Wait,
    Want,
)
from pam_mfa.devices.base import (
    Assert,
    Asserted,
    Failed,
    Failure,
    Holds,
    Idle,
    Made as MadeReply,
    Make,
    Pin,
    PinReason,
    PinWanted,
    Strange,
    Touch,
    Transport,
    Verification,
    Wanted,
)
from pam_mfa.enroll import AWAY, Caller, Desk, enroll
from pam_mfa.errors import AbortedError, LookupFailed, ProtocolError, RefusedError
from pam_mfa.factors.assertion import ALGORITHMS
from pam_mfa.factors.base import Enrolment, Place
from pam_mfa.factors.ceremonies import NO_PASSKEYS, NOT_VERIFIED, TAKEN
from pam_mfa.factors.dialogue import BAD_PIN, NO_KEY, NO_SERVICE, NOT_TOUCHED, WORDS
from pam_mfa.factors.fido2 import Material
from pam_mfa.origin import UNKNOWN, Facts, Sessions
from pam_mfa.rules import LocalKey, Match, Rule, UserVerification
from pam_mfa.store.base import Announce, Credential, Enrol, FindAccount
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace

HERE = replace(PLACE, host="Host.Example")
STRICT = replace(HERE, rule=Rule(user_verification=UserVerification.REQUIRED))


@pytest.fixture
def key() -> SoftKey:
    return SoftKey()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


def enrolment(place: Place = HERE, held: tuple[Credential, ...] = (), **options: Any) -> Enrolment:
    return Enrolment(ALICE, "alice", "0" * 32, "blue nano", "issuer", Clock(), options, SESSION, held, place)


def run(
    device: Sequence[Any], of: Enrolment | None = None, answers: Sequence[str] = ()
) -> tuple[Credential, Material, World]:
    world = World(Memory(), answers, device=device)
    made = world.run(FACTORS["fido2"].enrol(of or enrolment()))
    assert made.reveal is None
    return made.credential, Material.unpack(made.credential.material), world


def refused(device: Sequence[Any], of: Enrolment | None = None, answers: Sequence[str] = ()) -> str:
    world = World(Memory(), answers, device=device)
    with pytest.raises(RefusedError) as caught:
        world.run(FACTORS["fido2"].enrol(of or enrolment()))
    assert caught.value.code == "refused"
    assert caught.value.message.startswith("nothing was enrolled. ")
    assert world.wants[-1] == HangUp()
    assert world.operations == []
    return caught.value.message.removeprefix("nothing was enrolled. ")


def requests(world: World) -> list[Any]:
    return [want.request for want in world.wants if isinstance(want, Wait) and want.request is not None]


def whole(key: SoftKey) -> list[Any]:
    return [key.touch, key.make, key.holds, key.touch, key.sign]


def made(key: SoftKey, **how: Any) -> Callable[[Any], Event]:
    return lambda request: DeviceReply(key.made(request, **how))


def asserted(key: SoftKey, **how: Any) -> Callable[[Any], Event]:
    return lambda request: DeviceReply(key.asserted(request, **how))


# -------------------------------------------------------------------------------------------------- what is made


def test_a_key_is_made_and_proven_before_it_counts(key: SoftKey) -> None:
    credential, material, world = run(whole(key))
    first, second = requests(world)
    assert isinstance(first, Make)
    assert (first.rp_id, first.user_name, first.algorithms) == ("host.example", "alice", ALGORITHMS)
    assert (first.excluded, first.discoverable, first.verification) == ((), False, Verification.DISCOURAGED)
    assert len(first.user_handle) == 32
    assert isinstance(second, Assert)
    assert second.wanted == (Wanted("host.example", material.credential_id),)
    assert second.client_data_hash != first.client_data_hash
    assert world.told == [
        "Touch the security key that you want to enrol",
        "Now touch it once more, to prove that it works",
    ]
    assert world.wants[-1] == HangUp()
    assert (credential.factor, credential.label, credential.mark) == ("fido2", "blue nano", 2)
    assert material.credential_id in key.keys
    assert material == Material(
        "host.example", material.credential_id, material.key, key.aaguid, first.user_handle, 1, "Soft Key", synced=False
    )


@pytest.mark.parametrize("flags", range(16))
def test_material_comes_back_as_it_was_packed(flags: int) -> None:
    synced = None if flags & 8 else bool(flags & 4)
    found = Material(
        "é.example", b"\0" * 1023, b"key", b"\xff" * 16, b"", 2, "", bool(flags & 1), bool(flags & 2), synced
    )
    assert Material.unpack(found.pack()) == found
    assert "key" not in repr(found).replace("key=", "")


def test_what_the_settings_say_goes_into_it() -> None:
    key = SoftKey(verifies=True, synced=True)
    of = enrolment(replace(HERE, fido2=Fido2("example.org")), verify=True, discoverable=True)
    _, material, world = run(whole(key), of)
    request = requests(world)[0]
    assert (request.rp_id, request.discoverable, request.verification) == ("example.org", True, Verification.REQUIRED)
    assert requests(world)[1].verification is Verification.REQUIRED
    assert (material.rp_id, material.verified, material.discoverable, material.synced) == (
        "example.org",
        True,
        True,
        True,
    )


def test_a_second_key_gets_the_accounts_handle_and_knows_the_first(key: SoftKey) -> None:
    old = enrolled(SoftKey(2), user_handle=b"h" * 32)
    known = Material.unpack(old.material)
    _, material, world = run(whole(key), enrolment(held=(old,)))
    assert requests(world)[0].excluded == (Wanted(known.rp_id, known.credential_id),)
    assert material.user_handle == b"h" * 32
    for handle in (b"", b"imported"):
        _, material, _ = run(whole(key), enrolment(held=(enrolled(SoftKey(2), user_handle=handle),)))
        assert len(material.user_handle) == 32


def test_two_accounts_have_different_handles(key: SoftKey) -> None:
    assert run(whole(key))[1].user_handle != run(whole(key))[1].user_handle


@pytest.mark.parametrize("name", ["", "naïve\x1b[31m key\n", "x" * 300])
def test_a_products_name_is_what_a_terminal_can_show(key: SoftKey, name: str) -> None:
    key.name = name
    product = run(whole(key))[1].product
    assert product.isascii()
    assert len(product) <= 64
    assert not product or product.isprintable()


def test_the_pin_is_asked_once_for_both(key: SoftKey) -> None:
    key = SoftKey(verifies=True)
    wanted = DeviceReply(PinWanted(1, PinReason.FIRST, 8))
    steps = [wanted, Expired(), key.touch, key.make, key.holds, wanted, key.touch, key.sign]
    _, material, world = run(steps, enrolment(STRICT), answers=["1234"])
    assert world.asked == ["PIN of your security key (8 tries left): "]
    assert [request for request in requests(world) if isinstance(request, Pin)] == [Pin(1, "1234")] * 2
    assert material.verified


def claims(transport: Transport, device: int, name: str) -> Callable[[Any], Event]:
    """What a device says that claims to hold the new credential."""
    return lambda request: DeviceReply(Holds(device, transport, name, (request.wanted[0].credential_id,)))


@pytest.mark.parametrize(
    ("transport", "name"), [(Transport.USB, "Evil Key"), (Transport.NFC, "Soft Key"), (Transport.USB, "")]
)
def test_another_device_does_not_get_the_pin_of_the_one_that_made_it(transport: Transport, name: str) -> None:
    """It says that it holds the new credential, and wants the PIN: its user is asked."""
    key = SoftKey(verifies=True)
    first, other = DeviceReply(PinWanted(1, PinReason.FIRST, 8)), DeviceReply(PinWanted(2, PinReason.FIRST, 5))
    steps = [first, Expired(), key.make, claims(transport, 2, name), other, key.sign]
    _, _, world = run(steps, enrolment(STRICT), answers=["1234", "5678"])
    assert len(world.asked) == 2
    assert [request for request in requests(world) if isinstance(request, Pin)] == [Pin(1, "1234"), Pin(2, "5678")]


def test_a_device_that_does_not_say_what_it_holds_gets_no_pin_of_before() -> None:
    key = SoftKey(verifies=True)
    wanted = DeviceReply(PinWanted(1, PinReason.FIRST, 8))
    _, _, world = run([wanted, Expired(), key.make, wanted, key.sign], enrolment(STRICT), ["1234", "5678"])
    assert [request for request in requests(world) if isinstance(request, Pin)] == [Pin(1, "1234"), Pin(1, "5678")]


def test_a_pin_that_was_given_to_another_device_than_the_maker_is_asked_for_again() -> None:
    key = SoftKey(2, verifies=True)
    wanted, second = DeviceReply(PinWanted(1, PinReason.FIRST, 8)), DeviceReply(PinWanted(2, PinReason.FIRST, 8))
    _, _, world = run([wanted, Expired(), key.make, key.holds, second, key.sign], enrolment(STRICT), ["1234", "5678"])
    assert [request for request in requests(world) if isinstance(request, Pin)] == [Pin(1, "1234"), Pin(2, "5678")]


def test_who_makes_it_has_a_minute_and_hears_of_it_again(key: SoftKey) -> None:
    _, _, world = run([key.touch, Expired(), key.make, key.sign])
    assert world.told[1] == "Still waiting. Touch the security key that you want to enrol"
    assert [want.seconds for want in world.wants if isinstance(want, Wait)][:3] == [30, 30, 30]


def test_a_key_may_be_plugged_in_when_it_is_asked_for(key: SoftKey) -> None:
    _, _, world = run([DeviceReply(Idle(0)), *whole(key)])
    assert world.told[0] == "Plug in the security key that you want to enrol"


def test_details_show_model_transport_and_counter(key: SoftKey) -> None:
    credential, _, _ = run(whole(key))
    assert FACTORS["fido2"].details(replace(credential, mark=9, suspect=True)) == {
        "product": "Soft Key",
        "aaguid": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "transport": "usb",
        "verified": False,
        "discoverable": False,
        "synced": False,
        "counter": 9,
        "suspect": True,
        "rp_id": "host.example",
    }


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("failure", WORDS)
@pytest.mark.parametrize("made_before", [False, True])
def test_each_failure_says_what_to_do(key: SoftKey, failure: Failure, made_before: bool) -> None:
    before = [key.touch, key.make] if made_before else []
    ends = [DeviceReply(Failed(1, failure)), DeviceReply(Idle(1)), Expired()]
    assert refused([*before, *ends]) == (NO_KEY if failure is Failure.UNPLUGGED else WORDS[failure])


def test_a_key_without_a_pin_where_one_is_needed(key: SoftKey) -> None:
    words = refused([DeviceReply(Failed(1, Failure.PIN_UNSET)), DeviceReply(Idle(1))], enrolment(verify=True))
    assert "fido2-token -S" in words
    assert "ykman" in words


@pytest.mark.parametrize("made_before", [False, True])
@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ([Expired()], NO_KEY),
        ([DeviceTouch(Touch(1, False)), Expired(), Expired()], NOT_TOUCHED),
        ([DeviceGone("no_device_service")], NO_SERVICE),
        ([Skipped()], "stopped."),
        ([DeviceReply(Strange(1, "x")), DeviceReply(Idle(1)), Expired()], NO_KEY),
    ],
)
def test_no_answer_enrols_nothing(key: SoftKey, made_before: bool, ends: list[Any], words: str) -> None:
    assert refused([*([key.make] if made_before else []), *ends]) == words


def test_what_cannot_be_a_pin(key: SoftKey) -> None:
    wanted = [DeviceReply(PinWanted(1, PinReason.FIRST, 8)), Expired()]
    assert refused(wanted, answers=["123"]) == BAD_PIN


MADE_WRONG: dict[str, tuple[dict[str, Any], Place, str]] = {
    "no touch": ({"flags": UV}, HERE, WORDS[Failure.NONSENSE]),
    "another rp id": ({"rp_id": "example.com"}, HERE, WORDS[Failure.NONSENSE]),
    "BS without BE": ({"flags": UP | BS}, HERE, WORDS[Failure.NONSENSE]),
    "a long id": ({"credential_id": bytes(1024)}, HERE, WORDS[Failure.NONSENSE]),
    "not verified": ({}, STRICT, NOT_VERIFIED),
    "synced": ({"flags": UP | BE}, replace(HERE, fido2=Fido2(synced=Synced.DENY)), NO_PASSKEYS),
}


@pytest.mark.parametrize(("how", "place", "words"), MADE_WRONG.values(), ids=MADE_WRONG)
def test_a_new_credential_that_is_not_what_it_must_be(
    key: SoftKey, how: dict[str, Any], place: Place, words: str
) -> None:
    assert refused([made(key, **how)], enrolment(place)) == words


def test_a_key_that_makes_a_credential_which_is_known_already(key: SoftKey) -> None:
    old = enrolled(SoftKey(2))
    known = Material.unpack(old.material).credential_id
    assert refused([made(key, credential_id=known)], enrolment(held=(old,))) == WORDS[Failure.EXCLUDED]


def test_a_credential_that_somebody_else_has_enrolled(store: SqliteStore, key: SoftKey) -> None:
    """K07: our id of a credential is the key's own, hashed, so that its second owner is found."""
    World(store, device=whole(key)).run(enroll(desk(peer=0), {"factor": "fido2"}))
    (mine,) = store.read(FindAccount(ALICE, "alice")).of("fido2")
    known = Material.unpack(mine.material).credential_id
    assert mine.id == sha256(known).hexdigest()[:32]
    bob = Desk(Caller(SESSION, 0, BOB, "bob", "host.example"), Settings(), FACTORS, Clock())
    world = World(store, device=[made(key, credential_id=known), key.sign])
    with pytest.raises(RefusedError) as caught:
        world.run(enroll(bob, {"factor": "fido2"}))
    assert caught.value.message == f"nothing was enrolled. {TAKEN}"
    assert world.wants[-1] == HangUp()
    assert store.read(FindAccount(BOB, "bob")).credentials == ()


def test_a_credential_that_somebody_else_enrols_meanwhile(store: SqliteStore, key: SoftKey) -> None:
    """K07: between the look for its owner and the commit, both at the same moment."""
    of_bob: list[Credential] = []

    class Overtaken(World):
        def _do(self, want: Want) -> Response:
            if isinstance(want, Commit):
                (announced,) = want.operations
                assert isinstance(announced, Announce)
                operation = announced.operation
                assert isinstance(operation, Enrol)
                of_bob.append(replace(operation.credentials[0], uid=BOB, user="bob"))
                enrol(self.store, of_bob[0])
            return super()._do(want)

    with pytest.raises(RefusedError, match="changed meanwhile"):
        Overtaken(store, device=whole(key)).run(enroll(desk(peer=0), {"factor": "fido2"}))
    assert store.read(FindAccount(ALICE, "alice")).credentials == ()
    assert store.read(FindAccount(BOB, "bob")).credentials == tuple(of_bob)


@pytest.mark.parametrize(
    "how",
    [{"flags": UV}, {"hash": bytes(32)}, {"rp_id": "example.com"}, {"answer_as": b"another"}, {"handle": b"bob"},
     {"flags": UP | BE}],
)  # fmt: skip
def test_a_key_that_cannot_prove_its_credential(key: SoftKey, how: dict[str, Any]) -> None:
    assert refused([key.make, asserted(key, **how)]) == WORDS[Failure.NONSENSE]


def test_a_key_that_verifies_its_user_once_only() -> None:
    key = SoftKey(verifies=True)
    assert refused([key.make, asserted(key, flags=UP)], enrolment(STRICT)) == NOT_VERIFIED


@pytest.mark.parametrize("count", [0, 1])
def test_a_counter_that_does_not_grow(key: SoftKey, count: int) -> None:
    def sign(request: Any) -> Event:
        key.count = count - 1
        return DeviceReply(key.asserted(request))

    assert refused([key.make, sign]) == WORDS[Failure.NONSENSE]


def test_a_key_that_does_not_count() -> None:
    silent = SoftKey(count=None)
    assert run([silent.make, silent.sign])[0].mark == 0


def test_another_key_signs_for_the_new_one(key: SoftKey) -> None:
    other = SoftKey(2)
    enrolled(other)

    def sign(request: Any) -> Event:
        return DeviceReply(other.asserted(request, answer_as=request.wanted[0].credential_id))

    assert refused([key.make, sign]) == WORDS[Failure.NONSENSE]


def test_the_wrong_kind_of_answer(key: SoftKey) -> None:
    made_again = DeviceReply(MadeReply(1, Transport.USB, "x", b""))
    signed_first = DeviceReply(Asserted(1, Transport.USB, "host.example", b"x", b"", b"", b""))
    assert refused([key.make, made_again]) == WORDS[Failure.NONSENSE]
    assert refused([signed_first]) == WORDS[Failure.NONSENSE]


@pytest.mark.parametrize("options", [{"verify": 1}, {"verify": "yes"}, {"discoverable": []}, {"discoverable": "x"}])
def test_options_are_true_or_false(options: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        run([], enrolment(**options))
    assert caught.value.code == "invalid"


@pytest.mark.parametrize("made_before", [False, True])
@pytest.mark.parametrize(
    ("event", "error"),
    [(Aborted(), AbortedError), (Shown(), ProtocolError), (DeviceReply(None), ProtocolError)],
)
def test_any_other_event_ends_it(key: SoftKey, made_before: bool, event: Event, error: type[Exception]) -> None:
    with pytest.raises(error):
        run([*([key.make] if made_before else []), event])


# ----------------------------------------------------------------------------------------------------- pam-mfa enroll


def desk(settings: Settings | None = None, peer: int = ALICE) -> Desk:
    return Desk(Caller(SESSION, peer, ALICE, "alice", "host.example"), settings or Settings(), FACTORS, Clock())


def test_the_whole_of_pam_mfa_enroll(store: SqliteStore, key: SoftKey) -> None:
    at_desk = Facts(peer_remote=False)
    world = World(store, ["secret"], passwords={"alice": "secret"}, device=whole(key), facts=at_desk)
    world.run(enroll(desk(), {"factor": "fido2", "label": "blue nano"}))
    assert [record["kind"] for record in world.records] == ["enrolled", "enrolled", "recovery"]
    account = store.read(FindAccount(ALICE, "alice"))
    (stored,) = account.of("fido2")
    assert (stored.label, stored.mark) == ("blue nano", 2)


@pytest.mark.parametrize("facts", [UNKNOWN, Facts(peer_remote=True), Facts(owner=Sessions(seat=False, remote=False))])
@pytest.mark.parametrize("enrolled_before", [False, True])
def test_nobody_elsewhere_enrols_a_key_of_this_host(
    store: SqliteStore, key: SoftKey, facts: Facts, enrolled_before: bool
) -> None:
    """Somebody at the host would touch it."""
    if enrolled_before:
        World(store, device=whole(key)).run(enroll(desk(peer=0), {"factor": "fido2"}))
    before = store.read(FindAccount(ALICE, "alice"))
    world = World(store, facts=facts)
    with pytest.raises(RefusedError) as caught:
        world.run(enroll(desk(), {"factor": "fido2"}))
    assert (caught.value.code, caught.value.message) == ("not_allowed", AWAY)
    assert world.kinds == ["Locate"]  # and no code or password is asked for
    assert store.read(FindAccount(ALICE, "alice")) == before


def test_where_logind_does_not_answer_nobody_is_at_the_host(store: SqliteStore) -> None:
    world = World(store, facts=Facts(peer_remote=False), instead={0: LookupFailed("too late")})
    with pytest.raises(RefusedError, match="a session from elsewhere"):
        world.run(enroll(desk(), {"factor": "fido2"}))


def test_local_key_never_holds_for_enrolling_too(store: SqliteStore) -> None:
    settings = Settings(rules=(Rule(local_key=LocalKey.NEVER, match=Match(("pam-mfa",))),))
    with pytest.raises(RefusedError, match="local_key"):
        World(store, facts=Facts(peer_remote=False)).run(enroll(desk(settings), {"factor": "fido2"}))


def test_root_enrols_from_anywhere(store: SqliteStore, key: SoftKey) -> None:
    world = World(store, device=whole(key), facts=Facts(peer_remote=True))
    world.run(enroll(desk(peer=0), {"factor": "fido2"}))
    assert store.read(FindAccount(ALICE, "alice")).of("fido2")


def test_codes_are_enrolled_from_anywhere(store: SqliteStore) -> None:
    world = World(store, ["secret"], passwords={"alice": "secret"}, facts=Facts(peer_remote=True))
    world.run(enroll(desk(), {"factor": "recovery"}))
    assert "Locate" not in world.kinds


def test_a_key_proves_who_changes_an_account_where_the_rule_lets_it(store: SqliteStore, key: SoftKey) -> None:
    second = SoftKey(2)
    world = World(store, device=whole(key))
    world.run(enroll(desk(peer=0), {"factor": "fido2", "label": "first"}))
    settings = Settings(policy=Rule(local_key=LocalKey.ALWAYS))
    world = World(store, device=[key.holds, key.touch, key.sign, *whole(second)])
    world.run(enroll(desk(settings), {"factor": "fido2", "label": "second"}))
    assert len(store.read(FindAccount(ALICE, "alice")).of("fido2")) == 2
    assert world.asked == []


def test_what_any_service_demands_is_demanded_of_a_new_key(store: SqliteStore, key: SoftKey) -> None:
    strict = Rule(user_verification=UserVerification.REQUIRED)
    settings = Settings(rules=(Rule(), strict))
    world = World(store, device=[made(key)])
    with pytest.raises(RefusedError, match="did not ask for its PIN"):
        world.run(enroll(desk(settings, peer=0), {"factor": "fido2"}))
    assert store.read(FindAccount(ALICE, "alice")).credentials == ()
