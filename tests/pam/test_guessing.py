"""Guesses (abuse cases R01 to R05 and R08): counted together wherever they come from, and before they are believed."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest
from callers import call
from hosts import Host, Scene, records
from machine import Machine, wait_for
from people import OURS, Person, Town, charge, configure, enrol, failures, forgive, manage, sql, step_now

from pam_mfa import wire

LIMIT = 6  # failures until answers are no longer compared: five are free, the sixth starts the wait
OTHER_SIDE = "mfa-engine"
PROMPT = "Verification code: "
REFUSED = "Not accepted (each code works once). "
AGAIN = REFUSED + PROMPT
WAITS, LOCKED = (
    f"Too many wrong answers: totp {words}"
    for words in ("counts again in ", "is locked until an administrator unlocks it")
)
# What somebody may be who is nobody: as long as names may be, so that whoever keeps one shows in the memory.
INVENTED = "eve{:05}" + "-" * 200
NAMES, KEPT_KIB = 4000, 512
STACK = f"@include common-auth\n{OURS}"
# pam_unix alone waits for two seconds after every refusal of the stack.
NO_DELAY = "s/pam_unix.so nullok/& nodelay/"


@pytest.fixture
def both(machine_of_people: Machine, town: Town) -> Scene:
    """A machine whose service answers service `mfa`, while engines answer the other."""
    theirs = machine_of_people.read("/etc/pam.d/mfa").replace(
        "pam_mfa.so", "pam_mfa.so socket=/run/pam-mfa/nobody-listens-here.sock"
    )
    machine_of_people.write(f"/etc/pam.d/{OTHER_SIDE}", theirs)
    return Scene(machine_of_people, "service", town.people())


# R01: one tally, whoever answers


def test_r01_guesses_from_everywhere_are_counted_together(both: Scene) -> None:
    places = [
        {"service": "mfa", "rhost": "192.0.2.1"},
        {"service": "brief", "rhost": "2001:db8::1", "tty": "ssh"},
        {"service": OTHER_SIDE, "tty": "tty1"},
    ]
    for number in range(LIMIT):
        login = both.host.login("alice", both.alice.wrong(), None, **places[number % len(places)])
        first, again = login.prompts
        assert (login.code, first) == ("CONV_ERR", PROMPT)
        assert again == AGAIN if number + 1 < LIMIT else again.startswith(REFUSED + WAITS)
        assert failures(both.machine, both.alice) == number + 1
    for place in places:
        assert both.host.login("alice", both.alice.code(), None, **place).code == "CONV_ERR"
    wait_for("all records", lambda: len(records(both.machine)) == LIMIT + len(places))
    answered = Counter((record["role"], record["reason"]) for record in records(both.machine))
    assert answered == {("service", "aborted"): 6, ("engine", "aborted"): 3}
    assert failures(both.machine, both.alice) == LIMIT


def test_r01_guesses_at_once_at_service_and_engines_are_counted_together(both: Scene) -> None:
    guesses = [[both.alice.wrong()] * 3] * 8
    assert both.host.together("alice", guesses, ["mfa", OTHER_SIDE]) == ["MAXTRIES"] * 8
    assert failures(both.machine, both.alice) == LIMIT


def test_r01_a_factor_is_disabled_at_a_hundred_failures(scene: Scene) -> None:
    """Whatever time passes; and the last of them is a guess like the first."""
    charge(scene.up(), scene.alice, 98)
    assert scene.login("alice", scene.alice.wrong(), None).prompts[1].startswith(REFUSED + WAITS)
    charge(scene.up(), scene.alice, 99)
    assert scene.login("alice", scene.alice.wrong(), None).prompts[1].startswith(REFUSED + LOCKED)
    charge(scene.up(), scene.alice, 100)
    login = scene.login("alice", *[scene.alice.code() for _ in range(3)])
    assert (login.code, scene.reason, login.prompts[0]) == ("MAXTRIES", "disabled", f"{LOCKED}. {PROMPT}")
    assert failures(scene.machine, scene.alice) == 100
    manage(scene.machine, "unlock", scene.alice)
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


def test_r01_what_was_told_is_counted_whoever_dies_then(scene: Scene) -> None:
    """A guess that costs nothing would be one whose refusal is seen before it is on disk."""
    for number in range(LIMIT):
        with Host(scene.up()) as host:
            host.begin("alice")
            host.prompt()
            host.answer(scene.alice.wrong())
            assert host.prompt().startswith(REFUSED)
            kill(scene)
            host.answer(scene.alice.wrong())
            assert host.end().code == "AUTHINFO_UNAVAIL"
        assert failures(scene.machine, scene.alice) == number + 1


def kill(scene: Scene) -> None:
    """Whoever answers dies in this moment; a service is started again."""
    if scene.side == "service":
        scene.machine.service.kill()
        scene.machine.service.start()
        return
    (engine,) = scene.machine.engines()
    scene.machine.run(["/bin/kill", "-KILL", str(engine)])
    wait_for("the engine's end", lambda: not scene.machine.processes("pam-mfa-engine"))


# R02: who is not there costs nothing


def test_r02_invented_names_take_no_memory_and_no_row(machine_of_people: Machine, town: Town) -> None:
    """And whoever is there is counted as before."""
    machine, alice = machine_of_people, town.people()["alice"]
    machine.service.start()
    invent(machine, 0, NAMES // 4)  # what a service needs in any case
    before, rows = memory(machine), all_rows(machine)
    invent(machine, NAMES, NAMES)
    kept = memory(machine) - before
    print(f"{NAMES} invented names: {kept} KiB")
    assert kept < KEPT_KIB
    assert all_rows(machine) == rows
    with Host(machine) as host:
        for _ in range(LIMIT // 3):
            assert host.login("alice", *[alice.wrong()] * 3).code == "MAXTRIES"
        assert host.login("alice", alice.code(), None).code == "CONV_ERR"
    assert failures(machine, alice) == LIMIT


def invent(machine: Machine, first: int, count: int) -> None:
    """Logins of so many who do not exist, each with one wrong answer."""
    for number in range(first, first + count):
        caller = call(machine).hello(INVENTED.format(number), None).answer("000000")
        assert caller.prompt() == AGAIN
        caller.send(wire.Type.ABORT).end()
        caller.link.close()
        machine.journal()  # it holds few lines that nobody has read


def memory(machine: Machine) -> int:
    """What the service has for itself alone, in KiB."""
    with open(f"/proc/{machine.service.pid}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("RssAnon:")))


def all_rows(machine: Machine) -> str:
    """How many rows the store has that a login could make."""
    return sql(machine, "SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM tally)")


# R03: strangers burn nothing


def test_r03_without_the_password_no_answer_is_asked_for_or_counted(scene: Scene) -> None:
    """Our line stands below a requisite one, as README.md has it."""
    scene.machine.run(["/bin/sed", "-i", NO_DELAY, "/etc/pam.d/common-auth"])
    scene.machine.write("/etc/pam.d/stack", STACK)
    code = scene.alice.code()
    host = Host(scene.up())
    for _ in range(LIMIT + 1):
        login = host.login("alice", "not her password", code, service="stack")
        assert (login.code, login.prompts) == ("AUTH_ERR", ["Password: "])
    assert (records(scene.machine), failures(scene.machine, scene.alice)) == ([], 0)
    assert host.login("alice", "correct horse", code, service="stack").code == "SUCCESS"
    host.close()


def test_r03_guesses_lock_no_other_factor(scene: Scene) -> None:
    """Of whatever form a guess is; a hundred wrong codes leave the recovery codes alone, and the other way round."""
    charge(scene.up(), scene.alice, 100)
    assert scene.login("alice", *[scene.alice.wrong()] * 3).code == "MAXTRIES"
    assert [failures(scene.machine, scene.alice, factor) for factor in ("totp", "recovery")] == [100, 0]
    assert scene.login("alice", scene.alice.recovery[0]).code == "SUCCESS"
    forgive(scene.machine)
    for _ in range(LIMIT // 3):
        assert scene.login("alice", *["A" * 24] * 3).code == "MAXTRIES"
    assert [failures(scene.machine, scene.alice, factor) for factor in ("totp", "recovery")] == [0, LIMIT]
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


# R04, R05: once, in order


def test_r04_eight_processes_with_one_code(scene: Scene) -> None:
    code = scene.alice.code()
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host(scene.up())) for _ in range(8)]
        for host in hosts:
            host.begin("alice")
        for host in hosts:
            assert host.prompt() == PROMPT
        for host in hosts:
            host.answer(code)
        ends = Counter(told(host) for host in hosts)
    assert ends.pop("SUCCESS") == 1
    assert all(end.startswith(REFUSED) for end in ends)


def told(host: Host) -> str:
    """The prompt after an answer, which is then given up, or the end."""
    line = host.prompt_or_end()
    if isinstance(line, str):
        host.answer(None)
        assert host.end().code == "CONV_ERR"
        return line
    return line.code


def test_r04_a_code_that_opened_is_used_up_whoever_dies_then(scene: Scene) -> None:
    code = scene.alice.code()
    assert scene.login("alice", code).code == "SUCCESS"
    if scene.side == "service":
        kill(scene)
    assert scene.login("alice", code, None).code == "CONV_ERR"


def test_r05_two_codes_in_a_row_from_outside_of_the_window_bring_no_clock_back(scene: Scene) -> None:
    """There is no way to make a token's clock count but a new enrolment."""
    person = scene.people["bob"]
    (token,) = person.tokens
    for far in (range(-20, -4), range(5, 20)):
        near = {token.at(step_now() + off) for off in range(-1, 4)}
        rows = ([token.at(step_now() + off + more) for more in range(3)] for off in far)
        assert scene.login("bob", *next(row for row in rows if near.isdisjoint(row))).code == "MAXTRIES"
        assert scene.reason == "wrong"
        forgive(scene.machine)
    assert scene.login("bob", person.code()).code == "SUCCESS"


# R08: nothing that somebody may ask for takes a failure back


def test_r08_neither_new_sessions_nor_changes_take_failures_back(scene: Scene) -> None:
    configure(scene.machine, "first_enrolment = 'self'")
    assert scene.login("alice", *[scene.alice.wrong()] * 3).code == "MAXTRIES"
    for answers in ((), (None,), ("",), (scene.alice.wrong(), None)):
        scene.login("alice", *answers)
    assert failures(scene.machine, scene.alice) == 5
    token = enrol(scene.machine, scene.alice)
    manage(scene.machine, "rename", scene.alice, credential=token.label, label="slate")
    manage(scene.machine, "recovery", scene.alice, renew=True)
    manage(scene.machine, "remove", scene.alice, credential="slate")
    assert failures(scene.machine, scene.alice) == 5
    assert scene.login("alice", scene.alice.wrong(), scene.alice.code(), None).code == "CONV_ERR"
    assert failures(scene.machine, scene.alice) == LIMIT


def test_r08_guesses_at_a_change_count_like_those_at_a_login(machine_of_people: Machine, town: Town) -> None:
    machine, alice = machine_of_people, town.people()["alice"]
    machine.service.start()
    for verb in ("recovery", "enroll"):
        guessed = call(machine, "manage", alice.uid).request(verb, factor="totp", renew=True)
        assert guessed.answer(*[alice.wrong()] * 3).done["error"] == "refused"
    assert failures(machine, alice) == LIMIT
    assert refused(machine, alice)
    with Host(machine) as host:
        assert host.login("alice", alice.code(), None).code == "CONV_ERR"


def refused(machine: Machine, person: Person) -> bool:
    """Whether right codes do not open a change either."""
    codes = [person.code() for _ in range(3)]
    return bool(call(machine, "manage", person.uid).request("recovery", renew=True).answer(*codes).done["error"])
