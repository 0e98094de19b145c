"""A service or an engine that hangs, dies, is too busy or cannot write its record; hosts and people who leave."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hosts import Host, Scene, records
from machine import Machine, wait_for
from people import BRIEF, Person, Town, end, sessions

ENGINE = "pam-mfa-engine"
ENGINES = 8
IDLE = 15  # seconds without a frame after which the module gives up by itself
REQUIRED = "audit = 'required'"


@pytest.fixture
def served(machine_of_people: Machine) -> Machine:
    """A machine with its service running."""
    machine_of_people.service.start()
    return machine_of_people


@pytest.fixture
def alice(town: Town) -> Person:
    """This test's alice."""
    return town.people()["alice"]


@pytest.fixture
def host(machine_of_people: Machine) -> Iterator[Host]:
    """A host of root's."""
    with Host(machine_of_people) as host:
        yield host


# The service hangs


def test_a_service_that_hangs_before_its_first_frame_is_replaced_by_the_engine(
    served: Machine, host: Host, alice: Person
) -> None:
    served.service.freeze()
    code = alice.code()
    assert host.login("alice", code).code == "SUCCESS"
    assert records(served)[-1]["role"] == "engine"
    assert host.login("alice", code, None).code == "CONV_ERR"
    served.service.send(signal.SIGCONT)
    wait_for("the sessions that nobody waits for any more", lambda: sessions(served) == 0)
    assert host.login("alice", code, None).code == "CONV_ERR"
    assert host.login("alice", alice.code()).code == "SUCCESS"


def test_a_service_that_hangs_at_a_prompt_opens_nothing_within_the_deadline(
    served: Machine, host: Host, alice: Person
) -> None:
    host.begin("alice", service="brief")
    host.prompt()
    served.service.send(signal.SIGSTOP)
    host.answer(alice.code())
    login = host.end()
    assert login.code == "AUTHINFO_UNAVAIL"
    assert login.took < IDLE
    assert not served.processes(ENGINE)
    served.service.send(signal.SIGCONT)
    wait_for("the session's end", lambda: sessions(served) == 0)
    assert host.login("alice", alice.code()).code == "SUCCESS"


def test_an_answer_after_the_deadline_is_not_evaluated(served: Machine, host: Host, alice: Person) -> None:
    host.begin("alice", service="brief")
    host.prompt()
    wait_for("the deadline", lambda: host.age > BRIEF + 1)
    code = alice.code()
    host.answer(code)
    assert host.end().code == "AUTHINFO_UNAVAIL"
    assert host.login("alice", code).code == "SUCCESS"  # it was not even used up


def test_a_user_whose_service_hangs_is_denied(served: Machine, alice: Person) -> None:
    served.service.send(signal.SIGSTOP)
    with Host(served, "alice") as host:
        login = host.login("alice", alice.code())
    assert (login.code, login.prompts) == ("AUTHINFO_UNAVAIL", [])


# Whoever answers is killed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_service_that_dies_at_a_prompt_opens_nothing(served: Machine, host: Host, alice: Person, number: int) -> None:
    host.begin("alice")
    host.prompt()
    code = alice.code()
    served.service.stop(number)
    host.answer(code)
    assert host.end().code == "AUTHINFO_UNAVAIL"
    assert not served.processes(ENGINE)
    assert host.login("alice", code).code == "SUCCESS"
    assert records(served)[-1]["role"] == "engine"
    served.service.start()
    assert host.login("alice", code, None).code == "CONV_ERR"


def test_a_service_that_is_stopped_lets_the_open_login_end(served: Machine, host: Host, alice: Person) -> None:
    host.begin("alice")
    host.prompt()
    served.service.send(signal.SIGTERM)
    wait_for("the end of accepting", lambda: not listening(served, alice))
    host.answer(alice.code())
    assert host.end().code == "SUCCESS"
    assert served.service.stop() == 0
    assert [record["role"] for record in records(served)] == ["service"]


def listening(machine: Machine, person: Person) -> bool:
    """Whether the service still takes requests: a new one waits in the backlog for whoever comes next."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(machine.path("/run/pam-mfa/manage.sock")))
            probe.send(b"\x01\x06\x00\x11" + b'{"verb":"status"}')
            return bool(probe.recv(4096))
        except OSError:
            return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_an_engine_that_dies_at_a_prompt_opens_nothing(
    machine_of_people: Machine, host: Host, alice: Person, number: int
) -> None:
    host.begin("alice")
    host.prompt()
    (engine,) = machine_of_people.engines()
    end(engine, number)
    host.answer(alice.code())
    assert host.end().code == "AUTHINFO_UNAVAIL"
    wait_for("its end", lambda: not machine_of_people.processes(ENGINE))
    assert host.login("alice", alice.code()).code == "SUCCESS"


def test_an_engine_that_hangs_at_a_prompt_is_ended_with_the_login(
    machine_of_people: Machine, host: Host, alice: Person
) -> None:
    host.begin("alice", service="brief")
    host.prompt()
    (engine,) = machine_of_people.engines()
    end(engine, signal.SIGSTOP)
    host.answer(alice.code())
    login = host.end()
    assert login.code == "AUTHINFO_UNAVAIL"
    assert login.took < IDLE
    wait_for("its end", lambda: not machine_of_people.processes(ENGINE))


def test_without_an_engine_and_without_a_service_nobody_gets_in(
    machine_of_people: Machine, host: Host, alice: Person
) -> None:
    machine_of_people.run(["/bin/mv", "/usr/lib/pam-mfa/pam-mfa-engine", "/usr/lib/pam-mfa/away"])
    assert host.login("alice", alice.code()).code == "AUTHINFO_UNAVAIL"


# What the compiled files of an installation hold counts, whatever their sources say.
@pytest.mark.parametrize(
    "damage",
    [
        "rm login.py __pycache__/login.*",
        "rm __pycache__/login.*; echo 'raise SystemExit(0)' > login.py",
        "rm __pycache__/engine.*; echo 'def run(role, sockets): return 0' > engine.py",
        "rm __pycache__/engine.*; echo 'import os; os.kill(os.getpid(), 11)' > engine.py",
        "rm -r factors",
        "rm -r ../_cffi_backend*",
    ],
)
def test_an_engine_whose_python_is_broken_opens_nothing(
    machine_of_people: Machine, host: Host, alice: Person, damage: str
) -> None:
    machine_of_people.run(["/bin/sh", "-euc", f"cd /usr/lib/pam-mfa/site/pam_mfa; {damage}"])
    assert host.login("alice", alice.code()).code == "AUTHINFO_UNAVAIL"
    wait_for("its end", lambda: not machine_of_people.processes(ENGINE))


# Too many


def test_eight_engines_at_most(machine_of_people: Machine, alice: Person) -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host(machine_of_people)) for _ in range(ENGINES + 1)]
        for host in hosts[:-1]:
            host.begin("alice")
            host.prompt()
        late = hosts[-1].login("alice", alice.code())
        assert (late.code, late.prompts) == ("AUTHINFO_UNAVAIL", [])
        assert len(machine_of_people.engines()) == ENGINES
        hosts[0].answer(alice.code())
        assert hosts[0].end().code == "SUCCESS"
        assert hosts[-1].login("alice", alice.code()).code == "SUCCESS"
    wait_for("their end", lambda: not machine_of_people.processes(ENGINE))


# Hosts and people that leave


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_host_that_dies_at_the_prompt_leaves_nothing_behind(scene: Scene, number: int) -> None:
    with Host(scene.up()) as host:
        host.begin("alice")
        host.prompt()
        host.kill(number)
    wait_for("the record", lambda: records(scene.machine))
    assert (records(scene.machine)[0]["outcome"], scene.reason) == ("ABORTED", "aborted")
    wait_for("the engine's end", lambda: not scene.machine.processes(ENGINE))
    if scene.side == "service":
        assert sessions(scene.machine) == 0
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


def test_who_gives_up_at_the_prompt_has_not_failed(scene: Scene) -> None:
    for _ in range(8):  # more than may fail
        assert scene.login("alice", None).code == "CONV_ERR"
        assert scene.reason == "aborted"
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


def test_other_logins_go_on_while_many_wait_for_their_users(served: Machine, host: Host, town: Town) -> None:
    people = town.people()
    with ExitStack() as stack:
        waiting = [stack.enter_context(Host(served)) for _ in range(12)]
        for one in waiting:
            one.begin("alice")
            one.prompt()
        assert sessions(served) == len(waiting)
        assert host.login("bob", people["bob"].code()).code == "SUCCESS"
    wait_for("their end", lambda: sessions(served) == 0)


# The audit record is required


@pytest.fixture
def mute(scene: Scene) -> Scene:
    """A machine where no record can be written: no log socket, standard error on the null device."""
    scene.configure(REQUIRED)
    scene.machine.run(["/bin/sh", "-euc", "umount /dev/log; rm /dev/log"])
    if scene.side == "service":
        scene.machine.popen(["/bin/sh", "-c", "exec /usr/lib/pam-mfa/pam-mfad > /dev/null 2>&1 < /dev/null"])
        person = scene.alice
        wait_for("the service", lambda: listening(scene.machine, person))
    return scene


def test_a_login_whose_record_cannot_be_written_is_refused_where_records_are_required(mute: Scene) -> None:
    with Host(mute.machine) as host:
        assert host.login("alice", mute.alice.code()).code == "AUTHINFO_UNAVAIL"


def test_it_is_let_in_where_they_are_not_required(scene: Scene) -> None:
    scene.configure("")
    scene.machine.run(["/bin/sh", "-euc", "umount /dev/log; rm /dev/log"])
    scene.up()
    assert scene.host.login("alice", scene.alice.code()).code == "SUCCESS"


def test_with_a_log_required_records_let_people_in(scene: Scene) -> None:
    scene.configure(REQUIRED)
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"
