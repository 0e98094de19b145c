"""Real sshd and ssh as README.md sets them up: password and code, and key and code; by service and by engine."""

from __future__ import annotations

import signal

import pytest
from e2e.readme import sshd_lines
from e2e.site_machine import KEY_AND_CODE, PASSWORD_AND_CODE, SiteMachine, free_port_is_private
from hosts import records
from machine import PASSWORDS, wait_for
from people import OURS, STORE, sql, step_now

CODE = "Verification code: "
AGAIN = "Not accepted (each code works once). Verification code: "
DENIED = "Permission denied"
WHO = ("/usr/bin/id", "-un")
ALICE = "\r\nalice\r\n"
SECTIONS = [PASSWORD_AND_CODE, KEY_AND_CODE]

both_sections = pytest.mark.parametrize("section", SECTIONS)


def by_key(section: str) -> bool:
    """Whether ssh asks for the code alone."""
    return section == KEY_AND_CODE


def test_the_readmes_lines_are_the_ones_that_other_tests_use() -> None:
    lines, config, _ = sshd_lines(KEY_AND_CODE)
    assert OURS.startswith(lines)
    assert "AuthenticationMethods publickey,keyboard-interactive\n" in config
    assert free_port_is_private()


@both_sections
def test_the_right_code(site: SiteMachine, section: str) -> None:
    site.start(section=section)
    ssh = site.ssh(*WHO, key=by_key(section))
    ssh.answer(CODE, site.alice.code())
    assert ssh.ends_with(0) == ALICE
    record = site.last_record(1)
    assert (record["outcome"], record["role"], record["service"]) == ("GRANTED", site.side, "sshd")
    assert (record["rhost"], record["tty"]) == ("127.0.0.1", "ssh")


def test_the_prompt_names_the_account(site: SiteMachine) -> None:
    site.start(section=PASSWORD_AND_CODE)
    ssh = site.ssh(*WHO)
    ssh.answer("(alice@127.0.0.1) " + CODE, site.alice.code())
    assert ssh.ends_with(0) == ALICE


@both_sections
def test_a_recovery_code_works_and_is_counted(site: SiteMachine, section: str) -> None:
    site.start(section=section)
    ssh = site.ssh(*WHO, key=by_key(section))
    ssh.answer(CODE, site.alice.recovery[0].lower())
    assert ssh.ends_with(0).endswith(ALICE)
    assert site.last_record(1)["factor"] == "recovery"


@both_sections
@pytest.mark.parametrize("kind", ["wrong", "used before", "too late", "empty"])
def test_refused_answers(site: SiteMachine, section: str, kind: str) -> None:
    site.start(section=section)
    answer = bad_answer(site, section, kind)
    before = len(records(site.machine))
    ssh = site.ssh(*WHO, key=by_key(section))
    for prompt in (CODE, AGAIN, AGAIN):
        ssh.answer(prompt, answer)
    site.refuses(ssh)
    assert site.last_record(before + 1)["outcome"] == "TRIES_SPENT"
    again = site.ssh(*WHO, key=by_key(section))
    again.answer(CODE, site.alice.code())
    assert again.ends_with(0) == ALICE


def bad_answer(site: SiteMachine, section: str, kind: str) -> str:
    """An answer that opens nothing."""
    if kind == "used before":
        return used_before(site, section)
    return {"wrong": site.alice.wrong(), "too late": too_late(site), "empty": ""}[kind]


def used_before(site: SiteMachine, section: str) -> str:
    """A code that has let somebody in already."""
    code = site.alice.code()
    ssh = site.ssh(*WHO, key=by_key(section))
    ssh.answer(CODE, code)
    ssh.ends_with(0)
    site.outcomes(1)
    return code


def too_late(site: SiteMachine) -> str:
    """A code of some minutes ago that is not right by chance."""
    right = {each.at(step_now() + near) for each in site.alice.tokens for near in range(-1, 4)}
    return next(code for ago in range(4, 20) if (code := site.alice.tokens[0].at(step_now() - ago)) not in right)


def test_a_wrong_password_and_a_right_code(site: SiteMachine) -> None:
    """pam_unix ends the stack before anybody is asked for a code; sshd starts over."""
    site.start(section=PASSWORD_AND_CODE)
    ssh = site.terminals.run(["/usr/bin/ssh", *site.ssh_options(), "alice@127.0.0.1", *WHO], "alice")
    for _ in range(3):
        ssh.answer("Password: ", site.alice.code())
    site.refuses(ssh)
    assert CODE not in ssh.transcript


def test_a_code_without_the_key(site: SiteMachine) -> None:
    site.start(section=KEY_AND_CODE)
    site.machine.run(["/bin/rm", "/home/alice/.ssh/authorized_keys"])
    ssh = site.ssh(*WHO, key=True)
    site.refuses(ssh)
    assert CODE not in ssh.transcript
    assert records(site.machine) == []


def test_a_key_without_a_code(site: SiteMachine) -> None:
    site.start(section=KEY_AND_CODE)
    batch = [*site.ssh_options(), "-o", "BatchMode=yes", "alice@127.0.0.1", *WHO]
    done = site.machine.run(["/usr/bin/ssh", *batch], "alice", check=False)
    assert (done.returncode, done.stdout) == (255, "")
    assert DENIED in done.stderr


# People and clients that leave


@both_sections
def test_ctrl_c_at_the_prompt(site: SiteMachine, section: str) -> None:
    site.start(section=section)
    ssh = site.ssh(*WHO, key=by_key(section))
    ssh.expect(CODE)
    ssh.interrupt()
    ssh.end()
    assert site.last_record(1)["outcome"] == "ABORTED"
    site.wait_until_idle()


@both_sections
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_client_that_vanishes_at_the_prompt(site: SiteMachine, section: str, number: int) -> None:
    site.start(section=section)
    ssh = site.ssh(*WHO, key=by_key(section))
    ssh.expect(CODE)
    ssh.hang_up(number)
    assert site.last_record(1)["outcome"] == "ABORTED"
    site.wait_until_idle()
    assert site.reachable()


# Who answers is in trouble


def test_a_service_that_was_stopped_is_replaced_by_the_engine(served_site: SiteMachine) -> None:
    served_site.start(section=KEY_AND_CODE)
    code = used_before(served_site, KEY_AND_CODE)
    served_site.machine.service.stop()
    ssh = served_site.ssh(*WHO, key=True)
    ssh.answer(CODE, code)
    ssh.answer(AGAIN, served_site.alice.code())
    assert ssh.ends_with(0) == ALICE
    assert [record["role"] for record in records(served_site.machine)] == ["service", "engine"]


def test_a_service_that_hangs_is_replaced_by_the_engine(served_site: SiteMachine) -> None:
    served_site.start(section=PASSWORD_AND_CODE)
    served_site.machine.service.freeze()
    ssh = served_site.ssh(*WHO)
    ssh.answer(CODE, served_site.alice.code())
    assert ssh.ends_with(0) == ALICE
    assert served_site.last_record(1)["role"] == "engine"


def test_a_service_that_hangs_at_the_prompt_lets_nobody_in(served_site: SiteMachine) -> None:
    """The module gives up by itself; sshd asks its client again, and by then the engine answers."""
    served_site.start(section=KEY_AND_CODE)
    ssh = served_site.ssh(*WHO, key=True)
    ssh.expect(CODE)
    served_site.machine.service.freeze()
    ssh.type(served_site.alice.code())
    ssh.expect(CODE)
    ssh.type(served_site.alice.code())
    assert ssh.ends_with(0) == ALICE
    assert [record["role"] for record in records(served_site.machine)] == ["engine"]


@both_sections
def test_whoever_answers_is_killed_at_the_prompt(site: SiteMachine, section: str) -> None:
    site.start(section=section)
    ssh = site.ssh(*WHO, key=by_key(section))
    ssh.expect(CODE)
    if site.side == "service":
        site.machine.service.kill()
    else:
        (engine,) = site.machine.engines()
        site.machine.run(["/bin/kill", "-KILL", str(engine)])
    ssh.type(site.alice.code())
    ssh.expect("Password: " if section == PASSWORD_AND_CODE else CODE)  # sshd lets its client try once more
    assert "GRANTED" not in {record["outcome"] for record in records(site.machine)}
    ssh.close()
    site.wait_until_idle() if site.side == "engine" else None


@both_sections
def test_without_a_store_nobody_gets_in(site: SiteMachine, section: str) -> None:
    site.machine.run(["/bin/sh", "-c", f"rm {STORE}*"])
    site.start("[policy]\nunenrolled = 'allow'", section)
    for user in ("alice", "carol"):
        ssh = site.ssh(*WHO, user=user, key=by_key(section))
        if not by_key(section):
            for _ in range(2):
                ssh.answer("Password: ", PASSWORDS[user])
        site.refuses(ssh, user)
        assert CODE not in ssh.transcript
    assert set(site.outcomes(2)) == {"UNAVAILABLE"}


def test_a_full_disk_locks_nobody_out(site: SiteMachine) -> None:
    site.on_a_full_disk(section=PASSWORD_AND_CODE)
    code = used_before(site, PASSWORD_AND_CODE)
    ssh = site.ssh(*WHO)
    ssh.answer(CODE, code)
    ssh.answer(AGAIN, site.alice.code())
    assert ssh.ends_with(0) == ALICE


# Policy


@both_sections
def test_the_unenrolled_are_denied(site: SiteMachine, section: str) -> None:
    site.start(section=section)
    ssh = site.ssh(*WHO, user="carol", key=by_key(section))
    for prompt in (CODE, AGAIN, AGAIN):
        ssh.answer(prompt, "000000")
    site.refuses(ssh, "carol")
    assert site.last_record(1)["reason"] == "unenrolled"


@both_sections
def test_the_unenrolled_are_let_in_where_the_rule_says_so(site: SiteMachine, section: str) -> None:
    site.start("[[rule]]\nservices = ['sshd']\nunenrolled = 'allow'", section)
    ssh = site.ssh(*WHO, user="carol", key=by_key(section))
    assert ssh.ends_with(0).endswith("carol\r\n")
    assert site.last_record(1)["outcome"] == "EXEMPT"


def test_without_pam_permit_behind_it_the_exempt_are_locked_out(site: SiteMachine) -> None:
    """Why the README has a second line for key and code."""
    site.start("[[rule]]\nservices = ['sshd']\nunenrolled = 'allow'", KEY_AND_CODE)
    site.machine.run(["/bin/sed", "-i", "/^auth required pam_permit.so$/d", "/etc/pam.d/sshd"])
    ssh = site.ssh(*WHO, user="carol", key=True)
    site.refuses(ssh, "carol")
    assert set(site.outcomes(1)) == {"EXEMPT"}


def test_an_unknown_user_is_asked_and_denied_like_a_known_one(site: SiteMachine) -> None:
    """sshd answers for users it does not know by itself; nobody can tell from the questions."""
    site.start(section=PASSWORD_AND_CODE)
    ssh = site.terminals.run(["/usr/bin/ssh", *site.ssh_options(), "mallory@127.0.0.1"], "alice")
    ssh.answer("Password: ", "whatever")
    ssh.expect("Password: ")
    assert "GRANTED" not in {record["outcome"] for record in records(site.machine)}


def test_a_damaged_account_is_refused_and_the_others_log_in(site: SiteMachine) -> None:
    bob = site.people["bob"]
    sql(site.machine, "UPDATE credential SET material = zeroblob(60) WHERE uid = ?", str(bob.uid))
    site.start(section=KEY_AND_CODE)
    broken = site.ssh(*WHO, user="bob", key=True)
    site.refuses(broken, "bob")
    ssh = site.ssh(*WHO, key=True)
    ssh.answer(CODE, site.alice.code())
    assert ssh.ends_with(0) == ALICE


# After the login


@both_sections
def test_scp_brings_a_file_over_unharmed(site: SiteMachine, section: str) -> None:
    site.start(section=section)
    site.machine.run(["/bin/sh", "-c", "head -c 300000 /dev/urandom > /tmp/sent; chmod 644 /tmp/sent"])
    scp = site.terminals.run(
        ["/usr/bin/scp", *site.ssh_options("-P"), "/tmp/sent", "alice@127.0.0.1:/tmp/received"], "alice"
    )
    site.log_in(scp, "alice", by_key(section))
    scp.ends_with(0)
    assert site.machine.run(["/usr/bin/cmp", "/tmp/sent", "/tmp/received"], check=False).returncode == 0


def test_sftp_works_after_the_login(site: SiteMachine) -> None:
    site.start(section=KEY_AND_CODE)
    sftp = site.terminals.run(["/usr/bin/sftp", *site.ssh_options("-P"), "alice@127.0.0.1"], "alice")
    site.log_in(sftp, "alice", key=True)
    sftp.expect("sftp> ")
    sftp.type("put /etc/hostname /tmp/hostname")
    sftp.expect("sftp> ")
    sftp.type("bye")
    sftp.ends_with(0)
    assert site.machine.read("/tmp/hostname") == site.machine.read("/etc/hostname")


def test_a_session_outlives_the_service(served_site: SiteMachine) -> None:
    served_site.start(section=KEY_AND_CODE)
    ssh = served_site.ssh("/bin/sh", "-c", "'echo in; read word; echo got $word'", key=True)
    ssh.answer(CODE, served_site.alice.code())
    ssh.expect("in\r\n")
    served_site.machine.service.kill()
    ssh.type("it")
    assert ssh.ends_with(0).endswith("got it\r\n")


def test_what_sshd_starts_has_nothing_of_ours(site: SiteMachine) -> None:
    site.start(section=KEY_AND_CODE)
    ssh = site.ssh("ls -l /proc/self/fd; env", key=True)
    ssh.answer(CODE, site.alice.code())
    said = ssh.ends_with(0)
    assert "USER=alice" in said
    assert "pam-mfa" not in said
    assert "pam_mfa" not in said.lower()


def test_others_log_in_while_somebody_thinks(site: SiteMachine) -> None:
    site.start(section=KEY_AND_CODE)
    thinking = site.ssh(*WHO, key=True)
    thinking.expect(CODE)
    bob = site.ssh(*WHO, user="bob", key=True)
    bob.answer(CODE, site.people["bob"].code())
    assert bob.ends_with(0) == "\r\nbob\r\n"
    thinking.type(site.alice.code())
    assert thinking.ends_with(0) == ALICE
    wait_for("their records", lambda: len(records(site.machine)) == 2)
