"""R03 by service and engine: what strangers guess from elsewhere keeps nobody out where they logged in before."""

from __future__ import annotations

import pytest
from callers import call
from hosts import Host, Login, Scene
from machine import Machine
from people import STORE, Town, charge, failures, manage

HOME, ALSO_HOME = "192.0.2.7", "::ffff:192.0.2.7"
NETWORK, NEIGHBOUR = "2001:db8:1:2::10", "2001:db8:1:2:3:4:5:6"
AFAR = "198.51.100.1"
ELSEWHERE = [AFAR, "2001:db8:1:3::10", "gateway.example.org", "192.0.2.7.example.org", ""]
LIMIT = 6  # failures until answers are no longer compared
SHARE = 10
WAITS = "Too many wrong answers: totp counts again in "
LOCKED = "Too many wrong answers: totp is locked here until an administrator unlocks it. "


def guess(scene: Scene, rhost: str, times: int = LIMIT, **items: str) -> Login:
    """Wrong codes from there."""
    for _ in range(times):
        login = scene.login("alice", scene.alice.wrong(), None, rhost=rhost, **items)
    return login


def waits(scene: Scene, rhost: str, **items: str) -> bool:
    """Whether a right code would not count there."""
    (prompt,) = scene.login("alice", None, rhost=rhost, **items).prompts
    return prompt.startswith((WAITS, LOCKED))


def proven(scene: Scene, rhost: str, **items: str) -> str:
    """A login with a right code; how it ends."""
    return scene.login("alice", scene.alice.code(), None, rhost=rhost, **items).code


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_r03_guesses_from_elsewhere_keep_nobody_out(scene: Scene, elsewhere: str) -> None:
    assert proven(scene, HOME) == "SUCCESS"
    assert guess(scene, elsewhere).prompts[1].startswith(f"Not accepted (each code works once). {WAITS}")
    assert waits(scene, elsewhere)
    assert proven(scene, elsewhere) == "CONV_ERR"
    assert not waits(scene, HOME)
    assert not waits(scene, ALSO_HOME)
    assert proven(scene, ALSO_HOME) == "SUCCESS"
    assert waits(scene, elsewhere)


@pytest.mark.parametrize("there", [{"tty": "tty1"}, {"tty": "pts/3", "ruser": "alice"}], ids=["console", "sudo"])
def test_r03_nor_at_this_host(scene: Scene, there: dict[str, str]) -> None:
    """Whatever is guessed afar, by somebody else here, or by a program that says nothing."""
    assert proven(scene, "", **there) == "SUCCESS"
    guess(scene, AFAR, 2)
    guess(scene, "", 2, tty="pts/9", ruser="bob")
    guess(scene, "", 2)
    assert waits(scene, "")
    assert waits(scene, "", tty="pts/9", ruser="bob")
    assert not waits(scene, "", **there)
    assert proven(scene, "", **there) == "SUCCESS"


def test_r03_of_ipv6_a_network_is_one_source(scene: Scene) -> None:
    assert proven(scene, NETWORK) == "SUCCESS"
    guess(scene, AFAR)
    assert not waits(scene, NEIGHBOUR)
    guess(scene, NEIGHBOUR)
    assert waits(scene, NETWORK)
    assert failures(scene.machine, scene.alice) == 2 * LIMIT


def test_r03_a_name_is_never_familiar(scene: Scene) -> None:
    """Whoever has an address chooses the name that its DNS gives."""
    assert proven(scene, "laptop.example.org") == "SUCCESS"
    guess(scene, AFAR)
    assert waits(scene, "laptop.example.org")


def test_r03_a_disabled_factor_works_where_it_was_proven(scene: Scene) -> None:
    """Ninety guesses of strangers and ten at home make the hundred."""
    assert proven(scene, HOME) == "SUCCESS"
    charge_others(scene, 100 - SHARE - 1)
    assert guess(scene, AFAR, 1).prompts[1].endswith(f"{LOCKED}Verification code: ")
    assert proven(scene, "203.0.113.9") == "CONV_ERR"
    assert proven(scene, HOME) == "SUCCESS"
    assert guess(scene, AFAR, 1).prompts[0].startswith(LOCKED)
    assert failures(scene.machine, scene.alice) == 100 - SHARE
    manage(scene.machine, "unlock", scene.alice)
    assert not waits(scene, AFAR)


def charge_others(scene: Scene, count: int) -> None:
    """So many failures of strangers, long ago; what is familiar stays so."""
    charge(scene.up(), scene.alice, count, familiar=True)


def test_r03_service_and_engine_know_the_same_sources(scene: Scene) -> None:
    assert proven(scene, HOME) == "SUCCESS"
    guess(scene, AFAR)
    if scene.side == "service":
        scene.machine.service.stop()
    else:
        scene.machine.service.start()
    with Host(scene.machine) as host:
        assert host.login("alice", None, rhost=AFAR).prompts[0].startswith(WAITS)
        assert host.login("alice", scene.alice.code(), rhost=HOME).code == "SUCCESS"


def test_r03_only_roots_programs_say_where_somebody_comes_from(scene: Scene) -> None:
    """A program of the user's own, which could name any address, always asks from this host."""
    with Host(scene.up(), "alice") as own:
        if scene.side == "engine":  # those are started by root alone
            assert own.login("alice", rhost=HOME).code == "AUTHINFO_UNAVAIL"
            return
        for rhost in (HOME, AFAR, HOME, AFAR, HOME, AFAR):
            assert own.login("alice", scene.alice.wrong(), None, rhost=rhost).code == "CONV_ERR"
        assert own.login("alice", None, rhost="203.0.113.9").prompts[0].startswith(WAITS)


def test_r03_nor_the_recovery_codes_of_who_lost_everything_else(scene: Scene) -> None:
    assert proven(scene, HOME) == "SUCCESS"
    for _ in range(LIMIT // 3):
        assert scene.login("alice", *["A" * 24] * 3, rhost=AFAR).code == "MAXTRIES"
    assert scene.login("alice", scene.alice.recovery[0], None, rhost=AFAR).code == "CONV_ERR"
    assert scene.login("alice", scene.alice.recovery[0], rhost=HOME).code == "SUCCESS"


def test_r03_nor_from_changing_what_is_enrolled_at_this_host(machine_of_people: Machine, town: Town) -> None:
    scene = Scene(machine_of_people, "service", town.people())
    assert proven(scene, "", tty="tty1") == "SUCCESS"
    guess(scene, AFAR)
    change = call(scene.machine, "manage", scene.alice.uid).request("recovery", renew=True)
    assert change.answer(scene.alice.code()).done == {"ok": True}


def test_r03_what_is_told_of_the_tenth_mistake_is_true(scene: Scene) -> None:
    """With it the place where she was known becomes one of many, with all that was guessed there."""
    assert proven(scene, HOME) == "SUCCESS"
    charge(scene.up(), scene.alice, 80, familiar=True)
    for number in range(SHARE - 1):
        assert guess(scene, HOME, 1).code == "CONV_ERR"
        assert failures(scene.machine, scene.alice) == 81 + number
        forget_when(scene)
    told = guess(scene, HOME, 1).prompts[1]
    assert f"{WAITS}60 min. " in told
    assert scene.login("alice", None, rhost=HOME).prompts[0].startswith(f"{WAITS}60 min. ")


def forget_when(scene: Scene) -> None:
    """As if the familiar failures had been in another boot, long ago."""
    code = (
        f"import sqlite3; db = sqlite3.connect({STORE!r}); "
        "rows = db.execute('SELECT uid, factor, familiar FROM tally').fetchall(); "
        "old = lambda f: f[:17] + bytes(16) + b'x' * 36 + f[69:] if f[16] else f; "
        "db.executemany('UPDATE tally SET familiar = ? WHERE uid = ? AND factor = ?', "
        "[(old(f), u, n) for u, n, f in rows]); db.commit()"
    )
    scene.machine.python(code, user="pam-mfa")
