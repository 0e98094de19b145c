"""`pam-mfa doctor`: the command, and what it says of service, engine, clock and PAM files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from manage_double import Double, Peer

from pam_mfa.cli.checks import accounts, clock, service
from pam_mfa.cli.checks.finding import Finding, Severity
from pam_mfa.cli.client import Account
from pam_mfa.cli.exits import Exit
from pam_mfa.cli.paths import Paths

from .conftest import Run
from .installed import HEALTH, lay, write, wrong

# ----------------------------------------------------------------------------------------------------- the command


def test_everything_in_order(system: Path, run: Run) -> None:
    done = run("doctor")
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}


def test_json(system: Path, run: Run) -> None:
    done = run("doctor", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == Exit.DONE
    assert {record["kind"] for record in records} == {"finding"}
    assert {record["severity"] for record in records} == {"ok"}
    subjects = {record["subject"] for record in records}
    assert subjects >= {
        "module", "engine", "service", "settings", "seal key", "state", "store", "directories", "packages", "sockets",
        "python", "clock", "accounts", "pam pam-mfa", "pam sudo", "pam files", "SELinux", "AppArmor",
    }  # fmt: skip


def test_warnings_and_worse_have_exit_codes_of_their_own(system: Path, run: Run) -> None:
    (system / "run/systemd/timesync/synchronized").unlink()
    done = run("doctor", NO_COLOR="1")
    assert done.returncode == Exit.WARNINGS
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith("ok")] == ["warn", "->"]
    (system / "etc/pam-mfa/seal.key").chmod(0o440)
    done = run("doctor")
    assert done.returncode == Exit.WRONG
    assert "BAD   seal key" in done.stdout
    assert "-> chmod 0400 /etc/pam-mfa/seal.key" in done.stdout


def test_on_an_empty_system_it_only_reports(run: Run) -> None:
    done = run("doctor")
    assert (done.returncode, done.stderr) == (Exit.WRONG, "")


def test_a_check_that_cannot_run_ends_no_other(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packages of another Python are when doctor is needed most."""
    from pam_mfa.cli.main import main

    def fail(where: Paths) -> Iterator[Finding]:
        raise ImportError("no module named _cffi_backend")

    monkeypatch.setattr(accounts, "check", fail)
    assert main(["doctor", "--root", str(system)]) == Exit.WRONG
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("BAD")] == [
        "BAD   accounts          this check failed itself: ImportError('no module named _cffi_backend')"
    ]
    assert any("SELinux" in line for line in lines), "what comes behind it"


def test_others_than_root_are_told_that_they_do_not_see_everything(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pam_mfa.cli.main import main

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["doctor", "--root", str(system)]) == Exit.WARNINGS
    assert "run: sudo pam-mfa doctor" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------- service and engine


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({}, []),
        ({"version": "0.0.9"}, [("service", "warn")]),
        ({"store": "store_missing: no such file"}, [("store", "bad")]),
        ({"store": "store_sealed"}, [("store", "bad")]),
        ({"store": "novel"}, [("store", "bad")]),
        ({"config": "kept", "problems": ["policy: unknown key", "audit: no"]}, [("settings", "bad")] * 3),
        ({"config": "none", "problems": []}, [("settings", "bad")]),
        ({"audit_lost": 3}, [("audit", "warn")]),
    ],
)
def test_what_the_service_says_of_itself(health: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert wrong(service.judge("service", HEALTH | health)) == expected


def test_service_and_engine_answer(system: Path) -> None:
    assert wrong(service.check(Paths(system))) == []


def test_a_service_that_outlived_an_installation(system: Path) -> None:
    assert list(service._outlived(Paths(system), HEALTH | {"uptime": 0})) == []
    (finding,) = service._outlived(Paths(system), HEALTH | {"uptime": 3600})
    assert (finding.subject, finding.severity) == ("service", Severity.WARN)


@pytest.mark.parametrize(
    "script",
    [
        lambda peer, request: peer.done("unavailable", "the store does not answer"),
        lambda peer, request: peer.send_raw(b"x"),
        lambda peer, request: peer.ask("Password: "),
        lambda peer, request: None,
    ],
)
def test_a_service_that_does_not_answer_as_it_should(root: Path, script: Callable[[Peer, Any], None]) -> None:
    lay(root)
    with Double(root, script):
        assert wrong(service.check(Paths(root))) == [("service", "bad")]


def test_a_failure_that_the_health_explains_is_told_once(root: Path) -> None:
    lay(root)

    def script(peer: Peer, request: dict[str, Any]) -> None:
        peer.part(**HEALTH | {"store": "store_corrupt: malformed"})
        peer.done("unavailable", "pam-mfa cannot do this now")

    with Double(root, script):
        assert wrong(service.check(Paths(root))) == [("store", "bad")]


def test_an_engine_that_cannot_be_used(root: Path) -> None:
    lay(root)
    write(root, "usr/lib/pam-mfa/pam-mfad", "#!/bin/sh\necho pam-mfa: no key >&2\n")
    (root / "usr/lib/pam-mfa/pam-mfad").chmod(0o755)
    (finding,) = service.check(Paths(root))
    assert (finding.subject, finding.severity, finding.found) == ("engine", Severity.BAD, "the engine ended: no key")


def test_a_listener_that_is_not_to_be_trusted(system: Path) -> None:
    (system / "run/pam-mfa").chmod(0o777)
    assert ("service", "bad") in wrong(service.check(Paths(system)))


# ------------------------------------------------------------------------------------------------------- accounts


def enrolled(*accounts: tuple[int, str]) -> Callable[[Peer, Any], None]:
    """A service with these accounts."""

    def script(peer: Peer, request: dict[str, Any]) -> None:
        assert request == {"verb": "accounts", "args": {}}
        for uid, name in accounts:
            peer.part(kind="account", uid=uid, name=name)
        peer.done()

    return script


def test_enrolled_accounts_that_the_system_no_longer_has(root: Path) -> None:
    write(root, "etc/passwd", "root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\nalice:x:1002:1002::/:/bin/sh\n")
    with Double(root, enrolled((0, "root"), (1000, "bob"), (1002, "alice"))):
        assert wrong(accounts.check(Paths(root))) == []
    with Double(root, enrolled((1000, "old"), (1001, "alice"), (1002, "alice"))):
        found = list(accounts.check(Paths(root)))
    assert [(finding.severity, finding.found) for finding in found] == [
        (Severity.WARN, "old is enrolled with uid 1000, but there is no user old here"),
        (Severity.WARN, "alice is enrolled with uid 1001, but alice has uid 1002 here"),
    ]
    assert all(f"pam-mfa reset {uid}" in finding.fix for uid, finding in zip((1000, 1001), found, strict=True))


def test_the_running_system_is_asked_for_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = [Account(0, "root"), Account(1, "no-such-user")]
    monkeypatch.setattr(accounts, "stored_accounts", lambda where: stored)
    assert wrong(accounts.check(Paths())) == [("accounts", "warn")]


def test_accounts_that_nobody_tells_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(accounts.check(Paths(root))) == []
    with Double(root, enrolled((1, "old"))):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert list(accounts.check(Paths(root))) == []


# ---------------------------------------------------------------------------------------------------------- clock


@pytest.mark.parametrize(
    ("chrony", "systemd", "expected"),
    [
        ("", "", [("clock", "warn")]),
        ("Leap status     : Normal\n", "", []),
        ("Leap status     : Not synchronised\n", "yes\n", [("clock", "warn")]),
        ("", "yes\n", []),
        ("", "no\n", [("clock", "warn")]),
        ("506 Cannot talk to daemon\n", "novel\n", [("clock", "warn")]),
    ],
)
def test_who_knows_of_the_clock(
    root: Path, monkeypatch: pytest.MonkeyPatch, chrony: str, systemd: str, expected: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(clock, "_said", lambda command: chrony if "chronyc" in command[0] else systemd)
    assert wrong(clock.check(Paths(root))) == expected


def test_programs_that_are_absent_or_fail_say_nothing() -> None:
    assert clock._said(["/usr/bin/no-such-program"]) == ""
    assert clock._said(["/bin/sh", "-c", "echo yes; exit 1"]) == ""
    assert clock._said(["/bin/echo", "yes"]) == "yes\n"


def test_a_clock_before_the_installation(system: Path) -> None:
    os.utime(system / "usr/lib/pam-mfa/pam-mfa-engine", (2**33, 2**33))
    assert wrong(clock.check(Paths(system))) == [("clock", "bad")]
