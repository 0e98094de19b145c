"""Coming from pam_u2f: a key that Debian's pamu2fcfg enrolled opens sudo after the import, without a new enrolment.

pamu2fcfg sees the virtual key as a hidraw node. sudo finds the same key in a reader, which needs no environment: the
device service and the engine's broker get none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from e2e.keyed import shown_list
from e2e.site_machine import SiteMachine
from machine import wait_for
from vdev import keys as vdev_keys, pcscd as vdev_pcscd
from vdev.authenticator import Authenticator
from vdev.fido_card import FidoApplet
from vdev.iso7816 import Card
from vdev.keys import Keys
from vdev.pcscd import Pcscd

DEVICE = "/usr/lib/pam-mfa/pam-mfa-device"
CONFIG = '[policy]\nlocal_key = "always"\n'
ROOT = "\r\n0\r\n"
SEED = hashlib.sha256(b"blue").digest()
MAPPING = "/etc/u2f_mappings"


@pytest.fixture
def mapped(site: SiteMachine) -> SiteMachine:
    """alice has used pam_u2f here."""
    if lack := vdev_keys.missing() or vdev_pcscd.missing():
        pytest.skip(lack)
    with Keys(site.machine.command, site.machine.path) as keys:
        keys.key("blue", seed=SEED)
        argv = ["/usr/bin/pamu2fcfg", "--username=alice", "--origin=pam://old", "--appid=pam://old"]
        line = site.machine.run(argv, env=keys.environment()).stdout
    site.machine.write(MAPPING, f"# of pam_u2f\n{line}\nnobody-here:{line.partition(':')[2]}\n", 0o600)
    return site


@pytest.fixture
def blue(mapped: SiteMachine) -> Iterator[Authenticator]:
    """The same key in a reader."""
    key = Authenticator(SEED)
    with Pcscd(path=mapped.machine.path("/run/pcscd/pcscd.comm")) as pcscd:
        pcscd.readers[0].insert(Card(FidoApplet(key)))
        yield key


def start(site: SiteMachine) -> None:
    """The service with its device service, or nothing: the engine brings its own."""
    if site.side == "service":
        site.machine.popen([DEVICE], stdin=subprocess.DEVNULL)
        wait_for("the device service", site.machine.path("/run/pam-mfa/device.sock").exists)
    site.start(CONFIG)


def ask(site: SiteMachine, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Root's `pam-mfa`: its exit code and records."""
    done = site.machine.run(["/usr/bin/pam-mfa", *arguments, "--json"], check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def opens_sudo(site: SiteMachine, key: Authenticator, label: str) -> None:
    """alice touches the key, and is root."""
    key.faults.set(touch="manual")
    sudo = site.sudo()
    sudo.expect(f'Touch your security key "{label}"')
    site.terminals.happened("the blue key is touched")
    key.touch()
    said = sudo.ends_with(0)
    assert said.endswith(ROOT)
    assert f'Second factor: fido2 "{label}" taken over from another program by root, ' in said
    (granted,) = site.machine.wait_for_journal("login GRANTED")
    assert f'label="{label}"' in granted


def test_a_key_of_pam_u2f_opens_sudo(mapped: SiteMachine, blue: Authenticator) -> None:
    start(mapped)
    look = ["import", "pam-u2f", MAPPING, "--origin", "pam://old"]
    code, report = ask(mapped, *look)
    assert code == 3  # root has nobody of that name
    assert [(each["line"], each["user"], each["state"]) for each in report] == [
        (2, "alice", "ready"), (3, "nobody-here", "refused"),
    ]  # fmt: skip
    before = ask(mapped, "list", "--user", "alice")
    with mapped.terminals.story("import-pam-u2f"):
        for more in ((), ("--apply",)):
            mapped.terminals.run(["/usr/bin/pam-mfa", *look, *more], user=None).ends_with(3)
        assert "pam_u2f key 1" in shown_list(mapped, None)
        opens_sudo(mapped, blue, "pam_u2f key 1")
    assert ask(mapped, *look, "--apply")[1][0]["state"] == "present"
    assert len(ask(mapped, "list", "--user", "alice")[1]) == len(before[1]) + 1
    assert mapped.machine.wait_for_journal("import DONE", 2)


def test_a_passkey_mapping_opens_sudo(mapped: SiteMachine, blue: Authenticator) -> None:
    handle, point = mapped.machine.read(MAPPING).splitlines()[1].partition(":")[2].split(",")[:2]
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + base64.b64decode(point))
    spki = base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    start(mapped)
    given = ["import", "passkey", f"passkey:{handle},{spki}", "--rp-id", "pam://old", "--user", "alice", "--apply"]
    code, (record,) = ask(mapped, *given)
    assert (code, record["state"]) == (0, "imported")
    opens_sudo(mapped, blue, "passkey 1")


def test_what_is_plugged_in(mapped: SiteMachine, blue: Authenticator) -> None:
    """`pam-mfa key`; by the service anybody may ask."""
    start(mapped)
    code, records = ask(mapped, "key", "list")
    (record,) = [each for each in records if each["kind"] == "device"]  # and the empty readers
    assert (code, record["transport"], record["options"]["clientPin"]) == (0, "nfc", "0")
    if mapped.side == "service":
        info = mapped.machine.run(["/usr/bin/pam-mfa", "key", "info"], user="bob").stdout
        assert "PIN: not set" in info
        assert "fido2-token -S" in info
