"""One request to the cards, and what its user is told meanwhile: cues, PIN, and why it came to nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

from ..conversation import (
    DeviceGone,
    DeviceReply,
    DeviceTouch,
    Event,
    Expired,
    Skipped,
    Steps,
    Wait,
    ask,
    expect,
    tell,
)
from ..devices.base import (
    TOUCH_SECONDS,
    Carries,
    Failed,
    Failure,
    Idle,
    Release,
    Sign,
    Signed,
    Slot,
    Touch,
    Use,
)
from ..errors import ProtocolError
from ..throttle import Instant

FIND_SECONDS = 15
SIGN_SECONDS = 15  # RSA 4096 on an old card takes several
GRACE = 0.5  # seconds that further cards have to be read
UNKNOWN_TRIES = 255
LAST_TRY = 1  # it is its owner's own
PIN = re.compile(r"[ -~]{6,8}", re.ASCII)  # SP 800-73-5 part 2 section 2.4.3, and what YubiKeys take

NO_SERVICE = "Smartcards cannot be used now: ask an administrator to run pam-mfa doctor."
NO_CARD = "No smartcard of yours is there: insert it and try again."
INSERT = "Insert your smartcard{name}"
PUT_BACK = "The smartcard was removed: insert it again."
TOUCH = "Touch your smartcard{name}"
NOT_ACCEPTED = "The answer of that smartcard was not accepted: use the one that you enrolled."
BAD_PIN = "That cannot be the PIN of a smartcard: it has 6 to 8 characters. Try again."
OWN_TOOL = "with the tool of the card, for example ykman piv access"

# Where several cards failed the first of these is told: what its user can do most about.
WORDS = {
    Failure.PIN_WRONG: "That was not the PIN of the smartcard: try again.",
    Failure.NOT_TOUCHED: "The smartcard was not touched in time: try again, and touch it when it blinks.",
    Failure.PIN_LAST_TRIES: "Only the last try of the smartcard's PIN is left, and it is not spent here: "
    f"give the right PIN once, or unblock it, {OWN_TOOL}.",
    Failure.PIN_CHANGE: f"The smartcard wants a new PIN: change it {OWN_TOOL} change-pin.",
    Failure.PIN_BLOCKED: f"The PIN of the smartcard is blocked: unblock it with its PUK, {OWN_TOOL} unblock-pin.",
    Failure.SWAPPED: "Another smartcard was there than before: leave yours in until you are asked no more.",
    Failure.BUSY: "Another program is using the smartcard: close that program and try again.",
    Failure.SILENT: "The smartcard does not answer: take it out, insert it again, then try again.",
    Failure.NONSENSE: "The smartcard gave an answer that is none: take it out, insert it again, then try again.",
    Failure.UNPLUGGED: PUT_BACK,
    Failure.NO_CERTIFICATE: "The smartcard has no certificate where one is looked for (setting slots).",
    Failure.UNSUPPORTED: "That smartcard cannot do what is asked: use one that speaks PIV.",
}
# A card that can be left where it is while another one is waited for.
STRANGERS = frozenset({Failure.UNSUPPORTED, Failure.NO_CERTIFICATE})

T = TypeVar("T")
Judge = Callable[[Carries], Steps[T | None]]


class Rejected(Exception):
    """A card is nothing to go on with.

    Args:
        reason, words: why, for the log and for the user.
        final: it is surely one of the account's: nobody is asked to insert another one.
    """

    def __init__(self, reason: str, words: str, final: bool) -> None:
        super().__init__(reason)
        self.reason, self.words, self.final = reason, words, final


class Dialogue(Generic[T]):
    """One Sign, from looking for cards to the signature of one.

    Args:
        request: what the cards are asked.
        now: reads both clocks.
        name: what the user calls the card, where it can be but one.
        cue: what is said while there is none.
    """

    def __init__(self, request: Sign, now: Callable[[], Instant], name: str = "", cue: str = INSERT) -> None:
        self.words = NO_CARD
        """Why there is no answer, and what to do: one line for the user."""
        self.reason = "no_card"
        """The same in one word, for the log."""
        self.wrong_pin = False
        """Whether the card said that the PIN was wrong."""
        self._requests: list[Sign | Use | Release] = [request]
        self._now, self._cue = now, cue.format(name=quoted(name))
        self._found: dict[int, tuple[Carries, T]] = {}
        self._failed: dict[int, Failure] = {}
        self._rejected: Rejected | None = None
        self._shown = ""
        self._ends = now().boot + FIND_SECONDS

    # ---------------------------------------------------------------------------------------------- looking for it

    def find(self, judge: Judge[T], several: bool) -> Steps[list[tuple[Carries, T]]]:
        """Flow to the cards that `judge` gives something for; to none where it is over: `words` and `reason` say why.

        Args:
            judge: what a card is good for, None for nothing. Raises Rejected.
            several: wait a moment for others.
        """
        going = True
        while going:
            event = yield from self._next(GRACE if self._found or self._final() else self._left())
            if isinstance(event, Expired):
                going = not self._found and self._without()
            elif isinstance(event, DeviceGone | Skipped):
                going = self._ended(event)
            else:
                going = yield from self._hear(expect(event, DeviceReply).reply, judge, several)
        return list(self._found.values())

    def release(self, card: Carries) -> None:
        """Let go of a card with the next thing that is asked."""
        self._requests.append(Release(card.device))

    def _hear(self, reply: object, judge: Judge[T], several: bool) -> Steps[bool]:
        """Whether to go on after a reply."""
        match reply:
            case Carries():
                return (yield from self._read(reply, judge, several))
            case Failed(device=device, why=why):
                self._found.pop(device, None)
                self._failed[device] = why
            case Idle():
                return bool(self._found) or (yield from self._idle())
            case _:
                raise ProtocolError(f"{type(reply).__name__} where a card was looked for")
        return True

    def _read(self, card: Carries, judge: Judge[T], several: bool) -> Steps[bool]:
        good = None
        try:
            good = yield from judge(card)
        except Rejected as bad:
            self._rejected = self._rejected if self._final() else bad
        if good is None:
            self.release(card)
            return several or not self._final() or self._without()
        self._found[card.device] = card, good
        return several

    def _final(self) -> bool:
        return self._rejected is not None and self._rejected.final

    def _idle(self) -> Steps[bool]:
        """No card is being read. A user who can still insert one is asked to; what failed is not tried again."""
        causes = set(self._failed.values()) - STRANGERS
        if self._final() or causes - {Failure.UNPLUGGED}:
            return self._without()
        yield from self._show(PUT_BACK if causes else self._cue)
        self._failed = {device: why for device, why in self._failed.items() if why is not Failure.UNPLUGGED}
        return True

    def _without(self) -> bool:
        """No card of the account's is there, and none came."""
        failed = [] if self._final() else [why for why in WORDS if why in self._failed.values()]
        if failed and failed[0] is not Failure.UNSUPPORTED:
            return self.over(failed[0].name.lower(), WORDS[failed[0]])
        if self._rejected:
            return self.over(self._rejected.reason, self._rejected.words)
        return self.over("no_card", NO_CARD)

    # -------------------------------------------------------------------------------------------------- PIN, signature

    def pin(self, card: Carries, label: str) -> Steps[str | None]:
        """Flow to the PIN of a card, or to None: where only its last try is left nobody is asked for it (P06)."""
        if card.tries <= LAST_TRY:
            why = Failure.PIN_LAST_TRIES if card.tries else Failure.PIN_BLOCKED
            self.over(why.name.lower(), WORDS[why])
            return None
        typed = yield from ask(f"PIN of {'your' if label else 'the'} smartcard{quoted(label)}{_left(card.tries)}: ")
        if PIN.fullmatch(typed):
            return typed
        self.over("pin_form", BAD_PIN)
        return None

    def sign(self, card: Carries, slot: Slot, pin: str, label: str) -> Steps[Signed | None]:
        """Flow to a card's signature, or to None."""
        self._requests.append(Use(card.device, slot, pin))
        self._ends = self._now().boot + SIGN_SECONDS
        touched = False
        while True:
            match (yield from self._next(self._left())):
                case Expired():
                    self._fail(Failure.NOT_TOUCHED if touched else Failure.SILENT)
                    return None
                case DeviceGone() | Skipped() as event:
                    self._ended(event)
                    return None
                case DeviceTouch(touch=Touch(device=device)) if device == card.device:
                    touched, self._ends = True, self._now().boot + TOUCH_SECONDS
                    yield from self._show(TOUCH.format(name=quoted(label)))
                case DeviceReply(reply=Signed() as signed) if signed.device == card.device:
                    return signed
                case DeviceReply(reply=Failed(device=device, why=why)) if device == card.device:
                    self._fail(why)
                    return None
                case event:
                    self._pass_over(expect(event, DeviceReply).reply)

    def _pass_over(self, reply: object) -> None:
        """What others do while one card signs."""
        if isinstance(reply, Carries):
            self.release(reply)
        elif not isinstance(reply, Failed | Idle):
            raise ProtocolError(f"{type(reply).__name__} where a signature was waited for")

    def _fail(self, why: Failure) -> None:
        self.wrong_pin = why is Failure.PIN_WRONG
        self.over(why.name.lower(), WORDS.get(why, WORDS[Failure.NONSENSE]))

    # --------------------------------------------------------------------------------------------------------- events

    def over(self, reason: str, words: str) -> bool:
        """Nothing comes of it."""
        self.reason, self.words = reason, words
        return False

    def _ended(self, event: DeviceGone | Skipped) -> bool:
        self._found.clear()
        return self.over(event.reason, NO_SERVICE) if isinstance(event, DeviceGone) else self.over("skipped", "")

    def _next(self, seconds: float) -> Steps[Event]:
        """The next event, once everything that is to be asked has been asked."""
        while len(self._requests) > 1:
            event = yield Wait(self._requests.pop(0), 0, skippable=True)
            if not isinstance(event, Expired):
                return event
        return (yield Wait(self._requests.pop() if self._requests else None, seconds, skippable=True))

    def _left(self) -> float:
        return max(0, self._ends - self._now().boot)

    def _show(self, text: str) -> Steps[None]:
        if text != self._shown:
            self._shown = text
            yield from tell(text)


def quoted(label: str) -> str:
    """A label behind other words, where a prompt can show it."""
    return f' "{label}"' if label and label.isascii() and label.isprintable() else ""


def _left(tries: int) -> str:
    if tries == UNKNOWN_TRIES:
        return ""
    return f" ({tries} tries left{': the next mistake leaves one' if tries == LAST_TRY + 1 else ''})"
