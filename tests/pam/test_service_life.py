"""The running service from start to stop: settings and stores that come and go, systemd, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from callers import call, login, strangers
from hosts import records
from machine import DEADLINE, Machine, wait_for
from people import CONFIG, Person, Town, configure, enrol, manage

from pam_mfa.outcome import Outcome
from pam_mfa.wire import Type

ROOT = Person("root", 0)
STORE = "/var/lib/pam-mfa/store.db"
ALLOW = "[policy]\nunenrolled = 'allow'\n"
BAD = "policy = [\n"
NOTIFY = "/run/notify"
DRAIN = 10.0


@pytest.fixture
def town_machine(machine_of_people: Machine) -> Machine:
    return machine_of_people


@pytest.fixture
def alice(town: Town) -> Person:
    return town.people()["alice"]


@pytest.fixture
def carol(town: Town) -> Person:
    """Not enrolled."""
    return town.people()["carol"]


@pytest.fixture
def manager(town_machine: Machine) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = town_machine.path(NOTIFY)
        listener.bind(str(path))
        os.chmod(path, 0o666)
        listener.settimeout(DEADLINE)
        yield listener


def told(manager: socket.socket, word: str) -> list[str]:
    """What systemd is told, up to something that begins with this word."""
    heard: list[str] = []
    while not heard or not heard[-1].startswith(word):
        heard.append(manager.recv(4096).decode())
    return heard


def health(machine: Machine) -> Mapping[str, Any]:
    """What root is told of the service."""
    return next(record for record in manage(machine, "status", ROOT) if record["kind"] == "service")


def configured(machine: Machine) -> str:
    """Where the settings in force come from, also where they are none."""
    caller = call(machine, "manage").request("status", {"uid": 0, "name": "root"})
    caller.end()
    return str(caller.parts[0]["config"])


def move(machine: Machine, source: str, target: str) -> None:
    machine.run(["/bin/mv", source, target])


# -------------------------------------------------------------------------------------------------- ending


def test_whoever_is_logging_in_may_finish(town_machine: Machine, alice: Person, manager: socket.socket) -> None:
    machine = town_machine
    machine.service.start(env={"NOTIFY_SOCKET": NOTIFY})
    early, slow = (call(machine).hello("alice", alice.uid) for _ in range(2))
    early.prompt()
    slow.prompt()
    machine.service.send(signal.SIGTERM)
    told(manager, "STOPPING=1")
    late = call(machine).hello("alice", alice.uid)
    assert early.send(Type.REPLY, alice.code().encode()).outcome is Outcome.GRANTED
    assert slow.send(Type.REPLY, b"wrong").prompt()
    assert slow.send(Type.ABORT).outcome is Outcome.ABORTED
    assert machine.service.stop() == 0
    with pytest.raises(EOFError):
        late.next()
    assert [record["outcome"] for record in records(machine)] == ["GRANTED", "ABORTED"]


def test_whoever_takes_too_long_is_told_that_there_is_no_verdict(town_machine: Machine, alice: Person) -> None:
    machine = town_machine
    machine.service.start()
    callers = [call(machine).hello("alice", alice.uid) for _ in range(3)]
    for one in callers:
        one.prompt()
    began = time.monotonic()
    machine.service.send(signal.SIGTERM)
    machine.service.send(signal.SIGTERM)
    assert [one.outcome for one in callers] == [Outcome.UNAVAILABLE] * 3
    assert time.monotonic() - began >= DRAIN - 1
    assert machine.service.stop() == 0
    assert [record["reason"] for record in records(machine)] == ["deadline"] * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_ends_at_once_and_leaves_its_log_in_place(
    town_machine: Machine, number: signal.Signals
) -> None:
    machine = town_machine
    machine.service.start()
    assert machine.service.stop(number) == 0
    assert machine.run(["/usr/bin/stat", "-c", "%s", f"{STORE}-wal"]).stdout.strip() != "0"
    wait_for("the password helper to leave", lambda: not machine.processes("pam-mfa-password"))
    machine.service.start()


def test_a_service_that_was_killed_starts_again(town_machine: Machine, alice: Person) -> None:
    machine = town_machine
    for _ in range(3):
        machine.service.start()
        assert login(machine, alice, alice.code()) is Outcome.GRANTED
        machine.service.kill()
    machine.service.start()
    assert login(machine, alice, alice.spent[-1], "", "") is Outcome.TRIES_SPENT


# ------------------------------------------------------------------------------------------------ settings


def test_new_settings_count_from_the_next_login_on(town_machine: Machine, alice: Person, carol: Person) -> None:
    machine = town_machine
    machine.service.start()
    open_login = call(machine).hello("carol", carol.uid)
    open_login.prompt()
    configure(machine, ALLOW)
    machine.service.send(signal.SIGHUP)
    wait_for("the new settings", lambda: _exempt(machine, carol))
    assert open_login.send(Type.REPLY, b"").answer("", "").outcome is Outcome.TRIES_SPENT
    assert login(machine, alice, alice.code()) is Outcome.GRANTED


def _exempt(machine: Machine, person: Person) -> bool:
    caller = call(machine).hello(person.user, person.uid)
    kind, _ = caller.next()
    caller.send(Type.ABORT)
    return kind is Type.RESULT and caller.seen[-1][1][0] == Outcome.EXEMPT


@pytest.mark.parametrize("spoilt", ["syntax", "unknown key", "writable", "missing"])
def test_a_bad_file_changes_nothing_and_everybody_is_told(
    town_machine: Machine, alice: Person, carol: Person, spoilt: str
) -> None:
    machine = town_machine
    configure(machine, ALLOW)
    machine.service.start()
    assert configured(machine) == "file"
    if spoilt == "missing":
        machine.run(["/bin/rm", CONFIG])
    else:
        text = {"syntax": BAD, "unknown key": "polcy = 1\n", "writable": ""}[spoilt]
        machine.write(CONFIG, text, 0o666 if spoilt == "writable" else 0o644)
    machine.service.send(signal.SIGHUP)
    (alert,) = machine.wait_for_journal("cannot be used, the settings from before stay in force")
    assert alert.startswith("<81>")  # authpriv, alert
    for _ in range(2):
        assert login(machine, carol) is Outcome.EXEMPT
        assert login(machine, alice, alice.code()) is Outcome.GRANTED
        told = health(machine)
        assert told["config"] == "kept"
        assert told["problems"]
        machine.service.stop()
        machine.service.start()
    configure(machine)
    machine.service.send(signal.SIGHUP)
    wait_for("the good file", lambda: configured(machine) == "file")
    assert health(machine)["problems"] == []
    assert login(machine, carol, "", "", "") is Outcome.TRIES_SPENT


def test_a_bad_file_from_the_first_day_lets_nobody_in(machine: Machine) -> None:
    """Nothing was ever kept: no settings, no login, no exemption; root can see why."""
    machine.run(["/bin/rm", STORE, f"{STORE}-wal", "-f", f"{STORE}-shm"])
    machine.write(CONFIG, BAD)
    machine.run(["/usr/lib/pam-mfa/pam-mfa-engine", "--prepare"], check=False)
    machine.service.start()
    (stranger,) = strangers(machine, 1)
    assert login(machine, stranger) is Outcome.UNAVAILABLE
    assert configured(machine) == "none"
    machine.wait_for_journal("no login is possible")
    configure(machine, ALLOW)
    machine.service.send(signal.SIGHUP)
    wait_for("the good file", lambda: configured(machine) == "file")
    assert login(machine, stranger) is Outcome.EXEMPT


# --------------------------------------------------------------------------------------------------- store


def test_a_store_that_is_missing_is_never_nobody_enrolled(town_machine: Machine, alice: Person, carol: Person) -> None:
    """F04: at the start and while it runs; and back again without a restart."""
    machine = town_machine
    configure(machine, ALLOW)
    move(machine, STORE, "/root/away")
    machine.service.start()
    machine.wait_for_journal("the store cannot be used (store_missing)")
    for _ in range(2):
        for one in (alice, carol):
            assert login(machine, one) is Outcome.UNAVAILABLE
        assert call(machine, "manage").request("list").done["error"] == "unavailable"
        assert health_of_store(machine).startswith("store_missing")
        move(machine, "/root/away", STORE)
        assert login(machine, alice, alice.code()) is Outcome.GRANTED
        assert login(machine, carol) is Outcome.EXEMPT
        assert health_of_store(machine) == "ok"
        move(machine, STORE, "/root/away")


def health_of_store(machine: Machine) -> str:
    caller = call(machine, "manage").request("status", {"uid": 0, "name": "root"})
    caller.end()
    return str(caller.parts[0]["store"])


def test_a_store_that_is_made_while_the_service_runs_is_used(machine: Machine) -> None:
    machine.run(["/bin/sh", "-c", f"rm -f {STORE}*"])
    configure(machine)
    machine.service.start()
    (stranger,) = strangers(machine, 1)
    assert login(machine, stranger) is Outcome.UNAVAILABLE
    machine.run(["/usr/lib/pam-mfa/pam-mfa-engine", "--prepare"])
    token = enrol(machine, stranger)
    assert token.secret
    assert login(machine, stranger, stranger.code()) is Outcome.GRANTED


@pytest.mark.parametrize("damage", ["truncate -s 0", "chmod 0666", "chown root"])
def test_a_store_that_is_spoilt_while_the_service_runs_lets_nobody_in(
    town_machine: Machine, carol: Person, damage: str
) -> None:
    machine = town_machine
    configure(machine, ALLOW)
    machine.service.start()
    assert login(machine, carol) is Outcome.EXEMPT
    machine.run(["/bin/sh", "-c", f"{damage} {STORE}"])
    assert login(machine, carol) is Outcome.UNAVAILABLE


# ------------------------------------------------------------------------------------------------- systemd


def test_systemd_is_told_what_goes_on(town_machine: Machine, manager: socket.socket) -> None:
    machine = town_machine
    machine.service.start(wait=False, env={"NOTIFY_SOCKET": NOTIFY, "WATCHDOG_USEC": "40000"})
    assert told(manager, "READY=1") == ["READY=1"]
    assert call(machine, "manage").request("status").done == {"ok": True}
    for _ in range(20):
        assert told(manager, "WATCHDOG=1")[-1] == "WATCHDOG=1"
    machine.service.send(signal.SIGHUP)
    assert told(manager, "RELOADING=1\nMONOTONIC_USEC=")
    assert told(manager, "READY=1")
    assert told(manager, "WATCHDOG=1")
    machine.service.send(signal.SIGTERM)
    assert told(manager, "STOPPING=1")
    assert machine.service.stop() == 0


def test_the_watchdog_is_not_fed_by_a_service_that_hangs(town_machine: Machine, manager: socket.socket) -> None:
    machine = town_machine
    machine.service.start(env={"NOTIFY_SOCKET": NOTIFY, "WATCHDOG_USEC": "40000"})
    told(manager, "WATCHDOG=1")
    machine.service.send(signal.SIGSTOP)
    manager.settimeout(0.5)  # a dozen times as long as between two signs of life
    last_words: list[bytes] = []
    with suppress(TimeoutError):
        while len(last_words) < 100:
            last_words.append(manager.recv(4096))
    assert len(last_words) < 100
    machine.service.send(signal.SIGCONT)
    manager.settimeout(DEADLINE)
    told(manager, "WATCHDOG=1")


def test_a_manager_that_is_gone_stops_nobody(town_machine: Machine, alice: Person) -> None:
    machine = town_machine
    machine.service.start(env={"NOTIFY_SOCKET": "/run/nobody", "WATCHDOG_USEC": "1000"})
    assert login(machine, alice, alice.code()) is Outcome.GRANTED
    assert machine.service.stop() == 0


# As systemd does it: sockets made by root, handed over by number and name, the key by a credential, user pam-mfa.
LAUNCH = """
import os, socket, sys
os.makedirs("/run/pam-mfa", exist_ok=True)
os.chmod("/run/pam-mfa", 0o755)
os.makedirs("/run/credentials", 0o755, exist_ok=True)
uid, gid = int(sys.argv[1]), int(sys.argv[2])
with open("/etc/pam-mfa/seal.key", "rb") as key, open("/run/credentials/seal.key", "wb") as credential:
    credential.write(key.read())
os.chmod("/run/credentials/seal.key", 0o400)
os.chown("/run/credentials/seal.key", uid, gid)
listeners = []
for name, mode in (("user", 0o666), ("manage", 0o666), ("priv", 0o600)):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"/run/pam-mfa/{name}.sock")
    os.chmod(f"/run/pam-mfa/{name}.sock", mode)
    listener.listen(512)
    listeners.append(listener)
for number, listener in enumerate(listeners):
    os.dup2(listener.fileno(), 20 + number)
for number in range(3):
    os.dup2(20 + number, 3 + number)
os.setgroups([]); os.setgid(gid); os.setuid(uid)
os.environ.update(LISTEN_FDS="3", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="user:manage:priv",
                  CREDENTIALS_DIRECTORY="/run/credentials")
os.execv("/usr/lib/pam-mfa/pam-mfad", ["pam-mfad"])
"""


def launcher(machine: Machine, how: str) -> None:
    """Let the machine's service be started by systemd's rules."""
    if how == "as pam-mfa":
        machine.write("/root/launch.py", LAUNCH)
        ids = machine.run(["/bin/sh", "-c", "id -u pam-mfa; id -g pam-mfa"]).stdout.split()
        command = f"exec /usr/bin/python3 -IS /root/launch.py {' '.join(ids)}"
    else:
        machine.run(["/bin/mkdir", "-m", "0755", "/run/pam-mfa"])
        paths = " ".join(f"-l /run/pam-mfa/{name}.sock" for name in ("priv", "user", "manage"))
        fdname = "--fdname=priv:user:manage"
        command = f"exec /usr/bin/systemd-socket-activate --seqpacket {fdname} {paths} /usr/lib/pam-mfa/pam-mfad"
    machine.write("/root/start", f"#!/bin/sh\n{command}\n", 0o755)
    machine.service.program = "/root/start"


@pytest.mark.parametrize("how", ["as pam-mfa", "systemd-socket-activate"])
def test_sockets_and_key_come_from_systemd(town_machine: Machine, alice: Person, how: str) -> None:
    machine = town_machine
    launcher(machine, how)
    machine.service.start()
    assert login(machine, alice, alice.code()) is Outcome.GRANTED
    assert call(machine, "manage").request("status").done == {"ok": True}
    assert call(machine, "user").hello("alice", alice.uid).answer("", "", "").outcome is Outcome.TRIES_SPENT
    assert machine.service.stop() == 0


def test_callers_of_a_socket_outlive_a_restart_behind_it(town_machine: Machine, alice: Person) -> None:
    """systemd keeps the sockets: who calls while nobody serves waits, and is served by the next one."""
    machine = town_machine
    launcher(machine, "as pam-mfa")
    machine.service.start()
    machine.service.send(signal.SIGSTOP)
    waiting = call(machine).hello("alice", alice.uid)
    machine.service.send(signal.SIGCONT)
    assert waiting.answer(alice.code()).outcome is Outcome.GRANTED
