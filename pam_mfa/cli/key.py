"""`pam-mfa key`: what is plugged in, security keys and smartcards."""

from __future__ import annotations

from collections.abc import Iterator

import click

from . import show
from .call import Call, with_json
from .client import Record

PIN_RESERVE = 2  # tries; pam-mfa leaves these to their owner
CARD_RESERVE = 1
NAMED_BY = "fido2-token -L names the DEVICE (package fido2-tools)"
FAILED = {
    "busy": "another program uses it; try again",
    "silent": "it does not answer; plug it in again",
    "unplugged": "it was pulled out",
    "nonsense": "its answers make no sense; plug it in again",
    "unsupported": "it is neither a FIDO2 key nor a PIV card; a key that knows U2F alone cannot be used",
}


@click.group(no_args_is_help=False)
def key() -> None:
    """See the security keys and smartcards that are plugged in."""


@key.command("list")
@with_json
def list_keys(call: Call) -> None:
    """List the security keys that are plugged in, the smartcards, and the readers for them."""
    keys, cards, readers = _devices(call)
    if keys:
        show.table(("Name", "Connected", "PIN", "Model id (AAGUID)"), [_row(record) for record in keys])
    if keys and (cards or readers):
        print()
    if cards or readers:
        empty = [(record["name"], "none", "", "") for record in readers]
        show.table(("Reader", "Smartcard", "PIN", "Certificates"), [*map(_card_row, cards), *empty])


@key.command()
@with_json
def info(call: Call) -> None:
    """Describe the security keys and smartcards that are plugged in, and say what to do with them."""
    keys, cards, _ = _devices(call)
    for title, *facts in (*map(_described, keys), *map(_card_described, cards)):
        show.line(title)
        for text in facts:
            show.line(text, indent=2)


def _devices(call: Call) -> tuple[list[Record], list[Record], list[Record]]:
    """Keys, cards and empty readers to describe; the rest is said here. With --json none: every record has gone out."""
    keys: list[Record] = []
    cards: list[Record] = []
    readers: list[Record] = []
    failed: list[Record] = []
    kinds = {"device": keys, "card": cards, "reader": readers, "device_failed": failed}
    call.run("devices", {}, {kind: found.append for kind, found in kinds.items()})
    for record in failed:
        show.line(f"A device cannot be used: {FAILED.get(record['why'], record['why'])}.")
    if not call.json and not keys and not cards and not failed:
        print("No security key and no smartcard is plugged in.")
    return keys, cards, readers


def _row(record: Record) -> tuple[object, ...]:
    return record["name"], record["transport"], _pin(record), record["aaguid"]


def _pin(record: Record) -> str:
    state, tries = record["options"].get("clientPin"), record["pin_tries"]
    if state != "1":
        return "not set" if state == "0" else "none possible"
    if record["pin_change"]:
        return "must be changed"
    if tries is None:
        return "set"
    return f"set, {tries} tries left" if tries else "blocked"


def _described(record: Record) -> Iterator[str]:
    """What a device is, a line each, and what its owner should do."""
    yield f"{record['name']} ({record['transport']})"
    yield f"model id (AAGUID): {record['aaguid']}"
    if record["firmware"]:
        yield f"firmware: {record['firmware']}"
    yield f"speaks: {', '.join(record['versions'])}"
    yield f"algorithms: {', '.join(record['algorithms']) or 'not said'}"
    yield f"PIN: {_pin(record)}"
    fingerprint = record["options"].get("uv")
    if fingerprint is not None:
        yield f"fingerprint: {'enrolled' if fingerprint == '1' else 'none enrolled'}"
    advice = _advice(record)
    if advice:
        yield f"{advice}; {NAMED_BY}."


def _card_row(record: Record) -> tuple[object, ...]:
    slots = ", ".join(each["slot"] for each in record["certificates"])
    return record["name"], record["serial"] or "without a number", _card_pin(record), slots or "none"


def _card_pin(record: Record) -> str:
    tries = record["pin_tries"]
    if tries is None:
        return "set"
    return f"{tries} {'try' if tries == 1 else 'tries'} left" if tries else "blocked"


def _card_described(record: Record) -> Iterator[str]:
    """What a card is, a line each, and what its owner should do."""
    yield f"Smartcard in {record['name']}"
    if record["serial"]:
        yield f"number: {record['serial']}"
    yield f"PIN: {_card_pin(record)}"
    for each in record["certificates"]:
        yield f"slot {each['slot']}: {each['subject']}"
        yield f"issued by {each['issuer']}, number {each['number']}"
        yield f"valid from {each['valid_from']} to {each['valid_until']}, key {each['key']}"
    if not record["certificates"]:
        yield "It has no certificate that can be used, in none of the slots 9a, 9c and 9d."
    tries = record["pin_tries"]
    if tries == 0:
        yield "Its PIN is blocked. Who has its PUK sets a new one: ykman piv access unblock-pin, or the issuer's tool."
    elif tries is not None and tries <= CARD_RESERVE:
        yield "The last try is yours alone. A right PIN, given to another program, brings all of them back."


def _advice(record: Record) -> str:
    """What to do about the PIN; empty where there is nothing to do."""
    state, tries = record["options"].get("clientPin"), record["pin_tries"]
    if state == "0":
        return "To be used where a PIN is required it needs one: fido2-token -S DEVICE"
    if state != "1":
        return ""
    if tries == 0:
        return (
            "Its PIN is blocked for good. A reset makes it usable and erases all its credentials: fido2-token -R DEVICE"
        )
    if record["pin_change"]:
        return "It wants another PIN before it can be used: fido2-token -C DEVICE"
    if tries is not None and tries <= PIN_RESERVE:
        return "The last two tries are yours alone. Get all of them back by changing the PIN: fido2-token -C DEVICE"
    return ""
