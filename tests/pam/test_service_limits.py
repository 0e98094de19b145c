"""The running service under pressure: too many callers, too few descriptors, callers that mean no good."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from callers import call, call_all, login, strangers
from doors import Caller
from hosts import records
from machine import Machine, wait_for
from people import Person, Town, manage

from pam_mfa import wire
from pam_mfa.outcome import Outcome
from pam_mfa.wire import Type

USER_CAP, SHARED_CAP = 16, 256
IDLE_KIB, SESSION_KIB, SLACK = 35 * 1024, 50, 1.5
GARBAGE = [b"\x01", b"GET / HTTP/1.0\r\n", b"\x01\x01\xff\xff", b"\0" * 4101, b"\x01\x02\0\x06123456", b"\x02\x01\0\0"]


@pytest.fixture
def served(machine_of_people: Machine) -> Iterator[Machine]:
    machine_of_people.service.start()
    yield machine_of_people
    assert machine_of_people.service.stop() == 0


@pytest.fixture
def alice(town: Town) -> Person:
    return town.people()["alice"]


def sessions(machine: Machine) -> int:
    """How many sessions the service has, without the one that asks."""
    return int(manage(machine, "status", Person("root", 0))[0]["sessions"]) - 1


def descriptors(machine: Machine) -> int:
    return len(os.listdir(f"/proc/{machine.service.pid}/fd"))


def memory(machine: Machine) -> int:
    """What the service has for itself alone, in KiB."""
    with open(f"/proc/{machine.service.pid}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("RssAnon:")))


def silent(caller: Caller) -> bool:
    """Whether nothing was said to this caller so far."""
    caller.link.setblocking(False)
    try:
        caller.link.recv(wire.RECEIVE_SIZE)
    except BlockingIOError:
        return True
    finally:
        caller.link.settimeout(60)
    return False


# ----------------------------------------------------------------------------------------------- the caps


def test_one_user_has_sixteen_sessions_and_no_more(served: Machine, alice: Person) -> None:
    """L14: the next is refused at once, and costs nobody else anything."""
    eve, dave = strangers(served, 2)
    held = call_all(served, "user", [eve.uid] * USER_CAP)
    for one in held:
        one.hello(eve.user, eve.uid).prompt()
    for kind in ("user", "manage"):
        with pytest.raises(EOFError):
            call(served, kind, eve.uid).next()
    assert call(served, "user", dave.uid).hello(dave.user, dave.uid).prompt()
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    assert held[0].send(Type.ABORT).outcome is Outcome.ABORTED
    assert call(served, "manage", eve.uid).request("list").done == {"ok": True}


def test_when_all_places_are_taken_roots_hosts_are_still_served(served: Machine, alice: Person) -> None:
    crowd = strangers(served, SHARED_CAP // USER_CAP + 1)
    *users, late = crowd
    held = call_all(served, "user", [one.uid for one in users for _ in range(USER_CAP)])
    for one, user in zip(held, (user for user in users for _ in range(USER_CAP)), strict=True):
        one.hello(user.user, user.uid)
    for one in held:
        one.prompt()
    waiting = call(served, "user", late.uid).hello(late.user, late.uid)
    managing = call(served, "manage", late.uid).request("list")
    for _ in range(2):
        assert login(served, alice, alice.code()) is Outcome.GRANTED
    assert silent(waiting)
    assert silent(managing)
    for one in held[:2]:
        assert one.send(Type.ABORT).outcome is Outcome.ABORTED
    assert waiting.prompt()
    assert managing.done == {"ok": True}
    for one in held:
        one.link.close()
    wait_for("the places", lambda: sessions(served) == 1)


def test_without_a_free_descriptor_callers_wait_and_nothing_is_lost(served: Machine, alice: Person) -> None:
    """EMFILE: the loop goes on, and takes the next as soon as one has left."""
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    wait_for("its record", lambda: len(records(served)) == 1)  # the log's socket is open by now
    limit = descriptors(served) + 4
    served.service.stop()
    served.write("/run/few/pam-mfad", f"#!/bin/sh\nulimit -n {limit}\nexec {served.service.program}\n", 0o755)
    served.service.program = "/run/few/pam-mfad"
    served.service.start()
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    wait_for("its record", lambda: len(records(served)) == 2)
    waiting = call_all(served, "priv", [0] * 12)
    for one in waiting:
        one.hello("alice", alice.uid)
    first = waiting[0]
    first.prompt()
    assert silent(waiting[-1])
    for one in waiting[1:]:
        assert first.send(Type.ABORT).outcome is Outcome.ABORTED
        records(served)  # the machine's log holds ten lines that nobody has read
        first = one
        first.prompt()
    assert first.send(Type.REPLY, alice.code().encode()).outcome is Outcome.GRANTED
    wait_for("a record of each", lambda: len(records(served)) == 14)


def test_descriptors_come_back(served: Machine, alice: Person) -> None:
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    wait_for("its record", lambda: len(records(served)) == 1)
    wait_for("the sessions to end", lambda: sessions(served) == 0)
    before = descriptors(served)
    for _ in range(4):
        held = call_all(served, "priv", [0] * 40)
        for number, one in enumerate(held):
            if number % 4:
                one.hello("alice", alice.uid)
            if number % 4 == 2:
                one.prompt()
            if number % 4 == 3:
                one.send(Type.ABORT)
            one.link.close()
    wait_for("the descriptors", lambda: descriptors(served) <= before)


# ----------------------------------------------------------------------------------------- hostile callers


def test_callers_that_mean_no_good_hold_up_nobody(served: Machine, alice: Person) -> None:
    """L13, L15: silent ones, half frames, garbage, answers that nobody asked for; and logins between them."""
    eves = strangers(served, 8)
    held = call_all(served, "user", [eve.uid for eve in eves for _ in range(USER_CAP)])
    for number, one in enumerate(held):
        if packet := [b"", *GARBAGE][number % (len(GARBAGE) + 1)]:
            one.link.send(packet)
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    for number, one in enumerate(held):
        assert one.outcome is Outcome.UNAVAILABLE, number
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    wait_for("the sessions to end", lambda: sessions(served) == 0)


def test_a_caller_that_never_reads_holds_up_nobody(served: Machine, alice: Person) -> None:
    deaf = call_all(served, "manage", [0] * 3)
    for one in deaf:
        for _ in range(2):
            one.request("accounts")
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    for one in deaf:
        one.link.close()


def test_a_uid_is_who_the_kernel_says(served: Machine, alice: Person) -> None:
    """L10."""
    (eve,) = strangers(served, 1)
    for user, uid in (("alice", alice.uid), ("root", 0), (eve.user, alice.uid), ("alice", eve.uid), ("alice", None)):
        assert call(served, "user", eve.uid).hello(user, uid).outcome is Outcome.DENIED
    for account in ({"uid": alice.uid, "name": "alice"}, {"uid": 0, "name": "root"}):
        for verb in ("list", "status", "unlock", "accounts", "recovery"):
            refused = call(served, "manage", eve.uid).request(verb, account, renew=True)
            assert refused.done["error"] == "not_allowed"
            assert refused.parts == []
    served.wait_for_journal("peer_denied", 5)


@pytest.mark.parametrize("kind", ["priv", "password"])
def test_others_do_not_even_get_in(served: Machine, kind: str) -> None:
    (eve,) = strangers(served, 1)
    code = "import socket,sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])"
    script = f"import os; os.seteuid({eve.uid}); {code}"
    ended = served.python(script, f"/run/pam-mfa/{kind}.sock", check=False)
    assert "PermissionError" in ended.stderr


# ------------------------------------------------------------------------------------------ many at once


def test_sixteen_users_log_in_at_once(served: Machine, alice: Person) -> None:
    """Each enrols for itself, then all of them answer at the same time."""
    served.write("/etc/pam-mfa/config.toml", "first_enrolment = 'self'\n")
    served.service.send(1)
    users = strangers(served, 16)
    wait_for("the new settings", lambda: _enrol(served, users[0]))
    for one in users[1:]:
        assert _enrol(served, one)
    for _ in range(3):
        callers = call_all(served, "user", [one.uid for one in users])
        for caller, one in zip(callers, users, strict=True):
            caller.hello(one.user, one.uid)
        for caller in callers:
            caller.prompt()
        for caller, one in zip(callers, users, strict=True):
            caller.send(Type.REPLY, one.recovery.pop().encode())
        assert [caller.outcome for caller in callers] == [Outcome.GRANTED] * 16
    assert login(served, alice, alice.code()) is Outcome.GRANTED


def _enrol(machine: Machine, person: Person) -> bool:
    caller = call(machine, "manage", person.uid).request("enroll", factor="recovery")
    kind, _ = caller.next()
    if kind is not Type.PART:
        caller.link.close()
        return False
    assert caller.done == {"ok": True}
    person.recovery = list(caller.parts[-1]["codes"])
    return True


# ------------------------------------------------------------------------------------------------- memory


def test_waiting_sessions_cost_little(served: Machine, alice: Person) -> None:
    assert login(served, alice, alice.code()) is Outcome.GRANTED
    idle = memory(served)
    count = 200
    held = call_all(served, "priv", [0] * count)
    for one in held:
        one.hello("alice", alice.uid)
    for one in held:
        one.prompt()
    each = (memory(served) - idle) / count
    print(f"service idle: {idle} KiB; each session that waits for its user: {each:.1f} KiB")
    assert idle <= IDLE_KIB * SLACK
    assert each <= SESSION_KIB * SLACK
    for one in held:
        one.link.close()
    wait_for("the sessions to end", lambda: sessions(served) == 0)
