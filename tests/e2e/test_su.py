"""Real su with `subject = "caller"`, as the shipped settings have it: whoever becomes another proves who they are."""

from __future__ import annotations

import tomllib

import pytest
from e2e.readme import below_include, sudo_line
from e2e.site_machine import SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS, PROJECT
from people import sql

CODE = "Verification code: "
FAILED = "su: Have exhausted maximum number of retries for service"
ROOTOK = "pam_rootok.so"


def shipped_rule() -> str:
    """The rule for su in packaging/config.toml."""
    text = (PROJECT / "packaging/config.toml").read_text()
    (rule,) = (rule for rule in tomllib.loads(text)["rule"] if "su" in rule["services"])
    assert rule == {"name": "su", "services": ["su", "su-l"], "subject": "caller"}
    return text[text.index('[[rule]]\nname = "su"') :]


@pytest.fixture
def sus(site: SiteMachine) -> SiteMachine:
    """A machine whose su has the README's line for sudo below common-auth."""
    lines = below_include(site.machine.read("/etc/pam.d/su"), sudo_line())
    site.machine.write("/etc/pam.d/su", lines)
    site.start(shipped_rule())
    return site


def su(site: SiteMachine, target: str, caller: str = "alice") -> Terminal:
    """Become somebody; the password is theirs."""
    terminal = site.terminals.run(["/bin/su", target, "-c", "/usr/bin/id -un"], caller)
    terminal.answer("Password: ", PASSWORDS[target])
    return terminal


def test_the_callers_code_opens_it(sus: SiteMachine) -> None:
    terminal = su(sus, "bob")
    terminal.answer(CODE, sus.alice.code())
    assert terminal.ends_with(0) == "\r\nbob\r\n"
    record = sus.last_record(1)
    assert (record["outcome"], record["user"], record["subject"]) == ("GRANTED", "bob", "alice")


def test_the_code_of_whom_they_become_does_not_and_counts_against_the_caller(sus: SiteMachine) -> None:
    terminal = su(sus, "bob")
    code = sus.people["bob"].code()
    for _ in range(3):
        terminal.answer(CODE, code)
    terminal.expect(FAILED)
    record = sus.last_record(1)
    assert (record["outcome"], record["subject"]) == ("TRIES_SPENT", "alice")
    counted = sql(sus.machine, "SELECT uid, failures & 255 FROM tally WHERE failures & 255")
    assert counted.strip() == f"({sus.alice.uid}, 3)"


def test_who_has_nothing_becomes_nobody(sus: SiteMachine) -> None:
    terminal = su(sus, "bob", "carol")
    code = sus.people["bob"].code()
    for _ in range(3):
        terminal.answer(CODE, code)
    terminal.expect(FAILED)
    assert sus.last_record(1)["reason"] == "unenrolled"


def test_root_is_asked_for_the_code_of_whom_it_becomes(sus: SiteMachine) -> None:
    """Where su asks root at all: Debian's pam_rootok has to go."""
    lines = sus.machine.read("/etc/pam.d/su").splitlines()
    sus.machine.write("/etc/pam.d/su", "\n".join(line for line in lines if ROOTOK not in line) + "\n")
    terminal = su(sus, "bob", "root")
    terminal.answer(CODE, sus.people["bob"].code())
    assert terminal.ends_with(0) == "\r\nbob\r\n"
    assert "subject" not in sus.last_record(1)
