"""The two ceremonies of a security key: proving with it (WebAuthn Level 3 section 7.2) and enrolling it (7.1).

The client data is not a browser's: what the key signs the hash of is a nonce of this session and where the session is.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ..config import Clone, Synced
from ..conversation import Steps, hang_up, warn
from ..devices.base import (
    MAX_CREDENTIALS,
    MAX_NAME,
    Assert,
    Asserted,
    Failure,
    Made as MadeReply,
    Make,
    Verification,
    Wanted,
)
from ..errors import RefusedError
from ..outcome import Proof
from ..store.base import Count
from ..store.rows import Credential
from ..structure import replace, structure
from .assertion import ALGORITHMS, Attested, Head, Unproven, demand, public_key, read_assertion, read_attested
from .base import Ceremony, Enrolment, Made, Place, comparable, other_owner, settle, waits
from .challenge import challenge
from .dialogue import HALF, NOT_ACCEPTED, WORDS, Cue, Dialogue
from .fido2 import Material, credential_name

REQUEST_SECONDS = 180  # the session ends it before that
HANDLE_BYTES = 32

PROVE = Cue(
    "Touch your security key{name}",
    "Put your finger on the reader of your security key{name}",
    "Plug in your security key{name}",
)
ENROL = Cue(
    "Touch the security key that you want to enrol",
    "Put your finger on the reader of the security key that you want to enrol",
    "Plug in the security key that you want to enrol",
)
CONFIRM = Cue(
    "Now touch it once more, to prove that it works",
    "Now put your finger on its reader once more, to prove that it works",
    "Plug the security key in again",
)
NO_PASSKEYS = "This credential can leave its device, and the settings refuse that: use another security key."
NOT_VERIFIED = "The security key did not ask for its PIN or a fingerprint, and one is needed: use another one."
TAKEN = "What that security key made belongs to another account: use another one."
REFUSALS = {"taken": TAKEN, "synced": NO_PASSKEYS, "uv_missing": NOT_VERIFIED, "known": WORDS[Failure.EXCLUDED]}


# ------------------------------------------------------------------------------------------------------- proving


@structure
class Question:
    """What was asked of the keys of one account.

    Args:
        hash: client data hash.
        held: the credentials that may answer, by credential id.
        verification: whether the user has to be verified.
        place: by whose rules.
        decoy: what is asked for where there are none.
    """

    hash: bytes
    held: Mapping[bytes, tuple[Credential, Material]]
    verification: Verification
    place: Place
    decoy: Material | None = None

    def request(self) -> Assert:
        """For the device service."""
        materials = [material for _, material in self.held.values()]
        if not materials and self.decoy is not None:
            materials = [self.decoy]
        wanted = tuple(Wanted(m.rp_id, m.credential_id) for m in materials)
        return Assert(self.hash, wanted, self.verification, REQUEST_SECONDS)

    def check(self, reply: Asserted) -> tuple[Credential, Count]:
        """The credential that answered, and the use of it. Raises Unproven."""
        demand(reply.credential_id in self.held, "unknown_credential")
        credential, material = self.held[reply.credential_id]
        # Devices may leave the handle out, as the credential was named; where they give one it is the account's.
        demand(reply.user_handle in (b"", material.user_handle) or not material.user_handle, "user_handle")
        head = read_assertion(reply.authenticator_data, material.rp_id)
        self._check_flags(head, material)
        public_key(material.key).verify(reply.authenticator_data + self.hash, reply.signature)
        return credential, Count(credential.id, head.sign_count, self.place.fido2.clone is Clone.WARN)

    def _check_flags(self, head: Head, material: Material) -> None:
        required = material.demanding or self.verification is Verification.REQUIRED
        demand(head.verified or not required, "uv_missing")
        demand(material.synced is None or head.synced is material.synced, "backup_eligibility")
        demand(not head.synced or self.place.fido2.synced is Synced.ALLOW, "synced")


def prove(ceremony: Ceremony, factor: str, decoy: Material) -> Steps[Proof | None]:
    """Flow to a proof by the first key whose answer verifies, or None; then no key blinks any more.

    Args:
        decoy: what is asked for where the account has none.
    """
    pairs = [(c, Material.unpack(c.material)) for c in ceremony.account.of(factor)[:MAX_CREDENTIALS]]
    place = ceremony.place
    question = Question(
        challenge(place, ceremony.session),
        {material.credential_id: (credential, material) for credential, material in pairs},
        _verification(place, [material for _, material in pairs] or [decoy]),
        place,
        decoy,
    )
    labels = {} if place.uniform else {material.credential_id: credential.label for credential, material in pairs}
    if waiting := waits(ceremony, [factor]):
        yield from warn(waiting.strip())
    dialogue = Dialogue(question.request(), PROVE, labels, ceremony.now)
    proof = yield from _first(ceremony, factor, question, dialogue)
    yield from hang_up()
    if proof is None and dialogue.words:
        yield from warn(dialogue.words)
    return proof


def _verification(place: Place, held: Sequence[Material]) -> Verification:
    """What the devices are asked for: one thing for all. What a credential has to bring is for `check` to say."""
    ruled = Verification[place.rule.user_verification.name]
    if ruled is Verification.REQUIRED or all(material.demanding for material in held):
        return Verification.REQUIRED
    return Verification.PREFERRED if any(material.demanding for material in held) else ruled


def _first(ceremony: Ceremony, factor: str, question: Question, dialogue: Dialogue) -> Steps[Proof | None]:
    tries = ceremony.tries
    while ceremony.tries > 0:
        reply = yield from dialogue.next()
        if reply is None:
            if ceremony.tries == tries:  # else the answers say more than their absence
                ceremony.reason = dialogue.reason
            return None
        proof = yield from _judge(ceremony, factor, question, reply)
        if proof is not None:
            return proof
        dialogue.refuse()
    dialogue.words = NOT_ACCEPTED
    return None


def _judge(ceremony: Ceremony, factor: str, question: Question, reply: object) -> Steps[Proof | None]:
    """One signed answer. One that does not verify costs a try and counts as a wrong one; other devices go on."""
    ceremony.tries -= 1
    compared, matched, why = comparable(ceremony, factor), None, ""
    if compared:
        try:
            demand(isinstance(reply, Asserted), "malformed")
            matched = question.check(reply)  # type: ignore[arg-type]
        except Unproven as bad:
            why = bad.reason
    proof = yield from settle(ceremony, factor, compared, matched)
    ceremony.reason = why or ceremony.reason
    return proof


# ------------------------------------------------------------------------------------------------------ enrolling


def _request_to_make(enrolment: Enrolment, held: list[Material]) -> Make:
    """What the key is asked for. Raises RefusedError for options that make no sense."""
    verify, discoverable = (_flag(enrolment.options, name) for name in ("verify", "discoverable"))
    place = enrolment.place
    return Make(
        challenge(place, enrolment.session),
        place.rp_id,
        place.rp_id,
        _user_handle(held),
        enrolment.user,
        ALGORITHMS,
        tuple(Wanted(m.rp_id, m.credential_id) for m in held),
        discoverable,
        Verification.REQUIRED if verify else Verification[place.rule.user_verification.name],
        REQUEST_SECONDS,
    )


def enrol(enrolment: Enrolment, factor: str) -> Steps[Made]:
    """Flow: one key makes a credential and proves that it can sign with it. Raises RefusedError."""
    held = [Material.unpack(credential.material) for credential in enrolment.held if credential.factor == factor]
    request = _request_to_make(enrolment, held)
    dialogue = Dialogue(request, ENROL, {}, enrolment.now, 2 * HALF)
    reply = yield from _answer(dialogue)
    try:
        demand(isinstance(reply, MadeReply), "malformed")
        head, material = _check_made(request, held, reply, enrolment.place)
        demand((yield from other_owner(enrolment.uid, [credential_name(material.credential_id)])) is None, "taken")
        confirmed = yield from _confirm(enrolment, factor, material, request.verification, dialogue, reply)
        demand(confirmed.to > head.sign_count or confirmed.to == head.sign_count == 0, "sign_count")
    except Unproven as bad:
        yield from hang_up()
        raise _refused(REFUSALS.get(bad.reason, WORDS[Failure.NONSENSE])) from None
    yield from hang_up()
    credential = enrolment.credential(factor, material.pack(), confirmed.to)
    return Made(replace(credential, id=credential_name(material.credential_id)))


def _check_made(request: Make, held: Sequence[Material], reply: Any, place: Place) -> tuple[Head, Material]:
    """The new credential, as far as its own words go. Raises Unproven."""
    head, new = read_attested(reply.authenticator_data, request.rp_id)
    demand(head.verified or request.verification is not Verification.REQUIRED, "uv_missing")
    demand(not head.synced or place.fido2.synced is Synced.ALLOW, "synced")
    demand(all(new.credential_id != m.credential_id for m in held), "known")
    return head, _material(request, head, new, reply)


def _material(request: Make, head: Head, new: Attested, reply: MadeReply) -> Material:
    return Material(
        rp_id=request.rp_id,
        credential_id=new.credential_id,
        key=new.key.encoded,
        aaguid=new.aaguid,
        user_handle=request.user_handle,
        transport=int(reply.transport),
        product="".join(char for char in reply.name if " " <= char <= "~")[:MAX_NAME],
        verified=head.verified,
        discoverable=request.discoverable,
        synced=head.synced,
    )


def _confirm(
    enrolment: Enrolment, factor: str, material: Material, verification: Verification, before: Dialogue, made: MadeReply
) -> Steps[Count]:
    """One assertion with the new credential; the device that made it gets its PIN once more. Raises Unproven."""
    credential = enrolment.credential(factor, material.pack())
    held = {material.credential_id: (credential, material)}
    question = Question(challenge(enrolment.place, enrolment.session), held, verification, enrolment.place)
    dialogue = Dialogue(question.request(), CONFIRM, {}, enrolment.now, 2 * HALF)
    dialogue.follow(before, made)
    reply = yield from _answer(dialogue)
    demand(isinstance(reply, Asserted), "malformed")
    return question.check(reply)[1]


def _answer(dialogue: Dialogue) -> Steps[Any]:
    reply = yield from dialogue.next()
    if reply is None:
        yield from hang_up()
        raise _refused(dialogue.words or "stopped.")
    return reply


def _refused(words: str) -> RefusedError:
    return RefusedError("refused", f"nothing was enrolled. {words}")


def _user_handle(held: Sequence[Material]) -> bytes:
    """One for the account, so that its credentials replace each other on a device: 32 random bytes (section 14.6.1)."""
    known = (m.user_handle for m in held if len(m.user_handle) == HANDLE_BYTES)
    return next(known, None) or secrets.token_bytes(HANDLE_BYTES)


def _flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name)
    if value is None or type(value) is bool:
        return bool(value)
    raise RefusedError("invalid", f"{name} is true or false")
