"""Security keys that give no answer: each way is told apart, none is a guess, and nothing else counts as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flows import ALICE, FACTORS, SESSION, Clock, Memory, World, account, code_at
from keyflows import CUE, MAKE, PHONE, PLACE, Step, enrolled, reply, run
from softkey import SoftKey

from pam_mfa.conversation import (
    Aborted,
    Answer as Typed,
    AskSecret,
    DeviceGone,
    DeviceReply,
    DeviceTouch,
    Event,
    Expired,
    HangUp,
    Shown,
    Skipped,
    Wait,
)
from pam_mfa.devices.base import (
    Choose,
    Chosen,
    Failed,
    Failure,
    Idle,
    Pin,
    PinReason,
    PinWanted,
    Strange,
    Touch,
)
from pam_mfa.errors import AbortedError, ProtocolError
from pam_mfa.factors import card_dialogue
from pam_mfa.factors.base import Ceremony
from pam_mfa.factors.ceremonies import NO_PASSKEYS, NOT_VERIFIED
from pam_mfa.factors.dialogue import BAD_PIN, GRACE, NO_KEY, NO_SERVICE, NOT_ACCEPTED, NOT_TOUCHED, PLUG_BACK, WORDS
from pam_mfa.login import prove
from pam_mfa.rules import Rule, UserVerification
from pam_mfa.structure import replace


@pytest.fixture
def key() -> SoftKey:
    return SoftKey()


# ------------------------------------------------------------------------------------------------ no answer at all


def test_the_cue_is_repeated_after_half_the_time_and_then_comes_the_next_method(key: SoftKey) -> None:
    of = account(enrolled(key), PHONE)
    proof, world, ceremony = run(of, [key.holds, key.touch, Expired(), Expired()])
    assert world.told == [CUE, f"Still waiting. {CUE}", NOT_TOUCHED]
    waits = [want.seconds for want in world.wants if isinstance(want, Wait)]
    assert waits == [15, 15, 15, 15]
    assert world.kinds[-5:] == ["Wait", "HangUp", "Warn", "AskSecret", "Commit"]
    assert proof is not None
    assert proof.factor == "totp"
    assert ceremony.tries == 2


@pytest.mark.parametrize("failure", WORDS)
def test_each_failure_has_its_words_and_is_no_guess(key: SoftKey, failure: Failure) -> None:
    of = account(enrolled(key), PHONE)
    end = [DeviceReply(Failed(1, failure)), DeviceReply(Idle(1))]
    ends = [*end, Expired()] if failure is Failure.UNPLUGGED else end
    proof, world, ceremony = run(of, [key.holds, key.touch, *ends])
    assert WORDS[failure] in world.told
    assert proof is not None
    assert proof.factor == "totp"
    assert ceremony.tries == 2
    assert HangUp() in world.wants
    _, world, ceremony = run(of, [key.holds, key.touch, *ends], ["fido2"])
    assert world.operations == []
    assert ceremony.tries == 3
    assert ceremony.reason == ("no_key" if failure is Failure.UNPLUGGED else failure.name.lower())


def test_the_words_are_one_line_of_ascii_each_and_all_different() -> None:
    texts = [*WORDS.values(), NO_KEY, NO_SERVICE, NOT_ACCEPTED]
    assert len(set(texts)) == len(texts)
    assert set(WORDS) | set(card_dialogue.WORDS) == set(Failure)
    assert all(text.isascii() and text.isprintable() and len(text) < 200 and text.endswith(".") for text in texts)


def test_the_manual_tells_what_each_of_them_means() -> None:
    manual = (Path(__file__).resolve().parents[2] / "packaging/manual/keys.md").read_text()
    texts = [*WORDS.values(), NO_KEY, NO_SERVICE, NOT_ACCEPTED, NOT_TOUCHED, BAD_PIN, NO_PASSKEYS, NOT_VERIFIED]
    assert [text for text in texts if f"`{text}`" not in manual] == []


def test_of_several_failures_the_one_is_told_that_a_user_can_do_something_about(key: SoftKey) -> None:
    ends = [DeviceReply(Failed(2, Failure.UNSUPPORTED)), DeviceReply(Failed(1, Failure.DECLINED)), DeviceReply(Idle(2))]
    _, world, ceremony = run(account(enrolled(key)), ends, ["fido2"])
    assert world.told == [WORDS[Failure.DECLINED]]
    assert ceremony.reason == "declined"


def test_one_key_fails_and_another_answers(key: SoftKey) -> None:
    steps = [DeviceReply(Failed(2, Failure.BUSY)), key.holds, key.touch, key.sign]
    proof, world, _ = run(account(enrolled(key)), steps)
    assert proof is not None
    assert world.told == [CUE]


@pytest.mark.parametrize("strange", [[], [DeviceReply(Strange(3, "another's"))]])
def test_whoever_has_no_key_plugged_in_is_asked_to(key: SoftKey, strange: list[Step]) -> None:
    of = account(enrolled(key), PHONE)
    idle = [*strange, DeviceReply(Idle(len(strange)))]
    proof, world, _ = run(of, [*idle, key.holds, key.touch, key.sign])
    assert proof is not None
    assert world.told == ['Plug in your security key "blue nano"', CUE]
    _, world, ceremony = run(of, [*idle, Expired()], ["fido2"])
    assert world.told == ['Plug in your security key "blue nano"', NO_KEY]
    assert ceremony.reason == "no_key"


def test_a_key_that_is_removed_may_come_back(key: SoftKey) -> None:
    gone: list[Step] = [key.holds, key.touch, DeviceReply(Failed(1, Failure.UNPLUGGED)), DeviceReply(Idle(0))]
    key_again = [key.holds, key.touch, key.sign]
    proof, world, _ = run(account(enrolled(key)), [*gone, *key_again])
    assert proof is not None
    assert world.told == [CUE, PLUG_BACK, CUE]


def test_silence_is_no_key(key: SoftKey) -> None:
    _, world, ceremony = run(account(enrolled(key)), [Expired()], ["fido2"])
    assert (world.told, ceremony.reason) == ([NO_KEY], "no_key")


def test_no_device_service(key: SoftKey) -> None:
    proof, world, _ = run(account(enrolled(key), PHONE), [DeviceGone("no_device_service")])
    assert proof is not None
    assert world.told == [NO_SERVICE]
    _, _, ceremony = run(account(enrolled(key)), [DeviceGone("no_device_service")], ["fido2"])
    assert ceremony.reason == "no_device_service"


def test_a_user_may_skip_it(key: SoftKey) -> None:
    proof, world, _ = run(account(enrolled(key), PHONE), [key.holds, key.touch, Skipped()])
    assert proof is not None
    assert world.told == [CUE]
    assert HangUp() in world.wants


def test_time_passes_while_devices_talk(key: SoftKey) -> None:
    """No stream of replies keeps a wait alive."""
    of = account(enrolled(key))
    clock = Clock()

    def slow(request: object) -> Event:
        clock.sleep(20)
        return DeviceReply(Strange(9, "chatty"))

    ceremony = Ceremony(SESSION, ALICE, of, clock, place=PLACE)
    world = World(Memory(of), device=[slow, slow, Expired()])
    assert world.run(prove(ceremony, ["fido2"], FACTORS)) is None
    assert [want.seconds for want in world.wants if isinstance(want, Wait)] == [15, 0, 0]


# ------------------------------------------------------------------------------------------------------------ PIN


def pin_wanted(device: int = 1, reason: PinReason = PinReason.FIRST, tries: int = 8) -> DeviceReply:
    return DeviceReply(PinWanted(device, reason, tries))


def requests(world: World) -> list[object]:
    return [want.request for want in world.wants if isinstance(want, Wait) and want.request is not None][1:]


REQUIRED = replace(PLACE, rule=Rule(user_verification=UserVerification.REQUIRED))


def test_a_pin_is_asked_with_its_tries_and_given_to_its_device() -> None:
    key = SoftKey(7, verifies=True)
    steps = [key.holds, pin_wanted(7), key.touch, key.sign]
    proof, world, _ = run(account(enrolled(key)), steps, place=REQUIRED, answers=["1234"])
    assert proof is not None
    assert world.asked == ['PIN of your security key "blue nano" (8 tries left): ']
    assert isinstance(world.wants[2], AskSecret)
    assert requests(world) == [Pin(7, "1234")]
    assert "1234" not in repr(world.wants)


@pytest.mark.parametrize(
    ("wanted", "prompt"),
    [
        (pin_wanted(tries=255), "PIN of your security key: "),
        (pin_wanted(tries=3), "PIN of your security key (3 tries left): "),
        (
            pin_wanted(reason=PinReason.VERIFICATION_BLOCKED, tries=8),
            "Too many fingerprints did not fit. PIN of your security key (8 tries left): ",
        ),
    ],
)
def test_why_a_pin_is_asked(key: SoftKey, wanted: DeviceReply, prompt: str) -> None:
    _, world, _ = run(account(enrolled(key)), [wanted, key.sign], answers=["1234"])
    assert world.asked == [prompt]


def test_a_wrong_pin_is_not_asked_again_and_is_no_guess(key: SoftKey) -> None:
    """K16: once per login."""
    of = account(enrolled(key), PHONE)
    wrong = DeviceReply(Failed(1, Failure.PIN_WRONG))
    for ends in ([wrong, DeviceReply(Idle(1))], [pin_wanted(reason=PinReason.WRONG, tries=7)], [pin_wanted(2)]):
        proof, world, ceremony = run(of, [key.holds, pin_wanted(), *ends], answers=["1234", code_at(PHONE, Clock()())])
        assert proof is not None
        assert proof.factor == "totp"
        assert len([prompt for prompt in world.asked if "PIN" in prompt]) == 1
        assert world.told == [WORDS[Failure.PIN_WRONG]]
        assert ceremony.tries == 2


@pytest.mark.parametrize("typed", ["", "123", "x" * 64, "é" * 32, "12\udcff34", "e\u0301"])
def test_what_cannot_be_a_pin_spends_no_try_of_the_key(key: SoftKey, typed: str) -> None:
    proof, world, ceremony = run(account(enrolled(key)), [key.holds, pin_wanted()], ["fido2"], answers=[typed])
    assert proof is None
    assert requests(world) == []
    assert world.told == [BAD_PIN]
    assert (ceremony.reason, ceremony.tries) == ("pin_form", 3)
    assert HangUp() in world.wants


def test_a_pin_is_composed_as_keys_want_it(key: SoftKey) -> None:
    """CTAP 2.1 section 6.5.1: Normalization Form C."""
    _, world, _ = run(account(enrolled(key)), [key.holds, pin_wanted(), key.sign], answers=["e\u0301" * 4])
    assert requests(world) == [Pin(1, "é" * 4)]


@pytest.mark.parametrize("slow", [False, True])
def test_of_several_keys_that_want_a_pin_the_touched_one_gets_it(slow: bool) -> None:
    """Also where the second one says what it holds only after the first one wants its PIN."""
    blue, red = SoftKey(1), SoftKey(2)
    of = account(enrolled(blue), enrolled(red, "red"))
    first = [blue.holds, pin_wanted(1), red.holds] if slow else [blue.holds, red.holds, pin_wanted(1)]
    steps = [
        *first,
        pin_wanted(2),
        Expired(),
        red.touch,
        blue.touch,
        DeviceReply(Chosen(2)),
        red.touch,
        red.sign,
    ]
    proof, world, _ = run(of, steps, answers=["1234"])
    assert proof is not None
    assert proof.label == "red"
    assert world.told == ["Several security keys want a PIN: touch the one to use.", 'Touch your security key "red"']
    assert world.asked == ['PIN of your security key "red" (8 tries left): ']
    assert requests(world) == [Choose(), Pin(2, "1234")]
    grace = [want.seconds for want in world.wants if isinstance(want, Wait)]
    assert grace[4] == GRACE


@pytest.mark.parametrize(
    ("before", "answers"),
    [
        ([], []),
        ([pin_wanted(1), Expired()], ["1234"]),  # asked for already (K16)
        ([pin_wanted(1), pin_wanted(2), Expired()], []),  # the third one never wanted a PIN
    ],
)
def test_nobody_is_asked_for_the_pin_of_a_key_that_was_not_to_be_chosen(before: list[Step], answers: list[str]) -> None:
    blue, red = SoftKey(1), SoftKey(2)
    of = account(enrolled(blue), enrolled(red, "red"))
    ceremony = Ceremony(SESSION, ALICE, of, Clock(), place=PLACE)
    holds = [blue.holds] if answers else [blue.holds, red.holds]
    world = World(Memory(of), answers, device=[*holds, *before, DeviceReply(Chosen(3))])
    with pytest.raises(ProtocolError):
        world.run(prove(ceremony, ["fido2"], FACTORS))
    assert len(world.asked) == len(answers)


def test_another_key_has_a_moment_to_want_a_pin_too() -> None:
    blue, red = SoftKey(1), SoftKey(2)
    of = account(enrolled(blue), enrolled(red, "red"))
    steps = [blue.holds, red.holds, pin_wanted(1), DeviceReply(Failed(2, Failure.BUSY)), Expired(), blue.sign]
    proof, world, _ = run(of, steps, answers=["1234"])
    assert proof is not None
    assert requests(world) == [Pin(1, "1234")]


def test_nobody_touches_when_a_key_is_to_be_chosen() -> None:
    blue, red = SoftKey(1), SoftKey(2)
    of = account(enrolled(blue), enrolled(red, "red"))
    steps = [blue.holds, red.holds, pin_wanted(1), pin_wanted(2), Expired(), Expired(), Expired()]
    proof, world, ceremony = run(of, steps, ["fido2"])
    assert (proof, ceremony.reason, world.asked) == (None, "not_touched", [])


def test_a_user_who_gives_up_at_the_pin_ends_the_login(key: SoftKey) -> None:
    of = account(enrolled(key), PHONE)
    ceremony = Ceremony(SESSION, ALICE, of, Clock(), place=PLACE)
    world = World(Memory(of), device=[key.holds, pin_wanted()], instead={2: Aborted()})
    with pytest.raises(AbortedError):
        world.run(prove(ceremony, ["fido2", "totp"], FACTORS))


# ------------------------------------------------------------------------------------------------- nothing else counts

STEPS: list[Callable[[SoftKey], list[Step]]] = [
    lambda key: [],
    lambda key: [key.holds],
    lambda key: [key.holds, key.touch],
    lambda key: [reply(key, flags=0)],
]


@pytest.mark.parametrize("before", STEPS)
@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Aborted(), AbortedError),
        (Typed("123456"), ProtocolError),
        (Shown(), ProtocolError),
        (DeviceTouch("blue key"), ProtocolError),
        (DeviceReply("granted"), ProtocolError),
        (DeviceReply(None), ProtocolError),
        (DeviceReply(True), ProtocolError),
        (DeviceReply(Touch(1, False)), ProtocolError),
    ],
)
def test_any_other_event_ends_the_flow(
    key: SoftKey, before: Callable[[SoftKey], list[Step]], event: Event, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(account(enrolled(key), PHONE), [*before(key), event])


def test_a_new_credential_is_no_answer_to_a_login(key: SoftKey) -> None:
    made = DeviceReply(key.made(MAKE))
    proof, _, ceremony = run(account(enrolled(key)), [made, Expired()], ["fido2"])
    assert (proof, ceremony.reason, ceremony.tries) == (None, "malformed", 2)
