"""Break-glass through libpam, by service and by engine: with nothing that works, and in all that does."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hosts import Host, Scene, records
from machine import Machine, wait_for
from people import CONFIG, STORE, sql

PROMPT, REFUSED = "Verification code: ", "Not accepted (each code works once). "
LAST_PROMPT = "Break-glass code (Enter for none): "
USED = "Break-glass code used: {} left. Make a new one with: sudo pam-mfa break-glass create"
FOLDER = "/var/lib/pam-mfa-break-glass"
STATE = "/var/lib/pam-mfa"
WRONG = "ABCD-EFGH-JKMN-PQRS-TVWX-YZ01-2345-6789"
RACERS = 8
BOUND_FREE = 5  # wrong answers until there is a wait

Break = Callable[[Machine], object]


def made(machine: Machine, *more: str) -> str:
    """A new code."""
    done = machine.run(["/usr/bin/pam-mfa", "break-glass", "create", "--json", *more])
    return str(json.loads(done.stdout)["code"])


def left(machine: Machine) -> int:
    """How many codes there are."""
    return len(machine.run(["/bin/ls", FOLDER]).stdout.split())


def bad_settings(machine: Machine) -> None:
    """None that are good, and none kept from before."""
    machine.write(CONFIG, "[policy\n")
    sql(machine, "DELETE FROM meta WHERE name = 'config'")


def shell(script: str) -> Break:
    return lambda machine: machine.run(["/bin/sh", "-euc", script])


DAMAGES: dict[str, tuple[Break, str]] = {
    "settings": (bad_settings, "config"),
    "no store": (shell(f"rm {STATE}/*"), "store_missing"),
    "no state": (shell(f"rm -r {STATE}"), "store_missing"),
    "truncated": (shell(f"rm {STORE}-*; truncate -s 5000 {STORE}"), "store_corrupt"),
    "newer": (lambda machine: sql(machine, "PRAGMA user_version = 99"), "store_schema"),
    "sealed": (shell("head -c 32 /dev/urandom > /etc/pam-mfa/seal.key"), "store_sealed"),
    "all": (shell(f"rm -r {STATE}; echo '[' > {CONFIG}"), "config"),
}


def alerts(machine: Machine, reason: str, event: str = "alert") -> list[dict[str, str]]:
    """What was told of break-glass."""
    return [record for record in records(machine, event) if record["reason"] == reason]


@pytest.fixture(params=DAMAGES)
def broken(request: pytest.FixtureRequest, scene: Scene) -> tuple[Scene, str, str]:
    """A machine where nothing can be decided any more, the reason for that, and a code that was made then."""
    damage, reason = DAMAGES[request.param]
    damage(scene.machine)
    return scene, reason, made(scene.machine)


@pytest.mark.parametrize("user", ["alice", "carol", "root"])
def test_where_nothing_works_a_code_opens_every_account_once(broken: tuple[Scene, str, str], user: str) -> None:
    scene, reason, code = broken
    login = scene.login(user, scene.alice.wrong(), code)
    assert (login.code, login.prompts) == ("SUCCESS", [PROMPT, REFUSED + PROMPT])
    assert login.shown == [USED.format(0)]
    assert scene.reason == "proven"
    record = records(scene.machine)[-1]
    assert (record["outcome"], record["factor"], record["label"]) == ("GRANTED", "break-glass", "break-glass")
    assert left(scene.machine) == 0
    again = scene.login(user, code)
    assert (again.code, again.prompts) == ("AUTHINFO_UNAVAIL", [])
    assert scene.reason == reason


def test_there_nothing_else_opens(broken: tuple[Scene, str, str]) -> None:
    scene, reason, code = broken
    login = scene.login("alice", scene.alice.code(), scene.alice.recovery[0], WRONG)
    assert login.code == "MAXTRIES"
    assert login.prompts == [PROMPT, REFUSED + PROMPT, REFUSED + PROMPT]
    assert scene.reason == reason
    wait_for("three attempts", lambda: len(alerts(scene.machine, "break_glass_wrong", "attempt")) == 3)
    nobody = scene.login("nobody-here", code, code, code)
    assert (nobody.code, nobody.prompts) == (login.code, login.prompts)
    assert left(scene.machine) == 1


def test_its_use_wakes_an_administrator_up(broken: tuple[Scene, str, str]) -> None:
    scene, _, code = broken
    assert scene.login("alice", code).code == "SUCCESS"
    wait_for("an alert", lambda: alerts(scene.machine, "break_glass_used"))
    (line,) = [line for line in scene.machine.journal() if "break_glass_used" in line]
    assert line.startswith(f"<{10 * 8 + 1}>")  # facility authpriv, severity alert
    (alert,) = alerts(scene.machine, "break_glass_used")
    assert (alert["user"], alert["role"], alert["factor"]) == ("alice", scene.side, "break-glass")
    assert not any(part in "".join(scene.machine.journal()) for part in (code, code.replace("-", "")))


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_code_it_is_as_ever(scene: Scene, damage: str) -> None:
    do, reason = DAMAGES[damage]
    do(scene.machine)
    login = scene.login("alice", scene.alice.code())
    assert (login.code, login.prompts) == ("AUTHINFO_UNAVAIL", [])
    assert scene.reason == reason


# Where all is well


def test_at_the_prompt_for_codes(scene: Scene) -> None:
    first, second = made(scene.machine), made(scene.machine, "--name", "second safe")
    assert scene.login("alice", first.lower()).code == "SUCCESS"
    login = scene.login("alice", first, second.replace("-", " "))
    assert (login.code, login.shown) == ("SUCCESS", [USED.format(0)])
    assert records(scene.machine)[-1]["label"] == "second safe"
    assert scene.login("alice", first, second, WRONG).code == "MAXTRIES"
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


def test_wrong_ones_count_and_a_right_one_opens_also_during_the_wait(scene: Scene) -> None:
    code = made(scene.machine)
    for _ in range(2):
        assert scene.login("alice", WRONG, WRONG, WRONG).code == "MAXTRIES"
    assert sql(scene.machine, "SELECT max(failures & 255) FROM tally").strip() == f"({BOUND_FREE + 1},)"
    assert scene.login("alice", scene.alice.code(), None).code == "CONV_ERR"
    assert scene.login("alice", code).code == "SUCCESS"


def test_who_has_nothing_and_who_does_not_exist(scene: Scene) -> None:
    code = made(scene.machine)
    assert scene.login("nobody-here", code, code, code).code == "MAXTRIES"
    assert scene.login("carol", code).code == "SUCCESS"


def test_a_code_for_one_account(scene: Scene) -> None:
    code = made(scene.machine, "--user", "bob", "--valid", "1h")
    assert scene.login("alice", code, code, code).code == "MAXTRIES"
    wait_for("the attempts", lambda: len(alerts(scene.machine, "break_glass_of_another", "attempt")) == 3)
    assert scene.login("bob", code).code == "SUCCESS"


def test_one_that_was_revoked(scene: Scene) -> None:
    code = made(scene.machine)
    scene.machine.run(["/usr/bin/pam-mfa", "break-glass", "revoke", "--all"])
    assert scene.login("alice", code, code, code).code == "MAXTRIES"


def test_behind_devices_alone_it_has_a_prompt_of_its_own(scene: Scene) -> None:
    code = made(scene.machine)
    scene.configure("[policy]\nmethods = ['fido2']")
    login = scene.login("alice", "")
    assert (login.code, login.prompts) == ("AUTH_ERR", [LAST_PROMPT])
    assert scene.login("alice", WRONG).code == "AUTH_ERR"
    assert scene.login("nobody-here", code).code == "AUTH_ERR"
    assert scene.login("alice", code).code == "SUCCESS"
    assert scene.login("alice").prompts == []


def test_but_not_where_strangers_ask(scene: Scene) -> None:
    made(scene.machine)
    scene.configure("[policy]\nmethods = ['fido2']\nfirst_factor = 'none'")
    login = scene.login("alice", None)
    assert LAST_PROMPT not in login.prompts
    assert login.code != "SUCCESS"


def test_who_is_let_by_or_refused_is_asked_for_none(scene: Scene) -> None:
    made(scene.machine)
    scene.configure("[[rule]]\nusers = ['bob']\nexempt = true\n[[rule]]\nusers = ['carol']\nfirst_factor = 'publickey'")
    assert [scene.login(user).code for user in ("bob", "carol")] == ["IGNORE", "AUTH_ERR"]


def test_a_user_opens_only_its_own_account(scene: Scene) -> None:
    code = made(scene.machine)
    bad_settings(scene.machine)
    with Host(scene.up(), "alice") as host:
        assert host.login("root", code, code, code).code != "SUCCESS"
        assert left(scene.machine) == 1
        login = host.login("alice", code)
    if scene.side == "service":
        assert login.code == "SUCCESS"
    else:  # nobody starts an engine for a user
        assert (login.code, left(scene.machine)) == ("AUTHINFO_UNAVAIL", 1)


# Once, whatever happens


@pytest.mark.parametrize("damage", ["", "settings"])
def test_of_many_logins_with_one_code_one_gets_in(scene: Scene, damage: str) -> None:
    if damage:
        DAMAGES[damage][0](scene.machine)
    code = made(scene.machine)
    made(scene.machine)
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host(scene.up())) for _ in range(RACERS)]
        for host in hosts:
            host.begin("alice")
            host.prompt()
        for host in hosts:
            host.answer(code)
        for host in hosts:
            finish(host)
        codes = [host._login.codes for host in hosts]
    assert sorted(codes) == sorted([["SUCCESS"], *[["CONV_ERR"]] * (RACERS - 1)])
    assert left(scene.machine) == 1


def finish(host: Host) -> None:
    """To its end, with no other answer."""
    line = host._next()
    if line["kind"] == "prompt":
        host.answer(None)
        line = host._next()
    host._end(line)


def test_a_directory_from_which_nothing_can_be_taken(scene: Scene) -> None:
    code = made(scene.machine)
    scene.machine.run(["/bin/sh", "-euc", f"mount --bind {FOLDER} {FOLDER}; mount -o remount,bind,ro {FOLDER}"])
    bad_settings(scene.machine)
    assert scene.login("alice", code, code, code).code == "MAXTRIES"
    wait_for("the attempts", lambda: len(alerts(scene.machine, "break_glass_not_taken", "attempt")) == 3)


def test_codes_that_pam_mfa_has_made_open_nothing(scene: Scene) -> None:
    """Whoever has become that account has everything of it, but is not root by that."""
    code = made(scene.machine)
    forge = f"cd {FOLDER}; for one in *; do cp $one $one.x; mv -f $one.x $one; done"
    scene.machine.run(["/bin/sh", "-euc", forge], user="pam-mfa")
    assert scene.login("alice", code, code, code).code == "MAXTRIES"
    bad_settings(scene.machine)
    assert left(scene.machine) == 1
    if scene.side == "engine":
        login = scene.login("alice", code)
        assert (login.code, login.prompts) == ("AUTHINFO_UNAVAIL", [])


def test_required_records_are_required_of_it_too(scene: Scene) -> None:
    code = made(scene.machine)
    scene.configure("audit = 'required'")
    assert scene.login("alice", code).code == "SUCCESS"
    other = made(scene.machine)
    if scene.side == "engine":  # by service: tests/pam/test_login_faults.py tells what it takes to silence it
        scene.machine.run(["/bin/sh", "-euc", "umount /dev/log; rm /dev/log"])
        with Host(scene.machine) as host:
            assert host.login("alice", other).code == "AUTHINFO_UNAVAIL"
        assert left(scene.machine) == 0
