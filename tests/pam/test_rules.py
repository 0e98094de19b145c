"""Every field of a rule, by service and engine: what changes where it holds, and where it just does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hosts import Host, Scene
from machine import Machine
from people import Town, enrol

CODE = "Verification code: "
THREE = ["000000"] * 3
ASKED = "MAXTRIES"  # three wrong answers
BY = "IGNORE"  # let by: the rule with `exempt` is for them


@dataclass
class Case:
    """Settings, and logins with the PAM code that each of them ends with.

    Args:
        settings: the file.
        logins: user, PAM items (and `service`), expected code; three wrong codes are given.
    """

    settings: str
    logins: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)


def exempt(condition: str) -> str:
    return f"[[rule]]\nexempt = true\n{condition}"


CONDITIONS = {
    "services": Case(
        exempt("services = ['sudo', 'm?a']"),
        [("alice", {}, BY), ("alice", {"service": "brief"}, ASKED), ("unknown", {}, ASKED)],
    ),
    "users": Case(
        exempt("users = ['alice', 'unknown']"), [("alice", {}, BY), ("bob", {}, ASKED), ("unknown", {}, ASKED)]
    ),
    "users with !": Case(exempt("users = ['alice', 'bob', '!bob']"), [("alice", {}, BY), ("bob", {}, ASKED)]),
    "groups": Case(
        exempt("groups = ['staff', 'bob']"),
        [("alice", {}, BY), ("bob", {}, BY), ("carol", {}, ASKED), ("unknown", {}, ASKED)],
    ),
    "groups with !": Case(exempt("groups = ['staff', 'carol', '!alice']"), [("alice", {}, ASKED), ("carol", {}, BY)]),
    "networks": Case(
        exempt("networks = ['192.0.2.0/24', '2001:db8::/32']"),
        [
            ("alice", {"rhost": "192.0.2.9"}, BY),
            ("alice", {"rhost": "2001:db8::9"}, BY),
            ("alice", {"rhost": "::ffff:192.0.2.9"}, BY),
            ("alice", {"rhost": "192.0.3.9"}, ASKED),
            # R11: nothing but a literal address is anywhere
            *(
                ("alice", {"rhost": rhost}, ASKED)
                for rhost in (
                    "localhost",
                    "192.0.2.9.example.org",
                    "192.0.2.9 ",
                    "192.0.2.09",
                    "0xc0.0.2.9",
                    "3221225993",
                )
            ),
            *(("alice", {"rhost": rhost}, ASKED) for rhost in ("192.0.2.9:22", "[2001:db8::9]", "192.0.2.9/32")),
            ("alice", {}, ASKED),
            ("alice", {"ruser": "192.0.2.9", "tty": "192.0.2.9"}, ASKED),
        ],
    ),
    "session local": Case(
        exempt("session = 'local'"),
        [
            ("alice", {"tty": "tty1"}, BY),
            ("alice", {"tty": "tty1", "rhost": "192.0.2.9"}, ASKED),
            ("alice", {"tty": "pts/1"}, ASKED),
            ("alice", {"tty": "ssh"}, ASKED),
            ("alice", {}, ASKED),
        ],
    ),
    "session remote": Case(
        exempt("session = 'remote'"), [("alice", {"tty": "tty1"}, ASKED), ("alice", {"rhost": "far.example.org"}, BY)]
    ),
    "all at once": Case(
        exempt("services = ['m*']\nusers = ['alice']\ngroups = ['staff']\nnetworks = ['::1']\nsession = 'remote'"),
        [("alice", {"rhost": "::1"}, BY), ("alice", {"rhost": "::2"}, ASKED), ("bob", {"rhost": "::1"}, ASKED)],
    ),
    "the first one counts": Case(
        "[[rule]]\nusers = ['alice']\n" + exempt("users = ['alice', 'bob']"), [("alice", {}, ASKED), ("bob", {}, BY)]
    ),
    "the policy where there is none": Case(
        "[policy]\nexempt = true\n[[rule]]\nusers = ['alice']", [("alice", {}, ASKED), ("bob", {}, BY)]
    ),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_whom_a_rule_is_for(scene: Scene, name: str) -> None:
    case = CONDITIONS[name]
    scene.configure(case.settings)
    scene.machine.run(["/bin/sh", "-c", "groupadd -f staff && usermod --append --groups staff alice"])
    for user, items, expected in case.logins:
        assert scene.login(user, *THREE, **items).code == expected, (user, items)


def test_methods_and_what_is_inherited(scene: Scene) -> None:
    scene.configure(
        "[policy]\nmethods = ['recovery']\n[[rule]]\nusers = ['alice']\nmethods = ['totp']\n[[rule]]\nusers = ['bob']"
    )
    alice, bob = scene.people["alice"], scene.people["bob"]
    assert scene.login("alice", *alice.recovery[:3]).code == "MAXTRIES"
    assert scene.login("alice", alice.code()).code == "SUCCESS"
    assert scene.login("bob", bob.code(), "", "").code == "MAXTRIES"
    assert scene.login("bob", bob.recovery[0]).code == "SUCCESS"


def test_unenrolled(scene: Scene) -> None:
    scene.configure("[[rule]]\nusers = ['carol']\nunenrolled = 'allow'")
    assert (scene.login("carol").code, scene.reason) == ("IGNORE", "unenrolled_allowed")
    assert scene.login("unknown", *THREE).code == "MAXTRIES"


def test_up_to_a_date(scene: Scene) -> None:
    scene.configure("[[rule]]\nusers = ['carol']\nenrol_by = 2099-12-31\n[policy]\nenrol_by = 2020-12-31")
    login = scene.login("carol")
    assert (login.code, scene.reason) == ("IGNORE", "enrol_by")
    assert "days are left" in login.shown[0]
    assert scene.login("unknown", *THREE).code == "MAXTRIES"
    enrol(scene.machine, scene.people["carol"])
    assert scene.login("carol", *THREE).code == "MAXTRIES"


def test_the_first_factor_is_a_public_key(scene: Scene) -> None:
    """Nobody but sshd can tell of one, and here is none."""
    scene.configure("[[rule]]\nfirst_factor = 'publickey'\nexempt = true\nusers = ['alice']")
    login = scene.login("alice", scene.alice.code())
    assert (login.code, login.prompts, scene.reason) == ("AUTH_ERR", [], "no_public_key")


WAITING = "Too many wrong answers: totp counts again in "


@pytest.mark.parametrize(("first", "told"), [("stack", True), ("none", False)])
def test_who_waits_is_told_after_a_first_factor_only(scene: Scene, first: str, told: bool) -> None:
    """R03, R09."""
    scene.configure(f"[policy]\nfirst_factor = '{first}'\nmethods = ['totp']")
    assert scene.login("alice", *THREE).prompts[0] == CODE
    scene.login("alice", *THREE)
    prompts = scene.login("alice", *THREE).prompts
    assert [prompt.startswith(WAITING) for prompt in prompts[:1]] == [told]
    assert [WAITING in prompt for prompt in prompts] == [told] * 3
    assert scene.login("unknown", *THREE).prompts == scene.login("carol", *THREE).prompts
    if not told:
        assert prompts == scene.login("unknown", *THREE).prompts


def test_the_subject_is_the_caller(scene: Scene) -> None:
    scene.configure("[[rule]]\nsubject = 'caller'\nservices = ['mfa']")
    alice, bob = scene.people["alice"], scene.people["bob"]
    login = scene.login("bob", alice.code(), ruser="alice")
    assert login.code == "SUCCESS"
    record = scene.expect_record(0)
    assert (record["user"], record["subject"], record["uid"]) == ("bob", "alice", str(bob.uid))
    assert scene.login("bob", *[bob.code()] * 3, ruser="alice").code == "MAXTRIES"
    for ruser in ("root", "bob", ""):
        items = {"ruser": ruser} if ruser else {}
        assert scene.login("bob", alice.code(), "", "", **items).code == "MAXTRIES"
    assert scene.login("bob", bob.recovery[0], ruser="root").code == "SUCCESS"
    assert scene.login("bob", alice.code(), "", "", ruser="alice", rhost="192.0.2.1").code == "MAXTRIES"
    assert scene.login("bob", alice.recovery[0], "", "", ruser="no-such-caller").code == "MAXTRIES"


def test_whom_others_than_root_name_as_caller_is_nobody(machine_of_people: Machine, town: Town) -> None:
    people = town.people()
    machine_of_people.write(
        "/etc/pam-mfa/config.toml",
        "fail_delay = 0\n[policy]\nsubject = 'caller'\n[[rule]]\nnetworks = ['::1']\nexempt = true\n",
    )
    machine_of_people.service.start()
    with Host(machine_of_people, "alice") as host:
        assert host.login("alice", people["bob"].code(), "", "", ruser="bob").code == "MAXTRIES"
        assert host.login("alice", people["alice"].code(), ruser="bob").code == "SUCCESS"
        assert host.login("alice", *THREE, rhost="::1").code == "MAXTRIES"  # nor does it come from where it says
