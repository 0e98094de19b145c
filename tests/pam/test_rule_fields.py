"""Every field of a rule, by service and engine: what changes where it holds, and where it just does not.

A field is a key of FIELDS, and what it does one or more cases of settings and logins. Those that need a security key
or a real sshd are ELSEWHERE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hosts import Host, Login, Scene
from machine import Machine
from people import Person, Town
from seats import Seats

from pam_mfa.rules import MATCH_KEYS, TERM_KEYS

TESTS = Path(__file__).resolve().parents[1]
CODE = "Verification code: "
WAITING = "Too many wrong answers: totp counts again in "
THREE = ["000000"] * 3
ASKED = "MAXTRIES"  # three wrong answers
BY = "IGNORE"  # let by
IN = "SUCCESS"
OUT = "AUTH_ERR"  # refused without a question
# Fields with a test of their own below tests/.
ELSEWHERE = {
    "user_verification": "e2e/test_rule_fields_of_keys.py",
    "local_key": "e2e/test_rule_fields_of_keys.py",
    "credit_ssh_keys": "e2e/test_ssh_keys.py",
}
CALL = "Call the help desk: 0800 123"
SUDO = {"service": "sudo", "tty": "pts/3", "ruser": "alice"}

Answer = str | Callable[[Mapping[str, Person]], str]


@dataclass
class Try:
    """One login and what becomes of it.

    Args:
        user: the account.
        code: PAM's.
        answers: what is typed.
        items: PAM items, and `service`.
        prompt: how the first question begins, None for any or none.
        told: what is shown before the end, None for anything.
        reason: by the audit record, "" for any.
    """

    user: str
    code: str
    answers: list[Answer] = field(default_factory=lambda: [*THREE])
    items: dict[str, str] = field(default_factory=dict)
    prompt: str | None = None
    told: str | None = None
    reason: str = ""


@dataclass
class Case:
    """Settings, and logins one after the other.

    Args:
        seated: the host is in a session of alice's at the machine; else nothing is known of where it is.
    """

    settings: str
    tries: list[Try]
    seated: bool = False


def right(user: str) -> Answer:
    """A code of this user's that was not given yet."""
    return lambda people: people[user].code()


def paper(user: str, number: int = 0) -> Answer:
    """One of this user's recovery codes."""
    return lambda people: people[user].recovery[number]


def exempt(condition: str) -> str:
    return f"[[rule]]\nexempt = true\n{condition}"


def of(terms: str, *users: str) -> str:
    """A rule of these terms for some users."""
    return f"[[rule]]\n{terms}\nusers = {list(users)}"


# R11: nothing but a literal address is anywhere.
NOWHERE = [
    "localhost", "192.0.2.9.example.org", "192.0.2.9 ", "192.0.2.09", "0xc0.0.2.9", "3221225993", "192.0.2.9:22",
    "[2001:db8::9]", "192.0.2.9/32",
]  # fmt: skip
FIELDS: dict[str, dict[str, Case]] = {
    "services": {
        "globs": Case(
            exempt("services = ['sudo', 'm?a']"),
            [Try("alice", BY), Try("alice", ASKED, items={"service": "brief"}), Try("unknown", ASKED)],
        ),
        "and all others at once": Case(
            exempt("services = ['mfa']\nusers = ['alice']\nnetworks = ['192.0.2.0/24']\nsession = 'remote'"),
            [
                Try("alice", BY, items={"rhost": "192.0.2.9"}),
                Try("bob", ASKED, items={"rhost": "192.0.2.9"}),
                Try("alice", ASKED, items={"rhost": "192.0.3.9"}),
                Try("alice", ASKED, items={"rhost": "192.0.2.9", "service": "brief"}),
            ],
        ),
    },
    "users": {
        "names": Case(
            exempt("users = ['alice', 'unknown']"), [Try("alice", BY), Try("bob", ASKED), Try("unknown", ASKED)]
        ),
        "without some": Case(exempt("users = ['alice', 'bob', '!bob']"), [Try("alice", BY), Try("bob", ASKED)]),
        "the first rule": Case(
            "[[rule]]\nusers = ['alice']\n[[rule]]\nexempt = true\nusers = ['alice', 'bob']",
            [Try("alice", ASKED), Try("bob", BY)],
        ),
    },
    "groups": {
        "names": Case(
            exempt("groups = ['staff', 'bob']"),
            [Try("alice", BY), Try("bob", BY), Try("carol", ASKED), Try("unknown", ASKED)],
        ),
        "without some": Case(
            exempt("groups = ['staff', 'carol', '!alice']"), [Try("alice", ASKED), Try("carol", BY)]
        ),
    },
    "networks": {
        "literal addresses": Case(
            exempt("networks = ['192.0.2.0/24', '2001:db8::/32']"),
            [
                *(Try("alice", BY, items={"rhost": at}) for at in ("192.0.2.9", "2001:db8::9", "::ffff:192.0.2.9")),
                *(Try("alice", ASKED, items={"rhost": at}) for at in ("192.0.3.9", "::192.0.2.9", *NOWHERE)),
                Try("alice", ASKED),
                Try("alice", ASKED, items={"ruser": "192.0.2.9", "tty": "192.0.2.9"}),
            ],
        ),
    },
    "session": {
        "local": Case(
            exempt("session = 'local'"),
            [
                Try("alice", BY, items={"tty": "tty1"}),
                Try("alice", ASKED, items={"tty": "tty1", "rhost": "192.0.2.9"}),
                *(Try("alice", ASKED, items={"tty": tty}) for tty in ("pts/1", "ssh")),
                Try("alice", ASKED),
            ],
        ),
        "remote": Case(
            exempt("session = 'remote'"),
            [Try("alice", ASKED, items={"tty": "tty1"}), Try("alice", BY, items={"rhost": "far.example.org"})],
        ),
    },
    "methods": {
        "of the rule": Case(
            "[policy]\nmethods = ['recovery']\n" + of("methods = ['totp']", "alice"),
            [
                Try("alice", ASKED, [paper("alice", number) for number in range(3)]),
                Try("alice", IN, [right("alice")]),
                Try("bob", ASKED, [right("bob"), "", ""]),
                Try("bob", IN, [paper("bob")]),
            ],
        ),
        "inherited": Case(
            "[policy]\nmethods = ['recovery']\n[[rule]]\nusers = ['alice']",
            [Try("alice", ASKED, [right("alice"), "", ""]), Try("alice", IN, [paper("alice")])],
        ),
    },
    "exempt": {
        "of the rule": Case(
            of("exempt = true", "alice", "unknown"),
            [Try("alice", BY, reason="exempt"), Try("bob", ASKED), Try("unknown", ASKED)],
        ),
        "inherited by none": Case(
            "[policy]\nexempt = true\n[[rule]]\nusers = ['alice']", [Try("alice", ASKED), Try("bob", BY)]
        ),
    },
    "unenrolled": {
        "allow": Case(
            of("unenrolled = 'allow'", "carol", "alice", "unknown"),
            [
                Try("carol", BY, told="", reason="unenrolled_allowed"),
                Try("alice", ASKED),
                Try("unknown", ASKED),
            ],
        ),
        "deny": Case(
            "[policy]\nunenrolled = 'allow'\n" + of("unenrolled = 'deny'", "carol"),
            [Try("carol", ASKED, reason="unenrolled"), Try("root", BY)],
        ),
    },
    "enrol_by": {
        "a day to come": Case(
            of("enrol_by = 2099-12-31", "carol", "alice", "unknown"),
            [
                Try("carol", BY, told="days are left", reason="enrol_by"),
                Try("alice", ASKED),
                Try("unknown", ASKED),
                Try("root", ASKED),
            ],
        ),
        "a day that is over": Case(
            "[policy]\nenrol_by = 2099-12-31\n" + of("enrol_by = 2020-12-31", "carol"),
            [Try("carol", ASKED, told=""), Try("root", BY, told="days are left")],
        ),
        "nothing proven before": Case(
            of("enrol_by = 2099-12-31\nfirst_factor = 'none'", "carol"), [Try("carol", BY, told="")]
        ),
    },
    "logins_left": {
        "a number": Case(
            of("logins_left = 2", "carol", "alice", "unknown"),
            [
                Try("carol", BY, told="1 login is left", reason="logins_left"),
                Try("carol", BY, told="this is the last login"),
                Try("carol", ASKED, told="", reason="unenrolled"),
                Try("alice", ASKED),
                Try("unknown", ASKED),
                Try("root", ASKED),
            ],
        ),
        "as long as the day allows": Case(
            "[policy]\nlogins_left = 9\n" + of("enrol_by = 2020-12-31", "carol"),
            [Try("carol", ASKED), Try("root", BY, told="8 logins are left")],
        ),
    },
    "enrol_at_login": {
        "true": Case(
            of("enrol_at_login = true", "carol", "alice", "unknown"),
            [
                Try("carol", ASKED, told="A second factor is needed here", reason="not_enrolled"),
                Try("alice", ASKED, told="", prompt=CODE),
                Try("unknown", ASKED, told="", prompt=CODE),
            ],
        ),
        "nothing proven before": Case(
            of("enrol_at_login = true\nfirst_factor = 'none'", "carol"), [Try("carol", ASKED, told="", prompt=CODE)]
        ),
    },
    "help": {
        "a sentence": Case(
            of(f"help = '{CALL}'", "carol", "alice", "unknown"),
            [Try("carol", ASKED, told=CALL), Try("alice", ASKED, told=""), Try("unknown", ASKED, told="")],
        ),
        "nothing proven before": Case(
            of(f"help = '{CALL}'\nfirst_factor = 'none'", "carol"), [Try("carol", ASKED, told="")]
        ),
    },
    "lease": {
        "of the rule": Case(
            of("lease = '10m'", "alice"),
            [
                Try("alice", ASKED, items=SUDO),
                Try("alice", IN, [right("alice")], SUDO),
                Try("alice", BY, items=SUDO, reason="lease"),
                Try("alice", ASKED, items={**SUDO, "tty": "pts/4"}),
            ],
            seated=True,
        ),
        "inherited by none": Case(
            "[policy]\nlease = '10m'\n[[rule]]\nusers = ['alice']",
            [Try("alice", IN, [right("alice")], SUDO), Try("alice", ASKED, items=SUDO)],
            seated=True,
        ),
    },
    "subject": {
        "caller": Case(
            of("subject = 'caller'", "bob"),
            [
                Try("bob", IN, [right("alice")], {"ruser": "alice"}),
                Try("bob", ASKED, [right("bob"), "", ""], {"ruser": "alice"}),
                *(Try("bob", ASKED, [right("alice"), "", ""], {"ruser": ruser}) for ruser in ("root", "bob")),
                Try("bob", ASKED, [right("alice"), "", ""]),
                Try("bob", IN, [paper("bob")], {"ruser": "root"}),
                Try("bob", ASKED, [right("alice"), "", ""], {"ruser": "alice", "rhost": "192.0.2.1"}),
                Try("bob", ASKED, [paper("alice"), "", ""], {"ruser": "no-such-caller"}),
            ],
        ),
        "user": Case(
            "[policy]\nsubject = 'caller'\n" + of("subject = 'user'", "bob"),
            [
                Try("bob", ASKED, [right("alice"), "", ""], {"ruser": "alice"}),
                Try("bob", IN, [paper("bob")], {"ruser": "alice"}),
            ],
        ),
    },
    "first_factor": {
        "publickey": Case(
            of("first_factor = 'publickey'\nexempt = true", "alice"),
            [Try("alice", OUT, [right("alice")], reason="no_public_key"), Try("bob", IN, [right("bob")])],
        ),
        # R03, R09: who waits is told after a first factor only.
        "stack": Case("", [Try("alice", ASKED), Try("alice", ASKED), Try("alice", ASKED, prompt=WAITING)]),
        "none": Case(
            "[policy]\nfirst_factor = 'none'",
            [Try("alice", ASKED), Try("alice", ASKED), Try("alice", ASKED, prompt=CODE)],
        ),
    },
}  # fmt: skip
CASES = [(key, name) for key, cases in FIELDS.items() for name in cases]


def test_every_field_has_its_cases() -> None:
    assert {*FIELDS, *ELSEWHERE} == {*MATCH_KEYS, *TERM_KEYS}
    assert all(FIELDS.values())
    for key, path in ELSEWHERE.items():
        assert key in (TESTS / path).read_text()


@pytest.mark.parametrize(("key", "name"), CASES, ids=[f"{key}: {name}" for key, name in CASES])
def test_a_field(scene: Scene, key: str, name: str) -> None:
    case = FIELDS[key][name]
    scene.configure(case.settings)
    scene.machine.run(["/bin/sh", "-c", "groupadd -f staff && usermod --append --groups staff alice"])
    scene.machine.write("/etc/pam.d/sudo", scene.machine.read("/etc/pam.d/mfa"))
    if case.seated:
        seats = Seats(scene.machine)
        seats.put(scene.host.pid, seats.open("1", "alice", seat="seat0"))
    for one in case.tries:
        answers = [answer if isinstance(answer, str) else answer(scene.people) for answer in one.answers]
        login = scene.login(one.user, *answers, **one.items)
        assert as_expected(one, login, scene.reason), (one, login, scene.reason)


def as_expected(one: Try, login: Login, reason: str) -> bool:
    """Whether a login ended as its line says."""
    if login.code != one.code or (one.reason and reason != one.reason):
        return False
    if one.prompt is not None and not login.prompts[0].startswith(one.prompt):
        return False
    return one.told is None or (one.told in " ".join(login.shown) if one.told else login.shown == [])


def test_the_record_names_the_account_and_whose_factor_it_was(scene: Scene) -> None:
    scene.configure(of("subject = 'caller'", "bob"))
    alice, bob = scene.people["alice"], scene.people["bob"]
    assert scene.login("bob", alice.code(), ruser="alice").code == IN
    record = scene.expect_record(0)
    assert (record["user"], record["subject"], record["uid"]) == ("bob", "alice", str(bob.uid))


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
