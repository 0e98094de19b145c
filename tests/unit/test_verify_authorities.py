"""Where administrators put what they trust: whose files are read, and when they are read again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import ca
import pytest
from ca import Authority
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pam_mfa.verify import authorities
from pam_mfa.verify.authorities import Directory

ROOT = Authority.root()
OTHER = Authority.root("Other")
ISSUING = ROOT.authority()
PEM = ca.pem(ROOT.certificate)


def pem_crl(of: Authority) -> bytes:
    return x509.load_der_x509_crl(of.crl()).public_bytes(Encoding.PEM)


def test_pem_and_der_one_or_several_in_a_file(tmp_path: Path) -> None:
    (root,), issuing = ca.der(ROOT.certificate), ca.pem(ISSUING.certificate, ROOT.authority("Second").certificate)
    both = pem_crl(ISSUING) + b"\n# of the other one\n" + pem_crl(OTHER)
    ca.lay(
        tmp_path,
        {"root.der": root, "other.crt": ca.pem(OTHER.certificate)},
        {"all.pem": issuing},
        {"a.crl": both, "b.crl": ROOT.crl()},
    )
    found = Directory(tmp_path).current()
    assert dict(found.anchors) == {ROOT.certificate: "root.der", OTHER.certificate: "other.crt"}
    assert [each.subject for each in found.intermediates] == [ca.named("Issuing"), ca.named("Second")]
    assert {os.path.basename(path): len(lists) for path, lists in found.crls.items()} == {"a.crl": 2, "b.crl": 1}
    assert len(found.lists.signed_by(OTHER.certificate)) == 1
    assert found.problems == ()


def test_nothing_there_is_no_problem(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        found = Directory(directory).current()
        assert (dict(found.anchors), found.intermediates, dict(found.crls), found.problems) == ({}, (), {}, ())


def change_owner(path: Path) -> None:
    os.chown(path, 1234, 0)


def let_group_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def let_others_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


@pytest.mark.parametrize("spoil", [change_owner, let_group_write, let_others_write])
@pytest.mark.parametrize("what", [".", "anchors", "anchors/root.pem"])
def test_what_others_may_change_is_not_trusted(tmp_path: Path, what: str, spoil: Callable[[Path], None]) -> None:
    directory = Directory(ca.lay(tmp_path / "ca", {"root.pem": PEM}))
    assert len(directory.current().anchors) == 1
    spoil(tmp_path / "ca" / what)
    found = directory.current()
    assert not found.anchors
    assert any("must" in problem for problem in found.problems)


@pytest.mark.parametrize("folder", ["intermediates", "crls"])
def test_neither_are_authorities_and_lists_that_others_may_change(tmp_path: Path, folder: str) -> None:
    ca.lay(tmp_path, {}, {"a.pem": ca.pem(ISSUING.certificate)}, {"a.pem": pem_crl(ISSUING)})
    let_others_write(tmp_path / folder / "a.pem")
    found = Directory(tmp_path).current()
    assert bool(found.intermediates) is (folder == "crls")
    assert any(found.crls.values()) is (folder == "intermediates")
    assert len(found.problems) == 1


def test_files_that_are_none_of_that_are_left_out_and_named(tmp_path: Path) -> None:
    leaf, good = ca.pem(ISSUING.leaf().certificate), PEM
    anchors = {
        "good.pem": good,
        "leaf.pem": leaf,
        "empty.pem": b"",
        "noise.der": b"\x30\x82garbage",
        "good.pem.bak": ca.pem(OTHER.certificate),
    }
    ca.lay(tmp_path, anchors, {}, {"certificate.pem": good, "half.crl": ISSUING.crl()[:-9]})
    os.mkfifo(tmp_path / "anchors" / "pipe.pem")
    (tmp_path / "anchors" / "folder.pem").mkdir()
    (tmp_path / "anchors" / "gone.pem").symlink_to(tmp_path / "nowhere")
    (tmp_path / "anchors" / ".hidden.pem").write_bytes(ca.pem(OTHER.certificate))
    found = Directory(tmp_path).current()
    assert list(found.anchors.values()) == ["good.pem"]
    assert not any(found.crls.values())
    named = {os.path.basename(problem.partition(": ")[0]) for problem in found.problems}
    assert named == {
        "leaf.pem",
        "empty.pem",
        "noise.der",
        "good.pem.bak",
        "certificate.pem",
        "half.crl",
        "pipe.pem",
        "folder.pem",
        "gone.pem",
    }


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorities, "MAX_FILE", len(PEM) - 1)
    found = Directory(ca.lay(tmp_path, {"root.pem": PEM})).current()
    assert not found.anchors
    assert "larger" in found.problems[0]


def test_changes_are_seen_at_once_and_only_they_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    really = authorities._must_be_a_file

    def noted(path: str, found: os.stat_result) -> None:
        read.append(os.path.basename(path))
        really(path, found)

    monkeypatch.setattr(authorities, "_must_be_a_file", noted)
    directory = Directory(ca.lay(tmp_path, {"root.pem": PEM}, {}, {"root.crl": ROOT.crl()}))
    first = directory.current()
    assert directory.current() is first
    assert sorted(read) == ["root.crl", "root.pem"]
    ca.lay(tmp_path, crls={"root.crl": ROOT.crl([7])})
    (revoking,) = directory.current().lists.signed_by(ROOT.certificate)
    assert revoking.get_revoked_certificate_by_serial_number(7)
    (tmp_path / "anchors" / "root.pem").unlink()
    assert not directory.current().anchors
    assert sorted(read) == ["root.crl", "root.crl", "root.pem"]


def test_a_file_that_was_bad_is_read_again_when_it_has_become_good(tmp_path: Path) -> None:
    directory = Directory(ca.lay(tmp_path, {"root.pem": PEM[:40]}))
    assert directory.current().problems
    ca.lay(tmp_path, {"root.pem": PEM})
    assert (len(directory.current().anchors), directory.current().problems) == (1, ())


def test_an_anchor_in_two_files_has_one_name(tmp_path: Path) -> None:
    assert list(Directory(ca.lay(tmp_path, {"b.pem": PEM, "a.pem": PEM})).current().anchors.values()) == ["a.pem"]
