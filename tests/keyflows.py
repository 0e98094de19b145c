"""Logins and enrolments with security keys, stepped: accounts that have one, what its device does, by script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, code_at, totp
from softkey import Answer, SoftKey

from pam_mfa.conversation import DeviceReply, Event, Wait
from pam_mfa.devices.base import Assert, Make, Verification
from pam_mfa.factors.assertion import Es256
from pam_mfa.factors.base import Ceremony, Enrolment, Place
from pam_mfa.factors.fido2 import Material
from pam_mfa.login import prove
from pam_mfa.outcome import Proof
from pam_mfa.rules import Rule, UserVerification
from pam_mfa.store.rows import Account, Credential
from pam_mfa.structure import replace

RP = "example.org"
PHONE = totp()
PLACE = Place(host="host", service="sudo", user="alice", local=True)
HERE = replace(PLACE, host="Host.Example")
STRICT = replace(HERE, rule=Rule(user_verification=UserVerification.REQUIRED))
CUE = 'Touch your security key "blue nano"'
MAKE = Make(bytes(32), RP, RP, b"handle of alice", "alice", (-7,), (), False, Verification.DISCOURAGED, 30)
Step = Event | Answer


def enrolled(key: SoftKey, label: str = "blue nano", mark: int = 0, **material: Any) -> Credential:
    """What enrolling a key leaves behind."""
    key.made(MAKE)
    id_ = list(key.keys)[-1]
    point = key.keys[id_].public_key().public_numbers()
    cose = Es256(point.x.to_bytes(32), point.y.to_bytes(32))
    found = Material(RP, id_, cose.encoded, user_handle=b"handle of alice", synced=key.synced)
    packed = replace(found, **material).pack()
    return Credential(label.encode().hex().ljust(32, "0")[:32], ALICE, "alice", "fido2", label, packed, mark)


def run(
    of: Account,
    device: Sequence[Any],
    methods: Sequence[str] = ("fido2", "totp"),
    place: Place = PLACE,
    answers: Sequence[str] | None = None,
) -> tuple[Proof | None, World, Ceremony]:
    clock = Clock()
    ceremony = Ceremony(SESSION, ALICE, of, clock, place=place)
    world = World(Memory(of), [code_at(PHONE, clock())] if answers is None else answers, device=device)
    return world.run(prove(ceremony, methods, FACTORS)), world, ceremony


def reply(key: SoftKey, **how: Any) -> Answer:
    """A signed answer that is wrong in one place."""

    def answer(request: Assert | Make) -> Event:
        assert isinstance(request, Assert)
        return DeviceReply(key.asserted(request, **how))

    return answer


# ------------------------------------------------------------------------------------------------------- enrolments


def enrolment(place: Place = HERE, held: tuple[Credential, ...] = (), **options: Any) -> Enrolment:
    """What alice's new key is to be."""
    return Enrolment(ALICE, "alice", "0" * 32, "blue nano", "issuer", Clock(), options, SESSION, held, place)


def enrol_key(
    device: Sequence[Any], of: Enrolment | None = None, answers: Sequence[str] = ()
) -> tuple[Credential, Material, World]:
    """A whole enrolment: what is to be stored, what that says, and what was wanted."""
    world = World(Memory(), answers, device=device)
    made = world.run(FACTORS["fido2"].enrol(of or enrolment()))
    assert made.reveal is None
    return made.credential, Material.unpack(made.credential.material), world


def requests(world: World) -> list[Any]:
    """What the keys were asked."""
    return [want.request for want in world.wants if isinstance(want, Wait) and want.request is not None]


def whole(key: SoftKey) -> list[Any]:
    """What a key does when it is enrolled."""
    return [key.touch, key.make, key.holds, key.touch, key.sign]


def makes(key: SoftKey, **how: Any) -> Answer:
    """A new credential that is wrong in one place."""

    def answer(request: Assert | Make) -> Event:
        assert isinstance(request, Make)
        return DeviceReply(key.made(request, **how))

    return answer
