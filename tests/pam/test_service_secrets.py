"""A first enrolment with the account's real password, and where nothing of what was secret in it may be found."""

from __future__ import annotations

import base64
import os
import signal
from contextlib import suppress
from pathlib import Path

import pyotp
import pytest
from callers import call, login
from doors import Caller
from machine import PASSWORDS, Machine, wait_for
from people import Person, account, step_now

from pam_mfa.outcome import Outcome
from pam_mfa.wire import Type

PASSWORD = PASSWORDS["alice"]
MISTYPED = "correct hoarse, canary 8C1F"
LIBEXEC = "/usr/lib/pam-mfa"
HELPER = "pam-mfa-password"
STATE = "/var/lib/pam-mfa"
# pam_unix alone: the stack behind @include waits two seconds after each wrong password.
STACK = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n"


@pytest.fixture
def served(machine: Machine) -> Machine:
    machine.write("/etc/pam.d/pam-mfa", STACK)
    machine.service.start()
    return machine


@pytest.fixture
def alice(served: Machine) -> Person:
    return account(served, "alice")


def enrolling(machine: Machine, person: Person, *passwords: str, factor: str = "totp") -> Caller:
    """A request to enrol, with these passwords given."""
    caller = call(machine, "manage", person.uid).request("enroll", factor=factor)
    for password in passwords:
        assert f"Password of {person.user}: " in caller.prompt()
        caller.send(Type.REPLY, password.encode())
    return caller


# ------------------------------------------------------------------------------------------ the password


def test_the_first_credential_costs_the_real_password(served: Machine, alice: Person) -> None:
    caller = enrolling(served, alice, MISTYPED, "", PASSWORD)
    assert caller.prompt() == "Code that the app shows now: "
    app = pyotp.TOTP(caller.parts[0]["secret"])
    caller.send(Type.REPLY, app.at(step_now() * 30).encode())
    assert caller.done == {"ok": True}
    assert login(served, alice, app.at((step_now() + 1) * 30)) is Outcome.GRANTED


def test_three_wrong_passwords_enrol_nothing(served: Machine, alice: Person) -> None:
    caller = enrolling(served, alice, MISTYPED, PASSWORD.upper(), PASSWORDS["bob"])
    assert caller.done["error"] == "refused"
    assert caller.parts == []
    assert call(served, "manage", alice.uid).request("list").end()[-1][0] is Type.DONE
    served.wait_for_journal("enroll DENIED")


def test_the_password_is_checked_by_the_shipped_stack_too(machine: Machine) -> None:
    machine.service.start()
    alice = account(machine, "alice")
    assert enrolling(machine, alice, PASSWORD, factor="recovery").done == {"ok": True}


def test_a_locked_account_enrols_nothing(served: Machine, alice: Person) -> None:
    served.run(["/usr/sbin/usermod", "--expiredate", "1", "alice"])
    assert enrolling(served, alice, PASSWORD, PASSWORD, PASSWORD).done["error"] == "refused"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_without_its_helper_nobody_is_told_that_the_password_was_wrong(
    served: Machine, alice: Person, how: signal.Signals
) -> None:
    (helper,) = served.processes(HELPER)
    caller = call(served, "manage", alice.uid).request("enroll", factor="recovery")
    caller.prompt()
    os.kill(helper, how)
    if how is signal.SIGKILL:
        wait_for("the helper to go", lambda: not served.processes(HELPER))
        assert caller.send(Type.REPLY, PASSWORD.encode()).done["error"] == "unavailable"
    else:
        caller.send(Type.REPLY, PASSWORD.encode())
        assert login(served, alice, "", "", "") is Outcome.TRIES_SPENT  # nobody else waits for it
        os.kill(helper, signal.SIGCONT)
        assert caller.done == {"ok": True}


# ------------------------------------------------------------------------------------------------ secrets


def inside(machine: Machine) -> list[int]:
    """Every process of pam-mfa."""
    found = []
    for pid in machine.processes():
        with suppress(OSError):  # it ended meanwhile
            found += [pid] if os.readlink(f"/proc/{pid}/exe").startswith(LIBEXEC) else []
    return found


def watch(machine: Machine, seen: list[bytes]) -> int:
    """Note what anybody can see of each process of pam-mfa; how many there were."""
    found = inside(machine)
    for pid in found:
        try:
            seen += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm", "status")]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return len(found)


def test_no_secret_is_in_any_log_file_argument_or_environment(served: Machine, alice: Person) -> None:
    """L19: an enrolment and logins with secrets that are known, then a search for them everywhere."""
    seen: list[bytes] = []
    caller = call(served, "manage", alice.uid).request("enroll", factor="totp", label="phone")
    for password in (MISTYPED, PASSWORD):
        caller.prompt()
        caller.send(Type.REPLY, password.encode())
        assert watch(served, seen) >= 2
    caller.prompt()
    app = pyotp.TOTP(caller.parts[0]["secret"])
    codes = [app.at((step_now() + offset) * 30) for offset in range(2)]
    caller.send(Type.REPLY, codes[0].encode())
    assert caller.done == {"ok": True}
    recovery = caller.parts[-1]["codes"]
    wrong = "canary-59D2-not-a-code"
    for answers, outcome in (
        ([wrong, codes[1]], Outcome.GRANTED),
        ([recovery[0]], Outcome.GRANTED),
        ([recovery[0], wrong, wrong], Outcome.TRIES_SPENT),
    ):
        assert login(served, alice, *answers) is outcome
        watch(served, seen)
    crash = call(served, "manage", 0).request("unlock", {"uid": alice.uid, "name": "alice"})
    assert crash.done == {"ok": True}
    served.wait_for_journal("login TRIES_SPENT")

    output = served.service.output()
    served.service.stop()
    files = [path for path in served.path(STATE).iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"store.db", "store.db-wal"}
    everything = b"\n".join(
        [*seen, output.encode(), *(line.encode() for line in served.journal()), *(path.read_bytes() for path in files)]
    )
    key = served.path("/etc/pam-mfa/seal.key").read_bytes()
    seed = base64.b32decode(app.secret)
    folded = [code.replace("-", "") for code in recovery]
    secrets = {
        "key": [key, key.hex().encode(), base64.b64encode(key)],
        "seed": [seed, seed.hex().encode(), app.secret.encode(), app.secret.lower().encode()],
        "password": [PASSWORD.encode(), MISTYPED.encode()],
        "recovery": [code.encode() for code in [*recovery, *folded]],
        "wrong answer": [wrong.encode()],
        "uri": [b"otpauth://"],
    }
    assert [name for name, texts in secrets.items() if any(text in everything for text in texts)] == []
    assert b"pam-mfad" in everything
    assert b"phone" in everything  # its name is no secret, and shows that the search finds what is there


def test_no_core_is_left_and_nobody_reads_its_memory(served: Machine, alice: Person) -> None:
    caller = enrolling(served, alice)
    caller.prompt()
    processes = inside(served)
    assert len(processes) >= 2
    for pid in processes:
        limits = Path(f"/proc/{pid}/limits").read_text()
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0  # not dumpable: its files in /proc are root's
    daemon = served.service.pid
    script = (
        f"import os; os.setgroups([]); os.setgid({alice.uid}); os.setuid(int(sys.argv[1])); open('/proc/{daemon}/mem')"
    )
    owner = served.run(["/usr/bin/id", "-u", "pam-mfa"]).stdout.strip()
    assert "PermissionError" in served.python(script, owner, check=False).stderr


def test_a_service_that_fails_shows_no_values(machine: Machine) -> None:
    """A key that is none: one line, no traceback, nothing of the file's content."""
    machine.run(["/bin/sh", "-c", "printf canary-7A > /etc/pam-mfa/seal.key"])
    machine.service.start(wait=False)
    wait_for("the service to end", lambda: "seal.key" in machine.service.output())
    assert "canary" not in machine.service.output()
    assert "Traceback" not in machine.service.output()
    machine.wait_for_journal("seal.key")
    assert not [line for line in machine.journal() if "canary" in line]
