"""Whole stories with the real `pam-mfa`, sudo and ssh: a new user's with the service, root's without one."""

from __future__ import annotations

import re

import pyotp
import pytest
import segno
from e2e.site_machine import KEY_AND_CODE, PASSWORD_AND_CODE, SiteMachine
from e2e.terminals import Terminal
from machine import PASSWORDS, wait_for
from people import Person, Token, step_now

PAM_MFA = "/usr/bin/pam-mfa"
CODE = "Verification code: "
FROM_APP = "Code that the app shows now: "
AGAIN_FROM_APP = "check the clocks of both devices. Code: "
RECOVERY = re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){5}[0-9A-HJKMNP-TV-Z]{4}\b")
BLOCKS = {" ": (0, 0), "\u2580": (1, 0), "\u2584": (0, 1), "\u2588": (1, 1)}
QUIET_ZONE = 4
ROOT = "\r\n0\r\n"
REFUSED, ABORTED = 3, 130


def carry_out(site: SiteMachine, person: Person, *arguments: str, user: str | None) -> Terminal:
    """Begin `pam-mfa enroll`; whoever is no root gives the account's password."""
    enroll = site.terminals.run([PAM_MFA, "enroll", *arguments], user)
    if not arguments:
        enroll.expect("1) totp")
        enroll.expect("2) recovery")
        enroll.expect("Number [1]: ")
        enroll.type("")
    if user:
        enroll.answer(f"Password of {user}: ", PASSWORDS[user])
    return enroll


def take_secret(enroll: Terminal, person: Person) -> str:
    """Read the secret off the screen, where it stands three times; returns the URI."""
    enroll.expect("Scan this with your authenticator app:")
    drawn = enroll.match(r"((?s:.*))Or type the secret into the app:")
    typed = enroll.match(r"Secret\s+([A-Z2-7 ]+)\r\n").replace(" ", "")
    uri = enroll.match(r"URI\s+(otpauth://\S+)\r\n")
    found = pyotp.parse_uri(uri)
    assert isinstance(found, pyotp.TOTP)
    assert found.secret == typed
    wanted = modules(uri)
    assert shown_modules(drawn, len(wanted)) == wanted
    person.tokens.append(Token(found.secret, ""))
    return uri


def shown_modules(drawn: str, size: int) -> list[list[int]]:
    """The dark modules of a QR code that was drawn in half blocks of light, QUIET_ZONE of them around it."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in drawn.split("\r\n")]
    halves = [[BLOCKS[char] for char in line] for line in lines if set(line) & set("\u2580\u2584\u2588")]
    light = [list(half) for line in halves for half in zip(*line, strict=True)]
    assert all(map(all, light[:QUIET_ZONE]))
    return [[1 - module for module in row[QUIET_ZONE:][:size]] for row in light[QUIET_ZONE:][:size]]


def modules(text: str) -> list[list[int]]:
    """The dark modules of the QR code of a text."""
    return [list(row) for row in segno.make(text, micro=False, error="L", boost_error=False).matrix]


def prove(enroll: Terminal, person: Person, then: str = "Enrolled totp") -> None:
    """Give the code that the app shows: of the step that is just over, so that two more can be used at once.

    Args:
        then: what is said once it is right.
    """
    (token,) = person.tokens
    prompt = FROM_APP
    while prompt == FROM_APP or enroll.which(then, AGAIN_FROM_APP) == AGAIN_FROM_APP:
        if prompt == FROM_APP:
            enroll.expect(prompt)
        token.used = step_now() - 1
        enroll.type(token.at(token.used))
        prompt = AGAIN_FROM_APP


def finish(enroll: Terminal, person: Person) -> None:
    """Read the recovery codes to the end."""
    person.recovery = RECOVERY.findall(enroll.ends_with(0))
    assert len(set(person.recovery)) == 10


def enrol_carol(site: SiteMachine, *arguments: str, user: str | None) -> Person:
    """From nothing to an app and ten codes on paper."""
    carol = site.people["carol"]
    enroll = carry_out(site, carol, *arguments, user=user)
    take_secret(enroll, carol)
    prove(enroll, carol)
    finish(enroll, carol)
    return carol


def become_root(site: SiteMachine, answer: str) -> Terminal:
    """Carol's sudo with this answer to the question for a code."""
    sudo = site.sudo(user="carol")
    sudo.answer(CODE, answer)
    return sudo


@pytest.mark.parametrize("section", [PASSWORD_AND_CODE, KEY_AND_CODE])
def test_a_new_users_whole_story(served_site: SiteMachine, section: str) -> None:
    site = served_site
    site.start(section=section)
    site.sudo(user="carol").expect(CODE)  # asked like everybody, though no answer would do

    carol = enrol_carol(site, user="carol")
    news = become_root(site, carol.code()).ends_with(0)
    assert news.endswith(ROOT)
    assert 'Second factor: totp "totp 1" enrolled by you, ' in news
    ssh = site.ssh("/usr/bin/id", "-un", user="carol", key=section == KEY_AND_CODE)
    ssh.answer(CODE, carol.code())
    assert ssh.ends_with(0) == "\r\ncarol\r\n"
    assert become_root(site, carol.recovery[4]).ends_with(0).endswith(ROOT)

    shown = site.machine.run([PAM_MFA, "list"], "carol").stdout
    assert "totp 1" in shown
    assert "9 of 10 left" in shown

    remove = site.terminals.run([PAM_MFA, "remove", "totp 1"], "carol")
    remove.answer(CODE, carol.recovery[5])
    remove.expect('Removed totp "totp 1".')
    remove.ends_with(0)
    again = become_root(site, carol.tokens[0].at(step_now() + 1))
    again.answer(CODE, carol.recovery[6])
    assert again.ends_with(0).endswith(ROOT)
    nothing_secret_was_written_down(site, carol)


def nothing_secret_was_written_down(site: SiteMachine, person: Person) -> None:
    """Neither seed nor code in the log, the service's output, or the store's files as they lie on the disk."""
    log = "\n".join([*site.machine.journal(), site.machine.service.output()])
    words = [*person.recovery, *person.spent, *(token.secret for token in person.tokens)]
    assert not [word for word in words if word in log]
    files = b"".join(path.read_bytes() for path in site.machine.path("/var/lib/pam-mfa").iterdir())
    seeds = [pyotp.TOTP(token.secret).byte_secret() for token in person.tokens]
    plain = [word.replace("-", "").encode() for word in person.recovery]
    assert not [word for word in [*seeds, *plain, *(w.encode() for w in words if len(w) > 8)] if word in files]


def test_a_wrong_password_enrols_nothing(served_site: SiteMachine) -> None:
    served_site.start()
    enroll = served_site.terminals.run([PAM_MFA, "enroll", "totp"], "carol")
    enroll.answer("Password of carol: ", "not it")
    enroll.answer("That was not right. Password of carol: ", PASSWORDS["bob"])
    enroll.answer("That was not right. Password of carol: ", "")
    assert "otpauth" not in enroll.ends_with(REFUSED)
    assert "No credentials yet" in served_site.machine.run([PAM_MFA, "list"], "carol").stdout


def test_who_gives_up_before_the_code_has_enrolled_nothing(served_site: SiteMachine) -> None:
    site = served_site
    site.start()
    carol = site.people["carol"]
    enroll = carry_out(site, carol, "totp", user="carol")
    take_secret(enroll, carol)
    enroll.expect(FROM_APP)
    enroll.interrupt()
    enroll.ends_with(ABORTED)
    site.wait_until_idle()
    assert "No credentials yet" in site.machine.run([PAM_MFA, "list"], "carol").stdout


def test_a_second_credential_needs_a_code_of_the_first(served_site: SiteMachine) -> None:
    site = served_site
    site.start()
    carol = enrol_carol(site, "totp", user="carol")
    refused = site.terminals.run([PAM_MFA, "enroll", "totp", "--name", "tablet"], "carol")
    for _ in range(3):
        refused.answer(CODE, PASSWORDS["carol"])
    assert "otpauth" not in refused.ends_with(REFUSED)
    enroll = site.terminals.run([PAM_MFA, "enroll", "totp", "--name", "tablet"], "carol")
    enroll.answer(CODE, carol.code())
    second = Person("carol", carol.uid)
    take_secret(enroll, second)
    prove(enroll, second)
    enroll.ends_with(0)
    assert become_root(site, second.code()).ends_with(0).endswith(ROOT)
    assert become_root(site, carol.code()).ends_with(0).endswith(ROOT)


def test_roots_story_without_a_service(engine_site: SiteMachine) -> None:
    site = engine_site
    site.start(section=KEY_AND_CODE)
    carol = enrol_carol(site, "totp", "--user", "carol", user=None)
    assert become_root(site, carol.code()).ends_with(0).endswith(ROOT)
    ssh = site.ssh("/usr/bin/id", "-un", user="carol", key=True)
    ssh.answer(CODE, carol.recovery[0])
    assert ssh.ends_with(0).endswith("carol\r\n")
    assert "9 of 10 left" in site.machine.run([PAM_MFA, "list", "--user", "carol"]).stdout
    site.machine.run([PAM_MFA, "remove", "--user", "carol", "totp 1"])
    site.machine.run([PAM_MFA, "remove", "--user", "carol", "recovery codes"])
    sudo = become_root(site, carol.code())
    sudo.answer(CODE, carol.recovery[1])
    sudo.answer(CODE, carol.recovery[2])
    sudo.expect("Sorry, try again.")
    wait_for("the end of all engines", lambda: not site.machine.processes("pam-mfa-engine"))


def test_what_root_enrolled_without_a_service_counts_with_it(served_site: SiteMachine) -> None:
    carol = enrol_carol(served_site, "totp", "--user", "carol", user=None)
    served_site.start()
    assert become_root(served_site, carol.code()).ends_with(0).endswith(ROOT)
    assert served_site.last_record(1)["role"] == "service"
