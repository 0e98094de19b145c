"""Keys that Debian's pamu2fcfg has enrolled log in after the import, without having been enrolled anew.

The key is virtual, pamu2fcfg and the device service see it as a hidraw node; the rest is ours: parser, flows, store.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devices_bench import Bench, Session
from flows import ALICE, FACTORS, SESSION, Clock, Response, World
from stores import SEALER, discard, make
from vdev.keys import Keys

from pam_mfa import importing
from pam_mfa.assessment import Request
from pam_mfa.cli.takeover import sheet
from pam_mfa.config import Settings
from pam_mfa.conversation import DeviceReply, DeviceTouch, Event, Expired, HangUp, Shown, Wait, Want
from pam_mfa.devices.base import Choose, Idle, Pin, Touch
from pam_mfa.enroll import Caller, Desk
from pam_mfa.importers import pam_u2f
from pam_mfa.importers.pam_u2f import RelyingParties
from pam_mfa.login import login
from pam_mfa.outcome import Outcome, Verdict
from pam_mfa.rules import LocalKey, Rule
from pam_mfa.store.sqlite import SqliteStore

ORIGIN = "pam://old-host"
PIN = "12345678"
RULE = Rule(local_key=LocalKey.ALWAYS)


class DeviceWorld(World):
    """A world whose devices are real: those of a broker."""

    bench: Bench
    session: Session | None = None

    def _do(self, want: Want) -> Response:
        if isinstance(want, HangUp):
            self.close()
            return Shown()
        return self._wait(want) if isinstance(want, Wait) else super()._do(want)

    def close(self) -> None:
        """Let go of the devices."""
        if self.session:
            self.session.client.close()
            self.session = None

    def _wait(self, want: Wait) -> Event:
        if isinstance(want.request, Pin | Choose):
            assert self.session
            self.session.ask(want.request)
        elif want.request is not None:
            self.close()
            self.session = self.bench.session(want.request)  # type: ignore[arg-type]
        assert self.session
        if self.session.replies and isinstance(self.session.replies[-1], Idle):
            return Expired()  # nobody plugs anything in
        try:
            reply = self.session.reply(want.seconds)
        except TimeoutError:
            return Expired()
        return DeviceTouch(reply) if isinstance(reply, Touch) else DeviceReply(reply)


@pytest.fixture
def nodes(hidraw_keys: Keys, tmp_path: Path) -> Iterator[Bench]:
    """A broker that sees hidraw nodes."""
    if not shutil.which("pamu2fcfg"):
        pytest.skip("package pamu2fcfg")
    with Bench("hidraw", tmp_path, hidraw_keys) as bench:
        yield bench


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    one = SqliteStore(make(tmp_path / "state"), SEALER)
    yield one
    discard(one)


def pamu2fcfg(keys: Keys, *more: str, typed: str = "", user: str = "--username=alice") -> bytes:
    """What Debian's tool writes into a mapping file."""
    argv = ["pamu2fcfg", user, f"--origin={ORIGIN}", f"--appid={ORIGIN}", *more]
    done = subprocess.run(
        argv, env=os.environ | keys.environment(), input=typed.encode(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def take_over(store: SqliteStore, line: bytes) -> None:
    """Import, as `pam-mfa import pam-u2f --apply` does."""
    keys = [entry.imported for entry in pam_u2f.parse(line, RelyingParties(ORIGIN, ORIGIN), "alice") if entry.imported]
    assert keys, line
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock())
    World(store, [*_pieces(sheet(keys)), ""]).run(importing.apply_import(desk, {"source": "pam_u2f"}))


def _pieces(text: str) -> list[str]:
    return [text[at : at + 512] for at in range(0, len(text), 512)]


def log_in(bench: Bench, store: SqliteStore, rule: Rule = RULE, *answers: str) -> tuple[Verdict, DeviceWorld]:
    """One login of alice; the key's user touches whatever blinks."""
    world = DeviceWorld(store, answers)
    world.bench = bench
    request = Request(os.urandom(16).hex(), 0, "sudo", "alice", ALICE, ruser="alice")
    try:
        verdict = world.run(login(request, Settings(policy=rule), FACTORS, Clock()))
    finally:
        world.close()
    return verdict, world


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_key_of_pamu2fcfg_logs_in(nodes: Bench, hidraw_keys: Keys, store: SqliteStore, algorithm: str) -> None:
    blue = nodes.key("blue")
    take_over(store, pamu2fcfg(hidraw_keys, f"--type={algorithm}"))
    blue.trace(clear=True)
    for _ in range(2):  # the first login brings the sign count
        verdict, world = log_in(nodes, store)
        assert verdict.outcome is Outcome.GRANTED, (verdict, world.wants)
        assert (verdict.factor, verdict.label, world.asked) == ("fido2", "pam_u2f key 1", [])
    assert all(entry.get("command") != 0x01 for entry in blue.trace())  # authenticatorMakeCredential


def test_two_keys_of_one_user(nodes: Bench, hidraw_keys: Keys, store: SqliteStore) -> None:
    blue = nodes.key("blue")
    line = pamu2fcfg(hidraw_keys).rstrip(b"\n")
    blue.remove()
    nodes.key("red")
    take_over(store, line + pamu2fcfg(hidraw_keys, user="--nouser"))
    verdict, _ = log_in(nodes, store)
    assert (verdict.outcome, verdict.label) == (Outcome.GRANTED, "pam_u2f key 2")
    blue.insert()
    verdict, world = log_in(nodes, store)
    assert verdict.outcome is Outcome.GRANTED, world.wants


def test_a_key_that_was_enrolled_with_its_pin(nodes: Bench, hidraw_keys: Keys, store: SqliteStore) -> None:
    nodes.key("blue", pin=PIN)
    take_over(store, pamu2fcfg(hidraw_keys, "--pin-verification", typed=f"{PIN}\n"))
    verdict, world = log_in(nodes, store, RULE, PIN)
    assert verdict.outcome is Outcome.GRANTED, world.wants
    assert len(world.asked) == 1
    assert "PIN" in world.asked[0]


def test_another_key_does_not_log_in(nodes: Bench, hidraw_keys: Keys, store: SqliteStore) -> None:
    blue = nodes.key("blue")
    take_over(store, pamu2fcfg(hidraw_keys))
    blue.remove()
    nodes.key("red")
    verdict, _ = log_in(nodes, store, Rule(methods=("fido2",), local_key=LocalKey.ALWAYS))
    assert verdict.outcome is not Outcome.GRANTED


@pytest.mark.parametrize("fault", [{"bad_signature": True}, {"touch": "deny"}])
def test_what_is_wrong_with_an_answer_is_wrong_with_an_imported_key_s(
    nodes: Bench, hidraw_keys: Keys, store: SqliteStore, fault: dict[str, Any]
) -> None:
    blue = nodes.key("blue")
    take_over(store, pamu2fcfg(hidraw_keys))
    blue.inject(**fault)
    verdict, _ = log_in(nodes, store, Rule(methods=("fido2",), local_key=LocalKey.ALWAYS))
    assert verdict.outcome is not Outcome.GRANTED
    blue.inject(bad_signature=False, touch="auto")
    assert log_in(nodes, store)[0].outcome is Outcome.GRANTED


def test_the_wrong_origin_is_another_relying_party(nodes: Bench, hidraw_keys: Keys, store: SqliteStore) -> None:
    nodes.key("blue")
    line = pamu2fcfg(hidraw_keys)
    (entry,) = pam_u2f.parse(line, RelyingParties("pam://typo", "pam://typo"))
    assert entry.imported
    desk = Desk(Caller(SESSION, 0, ALICE, "alice", "host"), Settings(), FACTORS, Clock())
    World(store, [sheet([entry.imported]), ""]).run(importing.apply_import(desk, {"source": "pam_u2f"}))
    verdict, _ = log_in(nodes, store, Rule(methods=("fido2",), local_key=LocalKey.ALWAYS))
    assert verdict.outcome is not Outcome.GRANTED


@pytest.mark.parametrize("algorithm", ["ecdsa-sk", "ed25519-sk"])
def test_a_key_of_ssh_keygen(
    nodes: Bench, hidraw_keys: Keys, store: SqliteStore, tmp_path: Path, algorithm: str
) -> None:
    """What pam_u2f takes with sshformat."""
    nodes.key("blue")
    path = tmp_path / "id"
    argv = ["ssh-keygen", "-q", "-t", algorithm, "-N", "", "-f", str(path)]
    subprocess.run(argv, env=os.environ | hidraw_keys.environment(), timeout=60, check=True, stdin=subprocess.DEVNULL)
    take_over(store, path.read_bytes())
    verdict, world = log_in(nodes, store)
    assert verdict.outcome is Outcome.GRANTED, world.wants


# What fido2-token -L -k shows of a key that can list its credentials; ours cannot, but signs without being told which.
ASK_ID = """
import base64, sys
from fido2.ctap2 import Ctap2
from fido2.hid import CtapHidDevice
(device,) = CtapHidDevice.list_devices()
print(base64.b64encode(Ctap2(device).get_assertion(sys.argv[1], bytes(32)).credential["id"]).decode())
"""


def test_a_resident_key_once_its_id_stands_in_the_line(nodes: Bench, hidraw_keys: Keys, store: SqliteStore) -> None:
    nodes.key("blue", pin=PIN)
    line = pamu2fcfg(hidraw_keys, "--resident", typed=f"{PIN}\n")
    (entry,) = pam_u2f.parse(line, RelyingParties(ORIGIN, ORIGIN))
    assert entry.imported is None
    assert "resident" in entry.why
    argv = [sys.executable, "-c", ASK_ID, ORIGIN]
    shown = subprocess.run(
        argv, env=os.environ | hidraw_keys.environment(), capture_output=True, timeout=60, check=True
    )
    take_over(store, line.replace(b"*", shown.stdout.strip(), 1))
    verdict, world = log_in(nodes, store)
    assert verdict.outcome is Outcome.GRANTED, world.wants
