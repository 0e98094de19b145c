"""P04: what revocation lists say, and what they do not say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import ca
import pytest
from ca import Authority, Leaf
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from pam_mfa.verify.authorities import Authorities
from pam_mfa.verify.base import Check, Checked, Revocation, Trust
from pam_mfa.verify.crls import Lists
from pam_mfa.verify.paths import check

ROOT = Authority.root()
ISSUING = ROOT.authority()
ALICE = ISSUING.leaf()
OF_ROOT = ROOT.crl()
EMPTY = ISSUING.crl()


def checked(
    lists: Sequence[bytes],
    rule: Revocation = Revocation.STRICT,
    leaf: Leaf = ALICE,
    intermediates: Sequence[Authority] = (ISSUING,),
    beside: Sequence[Authority] = (),
) -> Checked:
    """The verdict with these lists."""
    authorities = Authorities(
        {ROOT.certificate: "root.pem"},
        tuple(each.certificate for each in intermediates),
        Lists(map(x509.load_der_x509_crl, lists)),
    )
    chain = ca.der(leaf.certificate, *(each.certificate for each in beside))
    return check(Check(chain, rule, (ca.LOGON,)), authorities, datetime.now(UTC))


def both(lists: Sequence[bytes], leaf: Leaf = ALICE) -> tuple[str, str]:
    """The reason why nobody knows under strict, and the note that soft leaves."""
    strict, soft = (checked(lists, rule, leaf) for rule in (Revocation.STRICT, Revocation.SOFT))
    assert strict == Checked(Trust.UNKNOWN, strict.reason)
    assert soft.trust is Trust.GOOD
    return strict.reason, soft.reason


@pytest.mark.parametrize("rule", Revocation)
def test_p04_fresh_lists_that_name_nobody(rule: Revocation) -> None:
    verdict = checked([OF_ROOT, EMPTY], rule)
    assert (verdict.trust, verdict.reason) == (Trust.GOOD, "")


@pytest.mark.parametrize("rule", Revocation)
def test_p04_revoked(rule: Revocation) -> None:
    lists = [OF_ROOT, ISSUING.crl([7, ALICE.serial, 9])]
    assert checked(lists, rule) == Checked(Trust.BAD, "revoked")
    assert checked(lists, rule, ISSUING.leaf()).trust is Trust.GOOD
    on_hold = ISSUING.crl([ALICE.serial], reason=x509.ReasonFlags.certificate_hold)
    assert checked([OF_ROOT, on_hold], rule) == Checked(Trust.BAD, "revoked")


@pytest.mark.parametrize("rule", Revocation)
def test_p04_revoked_by_one_of_several_lists(rule: Revocation) -> None:
    for lists in ([EMPTY, ISSUING.crl([ALICE.serial])], [ISSUING.crl([ALICE.serial]), EMPTY]):
        assert checked([OF_ROOT, *lists], rule) == Checked(Trust.BAD, "revoked")


@pytest.mark.parametrize("rule", Revocation)
def test_p04_revoked_by_a_list_that_is_out_of_date(rule: Revocation) -> None:
    assert checked([OF_ROOT, ISSUING.crl([ALICE.serial], days=(-9, -2))], rule) == Checked(Trust.BAD, "revoked")


@pytest.mark.parametrize("rule", Revocation)
def test_p04_an_authority_is_revoked(rule: Revocation) -> None:
    lists = [ROOT.crl([ISSUING.certificate.serial_number]), EMPTY]
    assert checked(lists, rule) == Checked(Trust.BAD, "authority_revoked")


def test_p04_absent() -> None:
    assert both([]) == ("crl_missing", "crl_missing")
    assert both([OF_ROOT]) == ("crl_missing", "crl_missing")
    assert both([EMPTY]) == ("crl_missing", "crl_missing")  # nobody knows of the issuing authority


def test_p04_stale() -> None:
    assert both([OF_ROOT, ISSUING.crl(days=(-9, -1))]) == ("crl_stale", "crl_stale")
    assert both([ROOT.crl(days=(-9, -1)), EMPTY]) == ("crl_stale", "crl_stale")
    assert both([OF_ROOT, ISSUING.crl(days=(1, 9))]) == ("crl_stale", "crl_stale")
    assert checked([OF_ROOT, ISSUING.crl(days=(-9, -1)), EMPTY]).trust is Trust.GOOD


def test_p04_huge() -> None:
    many = [*range(10**18, 10**18 + 10_000), ALICE.serial]
    assert checked([OF_ROOT, ISSUING.crl(many)]) == Checked(Trust.BAD, "revoked")
    assert checked([OF_ROOT, ISSUING.crl(many[:-1])]).trust is Trust.GOOD


def test_p04_bad_signer() -> None:
    mallory = ca.new_key()
    assert both([OF_ROOT, ISSUING.crl(key=mallory)]) == ("crl_missing", "crl_missing")
    assert checked([OF_ROOT, EMPTY, ISSUING.crl([ALICE.serial], key=mallory)]).trust is Trust.GOOD
    assert both([OF_ROOT, ISSUING.crl(key=ROOT.key)]) == ("crl_missing", "crl_missing")


def test_p04_wrong_issuer() -> None:
    other = ROOT.authority("Other")
    assert both([OF_ROOT, other.crl()]) == ("crl_missing", "crl_missing")
    assert checked([OF_ROOT, EMPTY, other.crl([ALICE.serial])]).trust is Trust.GOOD
    twin = ROOT.authority()  # of the same name
    assert both([OF_ROOT, twin.crl()]) == ("crl_missing", "crl_missing")


def test_p04_an_authority_that_may_not_sign_lists() -> None:
    issuing = ROOT.authority(usage=["key_cert_sign"])
    leaf = issuing.leaf()
    assert checked([OF_ROOT, issuing.crl()], Revocation.STRICT, leaf, [issuing]).reason == "crl_missing"
    assert checked([OF_ROOT, issuing.crl()], Revocation.STRICT, leaf, [issuing]).trust is Trust.UNKNOWN


def test_the_list_of_an_authority_that_came_with_the_card() -> None:
    lists = [OF_ROOT, EMPTY]
    assert checked(lists, intermediates=[], beside=[ISSUING]).trust is Trust.GOOD
    revoking = [OF_ROOT, ISSUING.crl([ALICE.serial])]
    assert checked(revoking, intermediates=[], beside=[ISSUING]) == Checked(Trust.BAD, "revoked")


# ------------------------------------------------------------------------------------ lists that are not the whole


def point(uri: str | None = None, **which: bool) -> x509.IssuingDistributionPoint:
    """What a list covers."""
    every = ["only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"]
    return x509.IssuingDistributionPoint(
        [x509.UniformResourceIdentifier(uri)] if uri else None,
        None,
        only_some_reasons=None,
        **{name: which.get(name, False) for name in every},
    )


def scoped(of: Authority, scope: x509.IssuingDistributionPoint) -> bytes:
    return of.crl(extra=[(scope, True)])


def test_p04_lists_of_users_and_of_authorities() -> None:
    users, authorities = point(only_contains_user_certs=True), point(only_contains_ca_certs=True)
    assert checked([scoped(ROOT, authorities), scoped(ISSUING, users)]).trust is Trust.GOOD
    assert both([scoped(ROOT, users), EMPTY]) == ("crl_missing", "crl_missing")
    assert both([OF_ROOT, scoped(ISSUING, authorities)]) == ("crl_missing", "crl_missing")


@pytest.mark.parametrize("scope", [point(indirect_crl=True), point(only_contains_attribute_certs=True)])
def test_p04_lists_of_other_things(scope: x509.IssuingDistributionPoint) -> None:
    assert both([OF_ROOT, scoped(ISSUING, scope)]) == ("crl_missing", "crl_missing")


def test_p04_lists_of_some_reasons_only() -> None:
    some = x509.IssuingDistributionPoint(
        None, None, False, False, frozenset({x509.ReasonFlags.key_compromise}), False, False
    )
    assert both([OF_ROOT, scoped(ISSUING, some)]) == ("crl_missing", "crl_missing")


def test_p04_the_list_of_another_distribution_point() -> None:
    ours, other = "http://crl.example/1.crl", "http://crl.example/2.crl"
    points = x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier(ours)], None, None, None)]
    )
    leaf = ISSUING.leaf(extra=[(points, False)])
    assert checked([OF_ROOT, scoped(ISSUING, point(ours))], leaf=leaf).trust is Trust.GOOD
    assert both([OF_ROOT, scoped(ISSUING, point(other))], leaf) == ("crl_missing", "crl_missing")
    assert both([OF_ROOT, scoped(ISSUING, point(ours))]) == ("crl_missing", "crl_missing")  # this one names none


def test_p04_the_list_of_a_point_that_is_named_relative_to_its_issuer() -> None:
    name = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "part 1")])
    part = x509.IssuingDistributionPoint(None, name, False, False, None, False, False)
    assert both([OF_ROOT, scoped(ISSUING, part)]) == ("crl_missing", "crl_missing")


def test_p04_deltas() -> None:
    delta = ISSUING.crl(extra=[(x509.DeltaCRLIndicator(1), True)])
    assert both([OF_ROOT, delta]) == ("crl_missing", "crl_missing")
    lax = ISSUING.crl(extra=[(x509.DeltaCRLIndicator(1), False)])
    assert both([OF_ROOT, lax]) == ("crl_missing", "crl_missing")


def test_p04_critical_extensions_that_nobody_knows() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    assert both([OF_ROOT, ISSUING.crl(extra=[(unknown, True)])]) == ("crl_missing", "crl_missing")
    assert checked([OF_ROOT, ISSUING.crl(extra=[(unknown, False), (x509.CRLNumber(3), False)])]).trust is Trust.GOOD


def test_p04_a_list_with_a_hash_that_is_none_of_ours() -> None:
    assert both([OF_ROOT, ISSUING.crl(digest=hashes.SHA224())]) == ("crl_missing", "crl_missing")


def test_p04_a_list_with_a_weak_hash() -> None:
    root = Authority.root("Old", key=ca.old_key("rsa-2048"))
    leaf = root.leaf()
    authorities = Authorities(
        {root.certificate: "old.pem"}, (), Lists([x509.load_der_x509_crl(ca.crl_with_sha1(root))])
    )
    verdict = check(Check(ca.der(leaf.certificate), Revocation.STRICT, (ca.LOGON,)), authorities, datetime.now(UTC))
    assert verdict == Checked(Trust.UNKNOWN, "crl_missing")
