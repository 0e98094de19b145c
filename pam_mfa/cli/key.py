"""`pam-mfa key`: what is plugged in."""

from __future__ import annotations

from collections.abc import Iterator

import click

from . import show
from .call import Call, with_json
from .client import Record

PIN_RESERVE = 2  # tries; pam-mfa leaves these to their owner
NAMED_BY = "fido2-token -L names the DEVICE (package fido2-tools)"
FAILED = {
    "busy": "another program uses it; try again",
    "silent": "it does not answer; plug it in again",
    "unplugged": "it was pulled out",
    "nonsense": "its answers make no sense; plug it in again",
    "unsupported": "it is no FIDO2 key; one that knows U2F alone cannot be used",
}


@click.group(no_args_is_help=False)
def key() -> None:
    """See the security keys that are plugged in."""


@key.command("list")
@with_json
def list_keys(call: Call) -> None:
    """List the security keys that are plugged in."""
    found = _devices(call)
    if found:
        show.table(("Name", "Connected", "PIN", "Model id (AAGUID)"), [_row(record) for record in found])


@key.command()
@with_json
def info(call: Call) -> None:
    """Describe the security keys that are plugged in, and say what to do with them."""
    for record in _devices(call):
        for text in _described(record):
            show.line(text, indent=0 if text.startswith(record["name"]) else 2)


def _devices(call: Call) -> list[Record]:
    """What there is to describe; the rest is said here. Nothing with --json, where every record has gone out."""
    found: list[Record] = []
    failed: list[Record] = []
    call.run("devices", {}, {"device": found.append, "device_failed": failed.append})
    for record in failed:
        show.line(f"A device cannot be used: {FAILED.get(record['why'], record['why'])}.")
    if not call.json and not found and not failed:
        print("No security key is plugged in.")
    return found


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
