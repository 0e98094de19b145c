"""P03: paths that lead to an anchor, and all those that do not; each refusal says why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import ca
import pytest
from ca import CLIENT, LOGON, Authority, Leaf
from cryptography import x509

from pam_mfa.verify.authorities import Authorities
from pam_mfa.verify.base import Check, Checked, Kind, Name, Revocation, Trust
from pam_mfa.verify.crls import Lists
from pam_mfa.verify.names import issuer_serial
from pam_mfa.verify.paths import check

SERVER = "1.3.6.1.5.5.7.3.1"
ROOT = Authority.root()
ISSUING = ROOT.authority()
NOBODY = Authority.root("Nobody")


def trusting(
    *anchors: Authority, intermediates: Sequence[Authority] = (ISSUING,), crls: Sequence[bytes] = ()
) -> Authorities:
    """What an administrator with these files trusts."""
    return Authorities(
        {each.certificate: f"{index}.pem" for index, each in enumerate(anchors or (ROOT,))},
        tuple(each.certificate for each in intermediates),
        Lists(map(x509.load_der_x509_crl, crls)),
    )


def checked(
    leaf: Leaf | x509.Certificate,
    authorities: Authorities | None = None,
    *beside: Authority,
    usages: Sequence[str] = (CLIENT, LOGON),
    **days: float,
) -> Checked:
    """The verdict where no list is asked for. `days`: from now."""
    certificate = leaf.certificate if isinstance(leaf, Leaf) else leaf
    chain = ca.der(certificate, *(each.certificate for each in beside))
    now = datetime.now(UTC) + timedelta(**days)
    return check(Check(chain, Revocation.SOFT, tuple(usages)), authorities or trusting(), now)


def refused(verdict: Checked) -> str:
    """The reason of a verdict that tells nothing else."""
    assert verdict == Checked(Trust.BAD, verdict.reason)
    return verdict.reason


# ------------------------------------------------------------------------------------------------------ good ones


@pytest.mark.parametrize("kind", ["p-256", "p-384", "rsa-2048", "rsa-3072"])
def test_a_path_to_an_anchor_is_good_and_names_what_is_at_both_of_its_ends(kind: str) -> None:
    root = Authority.root(key=ca.old_key(kind))
    issuing = root.authority(key=ca.old_key("rsa-2048" if kind == "p-256" else "p-256"))
    leaf = issuing.leaf(key=ca.old_key(kind), upns=["alice@example.org"], mails=["alice@example.com"])
    verdict = checked(leaf, trusting(NOBODY, root, intermediates=[issuing]))
    assert (verdict.trust, verdict.anchor, verdict.public_key) == (Trust.GOOD, "1.pem", ca.spki(leaf.certificate))
    assert Name(Kind.UPN, b"alice@example.org") in verdict.names
    assert Name(Kind.MAIL, b"alice@example.com") in verdict.names


def test_a_card_may_bring_its_intermediate_along() -> None:
    nothing_stored = trusting(intermediates=[])
    assert refused(checked(ISSUING.leaf(), nothing_stored)) == "no_issuer"
    assert checked(ISSUING.leaf(), nothing_stored, ISSUING).trust is Trust.GOOD


def test_what_else_a_card_has_beside_its_certificate_disturbs_no_path() -> None:
    chain = (*ca.der(ISSUING.leaf().certificate), b"\x30\x03garbage", *ca.der(NOBODY.certificate, ISSUING.certificate))
    assert check(Check(chain, Revocation.SOFT, (LOGON,)), trusting(), datetime.now(UTC)).trust is Trust.GOOD


def test_one_of_the_usages_is_enough_and_without_a_list_of_them_any_will_do() -> None:
    assert checked(ISSUING.leaf(usages=[CLIENT])).trust is Trust.GOOD
    assert checked(ISSUING.leaf(usages=[LOGON])).trust is Trust.GOOD
    assert checked(ISSUING.leaf(usages=[SERVER]), usages=[]).trust is Trust.GOOD
    assert checked(ISSUING.leaf(usages=None), usages=[]).trust is Trust.GOOD


def test_a_leaf_and_an_authority_without_key_usage_may_do_anything() -> None:
    issuing = ROOT.authority(usage=None)
    assert checked(issuing.leaf(usage=None), trusting(intermediates=[issuing])).trust is Trust.GOOD


def test_an_authority_that_is_limited_to_a_usage_of_ours_is_good_for_that_one() -> None:
    limited = ROOT.authority(extra=[(x509.ExtendedKeyUsage([x509.ObjectIdentifier(LOGON)]), False)])
    everything = ROOT.authority("Any", extra=[(x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.5.29.37.0")]), False)])
    authorities = trusting(intermediates=[limited, everything])
    assert checked(limited.leaf(), authorities).trust is Trust.GOOD
    assert checked(everything.leaf(), authorities).trust is Trust.GOOD
    assert refused(checked(limited.leaf(usages=[CLIENT]), authorities)) == "authority_extended_key_usage"


# -------------------------------------------------------------------------------------------------- P03, one by one


def test_p03_expired() -> None:
    assert refused(checked(ISSUING.leaf(days=(-9, -1)))) == "expired"
    assert refused(checked(ISSUING.leaf(days=(-1, 3)), days=4)) == "expired"


def test_p03_not_yet_valid() -> None:
    assert refused(checked(ISSUING.leaf(days=(1, 9)))) == "not_yet_valid"


@pytest.mark.parametrize(("days", "reason"), [((-9, -1), "authority_expired"), ((1, 9), "authority_not_yet_valid")])
def test_p03_an_authority_out_of_its_time(days: tuple[float, float], reason: str) -> None:
    issuing = ROOT.authority(days=days)
    assert refused(checked(issuing.leaf(), trusting(intermediates=[issuing]))) == reason
    root = Authority.root(days=days)
    assert refused(checked(root.leaf(), trusting(root))) == reason


@pytest.mark.parametrize("usages", [[SERVER], ["2.5.29.37.0"], None], ids=["server", "any", "none"])
def test_p03_wrong_extended_key_usage(usages: list[str] | None) -> None:
    assert refused(checked(ISSUING.leaf(usages=usages))) == "extended_key_usage"


@pytest.mark.parametrize("usage", [["key_encipherment"], ["content_commitment"], ["key_agreement"]])
def test_p03_wrong_key_usage(usage: list[str]) -> None:
    assert refused(checked(ISSUING.leaf(usage=usage))) == "key_usage"


def test_p03_an_authority_that_may_not_sign_certificates() -> None:
    issuing = ROOT.authority(usage=["crl_sign"])
    assert refused(checked(issuing.leaf(), trusting(intermediates=[issuing]))) == "authority_key_usage"


def test_p03_somebody_who_is_no_authority_issues() -> None:
    user = ISSUING.leaf()
    as_authority = Authority(user.certificate, user.key)
    reasons = {refused(checked(as_authority.leaf("mallory"), None, as_authority))}
    claims_nothing = ROOT.authority("Plain", ca=False)
    reasons |= {refused(checked(claims_nothing.leaf(), trusting(intermediates=[claims_nothing])))}
    assert reasons <= {"not_authority", "authority_key_usage"}


def test_p03_an_authority_logs_in_itself() -> None:
    assert refused(checked(ISSUING.certificate)) == "is_authority"
    assert refused(checked(ROOT.certificate)) == "is_authority"


def test_p03_unknown_authority() -> None:
    other = NOBODY.authority("Other")
    assert refused(checked(other.leaf())) == "no_issuer"
    assert refused(checked(other.leaf(), None, other, NOBODY)) in ("unsupported", "too_long")


def test_p03_missing_intermediate() -> None:
    assert refused(checked(ISSUING.leaf(), trusting(intermediates=[]))) == "no_issuer"


def test_p03_same_name_authority() -> None:
    false_root = Authority.root()
    false_issuing = false_root.authority()
    assert refused(checked(false_issuing.leaf())) == "wrong_issuer"
    assert refused(checked(false_issuing.leaf(), None, false_issuing, false_root)) in (
        "authority_wrong_issuer",
        "too_long",
    )
    assert refused(checked(false_root.leaf(), None, false_root)) in ("wrong_issuer", "too_long")


def test_two_anchors_of_one_name_are_told_apart_by_their_keys() -> None:
    twin = Authority.root()
    assert checked(ROOT.leaf(), trusting(twin, ROOT)).anchor == "1.pem"
    assert checked(twin.leaf(), trusting(twin, ROOT)).anchor == "0.pem"


@pytest.mark.parametrize("kind", ["rsa-1024", "secp256k1", "ed25519"])
def test_p03_weak_or_odd_key(kind: str) -> None:
    key = ca.old_key(kind)
    assert refused(checked(ISSUING.leaf(key=key))) == "weak_key"
    issuing = ROOT.authority(key=key)
    assert refused(checked(issuing.leaf(), trusting(intermediates=[issuing]))) in ("authority_weak_key", "weak_hash")
    root = Authority.root(key=key)
    assert refused(checked(root.leaf(), trusting(root))) in ("authority_weak_key", "weak_hash")


def test_p03_weak_hash() -> None:
    root = Authority.root(key=ca.old_key("rsa-2048"))
    issuing = root.authority()
    assert refused(checked(ca.with_sha1(root.leaf().certificate, root.key), trusting(root))) == "weak_hash"
    weak = Authority(ca.with_sha1(issuing.certificate, root.key), issuing.key)
    assert checked(issuing.leaf(), trusting(root, intermediates=[issuing])).trust is Trust.GOOD
    assert refused(checked(issuing.leaf(), trusting(root, intermediates=[weak]))) == "authority_weak_hash"


NAMED = x509.NameConstraints([x509.RFC822Name("example.org")], None)


@pytest.mark.parametrize("critical", [True, False])
def test_p03_name_constraints(critical: bool) -> None:
    issuing = ROOT.authority(extra=[(NAMED, critical)])
    within = issuing.leaf(mails=["alice@example.org"])
    assert refused(checked(within, trusting(intermediates=[issuing]))) == "name_constraints"
    root = Authority.root(extra=[(NAMED, critical)])
    assert refused(checked(root.leaf(), trusting(root))) == "name_constraints"
    assert refused(checked(ISSUING.leaf(extra=[(NAMED, critical)]))) == "name_constraints"


def test_p03_path_too_long_for_an_authority_and_for_us() -> None:
    short = Authority.root(path_length=0)
    issuing = short.authority()
    assert refused(checked(issuing.leaf(), trusting(short, intermediates=[issuing]))) == "unsupported"
    line = [ROOT]
    for number in range(10):
        line.append(line[-1].authority(f"Number {number}"))
    assert checked(line[5].leaf(), trusting(intermediates=line)).trust is Trust.GOOD
    assert refused(checked(line[-1].leaf(), trusting(intermediates=line))) == "too_long"


def test_p03_critical_extensions_that_nobody_knows() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    assert refused(checked(ISSUING.leaf(extra=[(unknown, True)]))) == "unsupported"
    assert checked(ISSUING.leaf(extra=[(unknown, False)])).trust is Trust.GOOD
    issuing = ROOT.authority(extra=[(x509.PolicyConstraints(0, None), True)])
    assert refused(checked(issuing.leaf(), trusting(intermediates=[issuing]))) == "unsupported"


@pytest.mark.parametrize("at", [-1, -40])
def test_p03_changed_after_it_was_signed(at: int) -> None:
    (der,) = ca.der(ISSUING.leaf(key=ca.old_key("rsa-2048"), upns=["alice@example.org"]).certificate)
    changed = (
        der.replace(b"alice@example.org", b"admin@example.org")
        if at == -1
        else der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]
    )
    verdict = check(Check((changed,), Revocation.SOFT, (LOGON,)), trusting(), datetime.now(UTC))
    assert refused(verdict) == "wrong_issuer"


@pytest.mark.parametrize("garbage", [b"", b"\x30", b"\x30\x80\x00\x00", b"A" * 4000, b"\x30\x84\xff\xff\xff\xff"])
def test_p03_garbage(garbage: bytes) -> None:
    assert refused(check(Check((garbage,), Revocation.SOFT, ()), trusting(), datetime.now(UTC))) == "unreadable"


def test_without_anchors_nobody_knows() -> None:
    for chain in (ca.der(ISSUING.leaf().certificate), (b"garbage",)):
        verdict = check(Check(chain, Revocation.SOFT, ()), Authorities(), datetime.now(UTC))
        assert verdict == Checked(Trust.UNKNOWN, "no_anchors")


# ----------------------------------------------------------------------------------------------------------- names


def named(leaf: Leaf, kind: Kind) -> list[bytes]:
    return [name.value for name in checked(leaf).names if name.kind is kind]


def test_the_strong_names_are_those_that_others_compute_too() -> None:
    leaf = ISSUING.leaf()
    assert named(leaf, Kind.KEY) == [hashlib.sha256(ca.spki(leaf.certificate)).digest()]
    identifier = leaf.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert named(leaf, Kind.SUBJECT_KEY_ID) == [identifier]
    issuer = ISSUING.certificate.subject.public_bytes()
    assert issuer in ca.der(leaf.certificate)[0]
    assert named(leaf, Kind.ISSUER_SERIAL) == [issuer_serial(issuer, leaf.serial)]
    assert issuer_serial(b"x", 0x80) == hashlib.sha256(b"x\x80").digest()


def test_p05_names_of_different_certificates_differ_by_every_byte() -> None:
    values = {
        value
        for text in ("alice@a", "Alice@a", "alice@a.", "al\u0131ce@a")
        for value in named(ISSUING.leaf(upns=[text]), Kind.UPN)
    }
    assert len(values) == 4


def test_p05_every_upn_and_mail_is_told() -> None:
    leaf = ISSUING.leaf(upns=["alice@example.org", "root@example.org"], mails=["a@example.org"])
    assert named(leaf, Kind.UPN) == [b"alice@example.org", b"root@example.org"]
    assert named(leaf, Kind.MAIL) == [b"a@example.org"]


@pytest.mark.parametrize(
    "odd",
    [
        "alice\0@example.org",
        "alice\n@example.org",
        " alice@example.org",
        "",
        "a" * 257,
        b"\x16\x05alice",
        b"\x0c\x02\xc3\x28",
    ],
    ids=ascii,
)
def test_p05_an_odd_name_spoils_its_certificate(odd: Any) -> None:
    text = odd if isinstance(odd, bytes) or len(odd) < 128 else b"\x0c\x82" + len(odd).to_bytes(2, "big") + odd.encode()
    assert refused(checked(ISSUING.leaf(upns=[text]))) == "bad_name"


def test_p05_other_kinds_of_names_are_nobodys() -> None:
    """A Kerberos principal is a UTF8String, too; a FASC-N (PIV) is none."""
    others = [
        x509.OtherName(x509.ObjectIdentifier(oid), der)
        for oid, der in (("1.3.6.1.5.2.2", b"\x0c\x05admin"), ("2.16.840.1.101.3.6.6", b"\x04\x03abc"))
    ]
    names = x509.SubjectAlternativeName([*others, x509.DNSName("example.org"), ca.upn("alice@example.org")])
    leaf = ISSUING.leaf(extra=[(names, False)])
    assert named(leaf, Kind.UPN) == [b"alice@example.org"]
    assert named(leaf, Kind.MAIL) == []
    assert len(checked(leaf).names) == 4


def test_p05_more_names_than_anybody_needs() -> None:
    assert refused(checked(ISSUING.leaf(mails=[f"{number}@example.org" for number in range(40)]))) == "bad_name"
