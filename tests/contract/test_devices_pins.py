"""Who the user is: PINs and fingers, on every transport. A PIN's last tries are never spent (K16)."""

from __future__ import annotations

import pytest
from devices_bench import Bench, assertion, make, wait_for_user

from pam_mfa.devices.base import (
    Asserted,
    Choose,
    Chosen,
    Failed,
    Failure,
    Made,
    Pin,
    PinReason,
    PinWanted,
    Touch,
    Verification,
)

UP, UV = 0x01, 0x04
CLIENT_PIN = 0x06
PIN_TOKENS = (0x05, 0x09)
REQUIRED = Verification.REQUIRED
PREFERRED = Verification.PREFERRED


def pins_spent(key: object) -> int:
    """How often a PIN was given to the key."""
    trace = key.trace()  # type: ignore[attr-defined]
    return len([note for note in trace if note["command"] == CLIENT_PIN and note.get("subcommand") in PIN_TOKENS])


class TestPin:
    @pytest.mark.parametrize("versions", [("FIDO_2_0",), ("FIDO_2_0", "FIDO_2_1")], ids=["2.0", "2.1"])
    @pytest.mark.parametrize("protocol", [1, 2])
    def test_the_right_one(self, bench: Bench, versions: tuple[str, ...], protocol: int) -> None:
        bench.key("blue", pin="päss 1234", versions=versions, protocols=(protocol,))
        made = bench.make(pin="päss 1234", verification=REQUIRED)
        assert made.authenticator_data[32] & UV
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            wanted = session.until(PinWanted)
            assert (wanted.reason, wanted.tries) == (PinReason.FIRST, 8)
            session.ask(Pin(wanted.device, "pa\u0308ss 1234"))  # as some keyboards write it
            assert session.until(Asserted).authenticator_data[32] & (UP | UV) == UP | UV

    def test_a_login_asks_once(self, bench: Bench) -> None:
        key = bench.key("blue", pin="1234")
        made = bench.make()
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            session.until(PinWanted)
            session.ask(Pin(1, "4321"))
            assert session.failure() is Failure.PIN_WRONG
        assert key.state()["pin_tries"] == 7

    def test_an_enrolment_asks_again(self, bench: Bench) -> None:
        key = bench.key("blue", pin="1234")
        with bench.session(make(verification=REQUIRED)) as session:
            session.until(PinWanted)
            session.ask(Pin(1, "4321"))
            again = session.until(PinWanted)
            assert (again.reason, again.tries) == (PinReason.WRONG, 7)
            session.ask(Pin(1, "1234"))
            session.until(Made)
        assert key.state()["pin_tries"] == 8

    @pytest.mark.parametrize("tries", [1, 2])
    def test_the_last_tries_are_the_users_own(self, bench: Bench, tries: int) -> None:
        key = bench.key("blue", pin="1234")
        made = bench.make()
        key.set(pin_tries=tries)
        for request in (assertion(made, verification=REQUIRED), make(verification=REQUIRED)):
            with bench.session(request) as session:
                assert session.failure() is Failure.PIN_LAST_TRIES
        assert pins_spent(key) == 0
        assert key.state()["pin_tries"] == tries

    @pytest.mark.parametrize(
        ("tries", "why"), [(0, Failure.PIN_BLOCKED), (1, Failure.PIN_LAST_TRIES), (2, Failure.PIN_LAST_TRIES)]
    )
    def test_others_spend_tries_while_it_is_typed(self, bench: Bench, tries: int, why: Failure) -> None:
        """Another program that takes no lock: the right PIN is not sent either, for nobody knows that it is right."""
        key = bench.key("blue", pin="1234")
        made = bench.make()
        for request in (assertion(made, verification=REQUIRED), make(verification=REQUIRED)):
            key.set(pin_tries=8)
            with bench.session(request) as session:
                session.until(PinWanted)
                key.set(pin_tries=tries)
                session.ask(Pin(1, "1234"))
                assert session.failure() is why
        assert pins_spent(key) == 0
        assert key.state()["pin_tries"] == tries

    def test_an_enrolment_stops_before_the_last_tries(self, bench: Bench) -> None:
        key = bench.key("blue", pin="1234")
        key.set(pin_tries=3)
        with bench.session(make(verification=REQUIRED)) as session:
            session.until(PinWanted)
            session.ask(Pin(1, "4321"))
            assert session.failure() is Failure.PIN_LAST_TRIES
        assert key.state()["pin_tries"] == 2

    def test_none_are_left(self, bench: Bench) -> None:
        key = bench.key("blue", pin="1234")
        key.set(pin_tries=0)
        with bench.session(make(verification=REQUIRED)) as session:
            assert session.failure() is Failure.PIN_BLOCKED

    def test_three_wrong_ones_pause_it_until_it_is_plugged_in_again(self, bench: Bench) -> None:
        bench.key("blue", pin="1234")
        with bench.session(make(verification=REQUIRED)) as session:
            for _ in range(3):
                session.until(PinWanted)
                session.ask(Pin(1, "4321"))
            assert session.failure() is Failure.PIN_PAUSED
        with bench.session(make(verification=REQUIRED)) as session:
            assert session.failure() is Failure.PIN_PAUSED

    @pytest.mark.parametrize("pin", ["12345", "", "x" * 64], ids=["short", "empty", "long"])
    def test_what_cannot_be_right_costs_no_try(self, bench: Bench, pin: str) -> None:
        key = bench.key("blue", pin="123456", min_pin=6)
        made = bench.make()
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            session.until(PinWanted)
            session.ask(Pin(1, pin))
            assert session.failure() is Failure.PIN_WRONG
        assert pins_spent(key) == 0

    def test_one_that_must_be_changed(self, bench: Bench) -> None:
        key = bench.key("blue", pin="1234", force_pin_change=True)
        made = bench.make()
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            assert session.failure() is Failure.PIN_CHANGE
        assert pins_spent(key) == 0

    def test_a_key_without_one(self, bench: Bench) -> None:
        bench.key("blue")
        made = bench.make()
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            assert session.failure() is Failure.PIN_UNSET
        with bench.session(assertion(made, verification=PREFERRED)) as session:
            assert not session.until(Asserted).authenticator_data[32] & UV

    def test_one_is_preferred(self, bench: Bench) -> None:
        bench.key("blue", pin="1234")
        made = bench.make()
        with bench.session(assertion(made, verification=PREFERRED)) as session:
            session.until(PinWanted)
            session.ask(Pin(1, "1234"))
            assert session.until(Asserted).authenticator_data[32] & UV

    def test_a_key_that_always_wants_one(self, bench: Bench) -> None:
        bench.key("strict", pin="1234", always_uv=True)
        made = bench.make(pin="1234")
        with bench.session(assertion(made)) as session:
            session.until(PinWanted)
            session.ask(Pin(1, "1234"))
            assert session.until(Asserted).authenticator_data[32] & UV

    def test_a_key_that_makes_nothing_without(self, bench: Bench) -> None:
        bench.key("strict", pin="1234", uv_not_required=False)
        assert bench.make(pin="1234").authenticator_data[32] & UV

    def test_discoverable_ones_need_it(self, bench: Bench) -> None:
        bench.key("blue", pin="1234")
        assert bench.make(pin="1234", discoverable=True).authenticator_data[32] & UV

    def test_a_key_is_pulled_out_while_it_is_typed(self, bench: Bench) -> None:
        key = bench.key("blue", pin="1234")
        with bench.session(make(verification=REQUIRED)) as session:
            session.until(PinWanted)
            key.remove()
            assert session.failure() is Failure.UNPLUGGED
            session.ask(Pin(1, "1234"))  # too late, and for nobody
            key.insert()
            assert session.until(PinWanted).device == 2

    def test_a_pin_for_a_device_that_wants_none(self, bench: Bench) -> None:
        key = bench.key("blue", pin="1234")
        made = bench.make()
        key.inject(touch="manual")
        with bench.session(assertion(made)) as session:
            session.until(Touch)
            session.ask(Pin(1, "1234")).ask(Pin(7, "1234")).ask(Choose())
            key.touch()
            session.until(Asserted)
        assert pins_spent(key) == 0


class TestFinger:
    def test_the_right_one(self, bench: Bench) -> None:
        key = bench.key("reader", fingerprint=True, pin="1234")
        made = bench.make()
        key.inject(touch="manual")
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            assert session.until(Touch).verifies
            key.touch()
            wait = session.reply()
            while not isinstance(wait, Asserted):  # it may want another touch
                wait_for_user(key)
                key.touch()
                wait = session.reply()
        assert wait.authenticator_data[32] & UV

    @pytest.mark.parametrize("versions", [("FIDO_2_0",), ("FIDO_2_0", "FIDO_2_1")], ids=["2.0", "2.1"])
    def test_a_wrong_one_leads_to_the_pin(self, bench: Bench, versions: tuple[str, ...]) -> None:
        key = bench.key("reader", fingerprint=True, pin="1234", versions=versions)
        made = bench.make()
        key.inject(finger=False)
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            assert session.until(PinWanted).reason is PinReason.VERIFICATION_BLOCKED
            session.ask(Pin(1, "1234"))
            assert session.until(Asserted).authenticator_data[32] & UV

    def test_a_wrong_one_and_no_pin(self, bench: Bench) -> None:
        key = bench.key("reader", fingerprint=True)
        made = bench.make()
        key.inject(finger=False)
        with bench.session(assertion(made, verification=REQUIRED)) as session:
            assert session.failure() is Failure.VERIFICATION_BLOCKED


class TestSeveralWantOne:
    @pytest.mark.parametrize("versions", [("FIDO_2_0",), ("FIDO_2_0", "FIDO_2_1")], ids=["2.0", "2.1"])
    def test_the_touched_one_is_asked(self, bench: Bench, versions: tuple[str, ...]) -> None:
        keys = [bench.key(name, pin=pin, versions=versions) for name, pin in (("first", "1111"), ("second", "2222"))]
        for key in keys:
            key.inject(touch="manual")
        with bench.session(make(verification=REQUIRED)) as session:
            session.until(PinWanted)
            session.until(PinWanted)
            session.ask(Choose())
            for key in keys:
                wait_for_user(key)
            keys[1].touch()
            chosen = session.until(Chosen)
            session.ask(Pin(chosen.device, "2222"))
            wait_for_user(keys[1])
            keys[1].touch()
            assert session.until(Made).device == chosen.device
        assert not [reply for reply in session.replies if isinstance(reply, Failed)]
        assert {"cancel": True} in keys[0].trace()

    def test_the_first_wrong_pin_ends_one_of_them(self, bench: Bench) -> None:
        keys = [bench.key(name, pin="1111") for name in ("first", "second")]
        with bench.session(make(verification=REQUIRED)) as session:
            devices = [session.until(PinWanted).device for _ in keys]
            session.ask(Pin(devices[1], "1111"))
            session.until(Made)
        assert sum(pins_spent(key) for key in keys) == 1
