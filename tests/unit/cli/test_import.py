"""`pam-mfa import` as it is run: what it reads, whom it believes, what goes to the service, and how it ends."""

from __future__ import annotations

import base64
import json
import os
import pwd
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from manage_double import Double, GaveUp, Peer

from pam_mfa.cli import imports
from pam_mfa.cli.exits import Exit
from pam_mfa.cli.main import main
from pam_mfa.cli.paths import Paths

from .conftest import Run

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
POINT = KEY.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
SPKI = KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
NOBODY = pwd.getpwnam("nobody")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def line(name: str, *handles: bytes, options: str = "+presence") -> str:
    return ":".join([name, *(f"{b64(handle)},{b64(POINT[1:])},es256,{options}" for handle in handles)]) + "\n"


def keeper(
    sheets: list[list[dict[str, Any]]], ends: Mapping[int, tuple[str, str]] | None = None, present: int = 0
) -> Callable[[Peer, dict[str, Any]], None]:
    """A service that takes everything; `ends` says what it refuses, by the number of the request."""

    def answer(peer: Peer, request: dict[str, Any]) -> None:
        text = ""
        while piece := peer.ask("", secret=False):
            assert len(piece) <= 512
            text += piece
        sheets.append(json.loads(text))
        if (end := (ends or {}).get(len(sheets))) is not None:
            return peer.done(*end)
        for number, _ in enumerate(sheets[-1], 1):
            done = "imported" if request["verb"] == "import" else "ready"
            state = "present" if number <= present else done
            peer.part(kind="key", state=state, label=f"pam_u2f key {number}")
        peer.done()

    return answer


@pytest.fixture
def mapping(tmp_path: Path) -> Callable[..., str]:
    """Writes a file; returns its path."""

    def write(*lines: str, mode: int = 0o600, owner: int = 0) -> str:
        path = tmp_path / "u2f_keys"
        path.write_text("".join(lines))
        path.chmod(mode)
        os.chown(path, owner, owner)
        return str(path)

    return write


# ---------------------------------------------------------------------------------------------- dry, and applied


def test_a_dry_run_says_what_would_be_done(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    path = mapping("# keys\n", line("nobody", b"one", b"two"), line("no-such-user", b"x"), "root:*,x,es256,\n")
    sheets: list[list[dict[str, Any]]] = []
    with Double(root, keeper(sheets)) as double:
        done = run("import", "pam-u2f", path, "--origin", "pam://old")
    assert (done.returncode, done.stderr) == (Exit.REFUSED, "")
    assert done.stdout.splitlines() == [
        "Line  User          Key    Made for   Result",
        '2     nobody        es256  pam://old  can be imported as "pam_u2f key 1"',
        '2     nobody        es256  pam://old  can be imported as "pam_u2f key 2"',
        "3     no-such-user  es256  pam://old  not imported: there is no user no-such-user; see getent passwd",
        "4     root          -      -          not imported: a resident key, whose id the file omits: put it in the"
        " place of *, as fido2-token -L -k ID shows it",
        "2 can be imported. Nothing was changed; do it with --apply.",
    ]
    assert double.requests == [
        {
            "verb": "check_import",
            "args": {"source": "pam_u2f", "shared": False},
            "account": {"uid": NOBODY.pw_uid, "name": "nobody"},
        }
    ]
    assert [record["credential_id"] for record in sheets[0]] == [b64(b"one"), b64(b"two")]
    assert sheets[0][0] | {"public_key": ""} == {
        "rp_id": "pam://old",
        "credential_id": b64(b"one"),
        "public_key": "",
        "verified": False,
        "discoverable": False,
        "user_handle": "",
    }


def test_with_apply_it_is_done(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    path = mapping(line("nobody", b"one", b"two", options="+pin"), line("root", b"three"))
    sheets: list[list[dict[str, Any]]] = []
    with Double(root, keeper(sheets, present=1)) as double:
        done = run("import", "pam-u2f", path, "--apply", "--shared")
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert [request["verb"] for request in double.requests] == ["import", "import"]
    assert [request["args"]["shared"] for request in double.requests] == [True, True]
    said = done.stdout.splitlines()
    assert said[1].endswith('enrolled already as "pam_u2f key 1"; its PIN or fingerprint is asked for,'
                            " whatever user_verification says")  # fmt: skip
    assert said[3].endswith('enrolled already as "pam_u2f key 1"')
    assert said[4] == "1 imported. Their users can make recovery codes: pam-mfa recovery --new"
    assert {record["rp_id"] for sheet in sheets for record in sheet} == {f"pam://{socket.gethostname()}"}


def test_json_is_a_record_for_every_key(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    path = mapping(line("nobody", b"one"), "oops\n")
    with Double(root, keeper([])):
        done = run("import", "pam-u2f", path, "--json", "--origin", "o")
    assert [json.loads(each) for each in done.stdout.splitlines()] == [
        {
            "kind": "key", "line": 1, "user": "nobody", "algorithm": "es256", "rp_id": "o",
            "credential_id": b64(b"one"), "state": "ready", "label": "pam_u2f key 1", "why": "", "note": "",
        },
        {
            "kind": "key", "line": 2, "user": "oops", "algorithm": "", "rp_id": "", "credential_id": "",
            "state": "refused", "label": "", "why": "no key in this line", "note": "",
        },
    ]  # fmt: skip


def test_old_keys_belong_to_the_appid(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    sheets: list[list[dict[str, Any]]] = []
    with Double(root, keeper(sheets)):
        run("import", "pam-u2f", mapping(f"nobody:b25l,{POINT.hex()}\n"), "--origin", "o", "--appid", "a")
        run("import", "pam-u2f", mapping(f"nobody:b25l,{POINT.hex()}\n"), "--origin", "o")
    assert [sheet[0]["rp_id"] for sheet in sheets] == ["a", "o"]


def test_long_sheets_arrive_whole(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    handles = [bytes([number]) * 1023 for number in range(20)]
    sheets: list[list[dict[str, Any]]] = []
    with Double(root, keeper(sheets)):
        assert run("import", "pam-u2f", mapping(line("nobody", *handles))).returncode == Exit.DONE
    assert [base64.b64decode(record["credential_id"]) for record in sheets[0]] == handles


# ----------------------------------------------------------------------------------------------- what goes wrong


def test_one_user_s_refusal_does_not_stop_another_s(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    path = mapping(line("nobody", b"one", b"two"), line("root", b"three"))
    with Double(root, keeper([], {1: ("refused", "nothing was changed")})):
        done = run("import", "pam-u2f", path, "--apply", "--json")
    assert done.returncode == Exit.REFUSED
    states = [json.loads(each)["state"] for each in done.stdout.splitlines()]
    assert states == ["refused", "refused", "imported"]


def test_a_service_that_is_gone_is_asked_once(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    path = mapping(line("nobody", b"one"), line("root", b"two"), line("daemon", b"three"))
    sheets: list[list[dict[str, Any]]] = []
    with Double(root, keeper(sheets, {2: ("unavailable", "the disk is full")})):
        done = run("import", "pam-u2f", path, "--apply", "--json")
    assert done.returncode == Exit.UNAVAILABLE
    records = [json.loads(each) for each in done.stdout.splitlines()]
    assert [record["state"] for record in records] == ["imported", "refused", "refused"]
    assert records[1]["why"] == "the disk is full"
    assert len(sheets) == 2


def test_no_service(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    assert run("import", "pam-u2f", mapping(line("nobody", b"one"))).returncode == Exit.UNAVAILABLE


def test_a_service_that_answers_for_fewer_keys(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    def short(peer: Peer, request: dict[str, Any]) -> None:
        while peer.ask("", secret=False):
            pass
        peer.done()

    with Double(root, short):
        assert run("import", "pam-u2f", mapping(line("nobody", b"one"))).returncode == Exit.INTERNAL


def test_an_upload_that_is_cut_off(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    def rude(peer: Peer, request: dict[str, Any]) -> None:
        raise GaveUp

    with Double(root, rude):
        assert run("import", "pam-u2f", mapping(line("nobody", b"one"))).returncode == Exit.UNAVAILABLE


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["pam-u2f"], Exit.USAGE),
        (["pam-u2f", "/nowhere/at/all"], Exit.NOT_FOUND),
        (["pam-u2f", ""], Exit.NOT_FOUND),
        (["pam-u2f", "/"], Exit.NOT_FOUND),
        (["pam-u2f", "/dev/null"], Exit.USAGE),
        (["passkey", "passkey:x,y"], Exit.USAGE),
        (["passkey", "passkey:x,y", "--rp-id", "d\u00e9"], Exit.USAGE),
        (["passkey", "/nowhere", "--rp-id", "d"], Exit.NOT_FOUND),
        ([], Exit.USAGE),
    ],
)
def test_what_cannot_be_read(root: Path, run: Run, arguments: list[str], code: Exit) -> None:
    with Double(root, keeper([])) as double:
        done = run("import", *arguments)
    assert (done.returncode, done.stderr.count("\n"), double.requests) == (code, 1, [])


def test_a_file_without_keys(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    done = run("import", "pam-u2f", mapping("# nothing\n\n"))
    assert (done.returncode, done.stderr) == (Exit.NOT_FOUND, "pam-mfa: there is no key in it\n")


def test_a_pipe_is_not_waited_for(root: Path, run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert run("import", "pam-u2f", str(tmp_path / "pipe")).returncode == Exit.USAGE


def test_a_file_that_is_too_large(
    root: Path, mapping: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(imports, "MAX_FILE", 10)
    assert main(["import", "pam-u2f", mapping(line("nobody", b"one"))], Paths(root)) == Exit.USAGE
    assert "larger" in capsys.readouterr().err


def test_what_a_file_says_is_made_harmless(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    done = run("import", "pam-u2f", mapping("\x1b[2Jroot:x\n", "root\u202e:x,y\n"))
    assert done.returncode == Exit.REFUSED
    assert "\x1b" not in done.stdout
    assert done.stdout.count("not printable ASCII") == 2


# --------------------------------------------------------------------------------------------------- who may


def test_a_user_s_own_file_counts_for_that_user(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    """Whoever can write a file that root imports could otherwise become root with a key of its own."""
    path = mapping(line("root", b"evil"), line("nobody", b"own"), owner=NOBODY.pw_uid)
    sheets: list[list[dict[str, Any]]] = []
    with Double(root, keeper(sheets)) as double:
        done = run("import", "pam-u2f", path, "--apply", "--json")
        assert run("import", "pam-u2f", path, "--apply", "--user", "root").returncode == Exit.USAGE
    assert [request["account"]["name"] for request in double.requests] == ["nobody"]
    assert [json.loads(each)["state"] for each in done.stdout.splitlines()] == ["refused", "imported"]
    assert len(sheets) == 1


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_counts_for_nobody(
    root: Path, run: Run, mapping: Callable[..., str], mode: int
) -> None:
    done = run("import", "pam-u2f", mapping(line("nobody", b"own"), mode=mode))
    assert (done.returncode, "chmod go-w" in done.stderr) == (Exit.USAGE, True)


def test_a_file_of_a_uid_without_a_name(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    assert run("import", "pam-u2f", mapping(line("nobody", b"own"), owner=3999999999)).returncode == Exit.USAGE


def test_only_root(
    root: Path, mapping: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY.pw_uid)
    with Double(root, keeper([])) as double:
        ends = [
            main(["import", "pam-u2f", mapping(line("nobody", b"one"))], Paths(root)),
            main(["import", "passkey", "passkey:x,y", "--rp-id", "d"], Paths(root)),
        ]
    assert (ends, double.requests) == ([Exit.REFUSED] * 2, [])
    assert capsys.readouterr().err.count("only root") == 2


# --------------------------------------------------------------------------------------------------- passkeys


def test_a_passkey_string(root: Path, run: Run) -> None:
    sheets: list[list[dict[str, Any]]] = []
    with Double(root, keeper(sheets)) as double:
        text = f"passkey:{b64(b'one')},{b64(SPKI)},{b64(b'handle')}"
        done = run("import", "passkey", text, "--rp-id", "ipa.example", "--user", "nobody", "--apply")
    assert done.returncode == Exit.DONE, done.stderr
    assert double.requests[0]["args"] == {"source": "passkey", "shared": False}
    (record,) = sheets[0]
    assert (record["rp_id"], record["discoverable"], record["user_handle"]) == ("ipa.example", True, b64(b"handle"))


def test_a_passkey_file(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    path = mapping("dn: uid=nobody,dc=ipa\n", f"ipaPassKey: passkey:{b64(b'one')},{b64(SPKI)}\n")
    with Double(root, keeper([])) as double:
        done = run("import", "passkey", path, "--rp-id", "ipa.example")
    assert (done.returncode, double.requests[0]["account"]["name"]) == (Exit.DONE, "nobody")


def test_a_user_that_is_gone_gets_nothing_new(root: Path, run: Run, mapping: Callable[..., str]) -> None:
    def stored(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(kind="account", uid=4000000001, name="left-behind")
        peer.done()

    with Double(root, stored) as double:
        done = run("import", "pam-u2f", mapping(line("left-behind", b"one")), "--apply")
    assert (done.returncode, double.requests) == (Exit.REFUSED, [])


def test_an_imported_key_is_listed_by_what_it_was_made_for(root: Path, run: Run) -> None:
    details = {
        "product": "", "aaguid": "00000000-0000-0000-0000-000000000000", "transport": "", "verified": False,
        "discoverable": False, "synced": None, "counter": 7, "suspect": False, "rp_id": "pam://old",
    }  # fmt: skip

    def answer(peer: Peer, request: dict[str, Any]) -> None:
        for each in (details, details | {"product": "Blue"}, details | {"aaguid": "2fc0579f"}):
            peer.part(kind="credential", id="0" * 32, factor="fido2", label="x", created=0, used=None, details=each)
        peer.done()

    with Double(root, answer):
        said = run("list").stdout
    for words in ("made for pam://old, counter 7", "Blue, counter 7", "2fc0579f, counter 7"):
        assert words in said
