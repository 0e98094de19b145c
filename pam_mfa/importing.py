"""The flows that take over keys which another program enrolled. Root only: nothing is proven, nothing is touched.

The command has read the files (importers/). What it sends is checked once more: logins are verified with it.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .conversation import Steps, ask, commit, show
from .credentials import root_only
from .enroll import MAX_CREDENTIALS, RECOVERY_LABEL, Desk
from .errors import ChangedMeanwhile, RefusedError
from .factors.assertion import Unproven, public_key
from .factors.fido2 import Material, credential_name, other_owner
from .importers.base import Imported, Unusable, check_id, check_rp_id
from .importers.publickey import NAMES
from .store.base import Account, Credential, Enrol

FACTOR = "fido2"
STEMS = {"pam_u2f": "pam_u2f key", "passkey": "passkey"}
MAX_SHEET = 128 * 1024
MAX_USER_HANDLE = 64


def check_import(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: what `apply_import` would do; a record for each key, in the order in which they were sent."""
    yield from _import(desk, args, apply=False)


def apply_import(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: enrol one account's keys in one transaction, all or none; those that it has stay as they are."""
    yield from _import(desk, args, apply=True)


def _import(desk: Desk, args: Mapping[str, Any], apply: bool) -> Steps[None]:
    root_only(desk)
    stem = STEMS.get(str(args.get("source")))
    if stem is None:
        raise RefusedError("invalid", f"say where the keys come from: {', '.join(STEMS)}")
    keys = _keys((yield from _take()), desk.caller.user)
    account = yield from desk.account()
    present = {Material.unpack(c.material).credential_id: c for c in account.of(FACTOR)}
    fresh = [key for key in keys if key.credential_id not in present]
    alone = args.get("shared") is not True
    if alone:
        yield from _alone(desk, fresh)
    made = _credentials(desk, account, fresh, stem)
    if apply and made:
        yield from _store(account, made, alone)
    enrolled = present | {key.credential_id: credential for key, credential in zip(fresh, made, strict=True)}
    for key in keys:
        state = "present" if key.credential_id in present else "imported" if apply else "ready"
        found = enrolled[key.credential_id]
        yield from show(kind="key", state=state, id=found.id, factor=FACTOR, label=found.label)


def _take() -> Steps[str]:
    """What the command has to say, which is longer than a request: piece by piece, until there is nothing more."""
    pieces: list[str] = []
    size = 0
    while piece := (yield from ask("", secret=False)):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_SHEET:
            raise RefusedError("invalid", "too much for one account: import the keys in parts")
    return "".join(pieces)


def _keys(sheet: str, user: str) -> list[Imported]:
    """The keys on a sheet. Raises RefusedError."""
    try:
        keys = [_key(item, user) for item in json.loads(sheet)]
    except Unusable as problem:
        raise RefusedError("invalid", str(problem)) from None
    except Exception:  # noqa: BLE001 - hostile JSON raises many things, RecursionError among them
        raise RefusedError("invalid", "these keys make no sense: use the pam-mfa command of this version") from None
    if not keys or len({key.credential_id for key in keys}) != len(keys):
        raise RefusedError("invalid", "no key, or one twice")
    return keys


def _key(item: Mapping[str, Any], user: str) -> Imported:
    flags = item["verified"], item["discoverable"]
    handle = _bytes(item["user_handle"])
    if {type(flag) for flag in flags} != {bool} or len(handle) > MAX_USER_HANDLE:
        raise ValueError("no flags, or no user handle")
    encoded = _bytes(item["public_key"])
    try:
        key = public_key(encoded)
    except Unproven:
        raise Unusable("a public key is not safe: not on its curve, or of a size that is not taken") from None
    if key.encoded != encoded:
        raise Unusable("a public key is followed by something else")
    name = NAMES[key.algorithm]
    return Imported(
        user, check_rp_id(item["rp_id"]), check_id(_bytes(item["credential_id"])), encoded, name, *flags, handle
    )


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True) if text else b""


def _alone(desk: Desk, keys: Sequence[Imported]) -> Steps[None]:
    """Sub-flow: nobody else has one of these (K07). Raises RefusedError."""
    owner = yield from other_owner(desk.caller.uid, (key.credential_id for key in keys))
    if owner is not None:
        raise RefusedError("refused", f"nothing was changed: {owner} has one of these keys; --shared gives it to both")


def _credentials(desk: Desk, account: Account, keys: Sequence[Imported], stem: str) -> list[Credential]:
    """Raises RefusedError where they are too many."""
    if len(account.credentials) + len(keys) > MAX_CREDENTIALS:
        raise RefusedError("invalid", f"an account has at most {MAX_CREDENTIALS} credentials: remove some first")
    taken = {credential.label for credential in account.credentials} | {RECOVERY_LABEL}
    free = (label for n in range(1, 2 * MAX_CREDENTIALS) if (label := f"{stem} {n}") not in taken)
    now = desk.now().wall
    return [_credential(desk, key, label, now) for key, label in zip(keys, free, strict=False)]


def _credential(desk: Desk, key: Imported, label: str, now: int) -> Credential:
    """A key as it is stored: unused, and without a sign count, which the first login brings."""
    material = Material(
        key.rp_id,
        key.credential_id,
        key.public_key,
        user_handle=key.user_handle,
        verified=key.verified,
        discoverable=key.discoverable,
    )
    caller = desk.caller
    name = credential_name(key.credential_id)
    return Credential(name, caller.uid, caller.user, FACTOR, label, material.pack(), created=now)


def _store(account: Account, made: Sequence[Credential], alone: bool) -> Steps[None]:
    expected = frozenset(credential.id for credential in account.credentials)
    try:
        yield from commit(Enrol(tuple(made), expected=expected, alone=alone))
    except ChangedMeanwhile:
        raise RefusedError("refused", "nothing was changed: the account's credentials changed meanwhile") from None
