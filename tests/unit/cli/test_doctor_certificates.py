"""`pam-mfa doctor`: what the path checker needs, one thing wrong at a time."""

from __future__ import annotations

from pathlib import Path

import ca
import pytest
from ca import Authority

from pam_mfa.cli.checks import certificates
from pam_mfa.cli.paths import Paths

from .installed import write, wrong

ROOT = Authority.root()
ISSUING = ROOT.authority()
OLD = Authority.root("Old", days=(-20, -1))


def found(system: Path) -> list[tuple[str, str]]:
    return wrong(certificates.check(Paths(system)))


def said(system: Path) -> str:
    return "\n".join(finding.found for finding in certificates.check(Paths(system)))


@pytest.fixture
def chain(system: Path) -> Path:
    """A system under trust `chain` where nothing is missing; where its authorities are."""
    write(system, "etc/pam-mfa/config.toml", "[smartcard]\ntrust = 'chain'\n")
    crls = {"root.crl": ROOT.crl(), "issuing.crl": ISSUING.crl()}
    lay(system, {"root.pem": ca.pem(ROOT.certificate)}, {"issuing.pem": ca.pem(ISSUING.certificate)}, crls)
    return system


def lay(system: Path, *files: dict[str, bytes]) -> None:
    ca.lay(system / "etc/pam-mfa/ca", *files)


def test_pinned_needs_no_authority(system: Path) -> None:
    assert found(system) == []
    assert "no authority is asked" in said(system)


def test_a_chain_with_all_it_needs(chain: Path) -> None:
    assert found(chain) == []
    assert "CN=Root" in said(chain)


def test_no_anchor(chain: Path) -> None:
    (chain / "etc/pam-mfa/ca/anchors/root.pem").unlink()
    assert ("certificates", "bad") in found(chain)
    assert "no smartcard is accepted" in said(chain)


@pytest.mark.parametrize(("rule", "severity"), [("strict", "bad"), ("soft", "warn")])
def test_lists_that_are_absent_or_out_of_date(chain: Path, rule: str, severity: str) -> None:
    write(chain, "etc/pam-mfa/config.toml", f"[smartcard]\ntrust = 'chain'\nrevocation = '{rule}'\n")
    lay(chain, {}, {}, {"issuing.crl": ISSUING.crl(days=(-9, -1))})
    assert found(chain) == [("certificates", severity)]
    assert "out of date" in said(chain)
    (chain / "etc/pam-mfa/ca/crls/root.crl").unlink()
    assert found(chain) == [("certificates", severity)] * 2
    assert "there is no revocation list of CN=Root" in said(chain)


def test_authorities_that_have_expired_or_will(chain: Path) -> None:
    soon = Authority.root("Soon", days=(-20, 9))
    lay(chain, {"soon.pem": ca.pem(soon.certificate)}, {}, {"soon.crl": soon.crl()})
    assert found(chain) == [("certificates", "warn")]
    lay(chain, {"soon.pem": ca.pem(OLD.certificate)}, {}, {"soon.crl": OLD.crl()})
    assert found(chain) == [("certificates", "bad")]
    assert "CN=Old,O=Example has expired" in said(chain)


def test_files_that_are_left_out(chain: Path) -> None:
    lay(chain, {"leaf.pem": ca.pem(ROOT.leaf().certificate)})
    assert found(chain) == [("certificates", "warn")]
    assert "leaf.pem: not the certificate of an authority" in said(chain)


def test_a_list_of_nobody(chain: Path) -> None:
    lay(chain, {}, {}, {"old.crl": OLD.crl()})
    assert found(chain) == [("certificates", "warn")]
    assert "old.crl is the list of no authority here" in said(chain)


@pytest.mark.parametrize("names", ["upn_anchors", "mail_anchors"])
def test_anchors_that_the_settings_name_and_nobody_has(chain: Path, names: str) -> None:
    write(chain, "etc/pam-mfa/config.toml", f"[smartcard]\ntrust = 'chain'\n{names} = ['root.pem', 'corp.pem']\n")
    assert found(chain) == [("certificates", "warn")]
    assert "corp.pem" in said(chain)


def test_settings_that_cannot_be_read_are_somebody_elses_to_tell(chain: Path) -> None:
    write(chain, "etc/pam-mfa/config.toml", "nonsense")
    assert found(chain) == []


def test_no_account(system: Path) -> None:
    (system / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    assert found(system) == [("certificates", "warn")]


@pytest.mark.parametrize("uid", [0, 989, 990])
def test_an_account_that_is_another_one(system: Path, uid: int) -> None:
    text = (system / "etc/passwd").read_text()
    (system / "etc/passwd").write_text(text.replace("pam-mfa-verify:x:988", f"pam-mfa-verify:x:{uid}"))
    assert found(system) == [("certificates", "bad")]
