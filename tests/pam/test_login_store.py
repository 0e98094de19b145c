"""A store that is gone, damaged, foreign, unreadable or full: nobody is let in by that, and nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from hosts import Scene
from machine import Machine
from people import STORE, Refused, Town, manage, sql

FOLDER = "/var/lib/pam-mfa"
ALLOW = "[policy]\nunenrolled = 'allow'"

Damage = Callable[[Machine], object]


def shell(script: str) -> Damage:
    """Damage done by a shell script."""

    return lambda machine: machine.run(["/bin/sh", "-euc", script])


def statement(text: str) -> Damage:
    """Damage done by SQL."""
    return lambda machine: sql(machine, text)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (shell(f"rm {FOLDER}/*"), "store_missing"),
    "empty": (shell(f"rm {FOLDER}/*; install -o pam-mfa -m 0600 /dev/null {STORE}"), "store_missing"),
    "no folder": (shell(f"rm -r {FOLDER}"), "store_missing"),
    "truncated": (shell(f"rm {STORE}-*; truncate -s 5000 {STORE}"), "store_corrupt"),
    "text": (shell(f"rm {STORE}-*; head -c 20000 /dev/zero | tr '\\0' x > {STORE}"), "store_corrupt"),
    "other key": (shell("head -c 32 /dev/urandom > /etc/pam-mfa/seal.key"), "store_sealed"),
    "seed changed": (statement("UPDATE credential SET material = CAST(material || x'00' AS BLOB)"), "store_corrupt"),
    "rows deleted": (statement("DELETE FROM credential"), "store_corrupt"),
    "newer": (statement("PRAGMA user_version = 99"), "store_schema"),
    "readable by others": (shell(f"chmod 0644 {STORE}"), "store_unavailable"),
    "folder writable by others": (shell(f"chmod 0777 {FOLDER}"), "store_unavailable"),
    "unreadable": (shell(f"chmod 0000 {STORE}"), "store_unavailable"),
    "another owner": (shell(f"chown root:root {STORE}"), "store_unavailable"),
    "a link": (shell(f"mv {STORE} {STORE}.real; ln -s {STORE}.real {STORE}"), "store_unavailable"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_that_cannot_be_trusted_is_never_nobody_enrolled(scene: Scene, damage: str) -> None:
    do, reason = DAMAGES[damage]
    scene.configure(ALLOW)
    do(scene.machine)
    for user in ("alice", "carol") if damage not in ("seed changed", "rows deleted") else ("alice",):
        login = scene.login(user, scene.alice.code(), *scene.alice.recovery[:2])
        assert (login.code, login.prompts) == ("AUTHINFO_UNAVAIL", [])
        assert scene.reason == reason


@pytest.mark.parametrize("damage", ["missing", "no folder", "newer", "another owner", "seed changed"])
def test_a_service_notices_while_it_runs(scene: Scene, damage: str) -> None:
    scene.configure(ALLOW)
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"
    do, _ = DAMAGES[damage]
    do(scene.machine)
    login = scene.login("alice", scene.alice.code(), *scene.alice.recovery[:2])
    assert login.code == "AUTHINFO_UNAVAIL"
    assert scene.reason.startswith("store_")


def test_a_store_that_comes_back_is_used_again(scene: Scene) -> None:
    scene.up()
    scene.machine.run(["/bin/mv", STORE, f"{STORE}.away"])
    assert scene.login("alice", scene.alice.code()).code == "AUTHINFO_UNAVAIL"
    scene.machine.run(["/bin/mv", f"{STORE}.away", STORE])
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


def test_only_the_damaged_account_is_refused(scene: Scene) -> None:
    sql(scene.machine, "UPDATE credential SET material = zeroblob(60) WHERE uid = ?", str(scene.people["bob"].uid))
    assert scene.login("bob", scene.people["bob"].code()).code == "AUTHINFO_UNAVAIL"
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


@pytest.fixture
def engine_scene(machine_of_people: Machine, town: Town) -> Iterator[Scene]:
    """The engine's side alone."""
    scene = Scene(machine_of_people, "engine", town.people())
    yield scene
    scene.close()


@pytest.mark.parametrize(
    "damage", ["rm {}", "chmod 0644 {}", "chown pam-mfa {}", "truncate -s 31 {}", "mv {0} {0}.x; ln -s seal.key.x {0}"]
)
def test_without_a_trustworthy_key_no_engine_answers(engine_scene: Scene, damage: str) -> None:
    engine_scene.machine.run(["/bin/sh", "-euc", damage.format("/etc/pam-mfa/seal.key")])
    assert engine_scene.host.login("alice", engine_scene.alice.code()).code == "AUTHINFO_UNAVAIL"
    assert any("seal.key" in line for line in engine_scene.machine.journal())


# A full disk


def on_a_small_disk(machine: Machine, files: str = "store.db*") -> None:
    """Move the store onto a small file system of its own."""
    script = (
        f"cp -a {FOLDER} /tmp/before && mount -t tmpfs -o size=8m,mode=0700 tmpfs {FOLDER} && "
        f"chown pam-mfa:pam-mfa {FOLDER} && cp -a /tmp/before/{files} {FOLDER}/"
    )
    machine.run(["/bin/sh", "-euc", script])


def fill(machine: Machine) -> None:
    """Until not one byte more fits."""
    machine.run(["/bin/sh", "-c", f"cat /dev/zero > {FOLDER}/filler; printf x >> {FOLDER}/filler"], check=False)
    assert machine.run(["/usr/bin/stat", "-f", "-c", "%f", FOLDER]).stdout == "0\n"


def test_a_full_disk_locks_nobody_out(scene: Scene) -> None:
    on_a_small_disk(scene.machine)
    scene.up()
    fill(scene.machine)
    for code in [scene.alice.code() for _ in range(6)]:
        assert scene.login("alice", code).code == "SUCCESS"
        assert scene.login("alice", code, None).code == "CONV_ERR"
    assert scene.login("alice", scene.alice.recovery[0]).code == "SUCCESS"
    assert scene.login("bob", *["000000"] * 3).code == "MAXTRIES"


def test_what_cannot_be_recorded_is_refused_and_not_used_up(scene: Scene) -> None:
    """Without room in its log the store cannot count an answer; then the right one opens nothing, and stays good."""
    sql(scene.machine, "PRAGMA wal_checkpoint(TRUNCATE)")
    on_a_small_disk(scene.machine, "store.db")
    fill(scene.machine)
    code, recovery = scene.alice.code(), scene.alice.recovery[0]
    for answer in (code, recovery):
        assert scene.login("alice", answer).code == "AUTHINFO_UNAVAIL"
        assert scene.reason == "store_unavailable"
    scene.machine.run(["/bin/rm", f"{FOLDER}/filler"])
    for answer in (code, recovery):
        assert scene.login("alice", answer).code == "SUCCESS"


def test_a_read_only_store_opens_nothing(scene: Scene) -> None:
    on_a_small_disk(scene.machine)
    scene.machine.run(["/bin/mount", "-o", "remount,ro", FOLDER])
    assert scene.login("alice", scene.alice.code()).code == "AUTHINFO_UNAVAIL"
    assert scene.reason == "store_unavailable"


def test_another_process_that_holds_the_store_delays_and_does_not_open(scene: Scene) -> None:
    """The lock is held for as long as a login may wait for it and longer."""
    scene.up()
    holder = (
        f"import sqlite3, sys; db = sqlite3.connect({STORE!r}, isolation_level=None); "
        "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    process = scene.machine.popen(
        ["/usr/bin/python3", "-I", "-c", holder], user="pam-mfa", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    code = scene.alice.code()
    assert scene.login("alice", code).code == "AUTHINFO_UNAVAIL"
    process.communicate()
    assert scene.login("alice", code).code == "SUCCESS"


def test_management_names_the_way_out(scene: Scene) -> None:
    scene.up()
    DAMAGES["missing"][0](scene.machine)
    with pytest.raises(Refused, match="pam-mfa doctor"):
        manage(scene.machine, "status", scene.alice)
