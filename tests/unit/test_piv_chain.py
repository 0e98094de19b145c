"""Smartcards whose certificates a CA vouches for: paths that are no good, whose names they hold (P03-P05)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ca import Authority, Leaf
from cardflows import ANCHOR, CHAINED, ISSUING, LISTS, PHONE, PIN, enrolled, run, trusting
from flows import ALICE, BOB, FACTORS, SESSION, Clock, Memory, World, account, code_at
from softcard import NINE_A, SoftCard, certified, idle

from pam_mfa.assessment import Request
from pam_mfa.config import Revocation, Settings, Smartcard, Trust
from pam_mfa.conversation import CheckPath, DeviceReply, Expired
from pam_mfa.devices.base import Carries
from pam_mfa.errors import LookupFailed
from pam_mfa.factors.base import Place
from pam_mfa.factors.card_ceremonies import BAD_PATH, PATHS, SHARED, UNDECIDED
from pam_mfa.factors.card_dialogue import NO_CARD
from pam_mfa.factors.piv import Material, pinned
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import LocalKey, Rule
from pam_mfa.store.rows import Account, Credential
from pam_mfa.structure import replace
from pam_mfa.verify import base as path
from pam_mfa.verify.base import Kind
from pam_mfa.verify.names import issuer_serial

UPN, MAIL = "alice@corp.example", "alice@example.org"
GOOD = trusting(*LISTS)


def rules(**how: Any) -> Place:
    return replace(CHAINED, smartcard=replace(CHAINED.smartcard, **how))


NAMED = rules(upn_anchors=frozenset({ANCHOR}), mail_anchors=frozenset({ANCHOR}))


@pytest.fixture(scope="module")
def leaf() -> Leaf:
    return ISSUING.leaf(upns=[UPN], mails=[MAIL])


def by(kind: Kind, leaf: Leaf) -> Credential:
    """Enrolled by one of the things that a certificate can be recognised by."""
    extension = [e.value for e in leaf.certificate.extensions if e.oid.dotted_string == "2.5.29.14"]
    values = {
        Kind.KEY: pinned(certified(leaf).public_key),
        Kind.ISSUER_SERIAL: issuer_serial(leaf.certificate.issuer.public_bytes(), leaf.serial),
        Kind.SUBJECT_KEY_ID: extension[0].digest,
        Kind.UPN: UPN.encode(),
        Kind.MAIL: MAIL.encode(),
    }
    return enrolled(leaf, kind=kind, value=values[kind])


def denied(
    leaf: Leaf,
    reason: str,
    words: str,
    paths: Any = GOOD,
    of: Account | None = None,
    place: Place = CHAINED,
    **more: Any,
) -> None:
    """Refused before a PIN was asked for, and nothing counted."""
    card = SoftCard(leaf)
    proof, world, ceremony = run(of or account(enrolled(leaf)), [card.carries], [], paths=paths, place=place, **more)
    assert (proof, ceremony.reason) == (None, reason)
    assert (world.asked, world.told, world.operations, ceremony.tries) == ([], [words], [], 3)


# --------------------------------------------------------------------------------------------------------- the path


@pytest.mark.parametrize("kind", Kind)
def test_whatever_a_checked_certificate_is_recognised_by(leaf: Leaf, kind: Kind) -> None:
    card = SoftCard(leaf)
    proof, world, _ = run(account(by(kind, leaf)), [card.carries, card.sign], place=NAMED, paths=GOOD)
    assert proof is not None
    (check,) = [want.check for want in world.wants if isinstance(want, CheckPath)]
    assert check == path.Check((certified(leaf).certificate,), path.Revocation.STRICT, Smartcard().usages)


def test_with_pinned_trust_only_the_key_counts_and_no_path_is_checked(leaf: Leaf) -> None:
    place = replace(NAMED, smartcard=replace(NAMED.smartcard, trust=Trust.PINNED))
    for kind in Kind:
        card = SoftCard(leaf)
        device = [card.carries, card.sign] if kind is Kind.KEY else []
        proof, world, _ = run(account(by(kind, leaf)), device, place=place)
        assert (proof is not None) is (kind is Kind.KEY)
        assert "CheckPath" not in world.kinds


def test_p03_every_path_that_is_no_good_is_denied_with_its_reason() -> None:
    nobody = Authority.root("Nobody")
    for bad, reason in (
        (ISSUING.leaf(days=(-10, -1)), "expired"),
        (ISSUING.leaf(days=(1, 10)), "not_yet_valid"),
        (ISSUING.leaf(usages=["1.3.6.1.5.5.7.3.1"]), None),
        (ISSUING.leaf(usage=["key_agreement"]), None),
        (nobody.leaf(), "no_issuer"),
        (Authority.root("Issuing").leaf(), "wrong_issuer"),
    ):
        request = path.Check((certified(bad).certificate,), path.Revocation.STRICT, Smartcard().usages)
        checked = GOOD(request)
        assert isinstance(checked, path.Checked)
        assert checked.trust is path.Trust.BAD
        assert reason in (None, checked.reason)
        denied(bad, checked.reason, PATHS.get(checked.reason, BAD_PATH))


def test_p04_a_revoked_certificate(leaf: Leaf) -> None:
    revoked = trusting(LISTS[0], ISSUING.crl([leaf.serial]))
    denied(leaf, "revoked", PATHS["revoked"], revoked)


@pytest.mark.parametrize(
    ("revocation", "paths", "outcome", "reason"),
    [
        (Revocation.SOFT, trusting(), Outcome.GRANTED, "proven_crl_missing"),
        (Revocation.SOFT, GOOD, Outcome.GRANTED, "proven"),
        (Revocation.STRICT, GOOD, Outcome.GRANTED, "proven"),
        (Revocation.STRICT, trusting(), Outcome.UNAVAILABLE, "crl_missing"),
    ],
)
def test_p04_soft_is_what_the_settings_say_and_the_log_is_told(
    leaf: Leaf, revocation: Revocation, paths: Any, outcome: Outcome, reason: str
) -> None:
    card, of = SoftCard(leaf), account(enrolled(leaf))
    own = replace(CHAINED.smartcard, revocation=revocation)
    settings = Settings(Rule(methods=("smartcard",), local_key=LocalKey.ALWAYS), smartcard=own)
    request = Request(SESSION, 0, "login", "alice", ALICE, "", "", "tty1", "host")
    world = World(Memory(of), [PIN], device=[card.carries, card.sign], paths=paths)
    verdict = world.run(login(request, settings, FACTORS, Clock()))
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_what_the_settings_say_of_usages_is_asked(leaf: Leaf) -> None:
    card = SoftCard(leaf)
    _, world, _ = run(account(enrolled(leaf)), [card.carries, card.sign], place=rules(usages=("1.2.3",)), paths=GOOD)
    (check,) = [want.check for want in world.wants if isinstance(want, CheckPath)]
    assert isinstance(check, path.Check)
    assert check.usages == ("1.2.3",)


STALE = trusting(ISSUING.crl(days=(-10, -1)), LISTS[0])
UNKNOWN: Sequence[Any] = [trusting(), STALE, lambda check: LookupFailed("gone"), lambda check: object()]


@pytest.mark.parametrize("paths", UNKNOWN, ids=["absent", "stale", "gone", "nonsense"])
def test_p04_nobody_knows_whether_it_was_revoked(leaf: Leaf, paths: Any) -> None:
    card, of = SoftCard(leaf), account(enrolled(leaf), PHONE)
    settings = Settings(Rule(methods=("smartcard",), local_key=LocalKey.ALWAYS), smartcard=CHAINED.smartcard)
    request = Request(SESSION, 0, "login", "alice", ALICE, "", "", "tty1", "host")
    world = World(Memory(of), device=[card.carries], paths=paths)
    verdict = world.run(login(request, settings, FACTORS, Clock()))
    assert verdict.outcome is Outcome.UNAVAILABLE
    assert verdict.reason not in ("", "no_card", "unenrolled")
    assert world.told == [UNDECIDED]


def test_p04_other_factors_go_on(leaf: Leaf) -> None:
    card, of = SoftCard(leaf), account(enrolled(leaf), PHONE)
    settings = Settings(Rule(methods=("smartcard", "totp"), local_key=LocalKey.ALWAYS), smartcard=CHAINED.smartcard)
    request = Request(SESSION, 0, "login", "alice", ALICE, "", "", "tty1", "host")

    def verdict(*answers: str) -> Verdict:
        return World(Memory(of), answers, device=[card.carries], paths=STALE).run(
            login(request, settings, FACTORS, Clock())
        )

    assert verdict(code_at(PHONE, Clock()())).outcome is Outcome.GRANTED
    assert verdict("1", "2", "3").outcome is Outcome.TRIES_SPENT


def test_the_key_that_was_checked_is_the_one_that_has_to_sign(leaf: Leaf) -> None:
    """A helper that shows the path checker one certificate, and the session another key."""
    mallory = ISSUING.leaf("mallory")
    mixed = certified(leaf, public_key=certified(mallory).public_key)
    for of in (account(by(Kind.UPN, leaf)), account(enrolled(mallory))):
        device = [DeviceReply(Carries(1, "Reader", b"", 3, (mixed,))), idle(1), Expired()]
        proof, _, ceremony = run(of, device, place=NAMED, paths=GOOD)
        assert (proof, ceremony.reason) == (None, "key_mismatch")


def test_a_strangers_certificate_is_not_checked_where_keys_alone_are_enrolled(leaf: Leaf) -> None:
    stranger, card = SoftCard(Authority.root("Else").leaf(), device=2), SoftCard(leaf)
    device = [stranger.carries, idle(1), card.carries, card.sign]
    proof, world, _ = run(account(enrolled(leaf)), device, place=CHAINED, paths=GOOD)
    assert proof is not None
    assert world.kinds.count("CheckPath") == 1


def test_a_strangers_bad_certificate_does_not_end_the_wait(leaf: Leaf) -> None:
    stranger, card = SoftCard(Authority.root("Else").leaf(), device=2), SoftCard(leaf)
    of = account(by(Kind.UPN, leaf))
    assert run(of, [stranger.carries, idle(1), card.carries, card.sign], place=NAMED, paths=GOOD)[0] is not None
    proof, world, ceremony = run(of, [stranger.carries, idle(1), Expired()], place=NAMED, paths=GOOD)
    assert (proof, ceremony.reason) == (None, "no_issuer")
    assert world.told[-1] == BAD_PATH


# ------------------------------------------------------------------------------------------------------------ mapping


@pytest.mark.parametrize(("kind", "field"), [(Kind.UPN, "upn_anchors"), (Kind.MAIL, "mail_anchors")])
def test_p05_a_name_counts_only_from_whom_the_settings_trust_with_it(leaf: Leaf, kind: Kind, field: str) -> None:
    other = {"upn_anchors": frozenset({ANCHOR}), "mail_anchors": frozenset({ANCHOR})} | {field: frozenset({"x.pem"})}
    for place in (CHAINED, rules(**other)):
        device = [SoftCard(leaf).carries, idle(1), Expired()]
        proof, world, ceremony = run(account(by(kind, leaf)), device, place=place, paths=GOOD)
        assert (proof, ceremony.reason) == (None, "no_card")
        assert world.told[-1] == NO_CARD


@pytest.mark.parametrize(
    "other",
    [UPN.upper(), UPN + "\0", UPN.replace("corp", "c\u043erp"), "*", UPN + " ", "alice@corp.example' OR '1'='1"],
)
def test_p05_a_name_is_that_name_and_no_other(leaf: Leaf, other: str) -> None:
    """Case, NUL, look-alikes, metacharacters."""
    of = account(by(Kind.UPN, leaf))
    device = [SoftCard(ISSUING.leaf(upns=[other])).carries, idle(1), Expired()]
    proof, world, _ = run(of, device, place=NAMED, paths=GOOD)
    assert proof is None
    assert world.asked == []


def test_p05_an_equal_common_name_is_nobody(leaf: Leaf) -> None:
    twin = ISSUING.leaf("alice")
    proof, _, ceremony = run(account(by(Kind.UPN, leaf)), [SoftCard(twin).carries, Expired()], place=NAMED, paths=GOOD)
    assert (proof, ceremony.reason) == (None, "no_card")


@pytest.mark.parametrize("kind", Kind)
def test_p05_a_certificate_that_is_somebody_elses_too(leaf: Leaf, kind: Kind) -> None:
    """By whatever it is recognised for either of them."""
    for own in Kind:
        bobs = replace(by(kind, leaf), uid=BOB, user="bob")
        others = [account(bobs, uid=BOB)]
        denied(leaf, "ambiguous", SHARED, of=account(by(own, leaf)), place=NAMED, others=others)


def test_p05_a_certificate_that_two_rules_recognise(leaf: Leaf) -> None:
    of = account(by(Kind.KEY, leaf), by(Kind.UPN, leaf))
    proof, world, ceremony = run(of, [SoftCard(leaf).carries, Expired()], [], place=NAMED, paths=GOOD)
    assert (proof, ceremony.reason) == (None, "ambiguous")
    assert (world.told, world.operations) == ([SHARED], [])


@pytest.mark.parametrize("first", [True, False])
def test_of_two_cards_one_is_no_good_any_more(leaf: Leaf, first: bool) -> None:
    """The other one proves, whichever is read first; without it the reason is told at once."""
    old, card = SoftCard(ISSUING.leaf("old", days=(-10, -1)), device=2), SoftCard(leaf)
    of = account(enrolled(leaf), enrolled(old.leaves[NINE_A], "zold"))
    order = [old, card] if first else [card, old]
    device = [*(each.carries for each in order), Expired(), card.sign]
    assert run(of, device, place=CHAINED, paths=GOOD)[0] is not None
    for end in (Expired(), idle(1)):
        proof, world, ceremony = run(of, [old.carries, end], place=CHAINED, paths=GOOD)
        assert (proof, ceremony.reason) == (None, "expired")
        assert world.told == [PATHS["expired"]]


@pytest.mark.parametrize("names", [{"upns": [UPN, "bob@corp.example"]}, {"mails": [MAIL, "bob@example.org"]}], ids=str)
def test_p05_two_names_where_one_says_who_it_is(names: Any) -> None:
    leaf = ISSUING.leaf(**names)
    denied(leaf, "ambiguous", SHARED, place=NAMED)
    card = SoftCard(leaf)
    assert run(account(enrolled(leaf)), [card.carries, card.sign], place=CHAINED, paths=GOOD)[0] is not None


def test_of_two_certificates_on_a_card_the_one_that_is_the_accounts(leaf: Leaf) -> None:
    card = SoftCard({NINE_A: Authority.root("Else").leaf(), certified(leaf).slot.SIGNATURE: leaf})
    place = rules(slots=("9a", "9c"), upn_anchors=frozenset({ANCHOR}))

    def sign(request: Any) -> Any:
        return DeviceReply(card.signed(request, certified(leaf).slot.SIGNATURE))

    assert run(account(by(Kind.UPN, leaf)), [card.carries, sign], [PIN], place=place, paths=GOOD)[0] is not None


def test_details_tell_by_what_it_is_recognised(leaf: Leaf) -> None:
    found = FACTORS["smartcard"].details(by(Kind.UPN, leaf))
    assert (found["by"], found["matches"], found["slot"], found["key"]) == ("upn", UPN, "9a", "p-256")
    key = by(Kind.KEY, leaf)
    assert FACTORS["smartcard"].details(key)["matches"] == Material.unpack(key.material).value.hex()
