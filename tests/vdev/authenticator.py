"""The virtual key itself: an authenticator as CTAP 2.1 section 6 describes it, without a transport.

`Authenticator.process` takes a request and returns its answer, on any transport. Waiting for the user is done there,
so a transport runs it in a thread of its own and gives it a `waiting` to ask whether the client still wants an answer.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import attestation, cbor
from .credentials import Credential, Wrapping
from .ctap import PROCESSING, Command, Flag, Permission, Refused, Status
from .faults import Faults
from .model import Model
from .pin import ClientPin, protocol_of

KEEPALIVE_SECONDS = 0.1
MAX_MESSAGE = 7609  # of a HID message (CTAP 2.1 section 11.2.4)
MAX_IN_LIST = 16

Waiting = Callable[[int], bool]


class Authenticator:
    """One key.

    Args:
        seed: decides which credentials are its own; another seed is another key.
        options: fields of Model.
    """

    def __init__(self, seed: bytes, **options: Any) -> None:
        self.model = Model(**options)
        self.faults = Faults()
        self.trace: list[dict[str, Any]] = []
        self.counter = 0
        self.awaiting = False  # it waits for its user
        self._wrapping = Wrapping(seed)
        self._pin = self._new_pin(self.model.pin, self.model.force_pin_change)
        self._discoverable: dict[tuple[str, bytes], Credential] = {}
        self._next: Iterator[dict[int, Any]] = iter(())
        self._touched = threading.Event()
        self._stirred = threading.Event()
        self._waiting: Waiting = lambda status: False

    def process(self, request: bytes, waiting: Waiting) -> bytes:
        """Status and CBOR that answer a command with its CBOR.

        Args:
            waiting: called with the keepalive status every 100 ms while it takes time; True once the client cancelled.
        """
        self._waiting = waiting
        number = request[0] if request else 0
        note: dict[str, Any] = {"command": number}
        self.trace.append(note)
        try:
            self._think(number)
            answer = self.faults.canned(number)
            if answer is None:
                fields = self._run(number, _parameters(request), note)
                answer = bytes([Status.OK]) + (cbor.encode(fields) if fields else b"")
        except Refused as refused:
            answer = bytes([refused.status])
        except (AttributeError, KeyError, TypeError) as problem:  # a parameter of another type than it must have
            note["problem"] = repr(problem)
            answer = bytes([Status.CBOR_UNEXPECTED_TYPE])
        note |= {"status": answer[0] if answer else None, "answered": time.monotonic()}
        return answer

    def stir(self) -> None:
        """Have `waiting` asked now and not in a tenth of a second: the client has cancelled."""
        self._stirred.set()

    def touch(self) -> None:
        """The user touches it; counts only while it waits for that, where faults.touch is "manual"."""
        self._touched.set()
        self._stirred.set()

    def power_cycle(self) -> None:
        """As pulling it out and plugging it in again."""
        self._next = iter(())
        self._pin.power_cycle()

    @property
    def pin_tries(self) -> int:
        """That are left."""
        return self._pin.tries

    @pin_tries.setter
    def pin_tries(self, tries: int) -> None:
        self._pin.tries = tries

    # ------------------------------------------------------------------------------------------------------ commands

    def _run(self, number: int, parameters: dict[int, Any], note: dict[str, Any]) -> dict[int, Any]:
        if number != Command.GET_NEXT_ASSERTION:
            self._next = iter(())
        match number:
            case Command.MAKE_CREDENTIAL:
                note |= {"rp": parameters.get(2, {}).get("id")}
                return self._make_credential(parameters)
            case Command.GET_ASSERTION:
                note |= {"rp": parameters.get(1), "up": parameters.get(5, {}).get("up", True)}
                return self._get_assertion(parameters)
            case Command.GET_INFO:
                return self._get_info()
            case Command.CLIENT_PIN:
                note |= {"subcommand": parameters.get(2)}
                return self._pin.process(parameters)
            case Command.RESET:
                return self._reset()
            case Command.GET_NEXT_ASSERTION:
                return self._get_next_assertion()
            case Command.SELECTION:
                return self._press()
        raise Refused(Status.INVALID_COMMAND)

    def _get_info(self) -> dict[int, Any]:
        model = self.model
        info: dict[int, Any] = {
            0x01: model.versions,
            0x03: model.aaguid,
            0x04: self._options(),
            0x05: MAX_MESSAGE,
            0x06: model.protocols,
        }
        if "FIDO_2_1" in model.versions:
            info |= {
                0x07: MAX_IN_LIST,
                0x08: model.max_credential_id,
                0x09: model.transports,
                0x0A: [{"alg": number, "type": "public-key"} for number in model.algorithms],
                0x0C: self._pin.force_change,
                0x0D: self._pin.minimum,
                0x0E: model.firmware,
                0x14: model.discoverable - len(self._discoverable),
            }
        return info

    def _options(self) -> dict[str, bool]:
        model = self.model
        options = {"rk": model.discoverable > 0, "up": True, "clientPin": self._pin.is_set}
        if model.fingerprint:
            options["uv"] = True
        if "FIDO_2_1" in model.versions:
            options |= {"pinUvAuthToken": True, "makeCredUvNotRqd": model.uv_not_required and not model.always_uv}
            options |= {"alwaysUv": True} if model.always_uv else {}
        return options

    def _make_credential(self, parameters: dict[int, Any]) -> dict[int, Any]:
        client_data_hash, rp, user, wanted = _required(parameters, 1, 2, 3, 4)
        algorithm = next((item["alg"] for item in wanted if item["alg"] in self.model.algorithms), None)
        if algorithm is None:
            raise Refused(Status.UNSUPPORTED_ALGORITHM)
        options = parameters.get(7, {})
        if options.get("up") is False:
            raise Refused(Status.INVALID_OPTION)
        discoverable = options.get("rk", False)
        if discoverable and not self.model.discoverable:
            raise Refused(Status.UNSUPPORTED_OPTION)
        free = self.model.uv_not_required and not discoverable and not self.model.always_uv
        verified = self._verify(parameters, (8, 9, 7), Permission.MC, rp["id"], free)
        if self._find(rp["id"], parameters.get(5, [])):
            self._press()
            raise Refused(Status.CREDENTIAL_EXCLUDED)
        if not verified or 8 in parameters:
            self._press()
        self._pin.spend_token()
        credential = self._new_credential(rp["id"], user, algorithm, discoverable)
        return self._attest(rp["id"], credential, client_data_hash, verified)

    def _new_credential(self, rp_id: str, user: dict[str, Any], algorithm: int, discoverable: bool) -> Credential:
        place = (rp_id, user["id"])
        full = len(self._discoverable) >= self.model.discoverable
        if discoverable and full and place not in self._discoverable:
            raise Refused(Status.KEY_STORE_FULL)
        credential = self._wrapping.make(rp_id, algorithm, self.faults.credential_id_length)
        if discoverable:
            credential.user = user
            self._discoverable.pop(place, None)  # the latest one comes last
            self._discoverable[place] = credential
        return credential

    def _attest(self, rp_id: str, credential: Credential, client_data_hash: bytes, verified: bool) -> dict[int, Any]:
        public_key = self.faults.public_key or credential.cose()
        length = struct.pack(">H", len(credential.credential_id))
        attested = self.model.aaguid + length + credential.credential_id + public_key
        data = self._data(rp_id, Flag.UP | Flag.AT | (Flag.UV if verified else 0)) + attested
        form, proof = attestation.statement(
            self.model.attestation, self.model.aaguid, credential, data + client_data_hash
        )
        return {1: form, 2: data, 3: proof}

    def _get_assertion(self, parameters: dict[int, Any]) -> dict[int, Any]:
        rp_id, client_data_hash = _required(parameters, 1, 2)
        options = parameters.get(5, {})
        if "rk" in options:
            raise Refused(Status.UNSUPPORTED_OPTION)
        present = options.get("up", True)
        verified = self._verify(parameters, (6, 7, 5), Permission.GA, rp_id, not (present and self.model.always_uv))
        allowed = parameters.get(3)
        found = self._find(rp_id, allowed) if allowed else self._resident(rp_id)
        if not found:
            raise Refused(Status.NO_CREDENTIALS)
        if present and (not verified or 6 in parameters):
            self._press()
        if present:
            self._pin.spend_token()
        flags = (Flag.UP if present else 0) | (Flag.UV if verified else 0)
        if allowed:
            return self._sign(rp_id, found[0], client_data_hash, flags)
        self._next = (self._sign(rp_id, credential, client_data_hash, flags) for credential in found)
        first = next(self._next)
        return first | ({5: len(found)} if len(found) > 1 else {})

    def _get_next_assertion(self) -> dict[int, Any]:
        for answer in self._next:
            return answer
        raise Refused(Status.NOT_ALLOWED)

    def _reset(self) -> dict[int, Any]:
        self._press()
        self._wrapping.forget()
        self._discoverable.clear()
        self._pin = self._new_pin(None, False)
        self.counter = 0
        return {}

    # --------------------------------------------------------------------------------------------- parts of commands

    def _find(self, rp_id: str, descriptors: list[dict[str, Any]]) -> list[Credential]:
        if len(descriptors) > MAX_IN_LIST:
            raise Refused(Status.LIMIT_EXCEEDED)
        opened = (self._wrapping.open(rp_id, descriptor["id"]) for descriptor in descriptors)
        found = [credential for credential in opened if credential]
        for credential in found:
            kept = (c for c in self._discoverable.values() if c.credential_id == credential.credential_id)
            credential.user = next((c.user for c in kept), {})
        return found

    def _resident(self, rp_id: str) -> list[Credential]:
        """Its discoverable credentials of `rp_id`, the latest one first."""
        return [credential for place, credential in self._discoverable.items() if place[0] == rp_id][::-1]

    def _sign(self, rp_id: str, credential: Credential, client_data_hash: bytes, flags: int) -> dict[int, Any]:
        data = self._data(rp_id, flags)
        signature = bytearray(credential.sign(data + client_data_hash))
        if self.faults.bad_signature:
            signature[-1] ^= 1
        shown_id = credential.credential_id if self.faults.credential_id is None else self.faults.credential_id
        answer: dict[int, Any] = {1: {"id": shown_id, "type": "public-key"}, 2: data, 3: bytes(signature)}
        user = {key: value for key, value in credential.user.items() if key == "id" or flags & Flag.UV}
        if self.faults.user_handle is not None:
            user = {"id": self.faults.user_handle}
        return answer | ({4: user} if user else {})

    def _data(self, rp_id: str, flags: int) -> bytes:
        """The 37-byte head of authenticator data (WebAuthn section 6.1)."""
        self.counter += 1
        faults = self.faults
        signed = rp_id if faults.rp_id is None else faults.rp_id
        flags |= (Flag.BE | Flag.BS) if self.model.synced else 0
        flags = flags & ~faults.flags_off | faults.flags_on
        counter = self.counter if faults.counter is None else faults.counter
        return hashlib.sha256(signed.encode()).digest() + struct.pack(">BI", flags, counter)

    def _verify(
        self, parameters: dict[int, Any], places: tuple[int, int, int], need: Permission, rp_id: str, free: bool
    ) -> bool:
        """Whether the user is verified, by token or finger.

        Args:
            places: labels of pinUvAuthParam, pinUvAuthProtocol and options.
            free: it may be done without, though it could be done.

        Raises Refused.
        """
        proof, protocol, options = (parameters.get(place) for place in places)
        if proof == b"":
            self._press()
            raise Refused(Status.PIN_INVALID if self._pin.is_set else Status.PIN_NOT_SET)
        if proof is not None:
            hashed = parameters[1 if need == Permission.MC else 2]
            self._pin.check_token(protocol_of(protocol), hashed, proof, need, rp_id)
            return True
        wanted = (options or {}).get("uv", False)
        if wanted and not self.model.fingerprint:
            raise Refused(Status.INVALID_OPTION)
        if wanted or (self.model.always_uv and self.model.fingerprint and not free):
            return self._verify_finger()
        if not free and (self._pin.is_set or self.model.always_uv or self.model.fingerprint):
            raise Refused(Status.PUAT_REQUIRED)
        return False

    def _verify_finger(self) -> bool:
        if self._pin.verify():
            return True
        raise Refused(Status.PUAT_REQUIRED if self._pin.is_set else Status.OPERATION_DENIED)

    # ------------------------------------------------------------------------------------------------------ the user

    def _new_pin(self, pin: str | None, force_change: bool) -> ClientPin:
        return ClientPin(pin, self.model.min_pin, force_change, self._read_finger if self.model.fingerprint else None)

    def _read_finger(self) -> bool:
        self._press()
        return self.faults.finger

    def _press(self) -> dict[int, Any]:
        """Wait for a touch. Raises Refused where there is none."""
        self._touched.clear()
        due = time.monotonic() + self.faults.touch_delay
        try:
            while not self._done(due):
                self.awaiting = True
                self._pause(due, self.faults.keepalive)
        finally:
            self.awaiting = False
        if self.faults.touch in ("deny", "timeout"):
            deny = self.faults.touch == "deny"
            raise Refused(Status.OPERATION_DENIED if deny else Status.USER_ACTION_TIMEOUT)
        return {}

    def _done(self, due: float) -> bool:
        match self.faults.touch:
            case "manual":
                return self._touched.is_set()
            case "never":
                return False
        return time.monotonic() >= due

    def _think(self, number: int) -> None:
        due = time.monotonic() + self.faults.think.get(number, 0)
        while time.monotonic() < due:
            self._pause(due, PROCESSING)

    def _pause(self, due: float, status: int) -> None:
        if self._waiting(status):
            raise Refused(Status.KEEPALIVE_CANCEL)
        left = due - time.monotonic()
        self._stirred.wait(min(left, KEEPALIVE_SECONDS) if left > 0 else KEEPALIVE_SECONDS)
        self._stirred.clear()


def _parameters(request: bytes) -> dict[int, Any]:
    if len(request) > MAX_MESSAGE:
        raise Refused(Status.REQUEST_TOO_LARGE)
    if len(request) <= 1:
        return {}
    try:
        parameters = cbor.decode(request[1:])
    except cbor.CborError:
        raise Refused(Status.INVALID_CBOR) from None
    if not isinstance(parameters, dict):
        raise Refused(Status.CBOR_UNEXPECTED_TYPE)
    return parameters


def _required(parameters: dict[int, Any], *labels: int) -> list[Any]:
    missing = [label for label in labels if label not in parameters]
    if missing:
        raise Refused(Status.MISSING_PARAMETER)
    return [parameters[label] for label in labels]
