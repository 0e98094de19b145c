"""Every command as it is run: what goes to the service, what the user reads, JSON, and how it ends."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa import __version__
from pam_mfa.cli import exits
from pam_mfa.cli.exits import Exit
from pam_mfa.cli.main import main
from pam_mfa.wire import Type

from .conftest import Run, command, environment

ID = "0123456789abcdef" * 2
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
URI = f"otpauth://totp/host:root%40host?secret={SECRET}&issuer=host"
CODES = [f"ABCD-EFGH-JKMN-PQRS-TVWX-YZ{n:02}" for n in range(10)]
PHONE = {
    "kind": "credential", "id": ID, "factor": "totp", "label": "phone", "created": 1763770000, "used": None,
    "details": {"algorithm": "SHA1", "digits": 6, "period": 30},
}  # fmt: skip
PAPER = {
    "kind": "credential", "id": ID[::-1], "factor": "recovery", "label": "recovery codes", "created": 1763770000,
    "used": 1763860000, "details": {"left": 3, "of": 10},
}  # fmt: skip
SERVICE = {
    "kind": "service", "version": __version__, "role": "service", "uptime": 5, "sessions": 1, "config": "file",
    "problems": [], "store": "ok", "audit_lost": 0, "python": "3.11.2",
}  # fmt: skip
READY, WAITS = {"state": "open", "wait": 0}, {"state": "waiting", "wait": 30}
ACCOUNT = {
    "kind": "account", "uid": 0, "name": "root", "factors": {"totp": 1, "recovery": 1},
    "standing": {
        "totp": {"state": "waiting", "wait": 90, "familiar": [WAITS, READY]},
        "recovery": {"state": "disabled", "wait": 0, "familiar": []},
        "ticket": {"state": "open", "wait": 0, "familiar": [WAITS]},
        "fido2": {"state": "open", "wait": 0, "familiar": [READY]},
    },
}  # fmt: skip
ENROLLED = {"kind": "enrolled", "id": ID, "factor": "totp", "label": "phone"}
RECOVERY = {"kind": "recovery", "codes": CODES}

# verb: what the service has to say to it
RECORDS: dict[str, list[dict[str, Any]]] = {
    "list": [PHONE, PAPER],
    "rename": [{"kind": "renamed", "id": ID, "factor": "totp", "label": "new phone"}],
    "remove": [{"kind": "removed", "id": ID, "factor": "totp", "label": "phone", "left": 0}],
    "recovery": [{"kind": "recovery_left", "left": 0, "of": 10}],
    "status": [SERVICE, ACCOUNT],
    "unlock": [{"kind": "unlocked", "tallies": 2, "marks": 0}],
    "accounts": [{"kind": "account", "uid": 1000, "name": "alice"}],
    "explain": [
        {"kind": "rule", "name": "office", "holds": False, "conditions": [
            {"key": "networks", "wanted": "192.0.2.0/24", "holds": False},
            {"key": "groups", "wanted": "staff, !guests", "holds": None}]},
        {"kind": "rule", "name": "policy", "holds": True, "conditions": []},
        {"kind": "explained", "rule": "policy", "terms": {"methods": ["fido2", "totp"], "exempt": False},
         "user": "root", "subject": "alice", "local": False, "entry": "prove", "reason": "enrolled",
         "methods": {"fido2": "not at this host", "totp": "open"}, "sees": "Verification code: ",
         "code": "PAM_SUCCESS"},
    ],
}  # fmt: skip


def records_of(peer: Peer, request: dict[str, Any]) -> None:
    """A service that asks nothing."""
    for record in RECORDS[request["verb"]]:
        peer.part(**record)
    peer.done()


def enrolment(peer: Peer, request: dict[str, Any]) -> None:
    """A service that enrols who knows the password and types the code 123456."""
    if peer.ask("Password of root: ") != "correct horse":
        return peer.done("refused", "nothing was changed")
    peer.part(kind="totp", secret=SECRET, uri=URI, label="phone")
    if peer.ask("Code that the app shows now: ", secret=False) != "123456":
        return peer.done("refused", "no right code was given")
    for record in (ENROLLED, RECOVERY):
        peer.part(**record)
    peer.done()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ------------------------------------------------------------------------------------------- requests and records

COMMANDS = [
    (["list"], "list", {}),
    (["rename", "phone", "new phone"], "rename", {"credential": "phone", "label": "new phone"}),
    (["remove", "0123"], "remove", {"credential": "0123"}),
    (["recovery"], "recovery", {"renew": False}),
    (["status"], "status", {}),
    (["unlock", "root"], "unlock", {}),
    (["accounts"], "accounts", {}),
    (
        ["explain", "--service", "SU", "--ruser", "alice", "--tty", "tty1", "--session", "local"],
        "explain",
        {"service": "su", "rhost": "", "tty": "tty1", "ruser": "alice", "session": "local", "public_key": False},
    ),
]


@pytest.mark.parametrize(("arguments", "verb", "sent"), COMMANDS)
def test_json_is_the_records_and_nothing_else(
    root: Path, run: Run, arguments: list[str], verb: str, sent: dict[str, Any]
) -> None:
    with Double(root, records_of) as double:
        done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert lines(done.stdout) == RECORDS[verb]
    account = {"account": {"uid": 0, "name": "root"}} if verb == "unlock" else {}
    assert double.requests == [{"verb": verb, "args": sent, **account}]


READS = {
    "list": [
        "Name            Factor    Made        Last used   Details               Id",
        "phone           totp      2025-11-22  never       SHA1, 6 digits, 30 s  01234567",
        "recovery codes  recovery  2025-11-22  2025-11-23  3 of 10 left          fedcba98",
    ],
    "rename": ['Now called "new phone".'],
    "remove": [
        'Removed totp "phone".',
        "Nothing is enrolled any more: wherever a second factor is asked for, you are refused.",
    ],
    "recovery": ["0 of 10 recovery codes left; make new ones: pam-mfa recovery --new"],
    "status": [
        f"pam-mfa service {__version__}, Python 3.11.2, up 5 s",
        "  sessions: 1",
        "  config: file",
        "  store: ok",
        "  audit lost: 0",
        "root (uid 0): 1 totp, 1 recovery",
        "  totp: too many wrong answers; none is accepted for 2 min",
        "  totp, where it was proven lately: ready at 1 of 2 places",
        "  recovery: disabled after too many wrong answers; an administrator can run: pam-mfa unlock root",
        "  ticket: ready",
        "  ticket, where it was proven lately: ready at 0 of 1 places",
        "  fido2: ready",
    ],
    "unlock": ["Unlocked root."],
    "accounts": ["alice (uid 1000)"],
    "explain": [
        'rule "office": does not hold',
        "  networks = 192.0.2.0/24: no",
        "  groups = staff, !guests: not looked at",
        "[policy]: holds",
        "It says: methods = fido2, totp, exempt = false",
        "Whose factor: alice's, who calls",
        "  fido2: not at this host",
        "  totp: can be used",
        'root sees: "Verification code: "',
        "PAM is told PAM_SUCCESS: after a right answer",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "verb", "sent"), COMMANDS)
def test_what_a_person_reads(root: Path, run: Run, arguments: list[str], verb: str, sent: dict[str, Any]) -> None:
    with Double(root, records_of):
        done = run(*arguments)
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert done.stdout.splitlines() == READS[verb]


def test_an_empty_list_says_what_to_do(root: Path, run: Run) -> None:
    with Double(root, lambda peer, request: peer.done()):
        assert "pam-mfa enroll" in run("list").stdout
        assert run("list", "--json").stdout == ""


# ----------------------------------------------------------------------------------------------------- enrolment


def test_enrolment_takes_answers_from_a_pipe(root: Path, run: Run) -> None:
    with Double(root, enrolment) as double:
        done = run("enroll", "totp", "--name", "phone", "--json", input="correct horse\n123456\n")
    assert done.returncode == Exit.DONE
    assert lines(done.stdout) == [{"kind": "totp", "secret": SECRET, "uri": URI, "label": "phone"}, ENROLLED, RECOVERY]
    assert double.requests == [{"verb": "enroll", "args": {"factor": "totp", "label": "phone"}}]
    assert done.stderr.splitlines() == ["Password of root: ", "Code that the app shows now: "]


def test_enrolment_for_a_person(root: Path, run: Run) -> None:
    with Double(root, enrolment):
        done = run("enroll", "totp", input="correct horse\n123456\n")
    assert done.returncode == Exit.DONE
    assert " ".join(SECRET[at : at + 4] for at in range(0, 32, 4)) in done.stdout
    assert URI in done.stdout
    assert 'Enrolled totp "phone".' in done.stdout
    assert all(code in done.stdout for code in CODES)
    assert not any(secret in done.stderr for secret in (SECRET, URI, "correct horse", "123456", *CODES))


def test_a_wrong_code_enrols_nothing(root: Path, run: Run) -> None:
    with Double(root, enrolment):
        done = run("enroll", "totp", input="correct horse\n000000\n")
    assert done.returncode == Exit.REFUSED
    assert done.stderr.splitlines()[-1] == "pam-mfa: no right code was given"
    assert "Enrolled" not in done.stdout


def test_the_options_of_totp(root: Path, run: Run) -> None:
    with Double(root, lambda peer, request: peer.done()) as double:
        run("enroll", "totp", "--algorithm", "SHA256", "--digits", "8", "--period", "60")
    assert double.requests[0]["args"] == {"factor": "totp", "algorithm": "SHA256", "digits": 8, "period": 60}


def test_new_recovery_codes(root: Path, run: Run) -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        assert request["args"] == {"renew": True}
        peer.part(**ENROLLED | {"factor": "recovery"})
        peer.part(**RECOVERY)
        peer.done()

    with Double(root, script):
        done = run("recovery", "--new")
    assert all(code in done.stdout for code in CODES)


def test_the_end_of_input_aborts(root: Path, run: Run) -> None:
    with Double(root, enrolment) as double:
        done = run("enroll", "totp", input="correct horse\n")
        assert double.gave_up.wait(20)
    assert done.returncode == Exit.ABORTED
    assert done.stderr.splitlines()[-1] == "pam-mfa: aborted; run the command again to start over"


# ------------------------------------------------------------------------------------------------------- the ends


@pytest.mark.parametrize(("code", "exit_code"), [*exits.BY_CODE.items(), ("novel", Exit.INTERNAL)])
def test_each_refusal_has_its_exit_code(root: Path, run: Run, code: str, exit_code: Exit) -> None:
    with Double(root, lambda peer, request: peer.done(code, "do \x1b[31mthis\nnow")):
        done = run("list")
    assert done.returncode == exit_code
    assert done.stderr == "pam-mfa: do  [31mthis now\n"
    assert done.stdout == ""


def test_a_service_that_breaks_the_protocol_is_unavailable(root: Path, run: Run) -> None:
    with Double(root, lambda peer, request: peer.send(Type.RESULT, bytes(21))):
        done = run("list")
    assert done.returncode == Exit.UNAVAILABLE
    assert done.stderr.startswith("pam-mfa: the pam-mfa service gave no usable answer")
    assert done.stderr.count("\n") == 1


def test_no_service_at_all(run: Run) -> None:
    done = run("list")
    assert (done.returncode, done.stderr.count("\n")) == (Exit.UNAVAILABLE, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["list", "--bogus"],
        ["--root", "/", "list"],  # another root has another engine, which root must not run
        ["list", "--root", "/"],
        ["rename", "phone"],
        ["enroll", "password"],
        ["enroll"],  # nobody there to ask
        ["enroll", "totp", "--digits", "9"],
        ["enroll", "totp", "--period", "45"],
        ["enroll", "recovery", "--digits", "6"],
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert done.stderr.startswith("pam-mfa: ")
    assert done.stderr.endswith(" --help\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("part", ["directory", "file"])
@pytest.mark.parametrize("how", ["writable", "foreign", "link"])
def test_root_tries_no_pam_files_that_others_control(root: Path, run: Run, part: str, how: str) -> None:
    """libpam would load whatever module they name."""
    directory, file = root / "pam.d", root / "pam.d/open"
    directory.mkdir(mode=0o755)
    file.write_text(f"auth optional pam_exec.so /usr/bin/touch {root}/ran\n")
    path = directory if part == "directory" else file
    if how == "writable":
        path.chmod(0o775)
    elif how == "foreign":
        os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    else:
        path.rename(root / "elsewhere")
        path.symlink_to(root / "elsewhere")
    done = run("test", "open", "--confdir", str(directory))
    assert (done.returncode, done.stderr.count("\n")) == (Exit.USAGE, 1)
    assert not (root / "ran").exists()


def test_without_a_command_there_is_help(run: Run) -> None:
    done = run()
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert "Usage: pam-mfa" in done.stderr


def test_help_tells_the_exit_codes(run: Run) -> None:
    done = run("--help")
    assert done.returncode == Exit.DONE
    assert all(f"{code:3}  {meaning}" in done.stdout for code, meaning in exits.MEANING.items())


def test_an_internal_error_is_one_line(root: Path, run: Run) -> None:
    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(kind="credential")
        peer.done()

    with Double(root, script):
        done, debug = run("list"), run("--debug", "list")
    assert (done.returncode, debug.returncode) == (Exit.INTERNAL, Exit.INTERNAL)
    assert done.stderr == "pam-mfa: internal error (KeyError); please report it, with pam-mfa --debug ...\n"
    assert "show.py" in debug.stderr


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_an_internal_error_tells_no_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: list[str]
) -> None:
    secret = "S3CRET"  # a variable: a traceback shows lines of source

    def fail(*arguments: object) -> None:
        raise ValueError(secret) from KeyError(secret)

    monkeypatch.setattr("pam_mfa.cli.client.connected", fail)
    assert main([*debug, "list"]) == Exit.INTERNAL
    written = capsys.readouterr()
    assert "internal error (ValueError)" in written.err
    assert secret not in written.out + written.err


def test_whoever_reads_may_stop_reading(root: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with Double(root, records_of):
        argv = command(root, "list", "--json")
        done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, env=environment(), timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (Exit.INTERNAL, b"")


def test_version(run: Run) -> None:
    assert run("version").stdout == f"pam-mfa {__version__}\n"
    assert lines(run("version", "--json").stdout) == [{"kind": "version", "version": __version__}]
