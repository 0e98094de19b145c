"""What the device service promises about keys, held to on every transport: in memory, as hidraw nodes, in readers."""

from __future__ import annotations

import hashlib
import os
import signal
from contextlib import suppress
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from devices_bench import HASH, RP_ID, Bench, assertion, credential_id, make, wait_for_user
from machine import wait_for
from vdev import cbor

from pam_mfa.devices.base import (
    Asserted,
    Described,
    Failure,
    Holds,
    Idle,
    List,
    Made,
    Strange,
    Touch,
    Transport,
    Wanted,
)
from pam_mfa.errors import Gone

UP, UV = 0x01, 0x04
GET_ASSERTION, MAKE_CREDENTIAL = 0x02, 0x01


def verify(made: Made, asserted: Asserted, client_data_hash: bytes = HASH) -> None:
    """Raises InvalidSignature."""
    data = made.authenticator_data
    key = cbor.decode(data[55 + len(credential_id(made)) :])
    public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), b"\x04" + key[-2] + key[-3])
    public.verify(asserted.signature, asserted.authenticator_data + client_data_hash, ECDSA(SHA256()))


def flags(reply: Made | Asserted) -> int:
    """Of authenticator data."""
    return reply.authenticator_data[32]


class TestList:
    def test_nothing_is_there(self, bench: Bench) -> None:
        with bench.session(List(5)) as session:
            assert session.until(Idle) == Idle(0)

    def test_what_a_key_is(self, bench: Bench) -> None:
        bench.key("blue", pin="1234", min_pin=6, force_pin_change=True, firmware=0x050407)
        with bench.session(List(5)) as session:
            described = session.until(Described)
            assert session.until(Idle) == Idle(1)
        assert described.transport == (Transport.NFC if bench.transport == "pcsc" else Transport.USB)
        assert described.name
        assert (described.aaguid, described.firmware) == (b"pam-mfa software", 0x050407)
        assert "FIDO_2_1" in described.versions
        assert {"clientPin=1", "rk=1"} <= set(described.options)
        assert set(described.algorithms) == {-7, -8, -257}
        assert (described.pin_tries, described.min_pin, described.pin_change) == (8, 6, True)

    def test_a_key_that_says_little(self, bench: Bench) -> None:
        bench.key("old", versions=("FIDO_2_0",), discoverable=0)
        with bench.session(List(5)) as session:
            described = session.until(Described)
        assert (described.firmware, described.algorithms, described.pin_tries) == (0, (), 255)

    def test_it_may_ask_again(self, bench: Bench) -> None:
        bench.key("blue")
        for _ in range(3):
            with bench.session(List(5)) as session:
                session.until(Described)
                session.until(Idle)


class TestMakeAndAssert:
    def test_a_credential_signs(self, bench: Bench) -> None:
        key = bench.key("blue")
        key.inject(touch="manual")
        with bench.session(make()) as session:
            assert not session.until(Touch).verifies
            key.touch()
            made = session.until(Made)
        assert made.authenticator_data[:32] == hashlib.sha256(RP_ID.encode()).digest()
        assert flags(made) & UP
        with bench.session(assertion(made)) as session:
            assert session.until(Holds).credential_ids == (credential_id(made),)
            session.until(Touch)
            key.touch()
            asserted = session.until(Asserted)
            assert session.until(Idle) == Idle(1)
        assert (asserted.rp_id, asserted.credential_id) == (RP_ID, credential_id(made))
        assert flags(asserted) & (UP | UV) == UP
        verify(made, asserted)
        with pytest.raises(InvalidSignature):
            verify(made, asserted, bytes(32))

    def test_discoverable_ones_tell_whose_they_are(self, bench: Bench) -> None:
        bench.key("blue")
        made = bench.make(discoverable=True)
        with bench.session(assertion(made)) as session:
            assert session.until(Asserted).user_handle == b"1000"

    def test_a_key_without_room(self, bench: Bench) -> None:
        bench.key("small", discoverable=1)
        bench.make(discoverable=True)
        with bench.session(make(discoverable=True, user_handle=b"1001")) as session:
            assert session.failure() is Failure.FULL

    @pytest.mark.parametrize(
        ("options", "changes"),
        [({"discoverable": 0}, {"discoverable": True}), ({"algorithms": (-8,)}, {"algorithms": (-7, -257)})],
        ids=["no discoverable credentials", "no algorithm of ours"],
    )
    def test_a_key_that_cannot(self, bench: Bench, options: dict[str, Any], changes: dict[str, Any]) -> None:
        key = bench.key("other", **options)
        with bench.session(make(**changes)) as session:
            assert session.failure() is Failure.UNSUPPORTED
        assert not [note for note in key.trace() if note.get("command") == MAKE_CREDENTIAL]

    def test_a_key_that_has_one_makes_none(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.trace(clear=True)
        with bench.session(make(excluded=(Wanted(RP_ID, credential_id(made)),))) as session:
            assert session.failure() is Failure.EXCLUDED
        assert not [note for note in key.trace() if note.get("up", True) and "rp" in note]

    def test_a_strange_key_is_left_alone(self, bench: Bench) -> None:
        key = bench.key("strange")
        with bench.session(assertion(Wanted(RP_ID, b"x" * 64), Wanted("other.example", b"y" * 64))) as session:
            session.until(Strange)
            assert session.until(Idle) == Idle(1)
        asked = [note for note in key.trace() if note.get("command") == GET_ASSERTION]
        assert [(note["rp"], note["up"]) for note in asked] == [(RP_ID, False), ("other.example", False)]

    def test_the_right_one_of_many(self, bench: Bench) -> None:
        """More than a key takes at once, some longer than any of its own."""
        bench.key("blue")
        made = bench.make()
        others = [Wanted(RP_ID, bytes([number]) * (1023 if number % 2 else 64)) for number in range(1, 60)]
        with bench.session(assertion(*others, made)) as session:
            assert session.until(Asserted).credential_id == credential_id(made)

    def test_each_has_its_relying_party(self, bench: Bench) -> None:
        bench.key("blue")
        made = bench.make(rp_id="pam://old.example")
        wanted = Wanted(RP_ID, credential_id(made)), Wanted("pam://old.example", credential_id(made))
        with bench.session(assertion(*wanted)) as session:
            assert session.until(Asserted).rp_id == "pam://old.example"

    @pytest.mark.parametrize(
        ("touch", "why"),
        [("deny", Failure.DECLINED), ("timeout", Failure.NOT_TOUCHED)],
        ids=["declined", "not touched"],
    )
    def test_a_user_who_does_not(self, bench: Bench, touch: str, why: Failure) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.inject(touch=touch)
        with bench.session(assertion(made)) as session:
            assert session.failure() is why
            assert session.until(Idle) == Idle(1)

    def test_time_is_up(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.inject(touch="never")
        with bench.session(assertion(made, seconds=1)) as session:
            assert session.failure() is Failure.NOT_TOUCHED
            with pytest.raises(Gone, match="gone"):
                session.until(Asserted)
        assert {"cancel": True} in key.trace()


class TestComingAndGoing:
    def test_a_key_may_come_later(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.remove()
        with bench.session(assertion(made)) as session:
            session.until(Idle)
            key.insert()
            session.until(Asserted)

    def test_it_is_seen_though_what_lists_the_readers_has_died(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.remove()
        with bench.session(assertion(made)) as session:
            session.until(Idle)
            killed = bench.helpers()
            for pid in killed:
                with suppress(ProcessLookupError):  # the key's own may be at its end already
                    os.kill(pid, signal.SIGKILL)
            wait_for("their end", lambda: not [pid for pid in killed if pid in bench.helpers()])
            key.insert()
            session.until(Asserted)

    def test_a_key_is_pulled_out_at_its_touch_and_put_back(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.inject(touch="manual")
        with bench.session(assertion(made)) as session:
            session.until(Touch)
            key.remove()
            assert session.failure() is Failure.UNPLUGGED
            assert session.until(Idle) == Idle(0)
            key.insert()
            session.until(Touch)
            key.touch()
            session.until(Asserted)

    def test_who_hangs_up_leaves_the_key_free(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.inject(touch="manual")
        for _ in range(3):
            with bench.session(assertion(made)) as session:
                session.until(Touch)
            wait_for("the end of the touch", lambda: not key.state()["awaiting"])
            assert {"cancel": True} in key.trace(clear=True)
        with bench.session(assertion(made)) as session:
            session.until(Touch)
            key.touch()
            session.until(Asserted)

    def test_the_service_is_stopped_at_a_touch(self, bench: Bench) -> None:
        """As systemd does it: all of its processes at once."""
        key = bench.key("blue")
        key.inject(touch="never")
        with bench.session(make()) as session:
            session.until(Touch)
            bench.stop()
            wait_for("the end of the touch", lambda: not key.state()["awaiting"])
        assert {"cancel": True} in key.trace()

    def test_one_after_the_other(self, bench: Bench) -> None:
        """A key that another session has is waited for."""
        key = bench.key("blue")
        made = bench.make()
        key.inject(touch="manual")
        with bench.session(assertion(made)) as first:
            first.until(Touch)
            with bench.session(assertion(made)) as second:
                key.touch()
                first.until(Asserted)
                second.until(Touch)
                key.touch()
                second.until(Asserted)

    def test_another_session_has_it_for_longer(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.inject(touch="manual")
        with bench.session(assertion(made)) as first:
            first.until(Touch)
            with bench.session(assertion(made)) as second:
                assert second.failure() is Failure.BUSY
                assert second.until(Idle).devices == 1
            key.touch()
            first.until(Asserted)

    def test_a_process_waits_at_a_key_that_is_there(self, bench: Bench) -> None:
        """Not at a card, and not where a key was."""
        key = bench.key("blue")
        made = bench.make()
        waiting = int(bench.transport != "pcsc")
        wait_for("one that waits", lambda: len(bench.children()) == waiting)
        for _ in range(2):
            with bench.session(assertion(made)) as session:
                session.until(Asserted)
        wait_for("another one", lambda: len(bench.children()) == waiting and not bench.helpers())
        key.remove()
        with bench.session(assertion(made)) as session:
            session.until(Idle)
        wait_for("its end", lambda: not bench.children())
        key.insert()
        with bench.session(assertion(made)) as session:
            session.until(Asserted)

    def test_an_enrolment_gives_way_to_a_login(self, bench: Bench) -> None:
        key = bench.key("blue")
        made = bench.make()
        key.inject(touch="manual")
        with bench.session(make()) as enrolment:
            enrolment.until(Touch)
            with bench.session(assertion(made)) as login:
                login.until(Touch)
                assert enrolment.failure() is Failure.BUSY
                assert enrolment.until(Idle)
                key.touch()
                login.until(Asserted)

    def test_nothing_is_left_behind(self, bench: Bench) -> None:
        key = bench.key("blue")
        key.inject(touch="never")
        with bench.session(make()) as session:
            session.until(Touch)
            assert bench.helpers()
        wait_for("the end of the helpers", lambda: not bench.helpers())


class TestTwoKeys:
    def test_only_the_right_one_blinks(self, bench: Bench) -> None:
        right = bench.key("right")
        made = bench.make()
        wrong = bench.key("wrong")
        right.inject(touch="manual")
        with bench.session(assertion(made)) as session:
            wait_for_user(right)
            session.until(Strange)
            right.touch()
            session.until(Asserted)
        assert not [note for note in wrong.trace() if note.get("up")]

    def test_both_blink_and_one_is_touched(self, bench: Bench) -> None:
        first, second = bench.key("first"), bench.key("second", insert=False)
        of_first = bench.make()
        first.remove()
        second.insert()
        of_second = bench.make()
        first.insert()
        for key in (first, second):
            key.inject(touch="manual")
        with bench.session(assertion(of_first, of_second)) as session:
            wait_for_user(first)
            wait_for_user(second)
            second.touch()
            assert session.until(Asserted).credential_id == credential_id(of_second)
        wait_for("the other one's end", lambda: not first.state()["awaiting"])
        assert {"cancel": True} in first.trace()

    def test_the_touched_one_makes_it(self, bench: Bench) -> None:
        keys = [bench.key("first"), bench.key("second")]
        for key in keys:
            key.inject(touch="manual")
        with bench.session(make()) as session:
            for key in keys:
                wait_for_user(key)
            keys[1].touch()
            session.until(Made)
            wait_for("the other one's end", lambda: not keys[0].state()["awaiting"])
            assert {"cancel": True} in keys[0].trace()
            assert session.until(Idle)
