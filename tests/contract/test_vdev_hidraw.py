"""The virtual key as a hidraw node, for clients that know nothing of it: python-fido2, libfido2's tools and pam_u2f."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, wait_for
from vdev import keys as vdev_keys
from vdev.keys import Key, Keys

TESTS = Path(__file__).resolve().parent.parent
PIN = "1234"
LIST = """
from fido2.ctap2 import Ctap2
from fido2.hid import CtapHidDevice
for device in CtapHidDevice.list_devices():
    print(device.product_name, device.descriptor.vid, Ctap2(device).info.options["clientPin"])
"""
REGISTER_AND_ASSERT = """
import hashlib
from fido2.ctap2 import Ctap2
from fido2.hid import CtapHidDevice
(device,) = CtapHidDevice.list_devices()
ctap, hashed = Ctap2(device), hashlib.sha256(b"client data").digest()
rp, user, es256 = {"id": "example.org", "name": "E"}, {"id": b"1", "name": "alice"}, {"type": "public-key", "alg": -7}
credential = ctap.make_credential(hashed, rp, user, [es256]).auth_data.credential_data
assertion = ctap.get_assertion("example.org", hashed, [{"type": "public-key", "id": credential.credential_id}])
credential.public_key.verify(assertion.auth_data + hashed, assertion.signature)
print("verified")
"""
SELECTION = """
import struct
from fido2.hid import CtapHidDevice
(device,) = CtapHidDevice.list_devices()
try:
    print(device.call(0x10, b"\\x0b"))
except OSError as error:
    print(error.strerror)
except struct.error:  # what stands for a node is a terminal: a read as it goes may also give nothing
    print("Input/output error")
"""
LOCKED = """
import fcntl, os
lock = os.open("/dev/hidraw0", os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
LOOK_ON = """
import fcntl, os
from fido2.hid import list_descriptors
print(list_descriptors()[0].product_name)
try:
    fcntl.flock(os.open("/dev/hidraw0", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(True)
"""
LONG = """
from fido2.hid import CtapHidDevice
(device,) = CtapHidDevice.list_devices()
answer = device.call(0x10, b"\\x04")
print(len(answer), answer[4:].count(0))
"""


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def run(keys: Keys, *argv: str, **more: Any) -> str:
    """Standard output of a client that sees the keys."""
    done = subprocess.run(
        argv, env=os.environ | keys.environment(), capture_output=True, text=True, timeout=30, check=False, **more
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def python(keys: Keys, code: str) -> str:
    """The same of python-fido2."""
    return run(keys, sys.executable, "-c", code)


# ----------------------------------------------------------------------------------------------------- python-fido2


def test_python_fido2_lists_the_keys_that_are_plugged_in(keys: Keys) -> None:
    blue, red = keys.key("blue", pin=PIN), keys.key("red")
    assert sorted(python(keys, LIST).splitlines()) == ["blue 4617 True", "red 4617 False"]
    blue.remove()
    assert python(keys, LIST) == "red 4617 False\n"
    blue.insert()
    red.remove()
    assert python(keys, LIST) == "blue 4617 True\n"
    assert blue.state() == {"plugged": True, "awaiting": False, "counter": 0, "pin_tries": 8}


def test_python_fido2_registers_and_asserts(keys: Keys) -> None:
    blue = keys.key("blue")
    assert python(keys, REGISTER_AND_ASSERT) == "verified\n"
    assert [(entry["command"], entry["status"]) for entry in blue.trace(clear=True)] == [(4, 0), (1, 0), (2, 0)]
    assert blue.trace() == []
    assert blue.state()["counter"] == 2


def test_any_user_may_open_a_key(keys: Keys) -> None:
    need("fido2-token")
    keys.key("blue")
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    assert "(pam-mfa blue)" in run(keys, *as_nobody, "fido2-token", "-L")


def test_a_key_that_comes_while_a_client_waits(keys: Keys) -> None:
    look = "import glob, time\nprint('waiting', flush=True)\nwhile not glob.glob('/dev/hidraw*'): time.sleep(0.01)\n"
    blue = keys.key("blue", insert=False)
    with in_background(keys, look + REGISTER_AND_ASSERT) as client:
        assert client.stdout
        assert client.stdout.readline() == "waiting\n"
        blue.insert()
        assert client.communicate(timeout=30)[0] == "verified\n"


def test_a_key_is_pulled_out_while_it_waits_for_a_touch(keys: Keys) -> None:
    blue = keys.key("blue")
    blue.inject(touch="never")
    with in_background(keys, SELECTION) as client:
        blue.wait_for_user()
        blue.remove()
        assert client.communicate(timeout=30)[0] == "Input/output error\n"


def test_a_touch(keys: Keys) -> None:
    blue = keys.key("blue")
    blue.inject(touch="manual")
    with in_background(keys, SELECTION) as client:
        blue.wait_for_user()
        assert client.poll() is None
        blue.touch()
        assert client.communicate(timeout=30)[0] == "b'\\x00'\n"


def in_background(keys: Keys, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | keys.environment(), stdout=subprocess.PIPE, text=True
    )


def test_a_long_answer_arrives_whole(keys: Keys) -> None:
    """A terminal holds 4 KiB: the key waits for its reader, and no packet is torn."""
    keys.key("blue").inject(answer={4: "long"})
    assert python(keys, LONG) == "65535 65531\n"


def test_what_a_killed_client_left_unread_does_not_bother_the_next(keys: Keys) -> None:
    blue = keys.key("blue")
    blue.inject(flood=True)
    with in_background(keys, SELECTION) as client:
        wait_for("a flood", blue.trace)
        client.kill()
    blue.heal()
    wait_for("the end of the request", lambda: blue.trace()[-1].get("status") == 0)
    assert python(keys, REGISTER_AND_ASSERT) == "verified\n"


def test_a_client_that_looks_on_leaves_one_at_work_alone(keys: Keys) -> None:
    blue = keys.key("blue")
    blue.inject(touch="manual")
    with in_background(keys, LOCKED + SELECTION) as client:
        blue.wait_for_user()
        assert python(keys, LOOK_ON) == "blue\nTrue\n"
        blue.touch()
        assert client.communicate(timeout=30)[0] == "b'\\x00'\n"


def test_faults_cross_the_control_channel(keys: Keys) -> None:
    blue = keys.key("blue", aaguid=b"0123456789abcdef")
    blue.inject(answer={4: b"\x00\xa0"}, status={11: 0x27}, user_handle=b"mallory")
    assert python(keys, LONG.replace("answer[4:].count(0)", "answer")) == "2 b'\\x00\\xa0'\n"
    assert python(keys, SELECTION) == 'b"\'"\n'
    blue.set(pin_tries=3, counter=77)
    assert blue.state()["pin_tries"] == 3
    assert blue.state()["counter"] == 77
    for wrong in ({"toch": "never"}, {"answer": {4: "no such"}}):
        with pytest.raises(RuntimeError):
            blue.inject(**wrong)
    with pytest.raises(RuntimeError):
        Key(keys, "green").insert()


def test_nothing_is_left_behind(keys: Keys) -> None:
    testbed = Path(keys.environment()["UMOCKDEV_DIR"])
    keys.key("blue")
    assert testbed.is_dir()
    assert keys.place.exists()
    keys.stop()
    assert not testbed.exists()
    assert not keys.place.exists()


def test_it_ends_with_the_test_process() -> None:
    code = """
import os, sys
from vdev.keys import Keys
keys = Keys()
keys.start()
keys.key("blue")
print(keys.environment()["UMOCKDEV_DIR"], flush=True)
os._exit(1)
"""
    if lack := vdev_keys.missing():
        pytest.skip(f"hidraw nodes: {lack}")
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(TESTS)}, capture_output=True
    )
    testbed = Path(done.stdout.decode().strip())
    assert testbed.name.startswith("umockdev.")
    wait_for("the end of the testbed", lambda: not testbed.exists())


# ---------------------------------------------------------------------------------------------------------- libfido2


def test_libfido2_lists_and_describes_the_key(keys: Keys) -> None:
    need("fido2-token")
    keys.key("blue", pin=PIN, fingerprint=True)
    assert run(keys, "fido2-token", "-L") == "/dev/hidraw0: vendor=0x1209, product=0xf1d0 (pam-mfa blue)\n"
    facts = run(keys, "fido2-token", "-I", "/dev/hidraw0").splitlines()
    assert "caps: 0x0d (wink, cbor, nomsg)" in facts
    assert "options: rk, up, uv, clientPin, pinUvAuthToken, makeCredUvNotRqd" in facts
    assert "pin retries: 8" in facts
    assert "uv retries: 3" in facts


@pytest.mark.parametrize("name", ["es256", "eddsa", "rs256"])
def test_libfido2_makes_and_verifies_credentials(keys: Keys, tmp_path: Path, name: str) -> None:
    need("fido2-cred")
    keys.key("blue")
    hashed, user = "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyMTI=", "dXNlcg=="
    made = run(keys, "fido2-cred", "-M", "/dev/hidraw0", name, input=f"{hashed}\nexample.org\nalice\n{user}\n")
    verified = run(keys, "fido2-cred", "-V", name, input=made).splitlines()
    (tmp_path / "public").write_text("\n".join(verified[1:]) + "\n")
    asserted = run(keys, "fido2-assert", "-G", "/dev/hidraw0", input=f"{hashed}\nexample.org\n{verified[0]}\n")
    run(keys, "fido2-assert", "-V", str(tmp_path / "public"), name, input=asserted)


def test_a_program_that_clears_its_environment_sees_the_keys(machine: Machine, machine_keys: Keys) -> None:
    need("fido2-token")
    machine_keys.key("blue")
    machine_keys.show_to("/usr/bin/fido2-token")
    for argv in (["fido2-token", "-L"], ["sudo", "-u", "bob", "env", "-i", "fido2-token", "-L"]):
        assert "(pam-mfa blue)" in machine.run(argv).stdout
    with pytest.raises(ValueError, match="private machine"):
        Keys().show_to("/usr/bin/fido2-token")


# ------------------------------------------------------------------------------------------------------------ pam_u2f


U2F = "auth required pam_u2f.so authfile=/etc/u2f cue origin=pam://machine appid=pam://machine\n"
# Whoever runs the tests is not asked. Not the session's first process either: the key's node would become its terminal.
TERMINAL_LESS = ("setsid", "--wait", "sh", "-c", '"$@"; exit "$?"', "sh")


def login(machine: Machine, keys: Keys, typed: str = "") -> subprocess.CompletedProcess[str]:
    """One authentication of alice."""
    argv = ["pamtester", "u2f", "alice", "authenticate"]
    return machine.run(argv, env=keys.environment(), input=typed, check=False)


def enrol(machine: Machine, keys: Keys, *more: str) -> None:
    """With the PIN on standard input: where logins are to ask for it, pamu2fcfg 1.3 and later do so already."""
    argv = ["pamu2fcfg", "--username=alice", "--origin=pam://machine", "--appid=pam://machine", *more]
    machine.write("/etc/u2f", machine.run([*TERMINAL_LESS, *argv], env=keys.environment(), input=f"{PIN}\n").stdout)
    machine.write("/etc/pam.d/u2f", U2F)


def test_pam_u2f_logs_in_with_the_key(machine: Machine, machine_keys: Keys) -> None:
    need("pamu2fcfg")
    blue = machine_keys.key("blue")
    enrol(machine, machine_keys)
    done = login(machine, machine_keys)
    assert "successfully authenticated" in done.stdout, done.stderr
    assert "Please touch the" in done.stdout
    blue.inject(touch="deny")
    assert login(machine, machine_keys).returncode != 0
    blue.heal()
    blue.inject(bad_signature=True)
    assert login(machine, machine_keys).returncode != 0
    blue.heal()
    assert login(machine, machine_keys).returncode == 0
    blue.remove()
    assert login(machine, machine_keys).returncode != 0
    machine_keys.key("red")
    assert login(machine, machine_keys).returncode != 0


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_pam_u2f_knows_the_algorithms(machine: Machine, machine_keys: Keys, algorithm: str) -> None:
    need("pamu2fcfg")
    machine_keys.key("blue")
    enrol(machine, machine_keys, f"--type={algorithm}")
    assert login(machine, machine_keys).returncode == 0


def test_pam_u2f_asks_for_the_pin(machine: Machine, machine_keys: Keys) -> None:
    need("pamu2fcfg")
    blue = machine_keys.key("blue", pin=PIN)
    enrol(machine, machine_keys, "--pin-verification")
    blue.trace(clear=True)
    machine.write("/etc/pam.d/u2f", U2F.replace("\n", " pinverification=1\n"))
    assert login(machine, machine_keys, f"{PIN}\n").returncode == 0
    assert [entry["status"] for entry in blue.trace(clear=True) if entry.get("subcommand") in (5, 9)] == [0]
    assert login(machine, machine_keys, "9999\n").returncode != 0
    assert blue.state()["pin_tries"] == 7
