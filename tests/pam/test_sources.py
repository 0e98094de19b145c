"""R03 by service and engine: what strangers guess from elsewhere keeps nobody out where they logged in before."""

from __future__ import annotations

import pytest
from hosts import Host, Login, Scene
from people import charge, failures, forgive, manage

HOME, ALSO_HOME = "192.0.2.7", "::ffff:192.0.2.7"
NETWORK, NEIGHBOUR = "2001:db8:1:2::10", "2001:db8:1:2:3:4:5:6"
AFAR = "198.51.100.1"
ELSEWHERE = [AFAR, "2001:db8:1:3::10", "gateway.example.org", "192.0.2.7.example.org", ""]
LIMIT = 6  # failures until answers are no longer compared
FAMILIAR, SHARE = 4, 10
WAITS = "Too many wrong answers: totp counts again in "
LOCKED = "Too many wrong answers: totp is locked until an administrator unlocks it. "


def guess(scene: Scene, rhost: str, times: int = LIMIT) -> Login:
    """Wrong codes from there."""
    for _ in range(times):
        login = scene.login("alice", scene.alice.wrong(), None, rhost=rhost)
    return login


def waits(scene: Scene, rhost: str) -> bool:
    """Whether a right code would not count there."""
    (prompt,) = scene.login("alice", None, rhost=rhost).prompts
    return prompt.startswith((WAITS, LOCKED))


def proven(scene: Scene, rhost: str) -> str:
    """A login with a right code; how it ends."""
    return scene.login("alice", scene.alice.code(), None, rhost=rhost).code


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


def test_r03_nor_do_guesses_without_an_address(scene: Scene) -> None:
    """At a console, with the user at hers by ssh; and the other way round."""
    assert proven(scene, "") == "SUCCESS"
    guess(scene, AFAR)
    assert not waits(scene, "")
    assert proven(scene, "") == "SUCCESS"


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


def test_r03_recovery_codes_have_sources_of_their_own(scene: Scene) -> None:
    assert proven(scene, HOME) == "SUCCESS"
    for _ in range(LIMIT // 3):
        assert scene.login("alice", *["A" * 24] * 3, rhost=AFAR).code == "MAXTRIES"
    assert not waits(scene, AFAR)
    assert scene.login("alice", *scene.alice.recovery[:1], None, rhost=HOME).code == "CONV_ERR"
    assert proven(scene, HOME) == "SUCCESS"
    forgive(scene.machine)
    assert scene.login("alice", *scene.alice.recovery[:1], rhost=HOME).code == "SUCCESS"
