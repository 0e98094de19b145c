"""The virtual key of tests/vdev as an authenticator, with python-fido2 as its witness."""

from __future__ import annotations

import ast
import threading
from pathlib import Path
from typing import Any

import fido2.cbor
import pytest
from cryptography.exceptions import InvalidSignature
from fido2.attestation.packed import PackedAttestation
from fido2.ctap import CtapError
from fido2.ctap2.pin import ClientPin, PinProtocolV1, PinProtocolV2
from hypothesis import given, strategies as st
from vdev import cbor
from vdev.attestation import FORMATS
from vdev.credentials import ALGORITHMS
from witness import GET_ASSERTION, HASH, RP, USER, Plug, by_pin, proof, refused

VDEV = Path(__file__).resolve().parent.parent / "vdev"
ERR = CtapError.ERR


# ------------------------------------------------------------------------------------------------------ independence


def test_it_has_nothing_in_common_with_what_it_tests() -> None:
    files = list(VDEV.glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("fido2", "pam_mfa")], file


VALUES: st.SearchStrategy[object] = st.recursive(
    st.one_of(st.integers(-(2**64), 2**64 - 1), st.binary(), st.text(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.integers(-99, 99), inner, max_size=4)),
    max_leaves=6,
)


@given(VALUES)
def test_cbor_is_what_the_witness_writes(value: object) -> None:
    assert cbor.encode(value) == fido2.cbor.encode(value)  # type: ignore[arg-type]
    assert fido2.cbor.decode(cbor.encode(value)) == value


@given(VALUES)
def test_cbor_comes_back(value: object) -> None:
    assert cbor.decode(cbor.encode(value)) == value


def test_cbor_ends_before_the_stack_does() -> None:
    with pytest.raises(cbor.CborError, match="too deep"):
        cbor.decode(b"\x81" * 100_000 + b"\x00")


@pytest.mark.parametrize(
    "odd", ["", "18", "1801", "1900ff", "a2010101", "a201010101", "a202000100", "5f", "f7", "f93c00", "0000", "62c328"]
)
def test_cbor_that_is_not_canonical(odd: str) -> None:
    with pytest.raises(cbor.CborError):
        cbor.decode(bytes.fromhex(odd))


# ------------------------------------------------------------------------------------------------ credentials of a key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("discoverable", [False, True])
def test_a_credential_signs(plug: Plug, algorithm: int, discoverable: bool) -> None:
    plugged = plug()
    credential = plugged.make(algorithms=(algorithm,), options={"rk": discoverable})
    assert credential.public_key[3] == algorithm
    first, second = plugged.assertion(credential), plugged.assertion(credential)
    assert first.auth_data.is_user_present()
    assert not first.auth_data.is_user_verified()
    assert second.auth_data.counter == first.auth_data.counter + 1
    assert (first.user or {}).get("id") == (USER["id"] if discoverable else None)
    with pytest.raises(InvalidSignature):
        credential.public_key.verify(first.auth_data + HASH[::-1], first.signature)


@pytest.mark.parametrize("form", FORMATS)
def test_attestation(plug: Plug, form: str) -> None:
    made = plug(attestation=form).ctap.make_credential(HASH, RP, USER, [{"type": "public-key", "alg": -7}])
    assert made.fmt == ("none" if form == "none" else "packed")
    if form == "none":
        return
    assert made.auth_data.credential_data
    key = made.auth_data.credential_data.public_key
    if form == "packed":
        PackedAttestation().verify(made.att_stmt, made.auth_data, HASH)
    else:
        key.verify(made.auth_data + HASH, made.att_stmt["sig"])


def test_silent_assertion(plug: Plug) -> None:
    plugged = plug()
    credential = plugged.make()
    plugged.key.faults.set(touch="never")
    assert not plugged.assertion(credential, options={"up": False}).auth_data.is_user_present()
    with refused(ERR.NO_CREDENTIALS):
        plugged.ctap.get_assertion(RP["id"], HASH, [{"type": "public-key", "id": b"another"}], options={"up": False})


def test_another_seed_is_another_key(plug: Plug) -> None:
    one, again, two = plug(b"one"), plug(b"one"), plug(b"two")
    credential = one.make()
    again.assertion(credential)
    with refused(ERR.NO_CREDENTIALS):
        two.assertion(credential)
    with refused(ERR.NO_CREDENTIALS):
        one.ctap.get_assertion("example.com", HASH, [{"type": "public-key", "id": credential.credential_id}])


def test_excluded(plug: Plug) -> None:
    plugged = plug()
    credential = plugged.make()
    with refused(ERR.CREDENTIAL_EXCLUDED):
        plugged.make(exclude_list=[{"type": "public-key", "id": credential.credential_id}])
    plugged.make(exclude_list=[{"type": "public-key", "id": b"another"}])


def test_several_discoverable_credentials(plug: Plug) -> None:
    plugged = plug(discoverable=2, pin="1234")
    for name in ("alice", "bob"):
        pin_proof = by_pin(plugged, "1234", permission=ClientPin.PERMISSION.MAKE_CREDENTIAL)
        plugged.make(user={"id": name.encode(), "name": name}, options={"rk": True}, **pin_proof)
    assert plugged.ctap.get_info().remaining_disc_creds == 0
    pin_proof = by_pin(plugged, "1234", permission=ClientPin.PERMISSION.MAKE_CREDENTIAL)
    with refused(ERR.KEY_STORE_FULL):
        plugged.make(user={"id": b"carol", "name": "carol"}, options={"rk": True}, **pin_proof)
    found = plugged.ctap.get_assertions(RP["id"], HASH)
    assert [assertion.user for assertion in found] == [{"id": b"bob"}, {"id": b"alice"}]
    named = plugged.ctap.get_assertion(RP["id"], HASH, **by_pin(plugged, "1234"))
    assert named.user == {"id": b"bob", "name": "bob"}
    with refused(ERR.NOT_ALLOWED):
        plugged.ctap.get_info()
        plugged.ctap.get_next_assertion()


def test_reset_forgets_everything(plug: Plug) -> None:
    plugged = plug(pin="1234")
    credential = plugged.make()
    plugged.ctap.reset()
    assert plugged.ctap.get_info().options["clientPin"] is False
    with refused(ERR.NO_CREDENTIALS):
        plugged.assertion(credential)


@pytest.mark.parametrize(
    ("options", "more", "code"),
    [
        ({"algorithms": (-8,)}, {}, ERR.UNSUPPORTED_ALGORITHM),
        ({}, {"options": {"up": False}}, ERR.INVALID_OPTION),
        ({}, {"options": {"uv": True}}, ERR.INVALID_OPTION),
        ({"discoverable": 0}, {"options": {"rk": True}}, ERR.UNSUPPORTED_OPTION),
        ({"pin": "1234"}, {"options": {"rk": True}}, ERR.PUAT_REQUIRED),
        ({"pin": "1234", "always_uv": True}, {}, ERR.PUAT_REQUIRED),
        ({"pin": "1234", "uv_not_required": False}, {}, ERR.PUAT_REQUIRED),
        ({}, {"pin_uv_param": b"", "pin_uv_protocol": 2}, ERR.PIN_NOT_SET),
        ({"pin": "1234"}, {"pin_uv_param": b"", "pin_uv_protocol": 2}, ERR.PIN_INVALID),
        ({"pin": "1234"}, {"pin_uv_param": bytes(32), "pin_uv_protocol": 2}, ERR.PIN_AUTH_INVALID),
        ({"pin": "1234"}, {"pin_uv_param": bytes(32), "pin_uv_protocol": 3}, ERR.INVALID_PARAMETER),
        ({"pin": "1234"}, {"pin_uv_param": bytes(32)}, ERR.MISSING_PARAMETER),
        ({}, {"exclude_list": [{"type": "public-key", "id": b"x"}] * 17}, ERR.LIMIT_EXCEEDED),
    ],
)
def test_refusals(plug: Plug, options: dict[str, Any], more: dict[str, Any], code: int) -> None:
    with refused(code):
        plug(**options).make(**more)


def test_parameters_that_are_none(plug: Plug) -> None:
    plugged = plug()
    for request, code in (
        (b"\x02", ERR.MISSING_PARAMETER),
        (b"\x02\xff", ERR.INVALID_CBOR),
        (b"\x02\x01", ERR.CBOR_UNEXPECTED_TYPE),
        (b"\x02" + cbor.encode({1: 5, 2: 6, 3: [7]}), ERR.CBOR_UNEXPECTED_TYPE),
        (b"\x77", ERR.INVALID_COMMAND),
        (b"", ERR.INVALID_COMMAND),
    ):
        assert plugged.device.call(0x10, request) == bytes([code]), request


# ------------------------------------------------------------------------------------------------- user verification


@pytest.mark.parametrize("protocol", [PinProtocolV1, PinProtocolV2])
@pytest.mark.parametrize("versions", [("FIDO_2_0",), ("FIDO_2_0", "FIDO_2_1")])
def test_a_pin_is_set_changed_and_verifies(plug: Plug, protocol: Any, versions: tuple[str, ...]) -> None:
    plugged = plug(versions=versions)
    pin = ClientPin(plugged.ctap, protocol())
    pin.set_pin("1234")
    with refused(ERR.PIN_AUTH_INVALID):
        pin.set_pin("5678")
    pin.change_pin("1234", "geheim")
    credential = plugged.make()
    pin_proof = by_pin(plugged, "geheim", protocol)
    assert plugged.assertion(credential, **pin_proof).auth_data.is_user_verified()
    with refused(ERR.PIN_AUTH_INVALID):
        plugged.assertion(credential, **pin_proof)  # a touch ends what the token permits
    with refused(ERR.PIN_INVALID):
        by_pin(plugged, "1234", protocol)


def test_a_token_is_good_for_what_it_was_given_for(plug: Plug) -> None:
    plugged = plug(pin="1234")
    credential = plugged.make()
    pin_proof = by_pin(plugged, "1234", permission=ClientPin.PERMISSION.MAKE_CREDENTIAL)
    with refused(ERR.PIN_AUTH_INVALID):
        plugged.assertion(credential, **pin_proof)
    token = ClientPin(plugged.ctap).get_pin_token("1234", GET_ASSERTION, "example.com")
    with refused(ERR.PIN_AUTH_INVALID):
        plugged.assertion(credential, **proof(token))


def test_a_silent_assertion_leaves_the_token(plug: Plug) -> None:
    plugged = plug(pin="1234")
    credential = plugged.make()
    pin_proof = by_pin(plugged, "1234")
    assert plugged.assertion(credential, options={"up": False}, **pin_proof).auth_data.is_user_verified()
    assert plugged.assertion(credential, **pin_proof).auth_data.is_user_verified()


def test_wrong_pins(plug: Plug) -> None:
    plugged = plug(pin="1234")
    pin = ClientPin(plugged.ctap)
    for code in (ERR.PIN_INVALID, ERR.PIN_INVALID, ERR.PIN_AUTH_BLOCKED, ERR.PIN_AUTH_BLOCKED):
        with refused(code):
            by_pin(plugged, "9999")
    assert pin.get_pin_retries() == (5, True)
    with refused(ERR.PIN_AUTH_BLOCKED):
        by_pin(plugged, "1234")
    plugged.key.power_cycle()
    by_pin(plugged, "1234")
    assert pin.get_pin_retries() == (8, False)
    plugged.key.pin_tries = 1
    for code in (ERR.PIN_BLOCKED, ERR.PIN_BLOCKED):
        with refused(code):
            by_pin(plugged, "9999")
    plugged.key.power_cycle()
    with refused(ERR.PIN_BLOCKED):
        by_pin(plugged, "1234")


def test_pin_policy(plug: Plug) -> None:
    plugged = plug(pin="1234", min_pin=4, force_pin_change=True)
    assert plugged.ctap.info.force_pin_change
    with refused(ERR.PIN_POLICY_VIOLATION):
        by_pin(plugged, "1234")
    pin = ClientPin(plugged.ctap)
    for new in ("1234", "\u00e9\u00e9\u00e9"):
        with refused(ERR.PIN_POLICY_VIOLATION):
            pin.change_pin("1234", new.ljust(4, "\0"))
    pin.change_pin("1234", "\u00e9\u00e9\u00e9\u00e9")
    assert not plugged.ctap.get_info().force_pin_change


def test_a_finger_verifies(plug: Plug) -> None:
    plugged = plug(fingerprint=True, pin="1234")
    credential = plugged.make()
    assert plugged.assertion(credential, options={"uv": True}).auth_data.is_user_verified()
    pin = ClientPin(plugged.ctap)
    found = plugged.assertion(credential, **proof(pin.get_uv_token(GET_ASSERTION, RP["id"])))
    assert found.auth_data.is_user_verified()
    plugged.key.faults.set(finger=False)
    for code in (ERR.UV_INVALID, ERR.UV_INVALID, ERR.UV_BLOCKED, ERR.UV_BLOCKED):
        with refused(code):
            pin.get_uv_token(GET_ASSERTION, RP["id"])
    assert pin.get_uv_retries() == 0
    by_pin(plugged, "1234")
    assert pin.get_uv_retries() == 3


# ---------------------------------------------------------------------------------------------------------- the user


def test_a_touch_is_waited_for(plug: Plug) -> None:
    plugged = plug()
    credential = plugged.make()
    plugged.key.faults.set(touch="manual")
    told: list[int] = []

    def touch(status: int) -> None:
        told.append(status)
        assert plugged.key.awaiting
        plugged.key.touch()

    plugged.assertion(credential, on_keepalive=touch)
    plugged.ctap.selection(on_keepalive=touch)
    plugged.key.faults.set(touch="yes", touch_delay=0.05, keepalive=1)
    plugged.assertion(credential, on_keepalive=told.append)
    assert told == [2, 2, 1]
    assert not plugged.key.awaiting


@pytest.mark.parametrize(("touch", "code"), [("deny", ERR.OPERATION_DENIED), ("timeout", ERR.USER_ACTION_TIMEOUT)])
def test_a_touch_is_refused(plug: Plug, touch: str, code: int) -> None:
    plugged = plug()
    plugged.key.faults.set(touch=touch)
    for ask in (plugged.make, plugged.ctap.selection, plugged.ctap.reset):
        with refused(code):
            ask()


def test_a_client_cancels(plug: Plug) -> None:
    plugged = plug()
    plugged.key.faults.set(touch="never")
    event = threading.Event()
    with refused(ERR.KEEPALIVE_CANCEL):
        plugged.ctap.selection(event=event, on_keepalive=lambda status: event.set())
    assert {"cancel": True} in plugged.key.trace
    plugged.key.faults.set(touch="yes")
    plugged.make()


def test_pulled_out_while_it_waits(plug: Plug) -> None:
    plugged = plug()
    plugged.key.faults.set(touch="never")
    with pytest.raises(OSError, match="gone"):
        plugged.ctap.selection(on_keepalive=lambda status: plugged.memory.remove())
    assert not plugged.key.awaiting
