"""`pam-mfa import pam-p11` and `pam-pkcs11` as they are run: what they read, whom they believe, what they send."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import ca
import pytest
from ca import Authority, pem
from manage_double import Double, Peer

from pam_mfa.cli.exits import Exit

from .conftest import Run

ROOT = Authority.root()
ALICE, BOB = ROOT.leaf("alice").certificate, ROOT.leaf("bob").certificate
NOBODY = pwd.getpwnam("nobody")


def keeper(sheets: list[list[dict[str, Any]]]) -> Any:
    """A service that takes everything."""

    def answer(peer: Peer, request: dict[str, Any]) -> None:
        text = ""
        while piece := peer.ask("", secret=False):
            text += piece
        sheets.append(json.loads(text))
        for number, _ in enumerate(sheets[-1], 1):
            state = "imported" if request["verb"] == "import" else "ready"
            peer.part(kind="key", state=state, label=f"card {number}")
        peer.done()

    return answer


def write(path: Path, data: bytes, owner: int = 0, mode: int = 0o600) -> str:
    path.write_bytes(data)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return str(path)


def test_authorized_certificates_count_for_their_owner(root: Path, run: Run, tmp_path: Path) -> None:
    sheets: list[list[dict[str, Any]]] = []
    path = write(tmp_path / "authorized_certificates", pem(ALICE), NOBODY.pw_uid)
    with Double(root, keeper(sheets)) as double:
        done = run("import", "pam-p11", path)
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert done.stdout.splitlines() == [
        "Line  User    Key    Subject             Result",
        '1     nobody  p-256  CN=alice,O=Example  can be imported as "card 1"',
        "1 can be imported. Nothing was changed; do it with --apply.",
    ]
    assert double.requests[0]["args"] == {"source": "pam_p11", "shared": False}
    assert double.requests[0]["account"] == {"uid": NOBODY.pw_uid, "name": "nobody"}
    assert set(sheets[0][0]) == {"public_key", "subject", "issuer", "number", "valid_until"}
    assert run("import", "pam-p11", path, "--user", "root").returncode == Exit.USAGE


@pytest.mark.parametrize("directory", [False, True])
def test_a_map_and_the_certificates_that_it_means(root: Path, run: Run, tmp_path: Path, directory: bool) -> None:
    issued = tmp_path / "issued"
    issued.mkdir()
    (issued / "sub").mkdir()
    paths = [write(issued / "a.pem", pem(ALICE)), write(issued / "b.der", ca.der(BOB)[0])]
    path = write(tmp_path / "map", b"/O=Example/CN=alice -> nobody\n/O=Example/CN=eve -> nobody\n")
    sheets: list[list[dict[str, Any]]] = []
    options = ["--certificates", str(issued)] if directory else [o for p in paths for o in ("--certificates", p)]
    with Double(root, keeper(sheets)):
        done = run("import", "pam-pkcs11", path, "--apply", "--json", *options)
    assert done.returncode == Exit.REFUSED
    good, bad = map(json.loads, done.stdout.splitlines())
    assert (good["state"], good["label"], good["subject"], len(good["key_id"])) == (
        "imported", "card 1", "CN=alice,O=Example", 64,
    )  # fmt: skip
    assert (bad["state"], bad["line"], bad["key_id"], bad["subject"]) == ("refused", 2, "", "")
    assert "no such certificate" in bad["why"]
    assert [len(sheet) for sheet in sheets] == [1]


@pytest.mark.parametrize(("owner", "mode"), [(NOBODY.pw_uid, 0o600), (0, 0o666)])
def test_certificates_that_somebody_else_could_have_written(
    root: Path, run: Run, tmp_path: Path, owner: int, mode: int
) -> None:
    """Whoever chooses the certificate that a line means chooses the key that gets in."""
    path = write(tmp_path / "map", b"/O=Example/CN=alice -> root\n")
    issued = write(tmp_path / "issued.pem", pem(ALICE), owner, mode)
    with Double(root, keeper([])) as double:
        done = run("import", "pam-pkcs11", path, "--certificates", issued)
    assert done.returncode == Exit.USAGE
    assert "chown root" in done.stderr or "chmod" in done.stderr
    assert double.requests == []


def test_a_map_that_is_a_users_own_counts_for_that_user(root: Path, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "map", b"/O=Example/CN=alice -> root\n", NOBODY.pw_uid)
    with Double(root, keeper([])) as double:
        done = run("import", "pam-pkcs11", path, "--certificates", write(tmp_path / "issued.pem", pem(ALICE)))
    assert done.returncode == Exit.REFUSED
    assert "not a line of nobody" in done.stdout
    assert double.requests == []


def test_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "map", b"/CN=a -> root\n")
    for arguments in (["pam-p11", "/nowhere"], ["pam-pkcs11", path, "--certificates", "/nowhere"]):
        assert run("import", *arguments).returncode == Exit.NOT_FOUND
