"""The flow that says what is plugged in.

Whoever sits at this host may ask, and root: it tells what `lsusb` tells, how the device's PIN stands, and what anybody
reads off a smartcard, but nothing of a credential, and it touches nothing. Asking again and again costs what the caps
of the manage socket allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from .conversation import DeviceGone, DeviceReply, Steps, Wait, expect, hang_up, show
from .devices.base import Carries, Described, Failed, Idle, List, Reader
from .enroll import Desk, at_host
from .errors import ProtocolError, RefusedError

SECONDS = 5
UNKNOWN = 255  # PIN tries
ALGORITHMS = {-7: "es256", -8: "eddsa", -257: "rs256"}
OPTIONS = frozenset({"alwaysUv", "bioEnroll", "clientPin", "credMgmt", "makeCredUvNotRqd", "rk", "up", "uv"})
# A record has to fit into a frame, whatever a device says of itself.
MAX_WORDS, MAX_WORD = 16, 32
MAX_NAME = 128  # of a certificate's subject and issuer


def devices(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: one record for each device and each empty reader that is there."""
    yield from at_host(desk)
    request: List | None = List(SECONDS)
    while True:
        event = yield Wait(request, SECONDS + 1)
        if isinstance(event, DeviceGone):
            raise RefusedError("unavailable", "the device service does not answer: ask an administrator to restart it")
        reply = expect(event, DeviceReply).reply
        if isinstance(reply, Idle):
            return (yield from hang_up())
        yield from show(**_record(reply))
        request = None


def _record(reply: object) -> dict[str, Any]:
    match reply:
        case Described():
            return _described(reply)
        case Carries():
            return _carries(reply)
        case Reader(device, name):
            return {"kind": "reader", "device": device, "name": name}
        case Failed(device, why):
            return {"kind": "device_failed", "device": device, "why": why.name.lower()}
        case _:
            raise ProtocolError(f"{type(reply).__name__} in answer to List")


def _described(found: Described) -> dict[str, Any]:
    return {
        "kind": "device",
        "device": found.device,
        "name": found.name,
        "transport": found.transport.name.lower(),
        "aaguid": str(UUID(bytes=found.aaguid)),
        "firmware": found.firmware,
        "versions": _few(found.versions),
        "extensions": _few(found.extensions),
        "options": {name: value for name, _, value in (o.partition("=") for o in found.options) if name in OPTIONS},
        "algorithms": _few([ALGORITHMS.get(number, str(number)) for number in found.algorithms]),
        "pin_tries": _tries(found.pin_tries),
        "min_pin": found.min_pin,
        "pin_change": found.pin_change,
    }


def _carries(found: Carries) -> dict[str, Any]:
    return {
        "kind": "card",
        "device": found.device,
        "name": found.name,
        "serial": found.serial.hex(),
        "pin_tries": _tries(found.tries),
        "certificates": [
            {
                "slot": f"{each.slot:x}",
                "subject": each.subject[:MAX_NAME],
                "issuer": each.issuer[:MAX_NAME],
                "number": each.number,
                "valid_from": each.valid_from,
                "valid_until": each.valid_until,
                "key": each.key,
            }
            for each in found.certificates
        ],
    }


def _tries(number: int) -> int | None:
    return None if number == UNKNOWN else number


def _few(words: Sequence[str]) -> list[str]:
    return [word[:MAX_WORD] for word in words[:MAX_WORDS]]
