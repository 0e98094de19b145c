"""Who is asked, who is let through without, and who may ask for whom; by service and engine."""

from __future__ import annotations

import signal

import pytest
from hosts import Host, Login, Scene, records
from machine import Machine
from people import CONFIG, Town, configure, enrol, sql

ALLOW = "[policy]\nunenrolled = 'allow'"
THREE = ["000000"] * 3


# Nobody enrolled


def test_the_unenrolled_are_denied_after_three_questions(scene: Scene) -> None:
    login = scene.login("carol", *THREE)
    assert (login.code, len(login.prompts), login.shown) == ("MAXTRIES", 3, [])
    assert scene.reason == "unenrolled"


def test_the_unenrolled_are_let_through_where_the_rule_says_so(scene: Scene) -> None:
    scene.configure(ALLOW)
    login = scene.login("carol")
    assert (login.code, login.prompts, login.shown) == ("IGNORE", [], [])
    assert scene.reason == "unenrolled_allowed"
    assert scene.login("alice", *THREE).code == "MAXTRIES"


def test_the_rule_of_one_service_is_for_that_one_alone(scene: Scene) -> None:
    scene.configure("[[rule]]\nservices = ['ours']\nunenrolled = 'allow'")
    assert scene.login("carol", *THREE).code == "MAXTRIES"
    assert scene.login("carol", service="ours").code == "SUCCESS"


def test_who_enrols_is_asked_from_then_on(scene: Scene) -> None:
    scene.configure(ALLOW)
    carol = scene.people["carol"]
    assert scene.login("carol").code == "IGNORE"
    enrol(scene.machine, carol)
    assert scene.login("carol", *THREE).code == "MAXTRIES"
    assert scene.login("carol", carol.code()).code == "SUCCESS"


@pytest.mark.parametrize("user", ["nobody-here", "ALICE", "alice$"])
def test_an_unknown_user_is_asked_like_everybody_and_denied(scene: Scene, user: str) -> None:
    scene.configure(ALLOW)
    login = scene.login(user, *THREE)
    assert (login.code, len(login.prompts)) == ("MAXTRIES", 3)


def test_right_looking_codes_of_others_do_not_help_an_unknown_user(scene: Scene) -> None:
    assert scene.login("mallory", scene.alice.code(), scene.alice.recovery[0], scene.alice.code()).code == "MAXTRIES"


# Groups


def test_members_of_an_exempt_group_are_not_asked(scene: Scene) -> None:
    scene.configure("[[rule]]\ngroups = ['rescue']\nexempt = true")
    scene.machine.run(["/usr/sbin/groupadd", "rescue"])
    scene.machine.run(["/usr/sbin/usermod", "--append", "--groups", "rescue", "alice"])
    login = scene.login("alice")
    assert (login.code, login.prompts) == ("IGNORE", [])
    assert scene.reason == "exempt"
    assert scene.login("bob", *THREE).code == "MAXTRIES"


def test_an_own_group_counts_like_any_other(scene: Scene) -> None:
    scene.configure("[[rule]]\ngroups = ['carol']\nexempt = true")
    assert scene.login("carol").code == "IGNORE"


def test_a_group_that_does_not_exist_exempts_nobody(scene: Scene) -> None:
    scene.configure("[[rule]]\ngroups = ['no-such-group']\nexempt = true")
    assert scene.login("alice", *THREE).code == "MAXTRIES"
    assert scene.login("unknown", *THREE).code == "MAXTRIES"


# Names and uids


def test_a_uid_that_is_stored_under_another_name_is_not_let_in(scene: Scene) -> None:
    scene.configure(ALLOW)
    code = scene.alice.code()
    scene.machine.run(["/bin/sed", "-i", "s/^alice:/alicia:/", "/etc/passwd", "/etc/shadow"])
    assert scene.login("alicia", code).code == "AUTHINFO_UNAVAIL"
    assert scene.reason == "name_mismatch"


def test_a_name_that_got_another_uid_is_not_let_in_with_the_old_credential(scene: Scene) -> None:
    code = scene.alice.code()
    scene.machine.run(["/bin/sed", "-i", "s/^alice:x:[0-9]*/alice:x:7777/", "/etc/passwd"])
    assert scene.login("alice", code, code, code).code == "MAXTRIES"
    assert scene.reason == "unenrolled"


# The other entry points


def test_the_other_entry_points_say_what_the_table_says(scene: Scene) -> None:
    scene.machine.write(
        "/etc/pam.d/all",
        "auth [success=done ignore=ignore default=die] pam_mfa.so\nauth [default=die] pam_debug.so auth=cred_expired\n"
        "account [success=done ignore=ignore default=die] pam_mfa.so\n"
        "account [default=die] pam_debug.so acct=cred_expired\n"
        "session [success=done ignore=ignore default=die] pam_mfa.so\n"
        "session [default=die] pam_debug.so open_session=cred_expired close_session=cred_expired\n"
        "password [success=done default=die] pam_mfa.so\n",
    )
    calls = ["setcred", "acct_mgmt", "open_session", "close_session", "chauthtok"]
    expected = ["SUCCESS", "IGNORE", "IGNORE", "IGNORE", "AUTHTOK_ERR"]
    alone = scene.host.login("alice", service="all", calls=calls)
    assert (alone.codes, alone.prompts) == (expected, [])
    after = scene.login("alice", scene.alice.code(), service="all", calls=["authenticate", *calls])
    assert after.codes == ["SUCCESS", *expected]


def test_the_readmes_line_and_pam_permit_behind_it(scene: Scene) -> None:
    scene.configure("[[rule]]\ngroups = ['carol']\nexempt = true")
    assert scene.login("alice", scene.alice.code(), service="ours").code == "SUCCESS"
    assert scene.login("carol", service="ours").code == "SUCCESS"
    assert scene.login("alice", *THREE, service="ours").code == "MAXTRIES"
    assert scene.login("alice", None, service="ours").code == "CONV_ERR"


def test_the_delay_after_a_refusal_is_asked_of_pam(scene: Scene) -> None:
    scene.configure("", delay=1.5)
    assert scene.login("alice", scene.alice.code()).delays == []
    (delay,) = scene.login("alice", *THREE).delays
    assert 0.75e6 <= delay <= 2.25e6  # libpam makes it up to half longer or shorter
    assert scene.login("alice", None).delays == []


# Who asks: only the service has a socket for everybody


@pytest.fixture
def served(machine_of_people: Machine) -> Machine:
    """A machine with its service running."""
    machine_of_people.service.start()
    return machine_of_people


def login_as(machine: Machine, user: str | None, *arguments: str) -> Login:
    """One login by a host that runs as this user."""
    with Host(machine, user) as host:
        return host.login(*arguments)


def test_a_user_may_ask_for_itself(served: Machine, town: Town) -> None:
    alice = town.people()["alice"]
    assert login_as(served, "alice", "alice", alice.code()).code == "SUCCESS"
    assert login_as(served, "alice", "alice", *THREE).code == "MAXTRIES"


@pytest.mark.parametrize("target", ["alice", "root", "carol", "nobody-here"])
def test_a_user_may_not_ask_for_another(served: Machine, town: Town, target: str) -> None:
    login = login_as(served, "bob", target, town.people()["alice"].code())
    assert (login.code, login.prompts) == ("AUTH_ERR", [])
    served.wait_for_journal("reason=peer_denied")


def test_a_second_name_for_the_same_uid_is_not_that_user(served: Machine, town: Town) -> None:
    alice = town.people()["alice"]
    served.run(["/bin/sh", "-c", f"echo 'alias:x:{alice.uid}:{alice.uid}::/:/bin/sh' >> /etc/passwd"])
    assert login_as(served, "alice", "alias", alice.code()).code == "AUTH_ERR"
    served.wait_for_journal("reason=peer_denied")


def test_root_may_ask_for_anyone(served: Machine, town: Town) -> None:
    people = town.people()
    with Host(served) as host:
        assert [host.login(user, people[user].code()).code for user in ("alice", "bob")] == ["SUCCESS", "SUCCESS"]


def test_a_user_is_not_let_in_by_asking_on_roots_socket(served: Machine, town: Town) -> None:
    served.write("/etc/pam.d/priv", "auth required pam_mfa.so socket=/run/pam-mfa/priv.sock\n")
    with Host(served, "alice") as host:
        assert host.login("alice", town.people()["alice"].code(), service="priv").code == "AUTHINFO_UNAVAIL"
    assert records(served) == []


def test_a_user_gets_no_engine(machine_of_people: Machine, town: Town) -> None:
    login = login_as(machine_of_people, "alice", "alice", town.people()["alice"].code())
    assert (login.code, login.prompts) == ("AUTHINFO_UNAVAIL", [])


# Settings that are bad, change, or are not to be trusted


def test_with_bad_settings_the_kept_ones_stay_in_force(scene: Scene) -> None:
    scene.configure("[[rule]]\ngroups = ['bob']\nexempt = true")
    scene.machine.service.start()  # whoever starts keeps a good text
    scene.machine.service.stop()
    scene.machine.write(CONFIG, "[policy]\nunenroled = 'allow'\nmethods = 3\n")
    assert scene.login("bob").code == "IGNORE"
    assert scene.login("carol", *THREE).code == "MAXTRIES"
    (alert,) = {line.partition(": ")[2] for line in scene.machine.journal() if "cannot be used" in line}
    assert "did you mean unenrolled?" in alert
    assert "policy.methods" in alert


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_settings_that_others_may_write_are_not_read(scene: Scene, mode: int) -> None:
    scene.configure(ALLOW)
    scene.machine.run(["/bin/chmod", f"{mode:o}", CONFIG])
    assert scene.login("carol", *THREE).code == "MAXTRIES"
    assert any("must not be writable" in line for line in scene.machine.journal())


def test_without_any_settings_nobody_is_let_in(scene: Scene) -> None:
    scene.machine.run(["/bin/rm", CONFIG])
    sql(scene.machine, "DELETE FROM meta WHERE name = 'config'")
    assert scene.login("alice", scene.alice.code()).code == "AUTHINFO_UNAVAIL"
    assert scene.reason == "config"


def test_a_reload_changes_the_rules_and_a_bad_one_does_not(served: Machine, town: Town) -> None:
    with Host(served) as host:
        assert host.login("carol", *THREE).code == "MAXTRIES"
        configure(served, ALLOW)
        served.service.send(signal.SIGHUP)
        while (code := host.login("carol", *THREE).code) == "MAXTRIES":  # signals are taken between two logins
            assert len(records(served)) < 50
        assert code == "IGNORE"
        served.write(CONFIG, "[policy")
        served.service.send(signal.SIGHUP)
        served.wait_for_journal("the settings from before stay in force")
        assert host.login("carol").code == "IGNORE"
