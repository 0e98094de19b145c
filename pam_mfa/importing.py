"""The flows that take over what another program enrolled: security keys, and keys of smartcards and of ssh. Root only:
nothing is proven, nothing is touched.

The command has read the files (importers/). What it sends is checked once more: logins are verified with it.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .conversation import Steps, ask, commit, show
from .credentials import root_only
from .enroll import MAX_CREDENTIALS, RECOVERY_LABEL, Desk, crowded
from .errors import ChangedMeanwhile, RefusedError
from .factors import fido2, piv, ssh_key, ssh_public
from .factors.assertion import Unproven, public_key
from .factors.base import other_owner
from .importers.base import Imported, Pinned, Unusable, check_id, check_rp_id
from .importers.publickey import NAMES
from .notices import naming
from .store.base import Enrol
from .store.rows import Account, Credential
from .structure import structure

MAX_SHEET = 128 * 1024
MAX_USER_HANDLE = 64
MAX_TEXT = 256


@structure
class Taken:
    """What is taken over, as it is stored.

    Args:
        id: our id of it.
        identity: what tells it from the others of its account.
        material: of the credential.
    """

    id: str
    identity: bytes
    material: bytes


@structure
class Source:
    """Where keys come from.

    Args:
        factor: that they are of.
        stem: their names begin with it.
        read: takes an item of a sheet, and whose it is. Raises Unusable, or anything else for nonsense.
        identity: of a stored one, from its material.
    """

    factor: str
    stem: str
    read: Callable[[Mapping[str, Any], str], Taken]
    identity: Callable[[bytes], bytes]


def check_import(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: what `apply_import` would do; a record for each key, in the order in which they were sent."""
    yield from _import(desk, args, apply=False)


def apply_import(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: enrol one account's keys in one transaction, all or none; those that it has stay as they are."""
    yield from _import(desk, args, apply=True)


def _import(desk: Desk, args: Mapping[str, Any], apply: bool) -> Steps[None]:
    root_only(desk)
    source = SOURCES.get(str(args.get("source")))
    if source is None:
        raise RefusedError("invalid", f"say where the keys come from: {', '.join(SOURCES)}")
    keys = _keys((yield from _take()), desk.caller.user, source)
    account = yield from desk.account()
    present = {source.identity(c.material): c for c in account.of(source.factor)}
    fresh = [key for key in keys if key.identity not in present]
    alone = args.get("shared") is not True
    if alone:
        yield from _alone(desk, fresh)
    made = _credentials(desk, account, fresh, source)
    if apply and made:
        yield from _store(desk, account, made, alone)
    enrolled = present | {key.identity: credential for key, credential in zip(fresh, made, strict=True)}
    for key in keys:
        state = "present" if key.identity in present else "imported" if apply else "ready"
        found = enrolled[key.identity]
        yield from show(kind="key", state=state, id=found.id, factor=source.factor, label=found.label)


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


def _keys(sheet: str, user: str, source: Source) -> list[Taken]:
    """The keys on a sheet. Raises RefusedError."""
    try:
        keys = [source.read(item, user) for item in json.loads(sheet)]
    except Unusable as problem:
        raise RefusedError("invalid", str(problem)) from None
    except Exception:  # noqa: BLE001 - hostile JSON raises many things, RecursionError among them
        raise RefusedError("invalid", "these keys make no sense: use the pam-mfa command of this version") from None
    if not keys or len({key.identity for key in keys}) != len(keys):
        raise RefusedError("invalid", "no key, or one twice")
    return keys


def _security_key(item: Mapping[str, Any], user: str) -> Taken:
    """A key of FIDO2 as it is stored: unused, and without a sign count, which the first login brings."""
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
    ids = check_rp_id(item["rp_id"]), check_id(_bytes(item["credential_id"]))
    found = Imported(user, *ids, encoded, NAMES[key.algorithm], *flags, handle)
    material = fido2.Material(
        found.rp_id, found.credential_id, encoded, user_handle=handle, verified=flags[0], discoverable=flags[1]
    )
    return Taken(fido2.credential_name(found.credential_id), found.identity, material.pack())


def _card(item: Mapping[str, Any], user: str) -> Taken:
    """The key of a smartcard. What its certificate said is shown, and nothing follows from it."""
    from .factors.card_signature import key_name

    texts = [item[name] for name in ("subject", "issuer", "number", "valid_until")]
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT and text.isascii() for text in texts):
        raise ValueError("no texts")
    if not all(text.isprintable() for text in texts):
        raise ValueError("no texts that can be shown")
    spki = _bytes(item["public_key"])
    try:
        name = key_name(spki)
    except Unproven:
        raise Unusable("a public key is none that cards may have here") from None
    found = Pinned(user, spki, name, *texts)
    material = piv.Material(piv.KEY, found.identity, 0, name, *texts)
    return Taken(material.id, found.identity, material.pack())


def _ssh_key(item: Mapping[str, Any], user: str) -> Taken:
    """A security key that its user has for ssh."""
    if not isinstance(item["verified"], bool):
        raise ValueError("no flag")
    try:
        key = ssh_public.parse(_bytes(item["key"]))
        ssh_public.check(key)
    except Unproven:
        raise Unusable("an SSH key is none of a security key, or damaged") from None
    material = ssh_key.Material(key.blob, item["verified"])
    return Taken(material.id, key.blob, material.pack())


def _blob(material: bytes) -> bytes:
    return ssh_key.Material.unpack(material).blob


def _credential_id(material: bytes) -> bytes:
    return fido2.Material.unpack(material).credential_id


def _value(material: bytes) -> bytes:
    return piv.Material.unpack(material).value


SOURCES: Mapping[str, Source] = {
    "pam_u2f": Source("fido2", "pam_u2f key", _security_key, _credential_id),
    "passkey": Source("fido2", "passkey", _security_key, _credential_id),
    "pam_p11": Source("smartcard", "pam_p11 card", _card, _value),
    "pam_pkcs11": Source("smartcard", "pam_pkcs11 card", _card, _value),
    "authorized_keys": Source(ssh_key.NAME, "ssh key", _ssh_key, _blob),
}


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True) if text else b""


def _alone(desk: Desk, keys: Sequence[Taken]) -> Steps[None]:
    """Sub-flow: nobody else has one of these (K07). Raises RefusedError."""
    owner = yield from other_owner(desk.caller.uid, (key.id for key in keys))
    if owner is not None:
        raise RefusedError("refused", f"nothing was changed: {owner} has one of these keys; --shared gives it to both")


def _credentials(desk: Desk, account: Account, keys: Sequence[Taken], source: Source) -> list[Credential]:
    """Raises RefusedError where they are too many."""
    if crowded(account, len(keys)):
        raise RefusedError("invalid", f"an account has at most {MAX_CREDENTIALS} credentials: remove some first")
    taken = {credential.label for credential in account.credentials} | {RECOVERY_LABEL}
    free = (label for n in range(1, 2 * MAX_CREDENTIALS) if (label := f"{source.stem} {n}") not in taken)
    now, caller = desk.now().wall, desk.caller
    return [
        Credential(key.id, caller.uid, caller.user, source.factor, label, key.material, created=now)
        for key, label in zip(keys, free, strict=False)
    ]


def _store(desk: Desk, account: Account, made: Sequence[Credential], alone: bool) -> Steps[None]:
    expected = frozenset(credential.id for credential in account.credentials)
    about = naming(made[0].factor, made[0].label) if len(made) == 1 else f"{len(made)} credentials ({made[0].factor})"
    try:
        yield from commit(desk.announced(Enrol(tuple(made), expected=expected, alone=alone), "imported", about))
    except ChangedMeanwhile:
        raise RefusedError("refused", "nothing was changed: the account's credentials changed meanwhile") from None
