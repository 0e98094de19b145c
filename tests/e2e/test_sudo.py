"""Real sudo with the line of README.md below Debian's own common-auth, by service and by engine."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from e2e.readme import sudo_line
from e2e.site_machine import SiteMachine
from e2e.terminals import Watch
from hosts import records
from machine import PASSWORDS
from people import CONTROL, STORE, step_now

CODE = "Verification code: "
AGAIN = "Sorry, try again."  # what sudo says of AUTH_ERR, MAXTRIES and AUTHINFO_UNAVAIL; it starts over, three times
ROOT = "\r\n0\r\n"
PATIENCE = 15  # the module's own, far above what Ctrl-C may take


def test_the_readmes_line_is_the_one_that_other_tests_use() -> None:
    assert sudo_line() == f"auth {CONTROL} pam_mfa.so\n"


def test_password_and_code(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo()
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT
    record = site.last_record(1)
    assert (record["outcome"], record["role"], record["service"]) == ("GRANTED", site.side, "sudo")
    assert record["tty"].startswith("/dev/pts/")


def test_a_recovery_code(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo()
    sudo.answer(CODE, site.alice.recovery[0].lower())
    sudo.expect("Recovery code used: 9 left.")
    assert sudo.ends_with(0) == ROOT


def used_before(site: SiteMachine) -> str:
    """A code that has opened something already."""
    code = site.alice.code()
    first = site.sudo()
    first.answer(CODE, code)
    first.ends_with(0)
    site.outcomes(1)
    return code


def too_late(site: SiteMachine) -> str:
    """A code of some minutes ago that is not right by chance."""
    token = site.alice.tokens[0]
    right = {each.at(step_now() + near) for each in site.alice.tokens for near in range(-1, 4)}
    return next(code for ago in range(4, 20) if (code := token.at(step_now() - ago)) not in right)


def wrong(site: SiteMachine) -> str:
    """A code that is nobody's."""
    return site.alice.wrong()


def empty(site: SiteMachine) -> str:
    """Just Enter."""
    return ""


@pytest.mark.parametrize("bad", [wrong, used_before, too_late, empty])
def test_refused_answers(site: SiteMachine, bad: Callable[[SiteMachine], str]) -> None:
    site.start()
    answer = bad(site)
    before = len(records(site.machine))
    sudo = site.sudo()
    for _ in range(3):
        sudo.answer(CODE, answer)
    sudo.expect(AGAIN)
    assert site.last_record(before + 1)["outcome"] == "TRIES_SPENT"
    sudo.answer("password for alice: ", PASSWORDS["alice"])
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT


def test_the_right_code_after_a_wrong_one(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo()
    sudo.answer(CODE, site.alice.wrong())
    sudo.answer("Not accepted (each code works once). " + CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT


def test_a_wrong_password_is_never_asked_for_a_code(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo(answer=False)
    for _ in range(3):
        sudo.answer("password for alice: ", "not it")
    assert "3 incorrect password attempts" in sudo.ends_with(1)
    assert CODE not in sudo.transcript
    assert records(site.machine) == []


# Ctrl-C


def test_ctrl_c_at_the_prompt(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo()
    sudo.expect(CODE)
    watch = Watch()
    sudo.interrupt()
    assert "a password is required" in sudo.ends_with(1)
    assert watch.seconds < PATIENCE
    assert site.last_record(1)["outcome"] == "ABORTED"
    site.wait_until_idle()


def test_ctrl_c_while_the_service_is_silent(site: SiteMachine) -> None:
    """sudo blocks the signal while a module runs; the module looks for it."""
    site.start()
    sudo = site.sudo()
    sudo.expect(CODE)
    hung = hang(site)
    sudo.type(site.alice.code())
    sudo.expect("\r\n")
    watch = Watch()
    sudo.interrupt()
    assert "a password is required" in sudo.ends_with(1)
    assert watch.seconds < PATIENCE
    hung(signal.SIGCONT)
    site.wait_until_idle()


def hang(site: SiteMachine) -> Callable[[int], object]:
    """Stop whoever answers; returns what sends it another signal, where it is still there."""
    pid = site.machine.service.pid if site.side == "service" else site.machine.engines()[0]
    site.machine.run(["/bin/kill", "-STOP", str(pid)])
    return lambda number: site.machine.run(["/bin/kill", f"-{number}", str(pid)], check=False)


def test_a_terminal_that_goes_away_at_the_prompt(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo()
    sudo.expect(CODE)
    sudo.close()
    assert site.last_record(1)["outcome"] == "ABORTED"
    site.wait_until_idle()


def test_a_sudo_that_is_killed_at_the_prompt(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo()
    sudo.expect(CODE)
    site.machine.run(["/bin/kill", "-KILL", str(sudo.pid)])
    assert site.last_record(1)["outcome"] == "ABORTED"
    site.wait_until_idle()


# Who answers is in trouble


def test_a_service_that_was_stopped_is_replaced_by_the_engine(served_site: SiteMachine) -> None:
    served_site.start()
    code = used_before(served_site)
    served_site.machine.service.stop()
    sudo = served_site.sudo()
    sudo.answer(CODE, code)
    sudo.answer(CODE, served_site.alice.code())
    assert sudo.ends_with(0) == ROOT
    assert [record["role"] for record in records(served_site.machine)] == ["service", "engine"]


def test_a_service_that_hangs_is_replaced_by_the_engine(served_site: SiteMachine) -> None:
    served_site.start()
    served_site.machine.service.freeze()
    sudo = served_site.sudo()
    sudo.answer(CODE, served_site.alice.code())
    assert sudo.ends_with(0) == ROOT
    assert served_site.last_record(1)["role"] == "engine"


def test_whoever_answers_is_killed_at_the_prompt(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo()
    sudo.expect(CODE)
    kill = hang(site)
    kill(signal.SIGKILL)
    sudo.type(site.alice.code())
    sudo.expect(AGAIN)
    assert "GRANTED" not in {record["outcome"] for record in records(site.machine)}


@pytest.mark.parametrize("damage", [f"rm {STORE}*", f"rm {STORE}-*; truncate -s 4096 {STORE}", "mv {0} {0}.x"])
def test_without_a_sound_store_nobody_becomes_root(site: SiteMachine, damage: str) -> None:
    site.machine.run(["/bin/sh", "-c", damage.format(STORE)])
    site.start("[policy]\nunenrolled = 'allow'")
    for user in ("alice", "carol"):
        sudo = site.sudo(user=user)
        sudo.expect(AGAIN)
        assert CODE not in sudo.transcript
    assert site.outcomes(2) == ["UNAVAILABLE"] * 2


def test_a_full_disk_locks_nobody_out(site: SiteMachine) -> None:
    site.on_a_full_disk()
    used = used_before(site)
    sudo = site.sudo()
    sudo.answer(CODE, used)
    sudo.answer(CODE, site.alice.code())
    assert sudo.ends_with(0) == ROOT


# Policy


def test_the_unenrolled_are_denied(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo(user="carol")
    for _ in range(3):
        sudo.answer(CODE, "000000")
    sudo.expect(AGAIN)
    assert site.last_record(1)["reason"] == "unenrolled"


def test_the_unenrolled_are_let_in_where_the_rule_says_so(site: SiteMachine) -> None:
    site.start("[[rule]]\nservices = ['sudo']\nunenrolled = 'allow'")
    assert site.sudo(user="carol").ends_with(0) == ROOT
    record = site.last_record(1)
    assert (record["outcome"], record["reason"]) == ("EXEMPT", "unenrolled_allowed")


def test_a_member_of_an_exempt_group_is_let_in(site: SiteMachine) -> None:
    site.start("[[rule]]\ngroups = ['bob']\nexempt = true")
    assert site.sudo(user="bob").ends_with(0) == ROOT


# Without a terminal


def test_sudo_n_fails_at_once(site: SiteMachine) -> None:
    site.start()
    done = site.machine.run(["/usr/bin/sudo", "-n", "/usr/bin/id"], "alice", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "sudo: a password is required\n")


def test_sudo_without_a_terminal_fails_at_once(site: SiteMachine) -> None:
    site.start()
    done = site.machine.run(["/usr/bin/setsid", "--wait", "/usr/bin/sudo", "/usr/bin/id"], "alice", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "a terminal is required" in done.stderr


@pytest.mark.parametrize("right", [True, False])
def test_sudo_s_takes_password_and_code_from_its_input(site: SiteMachine, right: bool) -> None:
    site.start()
    code = site.alice.code() if right else site.alice.wrong()
    command = ["/usr/bin/setsid", "--wait", "/usr/bin/sudo", "-S", "/usr/bin/id", "-u"]
    done = site.machine.run(command, "alice", input=f"{PASSWORDS['alice']}\n{code}\n", check=False)
    assert (done.returncode, done.stdout) == ((0, "0\n") if right else (1, ""))


def test_what_sudo_starts_has_nothing_of_ours(site: SiteMachine) -> None:
    site.start()
    sudo = site.sudo("/bin/sh", "-c", "readlink /proc/$$/fd/*; env")
    sudo.answer(CODE, site.alice.code())
    said = sudo.ends_with(0)
    assert "/dev/pts/" in said
    assert "socket:" not in said
    assert "pam-mfa" not in said


def test_everybody_else_works_on_while_somebody_thinks(site: SiteMachine) -> None:
    site.start()
    thinking = site.sudo()
    thinking.expect(CODE)
    bob = site.people["bob"]
    sudo = site.sudo(user="bob")
    sudo.answer(CODE, bob.code())
    assert sudo.ends_with(0) == ROOT
    thinking.type(site.alice.code())
    assert thinking.ends_with(0) == ROOT
