"""A lease through libpam: who is let by again, by service and by engine, and across the two (R15)."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hosts import PROGRAM, Host, Login, Scene, records
from machine import PYTHON
from people import BARE, manage
from seats import Seats

SETTINGS = "[policy]\nmethods = ['totp', 'recovery']\nlease = '10m'\n"
HERE = {"service": "sudo", "tty": "pts/3", "ruser": "alice"}
THREE = ["000000"] * 3
BY, ASKED = "IGNORE", "MAXTRIES"


class Desk:
    """A host of root's in a session of alice's, where a proof holds for ten minutes."""

    def __init__(self, scene: Scene, settings: str = SETTINGS) -> None:
        self.scene, self.machine = scene, scene.machine
        for service in ("sudo", "sudo-i", "su", "login"):
            scene.machine.write(f"/etc/pam.d/{service}", BARE.format(""))
        scene.configure(settings)
        self.seats = Seats(scene.machine)
        self.sit(scene.host, self.seats.open("1", "alice", seat="seat0"))

    def sit(self, host: Host, cgroup: str) -> None:
        """Have a host be in a session."""
        self.seats.put(host.pid, cgroup)

    def login(self, *answers: str, user: str = "alice", **items: Any) -> Login:
        """At the terminal of HERE, but for what is given."""
        return self.scene.login(user, *answers, **{**HERE, **items})

    def prove(self) -> None:
        """Ask for a code, and get a lease."""
        assert self.login(self.scene.alice.code()).code == "SUCCESS"

    def holds(self, **items: Any) -> bool:
        """Whether somebody is let by; else three wrong answers are given."""
        login = self.login(*THREE, **items)
        assert login.code == (BY if not login.prompts else ASKED)
        return not login.prompts


@pytest.fixture
def desk(scene: Scene) -> Desk:
    return Desk(scene)


def test_once_proven_nothing_is_asked_for_a_while(desk: Desk) -> None:
    assert not desk.holds()
    desk.prove()
    for service in ("sudo", "sudo-i", "sudo"):
        assert desk.holds(service=service)
    record = records(desk.machine)[-1]
    assert (record["outcome"], record["reason"], record["role"]) == ("EXEMPT", "lease", desk.scene.side)
    assert "factor" not in record


@pytest.mark.parametrize(
    "items",
    [
        {"tty": "pts/4"}, {"tty": ""}, {"tty": "ssh"}, {"service": "su"}, {"service": "login"}, {"service": "mfa"},
        {"ruser": "bob"}, {"ruser": ""}, {"rhost": "192.0.2.7"}, {"rhost": "far.example.org"}, {"user": "bob"},
        {"user": "unknown"},
    ],
)  # fmt: skip
def test_r15_something_else_is_asked_for(desk: Desk, items: dict[str, str]) -> None:
    desk.prove()
    assert not desk.holds(**items)
    assert desk.holds()


def test_r15_another_session_and_another_terminal_of_the_kernels(desk: Desk) -> None:
    desk.prove()
    desk.sit(desk.scene.host, desk.seats.open("2", "alice", remote=True))
    assert not desk.holds()
    desk.sit(desk.scene.host, "/user.slice/user-1000.slice/session-1.scope")
    assert desk.holds()
    with Host(desk.machine, program=("/usr/bin/setsid", PYTHON, "-I", "-S", "-B", PROGRAM)) as other:
        assert os.getsid(other.pid) == other.pid != os.getsid(desk.scene.host.pid)
        desk.sit(other, "/user.slice/user-1000.slice/session-1.scope")
        assert other.login("alice", *THREE, **HERE).code == ASKED


def test_r15_who_is_in_no_session_has_none(desk: Desk) -> None:
    for cgroup in ("/system.slice/cron.service", desk.seats.manager("alice")):
        desk.sit(desk.scene.host, cgroup)
        desk.prove()
        assert not desk.holds()


def test_r15_a_host_of_the_users_own_has_none(desk: Desk) -> None:
    desk.prove()
    with Host(desk.machine, "alice") as locker:
        desk.sit(locker, "/user.slice/user-1000.slice/session-1.scope")
        refused = ASKED if desk.scene.side == "service" else "AUTHINFO_UNAVAIL"  # engines are started by root alone
        assert locker.login("alice", *THREE, **HERE).code == refused


def test_service_and_engine_know_the_same_leases(desk: Desk) -> None:
    desk.prove()
    if desk.scene.side == "service":
        desk.machine.service.stop()
    else:
        desk.machine.service.start()
    assert desk.scene.host.login("alice", *THREE, **HERE).code == BY


def test_what_ends_them(desk: Desk) -> None:
    alice = desk.scene.alice
    phone = next(record for record in manage(desk.machine, "list", alice) if record["factor"] == "recovery")
    for verb, arguments in (
        ("end_leases", {}),
        ("end_leases", {"all": True}),
        ("unlock", {}),
        ("recovery", {"renew": True}),
        ("remove", {"credential": phone["label"]}),
    ):
        desk.prove()
        assert desk.holds()
        manage(desk.machine, verb, alice, **arguments)
        assert not desk.holds(), verb
        manage(desk.machine, "unlock", alice)


def test_a_lock_out_ends_them(desk: Desk) -> None:
    desk.prove()
    for _ in range(2):
        assert desk.holds()
        assert desk.login(*THREE, tty="pts/9").code == ASKED
    assert not desk.holds()


def test_a_rule_without_one_looks_at_none(scene: Scene) -> None:
    desk = Desk(scene, "[policy]\nmethods = ['totp', 'recovery']\n[[rule]]\nservices = ['su']\nlease = '10m'\n")
    desk.prove()
    assert not desk.holds()
    assert desk.login(scene.alice.recovery[0], service="su").code == "SUCCESS"
    assert not desk.holds(service="su")  # a recovery code gives none


def test_nothing_proven_before_gives_none(scene: Scene) -> None:
    desk = Desk(scene, f"{SETTINGS}first_factor = 'none'\n")
    desk.prove()
    assert not desk.holds()


def test_a_script_is_told_and_fails_at_once(desk: Desk) -> None:
    login = desk.login(tty="")  # nobody answers
    assert (login.code, login.shown) == (
        "CONV_ERR", ["No terminal to ask on: use one (ssh -t), where a proof holds for 10 min, also for scripts"],
    )  # fmt: skip
    assert records(desk.machine)[-1]["outcome"] == "ABORTED"
