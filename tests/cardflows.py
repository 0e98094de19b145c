"""Logins with smartcards, stepped: accounts that have one, and what the cards do, by script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ca import Authority, Leaf
from cryptography import x509
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, totp
from softcard import certified

from pam_mfa.config import Smartcard, Trust
from pam_mfa.conversation import Wait
from pam_mfa.factors.base import Ceremony, Place
from pam_mfa.factors.piv import KEY, Material, pinned
from pam_mfa.login import prove
from pam_mfa.outcome import Proof
from pam_mfa.store.rows import Account, Credential
from pam_mfa.structure import replace
from pam_mfa.verify.authorities import Authorities
from pam_mfa.verify.base import Check
from pam_mfa.verify.crls import Lists
from pam_mfa.verify.paths import check

ROOT = Authority.root()
ISSUING = ROOT.authority()
PHONE = totp()
PIN = "123456"
PLACE = Place(host="host", service="sudo", user="alice", local=True)
CHAINED = replace(PLACE, smartcard=Smartcard(trust=Trust.CHAIN))
ANCHOR = "company.pem"
INSERT = 'Insert your smartcard "work"'


def enrolled(
    leaf: Leaf, label: str = "work", kind: int = KEY, value: bytes = b"", uid: int = ALICE, user: str = "alice"
) -> Credential:
    """What enrolling a card leaves behind."""
    found = certified(leaf)
    shown = (found.key, found.subject, found.issuer, found.number, found.valid_until)
    material = Material(kind, value or pinned(found.public_key), int(found.slot), *shown)
    return Credential(material.id, uid, user, "smartcard", label, material.pack(), created=sum(label.encode()))


def trusting(*crls: bytes, anchor: str = ANCHOR) -> Callable[[Check], object]:
    """The path checker of an administrator who trusts ROOT and knows ISSUING, and these lists."""
    files = {ROOT.certificate: anchor}
    authorities = Authorities(files, (ISSUING.certificate,), Lists(map(x509.load_der_x509_crl, crls)))
    return lambda request: check(request, authorities, datetime.now(UTC))


LISTS = (ROOT.crl(), ISSUING.crl())


def run(
    of: Account,
    device: Sequence[Any],
    answers: Sequence[str] = (PIN,),
    methods: Sequence[str] = ("smartcard",),
    place: Place = PLACE,
    paths: Callable[[Check], object] | None = None,
    others: Sequence[Account] = (),
) -> tuple[Proof | None, World, Ceremony]:
    ceremony = Ceremony(SESSION, of.uid, of, Clock(), place=place)
    world = World(Memory(of, *others), answers, device=device, paths=paths)
    return world.run(prove(ceremony, methods, FACTORS)), world, ceremony


def requests(world: World) -> list[object]:
    """What the cards were asked."""
    return [want.request for want in world.wants if isinstance(want, Wait) and want.request]
