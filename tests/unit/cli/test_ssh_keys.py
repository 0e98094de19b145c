"""`pam-mfa enroll ssh-key`, `import authorized-keys`, and `explain --ssh-key`: what is read, and what is sent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer
from ssh_keys import blob, certificate, shown

from pam_mfa.cli.exits import Exit
from pam_mfa.factors.ssh_key import fingerprint

from .conftest import Run
from .test_import_cards import NOBODY, keeper, write

KEY = shown(blob())


def file(folder: Path, text: str) -> str:
    path = folder / "id_sk.pub"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "options", "sent"),
    [
        (f"{KEY} me@host\n", [], {}),
        (f"# mine\n\n{KEY}", ["--name", "laptop"], {"label": "laptop"}),
        (KEY, ["--verify"], {"verify": True}),
        (f"verify-required {KEY}\n", [], {"verify": True}),
        (f"no-touch-required {KEY}\n", ["--allow-no-touch"], {}),
    ],
)
def test_what_is_sent(
    root: Path, run: Run, tmp_path: Path, text: str, options: list[str], sent: dict[str, Any]
) -> None:
    with Double(root, lambda peer, request: peer.done()) as double:
        assert run("enroll", "ssh-key", file(tmp_path, text), *options).returncode == Exit.DONE
    assert double.requests[0]["args"] == {"factor": "ssh-key", "key": KEY, **sent}


def test_it_comes_from_standard_input_and_answers_behind_it(root: Path, run: Run) -> None:
    answers: list[str] = []

    def script(peer: Peer, request: dict[str, Any]) -> None:
        answers.append(peer.ask("Verification code: "))
        peer.done()

    with Double(root, script) as double:
        assert run("enroll", "ssh-key", "-", input=f"{KEY} x\n123456\n").returncode == Exit.DONE
    assert (double.requests[0]["args"]["key"], answers) == (KEY, ["123456"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh-ed25519 AAAA me@host", "in no security key"),
        (f"no-touch-required {KEY}", "--allow-no-touch"),
        (f"{KEY}\n{KEY}\n", "has to hold one key, and holds 2"),
        ("", "holds 0"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "not a line"),
        (shown(certificate()), "of a certificate"),
    ],
)
def test_what_is_not_sent(run: Run, tmp_path: Path, text: str, words: str) -> None:
    done = run("enroll", "ssh-key", file(tmp_path, text))
    assert (done.returncode, words in done.stderr) == (Exit.USAGE, True), done.stderr


def test_files_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "absent")):
        assert run("enroll", "ssh-key", path).returncode == Exit.NOT_FOUND
        assert run("explain", "--service", "sshd", "--ssh-key", path).returncode == Exit.NOT_FOUND


@pytest.mark.parametrize(
    "arguments",
    [
        ["enroll", "ssh-key"],
        ["enroll", "totp", "id.pub"],
        ["enroll", "ssh-key", "id.pub", "--digits", "6"],
        ["enroll", "fido2", "--allow-no-touch"],
        ["enroll", "smartcard", "--verify"],
    ],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")


def test_how_one_is_listed(root: Path, run: Run) -> None:
    details = {"algorithm": "ed25519-sk", "fingerprint": "SHA256:abc", "application": "ssh:", "verified": False}

    def script(peer: Peer, request: dict[str, Any]) -> None:
        for more in ({}, {"application": "ssh:work", "verified": True}):
            peer.part(kind="credential", id="0" * 32, factor="ssh-key", label="l", created=1, used=None,
                      details=details | more)  # fmt: skip
        peer.done()

    with Double(root, script):
        said = run("list").stdout
    assert "  ed25519-sk, SHA256:abc  " in said
    assert "ed25519-sk, SHA256:abc, made for ssh:work, verify-required" in said


def test_a_users_file_counts_for_that_user(root: Path, run: Run, tmp_path: Path) -> None:
    sheets: list[list[dict[str, Any]]] = []
    text = f"no-touch-required {shown(blob(application=b'ssh:x'))}\nverify-required {KEY}\nssh-rsa AAAA\n"
    path = write(tmp_path / "authorized_keys", text.encode(), NOBODY.pw_uid)
    with Double(root, keeper(sheets)) as double:
        done = run("import", "authorized-keys", path)
        applied = run("import", "authorized-keys", path, "--allow-no-touch", "--apply")
    assert applied.returncode == Exit.REFUSED
    assert applied.stdout.endswith("needs something for other services: pam-mfa enroll --user USER\n")
    assert done.returncode == Exit.REFUSED
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["Line", "User", "Key", "Fingerprint", "Result"]
    assert rows[2].split()[:4] == ["2", "nobody", "ed25519-sk", fingerprint(blob())]
    assert "--allow-no-touch" in rows[1]
    assert "in no security key" in rows[3]
    assert [request["args"] for request in double.requests] == [{"source": "authorized_keys", "shared": False}] * 2
    assert [request["account"]["uid"] for request in double.requests] == [NOBODY.pw_uid] * 2
    assert [[each["verified"] for each in sheet] for sheet in sheets] == [[True], [False, True]]
    assert run("import", "authorized-keys", path, "--user", "root").returncode == Exit.USAGE


def test_only_root_imports(run: Run) -> None:
    assert os.geteuid() == 0
    assert run("import", "authorized-keys", "/no/such/file").returncode == Exit.NOT_FOUND


CREDITED = {
    "kind": "explained", "rule": "policy", "terms": {"credit_ssh_keys": True}, "user": "root", "subject": "root",
    "local": False, "entry": "prove", "reason": "enrolled", "methods": {"totp": "open", "ssh-key": "credited"},
    "sees": "", "code": "PAM_SUCCESS",
}  # fmt: skip


@pytest.mark.parametrize("text", [f"{KEY} me@host\n", shown(certificate())])
def test_what_a_key_would_change(root: Path, run: Run, tmp_path: Path, text: str) -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(**CREDITED)
        peer.done()

    with Double(root, script) as double:
        done = run("explain", "--service", "sshd", "--ssh-key", file(tmp_path, text))
    assert double.requests[0]["args"]["ssh_key"] == " ".join(text.split()[:2])
    assert done.stdout.splitlines()[-3:] == [
        "  ssh-key: counts: sshd has seen it",
        "Nothing is asked: sshd has seen a security key that is enrolled",
        "PAM is told PAM_SUCCESS: at once",
    ]
