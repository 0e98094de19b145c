"""Enrolling a security key: what is made, proven and stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Response, World
from keyflows import HERE, STRICT, enrol_key, enrolled, enrolment, makes, requests, whole
from softkey import SoftKey
from stores import SEALER, discard, enrol, make

from pam_mfa.config import Fido2, Settings
from pam_mfa.conversation import Commit, DeviceReply, Event, Expired, HangUp, Wait, Want
from pam_mfa.devices.base import Assert, Holds, Idle, Make, Pin, PinReason, PinWanted, Transport, Verification, Wanted
from pam_mfa.enroll import AWAY, Caller, Desk, enroll
from pam_mfa.errors import LookupFailed, RefusedError
from pam_mfa.factors.assertion import ALGORITHMS
from pam_mfa.factors.ceremonies import TAKEN
from pam_mfa.factors.fido2 import Material
from pam_mfa.origin import UNKNOWN, Facts, Sessions
from pam_mfa.rules import LocalKey, Match, Rule, UserVerification
from pam_mfa.store.base import Announce, Enrol, FindAccount
from pam_mfa.store.rows import Credential
from pam_mfa.store.sqlite import SqliteStore
from pam_mfa.structure import replace


@pytest.fixture
def key() -> SoftKey:
    return SoftKey()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


def desk(settings: Settings | None = None, peer: int = ALICE) -> Desk:
    return Desk(Caller(SESSION, peer, ALICE, "alice", "host.example"), settings or Settings(), FACTORS, Clock())


# -------------------------------------------------------------------------------------------------- what is made


def test_a_key_is_made_and_proven_before_it_counts(key: SoftKey) -> None:
    credential, material, world = enrol_key(whole(key))
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
    _, material, world = enrol_key(whole(key), of)
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
    _, material, world = enrol_key(whole(key), enrolment(held=(old,)))
    assert requests(world)[0].excluded == (Wanted(known.rp_id, known.credential_id),)
    assert material.user_handle == b"h" * 32
    for handle in (b"", b"imported"):
        _, material, _ = enrol_key(whole(key), enrolment(held=(enrolled(SoftKey(2), user_handle=handle),)))
        assert len(material.user_handle) == 32


def test_two_accounts_have_different_handles(key: SoftKey) -> None:
    assert enrol_key(whole(key))[1].user_handle != enrol_key(whole(key))[1].user_handle


@pytest.mark.parametrize("name", ["", "naïve\x1b[31m key\n", "x" * 300])
def test_a_products_name_is_what_a_terminal_can_show(key: SoftKey, name: str) -> None:
    key.name = name
    product = enrol_key(whole(key))[1].product
    assert product.isascii()
    assert len(product) <= 64
    assert not product or product.isprintable()


def test_the_pin_is_asked_once_for_both(key: SoftKey) -> None:
    key = SoftKey(verifies=True)
    wanted = DeviceReply(PinWanted(1, PinReason.FIRST, 8))
    steps = [wanted, Expired(), key.touch, key.make, key.holds, wanted, key.touch, key.sign]
    _, material, world = enrol_key(steps, enrolment(STRICT), answers=["1234"])
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
    _, _, world = enrol_key(steps, enrolment(STRICT), answers=["1234", "5678"])
    assert len(world.asked) == 2
    assert [request for request in requests(world) if isinstance(request, Pin)] == [Pin(1, "1234"), Pin(2, "5678")]


def test_a_device_that_does_not_say_what_it_holds_gets_no_pin_of_before() -> None:
    key = SoftKey(verifies=True)
    wanted = DeviceReply(PinWanted(1, PinReason.FIRST, 8))
    _, _, world = enrol_key([wanted, Expired(), key.make, wanted, key.sign], enrolment(STRICT), ["1234", "5678"])
    assert [request for request in requests(world) if isinstance(request, Pin)] == [Pin(1, "1234"), Pin(1, "5678")]


def test_a_pin_that_was_given_to_another_device_than_the_maker_is_asked_for_again() -> None:
    key = SoftKey(2, verifies=True)
    wanted, second = DeviceReply(PinWanted(1, PinReason.FIRST, 8)), DeviceReply(PinWanted(2, PinReason.FIRST, 8))
    _, _, world = enrol_key(
        [wanted, Expired(), key.make, key.holds, second, key.sign], enrolment(STRICT), ["1234", "5678"]
    )
    assert [request for request in requests(world) if isinstance(request, Pin)] == [Pin(1, "1234"), Pin(2, "5678")]


def test_who_makes_it_has_a_minute_and_hears_of_it_again(key: SoftKey) -> None:
    _, _, world = enrol_key([key.touch, Expired(), key.make, key.sign])
    assert world.told[1] == "Still waiting. Touch the security key that you want to enrol"
    assert [want.seconds for want in world.wants if isinstance(want, Wait)][:3] == [30, 30, 30]


def test_a_key_may_be_plugged_in_when_it_is_asked_for(key: SoftKey) -> None:
    _, _, world = enrol_key([DeviceReply(Idle(0)), *whole(key)])
    assert world.told[0] == "Plug in the security key that you want to enrol"


def test_details_show_model_transport_and_counter(key: SoftKey) -> None:
    credential, _, _ = enrol_key(whole(key))
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


# ----------------------------------------------------------------------------------------------------- pam-mfa enroll


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
    world = World(store, device=[makes(key)])
    with pytest.raises(RefusedError, match="did not ask for its PIN"):
        world.run(enroll(desk(settings, peer=0), {"factor": "fido2"}))
    assert store.read(FindAccount(ALICE, "alice")).credentials == ()


def test_a_credential_that_somebody_else_has_enrolled(store: SqliteStore, key: SoftKey) -> None:
    """K07: our id of a credential is the key's own, hashed, so that its second owner is found."""
    World(store, device=whole(key)).run(enroll(desk(peer=0), {"factor": "fido2"}))
    (mine,) = store.read(FindAccount(ALICE, "alice")).of("fido2")
    known = Material.unpack(mine.material).credential_id
    assert mine.id == sha256(known).hexdigest()[:32]
    bob = Desk(Caller(SESSION, 0, BOB, "bob", "host.example"), Settings(), FACTORS, Clock())
    world = World(store, device=[makes(key, credential_id=known), key.sign])
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
