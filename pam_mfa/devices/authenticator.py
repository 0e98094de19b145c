"""What is asked of one authenticator, from getInfo to the answer (CTAP 2.1 sections 6.1, 6.2, 6.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fido2.ctap import CtapError

from .base import (
    HASH_BYTES,
    MAX_AUTHENTICATOR_DATA,
    Assert,
    Asserted,
    Described,
    Failure,
    Holds,
    List,
    Made,
    Make,
    PinReason,
    Request,
    Strange,
    Wanted,
)
from .ctap import ERR, Authenticator, Command
from .line import Out
from .terms import printable
from .verification import NOT_VERIFIED, Permission, Permit, UserVerification, tries_left

MAX_WORDS = 32
MAX_SIGNATURE = 1024
MAX_USER_HANDLE = 64
MAX_NUMBER = 2**31 - 1
UNKNOWN_TRIES = 255
AROUND_ID = 32  # bytes of CBOR around a credential id, at most
AROUND_LIST = 400  # and around a list of them: relying party id, hash


def serve(it: Authenticator, request: Request) -> None:
    """Do what is asked; the last thing said is the outcome. Raises Out, Left, CtapError and anything."""
    match request:
        case Assert():
            sign(it, request)
        case Make():
            make(it, request)
        case List():
            it.line.say(described(it))


# --------------------------------------------------------------------------------------------------- what it is


def described(it: Authenticator) -> Described:
    """What it says about itself."""
    info, options = it.info, it.info.options
    tries = UNKNOWN_TRIES
    if it.can("clientPin"):
        tries, _ = tries_left(it)
    return Described(
        it.line.device,
        it.transport,
        it.name,
        info.aaguid,
        number(info.firmware),
        words(info.versions),
        words(info.extensions),
        words(sorted(f"{name}={int(value is True)}" for name, value in options.items())),
        tuple(sorted(algorithms(it), reverse=True))[:MAX_WORDS],
        number(tries),
        number(info.min_pin),
        info.pin_change,
    )


def words(found: Iterable[object]) -> tuple[str, ...]:
    """A few of them, printable."""
    return tuple(printable(word) for word in list(found)[:MAX_WORDS])


def number(found: object) -> int:
    """One that fits. Raises TypeError."""
    if not isinstance(found, int):
        raise TypeError("no number")
    return max(0, min(found, MAX_NUMBER))


def algorithms(it: Authenticator) -> set[int]:
    """COSE numbers; empty where it does not say."""
    return {int(each["alg"]) for each in it.info.algorithms if abs(int(each["alg"])) <= MAX_NUMBER}


def at_most(found: object, size: int) -> bytes:
    """So many bytes or fewer. Raises TypeError."""
    if not isinstance(found, bytes) or len(found) > size:
        raise TypeError("no bytes, or too many")
    return found


# ------------------------------------------------------------------------------------------------- silent questions


def held(it: Authenticator, wanted: Sequence[Wanted]) -> Wanted | None:
    """The first of these credentials that it has; nothing blinks (section 6.2, "up" false)."""
    for rp_id in dict.fromkeys(each.rp_id for each in wanted):
        ids = [each.credential_id for each in wanted if each.rp_id == rp_id]
        for batch in batches(it, ids):
            if credential_id := silent(it, rp_id, batch):
                return Wanted(rp_id, credential_id)
    return None


def batches(it: Authenticator, ids: Sequence[bytes]) -> Iterator[list[bytes]]:
    """As many at a time as it takes; those longer than any of its own are left out."""
    room = it.info.longest_message - AROUND_LIST
    batch: list[bytes] = []
    for credential_id in ids:
        if len(credential_id) > it.info.longest_id:
            continue
        if batch and (
            len(batch) >= it.info.most_in_list or sum(len(i) + AROUND_ID for i in (*batch, credential_id)) > room
        ):
            yield batch
            batch = []
        batch.append(credential_id)
    if batch:
        yield batch


def silent(it: Authenticator, rp_id: str, batch: list[bytes]) -> bytes | None:
    """The one of them that it would sign with. What it signs here is of no use to anybody: UP is not set."""
    try:
        answer = it.call(Command.GET_ASSERTION, rp_id, bytes(HASH_BYTES), listed(batch), None, {"up": False})
    except CtapError as error:
        if error.code in (ERR.NO_CREDENTIALS, ERR.INVALID_CREDENTIAL):
            return None
        raise
    return chosen(answer, batch)


def listed(ids: Iterable[bytes]) -> list[dict[str, Any]]:
    """PublicKeyCredentialDescriptors."""
    return [{"type": "public-key", "id": credential_id} for credential_id in ids]


def chosen(answer: Mapping[int, Any], ids: Sequence[bytes]) -> bytes:
    """Which of these credentials the answer is about; where there is one, it may not say. Raises ValueError."""
    credential_id = answer[1]["id"] if len(ids) > 1 or 1 in answer else ids[0]
    return ids[ids.index(credential_id)]


# ----------------------------------------------------------------------------------------------------------- Assert


def sign(it: Authenticator, request: Assert) -> None:
    """Have the credential that it holds sign."""
    credential = held(it, request.wanted)
    if credential is None:
        it.line.say(Strange(it.line.device, it.name))
        return
    it.line.say(Holds(it.line.device, it.transport, it.name, (credential.credential_id,)))
    user = UserVerification(it, Permission.GET_ASSERTION, credential.rp_id, patient=False)
    permit = user.permit(request.verification, it.can("alwaysUv"))
    try:
        answer = assertion(it, request, credential, permit)
    except CtapError as error:
        answer = assertion(it, request, credential, second_permit(user, permit, error))
    it.line.say(asserted(it, credential, answer))


def second_permit(user: UserVerification, permit: Permit, error: CtapError) -> Permit:
    """What a refused command may be sent with once more. Raises the error where it may not."""
    if permit is NOT_VERIFIED and error.code == ERR.PUAT_REQUIRED and user.possible:
        return user.prove()
    if permit.on_the_way and error.code in (ERR.UV_BLOCKED, ERR.UV_INVALID, ERR.PUAT_REQUIRED):
        return user.by_pin(PinReason.VERIFICATION_BLOCKED)
    raise error


def assertion(it: Authenticator, request: Assert, credential: Wanted, permit: Permit) -> Mapping[int, Any]:
    """getAssertion with a touch."""
    options = {"uv": True} if permit.on_the_way else None
    proof = authentication(permit, request.client_data_hash)
    allowed = listed([credential.credential_id])
    parameters = credential.rp_id, request.client_data_hash, allowed, None, options, *proof
    return it.touch(Command.GET_ASSERTION, *parameters, verifies=permit.on_the_way)


def authentication(permit: Permit, client_data_hash: bytes) -> tuple[bytes | None, int | None]:
    """pinUvAuthParam and pinUvAuthProtocol."""
    if permit.protocol is None:
        return None, None
    return permit.protocol.authenticate(permit.token, client_data_hash), permit.protocol.VERSION


def asserted(it: Authenticator, credential: Wanted, answer: Mapping[int, Any]) -> Asserted:
    """An answer to getAssertion, as far as anybody wants to know."""
    user = answer.get(4) or {}
    return Asserted(
        it.line.device,
        it.transport,
        credential.rp_id,
        chosen(answer, [credential.credential_id]),
        at_most(answer[2], MAX_AUTHENTICATOR_DATA),
        at_most(answer[3], MAX_SIGNATURE),
        at_most(user.get("id", b""), MAX_USER_HANDLE),
    )


# ------------------------------------------------------------------------------------------------------------- Make


def make(it: Authenticator, request: Make) -> None:
    """Make a credential on it, if it holds none of the excluded ones."""
    known = algorithms(it)
    if (known and not known & set(request.algorithms)) or (request.discoverable and not it.can("rk")):
        raise Out(Failure.UNSUPPORTED)
    if held(it, request.excluded):
        raise Out(Failure.EXCLUDED)
    user = UserVerification(it, Permission.MAKE_CREDENTIAL, request.rp_id, patient=True)
    permit = user.permit(request.verification, needs_verification(it, request.discoverable))
    try:
        answer = creation(it, request, permit)
    except CtapError as error:
        answer = creation(it, request, second_permit(user, permit, error))
    it.line.say(Made(it.line.device, it.transport, it.name, at_most(answer[2], MAX_AUTHENTICATOR_DATA)))


def needs_verification(it: Authenticator, discoverable: bool) -> bool:
    """Whether it makes no such credential for somebody who proved nothing (section 6.1.2, steps 10 and 11)."""
    return it.can("alwaysUv") or discoverable or not it.can("makeCredUvNotRqd")


def creation(it: Authenticator, request: Make, permit: Permit) -> Mapping[int, Any]:
    """makeCredential with a touch."""
    options = {name: True for name, on in (("rk", request.discoverable), ("uv", permit.on_the_way)) if on}
    excluded = [each.credential_id for each in request.excluded if each.rp_id == request.rp_id]
    lists = list(batches(it, excluded))
    return it.touch(
        Command.MAKE_CREDENTIAL,
        request.client_data_hash,
        {"id": request.rp_id, "name": request.rp_name},
        {"id": request.user_handle, "name": request.user_name, "displayName": request.user_name},
        [{"type": "public-key", "alg": algorithm} for algorithm in request.algorithms],
        listed(lists[0]) if len(lists) == 1 else None,  # asked silently already; this finds what silence hides
        None,
        options or None,
        *authentication(permit, request.client_data_hash),
        verifies=permit.on_the_way,
    )
