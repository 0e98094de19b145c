"""One request to the devices, and what its user is told meanwhile: cues, PIN, and why it came to nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

from ..conversation import DeviceGone, DeviceReply, DeviceTouch, Expired, Skipped, Steps, Wait, ask, expect, tell
from ..devices.base import (
    TOUCH_SECONDS,
    Assert,
    Asserted,
    Choose,
    Chosen,
    Failed,
    Failure,
    Followup,
    Holds,
    Idle,
    Made,
    Pin,
    PinReason,
    PinWanted,
    Request,
    Strange,
    Touch,
    Transport,
)
from ..errors import ProtocolError
from ..throttle import Instant
from . import assertion

HALF = TOUCH_SECONDS // 2
GRACE = 0.5  # seconds that further devices have to say that they want a PIN too
PIN_BYTES = 63  # CTAP 2.1 section 6.5.1
PIN_CHARACTERS = 4
UNKNOWN_TRIES = 255

NO_SERVICE = "Security keys cannot be used now: ask an administrator to run pam-mfa doctor."
NO_KEY = "No security key of yours is plugged in: plug it in and try again."
NOT_TOUCHED = "The security key was not touched in time: try again, and touch it when it blinks."
NOT_ACCEPTED = "The answer of that security key was not accepted: use the one that you enrolled."
BAD_PIN = "That cannot be the PIN of a security key: it has 4 to 63 characters. Try again."
PLUG_BACK = "The security key was removed: plug it in again."
SET_PIN = "with fido2-token -S or ykman fido access change-pin"

# Where several devices failed the first of these is told: what its user can do most about.
WORDS = {
    Failure.PIN_WRONG: "That was not the PIN of the security key: try again.",
    Failure.DECLINED: "The request was declined on the security key: try again, and allow it there.",
    Failure.NOT_TOUCHED: NOT_TOUCHED,
    Failure.PIN_LAST_TRIES: "Only the last tries of the security key's PIN are left, and they are not spent here: "
    "give the right PIN once with ykman fido access verify-pin, then try again.",
    Failure.PIN_PAUSED: "Too many wrong PINs in a row: unplug the security key, plug it in again, then try again.",
    Failure.PIN_CHANGE: "The security key wants a new PIN: "
    "change it with fido2-token -C or ykman fido access change-pin.",
    Failure.PIN_UNSET: f"The security key has no PIN, and one is needed: set one {SET_PIN}.",
    Failure.VERIFICATION_BLOCKED: f"Too many fingerprints did not fit, and there is no PIN: set one {SET_PIN}.",
    Failure.PIN_BLOCKED: "The PIN of the security key is blocked for good: the key has to be reset and enrolled anew.",
    Failure.EXCLUDED: "That security key is enrolled already: use another one.",
    Failure.FULL: "The security key has no room for another discoverable credential: leave out --discoverable.",
    Failure.BUSY: "Another program is using the security key: close that program and try again.",
    Failure.SILENT: "The security key does not answer: unplug it, plug it in again, then try again.",
    Failure.NONSENSE: "The security key gave an answer that is none: unplug it, plug it in again, then try again.",
    Failure.UNSUPPORTED: "That security key cannot do what is asked: use one that speaks FIDO2.",
    Failure.UNPLUGGED: PLUG_BACK,
}


class Cue:
    """What is said while a device waits for its user.

    Args:
        touch, verify, plug: one line each; `{name}` is where the name of a credential goes, if it is known.
    """

    def __init__(self, touch: str, verify: str, plug: str) -> None:
        self.touch, self.verify, self.plug = touch, verify, plug


class Dialogue:
    """One request, until there is an answer or none will come.

    Args:
        request: what the devices are asked.
        cue: what is said meanwhile.
        labels: what the user calls each wanted credential, by credential id.
        now: reads both clocks.
        half: seconds until the cue is repeated; as many again, and it is over.
    """

    def __init__(
        self,
        request: Request,
        cue: Cue,
        labels: Mapping[bytes, str],
        now: Callable[[], Instant],
        half: int = HALF,
    ) -> None:
        self.words = NO_KEY
        """Why there is no answer, and what to do: one line for the user."""
        self.reason = "no_key"
        """The same in one word, for the log."""
        self._pins: dict[int, str] = {}
        self._maker: tuple[Transport, str] | None = None
        self._given = ""
        self._claims: dict[int, tuple[Transport, str]] = {}
        self._request: Request | Followup | None = request
        self._alone = isinstance(request, Assert) and len(request.wanted) == 1
        self._cue, self._labels, self._now, self._half = cue, labels, now, half
        self._names: dict[int, tuple[str, ...]] = {}
        self._touched: dict[int, str] = {}
        self._wanting: dict[int, PinWanted] = {}
        self._failed: dict[int, Failure] = {}
        self._refused = False
        self._asked = False
        self._choosing = False
        self._repeated = False
        self._shown = ""
        self._ends = now().boot + half

    def next(self) -> Steps[Asserted | Made | None]:
        """Flow to the next answer of a device, or to None: `words` and `reason` say why."""
        going = True
        while going:
            request, self._request = self._request, None
            event = yield Wait(request, self._left(), skippable=True)
            if isinstance(event, Expired):
                going = yield from self._late()
            elif isinstance(event, Skipped):
                going = self._over("skipped", "")
            elif isinstance(event, DeviceGone):
                going = self._over(event.reason, NO_SERVICE)
            elif isinstance(event, DeviceTouch):
                yield from self._touch(event.touch)
            else:
                reply = expect(event, DeviceReply).reply
                if isinstance(reply, Asserted | Made):
                    self._forget(reply.device)
                    return reply
                going = yield from self._hear(reply)
        return None

    def refuse(self) -> None:
        """The last answer did not prove anything; other devices may still give theirs."""
        self._refused = True

    def follow(self, before: Dialogue, made: Made) -> None:
        """The PIN that made a credential in the request before this one is good for the same device once more.

        Any device can say that it holds the new credential, and want the PIN: where it is not connected and called as
        the maker is, or the maker had no PIN, the user is asked.
        """
        self._maker, self._given = (made.transport, made.name), before._pins.get(made.device, "")

    def _left(self) -> float:
        undecided = self._wanting and not (self._asked or self._choosing)
        return GRACE if undecided else max(0, self._ends - self._now().boot)

    def _restart(self) -> None:
        self._ends, self._repeated = self._now().boot + self._half, False

    def _over(self, reason: str, words: str) -> bool:
        self.reason, self.words = reason, words
        return False

    def _forget(self, device: int) -> None:
        self._touched.pop(device, None)
        self._wanting.pop(device, None)

    # ------------------------------------------------------------------------------------------------- time

    def _late(self) -> Steps[bool]:
        """The wait has ended: a decision is due, the cue is repeated, or it is over."""
        if self._wanting and not (self._asked or self._choosing):
            return (yield from self._choose())
        if not self._touched and not self._choosing:
            return self._without()
        if self._repeated:
            return self._over("not_touched", NOT_TOUCHED)
        self._restart()
        self._repeated = True
        if self._shown:
            yield from tell(f"Still waiting. {self._shown}")
        return True

    def _without(self) -> bool:
        """No device works on, and none came."""
        if self._refused:
            return self._over("wrong", NOT_ACCEPTED)
        for failure in WORDS:
            if failure in self._failed.values():
                return self._over(failure.name.lower(), WORDS[failure])
        return self._over("no_key", NO_KEY)

    # -------------------------------------------------------------------------------------------------- cues

    def _touch(self, touch: object) -> Steps[None]:
        if not isinstance(touch, Touch):
            raise ProtocolError("a touch of no device")
        if touch.device not in self._touched:
            self._restart()
        self._touched[touch.device] = self._cue.verify if touch.verifies else self._cue.touch
        if self._choosing:  # each of them blinks, and that has been said
            return
        # One device: its own cue. Several: the plain one, with no name.
        texts = set(self._touched.values())
        text = texts.pop() if len(texts) == 1 else self._cue.touch
        yield from self._show(text.format(name=self._named(self._touched)))

    def _show(self, text: str) -> Steps[None]:
        if text != self._shown:
            self._shown = text
            yield from tell(text)

    def _named(self, devices: Mapping[int, object]) -> str:
        """The credential's name, where there is just one that it can be and a prompt can show it."""
        held = {label for device in devices for label in self._names.get(device, ())}
        return self._quoted(held)

    @staticmethod
    def _quoted(labels: set[str]) -> str:
        (label, *more) = labels or {""}
        return f' "{label}"' if label and not more and label.isascii() and label.isprintable() else ""

    # ------------------------------------------------------------------------------------------------ replies

    def _hear(self, reply: object) -> Steps[bool]:
        """Whether to go on after a reply that is no answer."""
        match reply:
            case Holds(device=device, transport=transport, name=name, credential_ids=ids):
                assertion.load()
                self._claims[device] = transport, name
                self._names[device] = tuple(self._labels[i] for i in ids if i in self._labels)
            case Strange():
                pass
            case PinWanted():
                return (yield from self._pin_wanted(reply))
            case Chosen(device=device) if self._choosing and device in self._wanting:
                self._restart()
                self._touched.clear()
                return (yield from self._ask_pin(device))
            case Failed(device=device, why=why):
                self._forget(device)
                self._failed[device] = why
            case Idle():
                return (yield from self._idle())
            case _:
                raise ProtocolError(f"{type(reply).__name__} where the devices' answer was wanted")
        return True

    def _idle(self) -> Steps[bool]:
        """No device works on. A user who can still plug one in is asked to; what failed is not tried again."""
        causes = set(self._failed.values())
        if self._refused or causes - {Failure.UNPLUGGED}:
            return self._without()
        self._touched.clear()
        if causes:
            self._failed.clear()
            yield from self._show(PLUG_BACK)
        else:
            yield from self._show(self._cue.plug.format(name=self._quoted(set(self._labels.values()))))
        return True

    # --------------------------------------------------------------------------------------------------- PIN

    def _pin_wanted(self, wanted: PinWanted) -> Steps[bool]:
        maker = self._maker is not None and self._claims.get(wanted.device) == self._maker
        if self._given and maker and wanted.reason is not PinReason.WRONG and not self._asked:
            self._asked = True
            self._request = Pin(wanted.device, self._given)
            return True
        if self._asked:  # once per login, whichever device it was for (K16)
            return self._over("pin_wrong", WORDS[Failure.PIN_WRONG])
        self._wanting[wanted.device] = wanted
        if self._alone:
            return (yield from self._ask_pin(wanted.device))
        return True  # another key may want one too, and has not said so yet: GRACE decides

    def _choose(self) -> Steps[bool]:
        """Ask for the PIN of the only device that wants one, or have the user touch the one that is meant."""
        if len(self._wanting) == 1:
            return (yield from self._ask_pin(*self._wanting))
        self._choosing = True
        self._request = Choose()
        self._restart()
        yield from self._show("Several security keys want a PIN: touch the one to use.")
        return True

    def _ask_pin(self, device: int) -> Steps[bool]:
        wanted = self._wanting.get(device)
        self._asked, self._choosing = True, False
        lead = "Too many fingerprints did not fit. " if _is(wanted, PinReason.VERIFICATION_BLOCKED) else ""
        tries = f" ({wanted.tries} tries left)" if wanted and wanted.tries < UNKNOWN_TRIES else ""
        typed = yield from ask(f"{lead}PIN of your security key{self._named({device: None})}{tries}: ")
        self._wanting.clear()
        self._shown = ""  # a cue from before the prompt is said again
        pin = _normal(typed)
        if pin is None:
            return self._over("pin_form", BAD_PIN)
        self._restart()
        self._pins[device] = pin
        self._request = Pin(device, pin)
        return True


def _is(wanted: PinWanted | None, reason: PinReason) -> bool:
    return wanted is not None and wanted.reason is reason


def _normal(typed: str) -> str | None:
    """A PIN as devices want it (CTAP 2.1 section 6.5.1), None where it cannot be one: no try is spent on that."""
    pin = unicodedata.normalize("NFC", typed)
    try:
        size = len(pin.encode())
    except UnicodeEncodeError:
        return None
    return pin if len(pin) >= PIN_CHARACTERS and size <= PIN_BYTES else None
