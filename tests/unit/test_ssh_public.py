"""Keys of security keys as sshd shows them: one form, and nothing else is one."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings, strategies as st
from key_files import ED, POINT, text
from ssh_keys import KINDS, authinfo, blob, certificate, shown

from pam_mfa.factors.assertion import Unproven
from pam_mfa.factors.ssh_key import fingerprint
from pam_mfa.factors.ssh_public import ECDSA, ED25519, check, parse, proven, read

BOTH = pytest.mark.parametrize("kind", KINDS)
PLAIN = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


@BOTH
def test_a_key_and_a_certificate_over_it_are_the_same_key(kind: bytes) -> None:
    key = proven(authinfo(blob(kind)))
    over = proven(authinfo(certificate(kind)))
    assert key is not None
    assert (key.kind, key.application, key.blob, key.untouched) == (kind, "ssh:", blob(kind), False)
    assert over == key
    check(key)


@BOTH
@pytest.mark.parametrize("extensions", [[b"no-touch-required"], [b"permit-pty", b"no-touch-required"]])
def test_a_certificate_that_needs_no_touch_says_so(kind: bytes, extensions: list[bytes]) -> None:
    over = proven(authinfo(certificate(kind, extensions)))
    assert over is not None
    assert over.untouched
    assert over.blob == blob(kind)


@BOTH
def test_the_application_belongs_to_the_key(kind: bytes) -> None:
    assert read(shown(blob(kind, b"ssh:work")).encode()) != read(shown(blob(kind)).encode())
    assert parse(blob(kind, b"ssh:work")).application == "ssh:work"


NOTHING = [
    b"", b"publickey", b"publickey ", b"publickey x", b"publickey  ", b"password", b"keyboard-interactive/pam",
    b"publickey " + PLAIN,
    authinfo(blob()).replace(b"publickey", b"hostbased"),
    authinfo(blob()).replace(b"publickey", b"Publickey"),
    authinfo(blob()) + b" ", authinfo(blob()) + b"\n", authinfo(blob()) + b" comment", b" " + authinfo(blob()),
    authinfo(blob())[:-1], authinfo(blob())[:-4], authinfo(blob()) + b"AAAA", authinfo(blob()) + b"=",
    authinfo(blob()).replace(b" A", b"  A"), authinfo(blob()).replace(b" A", b" \xffA"),
    b"publickey " + ED25519, b"publickey " + ED25519 + b" ", b"publickey " + ED25519 + b" AAAA",
    b"publickey " + ED25519 + b" " + base64.b64encode(blob(ECDSA)),  # the type does not fit
    b"publickey " + ED25519 + b" " + base64.b64encode(certificate()),
    b"publickey ssh-ed25519 " + base64.b64encode(blob()),
    b"publickey webauthn-" + ECDSA + b" " + base64.b64encode(blob(ECDSA)),
    authinfo(blob() + b"x"), authinfo(blob() + text(b"x")), authinfo(blob()[:-1]),
    authinfo(blob(application=b"")), authinfo(blob(application=b"a" * 256)), authinfo(blob(application=b"s\n")),
    authinfo(blob(application="ssh:é".encode())), authinfo(blob(point=b"x" * 31)), authinfo(blob(point=b"x" * 33)),
    authinfo(blob(ECDSA, point=POINT[:33])), authinfo(blob(ECDSA, point=POINT + b"x")),
    authinfo(blob(ECDSA).replace(b"nistp256", b"nistp384")), authinfo(blob(ECDSA).replace(text(b"nistp256"), b"")),
    authinfo(certificate(of=2)), authinfo(certificate(of=0)), authinfo(certificate() + b"x"),
    authinfo(certificate()[:-1]), authinfo(certificate(rest=[b"", b"x"])), authinfo(certificate(rest=[b""] * 4)),
    authinfo(certificate().replace(text(b"permit-pty") + text(b""), text(b"permit-pty") + b"\0\0\0\1")),
    b"publickey \xff\xfe\0", b"publickey " + b"A" * 4000, b"publickey " + ED25519 + b" " + b"A" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("line", NOTHING, ids=map(str, range(len(NOTHING))))
def test_everything_else_is_none(line: bytes) -> None:
    assert proven(line) is None


POISONED = [
    blob(point=bytes(32)), blob(point=b"\xff" * 32), blob(ECDSA, point=b"\x02" + POINT[1:]),
    blob(ECDSA, point=b"\x04" + bytes(64)), blob(ECDSA, point=POINT[:-1] + bytes([POINT[-1] ^ 1])),
]  # fmt: skip


@pytest.mark.parametrize("data", POISONED, ids=map(str, range(len(POISONED))))
def test_a_point_that_is_no_key(data: bytes) -> None:
    with pytest.raises(Unproven):
        check(parse(data))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([blob(), blob(ECDSA), certificate(), certificate(ECDSA)]), st.integers(0, 400), st.binary())
def test_a_changed_line_is_none_or_a_key_of_the_right_form(data: bytes, at: int, by: bytes) -> None:
    line = authinfo(data)
    changed = line[: at % len(line)] + by + line[at % len(line) + len(by) :]
    found = proven(changed)
    assert found is None or parse(found.blob).blob == found.blob


def test_the_fingerprint_is_ssh_keygens(tmp_path: Path) -> None:
    for number, data in enumerate((blob(), blob(ECDSA))):
        file = tmp_path / f"{number}.pub"
        file.write_text(shown(data) + " me@host\n")
        said = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True).stdout
        assert said.split()[1] == fingerprint(data)


def test_the_keys_of_these_tests_are_keys() -> None:
    assert ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), POINT)
    assert len(ED.public_bytes_raw()) == 32
