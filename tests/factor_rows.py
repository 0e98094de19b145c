"""Every factor as tests/contract/test_factors.py sees it: how its user enrols, and what he then gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, ClassVar

import pyotp
from ca import new_key
from cardflows import ISSUING
from flows import ALICE, FACTORS, Clock, World
from softcard import NINE_A, SoftCard, certified, idle
from softkey import SoftKey, once

from pam_mfa.conversation import DeviceReply, Expired
from pam_mfa.devices.base import Asserted, Scheme, Signed, Slot, Transport
from pam_mfa.factors.base import Enrolment, Made
from pam_mfa.store.base import Enrol
from pam_mfa.store.rows import Credential

Given = Mapping[str, Any]  # what flows.World is told of the user: answers typed, events of a device
FOREIGN = [
    "",
    " ",
    "\n",
    "0",
    "x" * 512,
    "é" * 256,
    "\0" * 8,
    "１２３４５６",
    "-1",
    "%s%n",
    "\udcff\udcfe",
    "'; --",
    "1e6",
]


class Row(ABC):
    """One factor: how its user enrols, and what he then gives."""

    name: str
    secrets: list[str]
    marks = True  # a use is told from its mark
    options: ClassVar[Mapping[str, Any]] = {}  # of the enrolment

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.made: Made | None = None
        self.world: World | None = None
        self.secrets = []

    @property
    def credential(self) -> Credential:
        """What was enrolled."""
        assert self.made is not None
        return self.made.credential

    @abstractmethod
    def enrolling(self) -> Given:
        """What the user gives while he enrols."""

    @abstractmethod
    def right(self) -> Given:
        """A right answer that was never given before."""

    @abstractmethod
    def wrong(self) -> Given:
        """An answer of the right form that is not right."""

    @property
    def id(self) -> str:
        """Of what alice enrolled: the one that she was given, unless the factor knows a better one."""
        return f"{ALICE:032x}"

    def strange(self) -> Given:
        """What its user gives for somebody else's account."""
        return self.right()

    def beside(self) -> Given:
        """A right answer where its user has another credential of this factor."""
        return self.right()

    def unspent(self, given: Given) -> Given:
        """The answer that `right` gave, for another session: a code is one for any."""
        return given

    def foreign(self) -> list[Given]:
        """Answers of no form."""
        return [{"answers": [text]} for text in FOREIGN]


class TotpRow(Row):
    name = "totp"

    def _app(self) -> pyotp.TOTP:
        assert self.world is not None
        record = self.world.records[0]
        self.secrets = [record["secret"], record["uri"]]
        app = pyotp.parse_uri(record["uri"])
        assert isinstance(app, pyotp.TOTP)
        return app

    def enrolling(self) -> Given:
        return {"answers": [lambda prompt: self._app().at(self.clock.wall)]}

    def right(self) -> Given:
        self.clock.sleep(30)
        return {"answers": [self._app().at(self.clock.wall)]}

    def wrong(self) -> Given:
        near = {self._app().at(self.clock.wall + 30 * steps) for steps in range(-10, 11)}
        return {"answers": [next(code for n in range(100) if (code := f"{n:06d}") not in near)]}


class RecoveryRow(Row):
    name = "recovery"

    def enrolling(self) -> Given:
        return {}

    def right(self) -> Given:
        assert self.made is not None
        assert self.made.reveal is not None
        self.secrets = self.secrets or list(self.made.reveal["codes"])
        self._left = getattr(self, "_left", list(self.made.reveal["codes"]))
        return {"answers": [self._left.pop()]}

    def wrong(self) -> Given:
        return {"answers": ["-".join(["ZZZZ"] * 6)]}


class Fido2Row(Row):
    name = "fido2"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.key = SoftKey()

    def enrolling(self) -> Given:
        return {"device": [self.key.touch, self.key.make, self.key.holds, self.key.touch, self.key.sign]}

    def right(self) -> Given:
        self.secrets = [id_.hex() for id_ in self.key.keys] + [handle.hex() for handle in self.key.handles.values()]
        return {"device": [self.key.holds, self.key.touch, once(self.key.sign)]}

    @property
    def id(self) -> str:
        (id_,) = self.key.keys
        return sha256(id_).hexdigest()[:32]

    def unspent(self, given: Given) -> Given:
        return self.right()

    def wrong(self) -> Given:
        return {"device": [self.key.holds, lambda request: DeviceReply(self.key.asserted(request, hash=bytes(32)))]}

    def foreign(self) -> list[Given]:
        def answer(fields: tuple[str, bytes, bytes, bytes, bytes]) -> Given:
            return {"device": [DeviceReply(Asserted(1, Transport.USB, *fields))]}

        (id_,) = self.key.keys
        head = sha256(b"host").digest() + b"\x01" + b"\xff" * 4
        data = ("host", id_, head, b"", b""), ("", b"", b"", b"", b""), ("host", id_, b"", b"", b"")
        more = ("host", id_, head, bytes(70), b""), ("é" * 200, id_ * 30, head * 99, b"\x30\x06" * 9, b"\xff" * 64)
        return [answer(fields) for fields in (*data, *more)]


class SmartcardRow(Row):
    name = "smartcard"
    marks = False

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.card = SoftCard(ISSUING.leaf())

    def enrolling(self) -> Given:
        return {"answers": ["yes", "123456"], "device": [self.card.carries, Expired(), self.card.sign]}

    def right(self) -> Given:
        self.secrets = ["123456"]
        return {"answers": ["123456"], "device": [self.card.carries, once(self.card.sign)]}

    def strange(self) -> Given:
        return {"device": [self.card.carries, idle(1), Expired()]}

    def beside(self) -> Given:
        return {"answers": ["123456"], "device": [self.card.carries, Expired(), self.card.sign]}

    @property
    def id(self) -> str:
        key = sha256(certified(self.card.leaves[NINE_A]).public_key).digest()
        return sha256(b"\x01" + key).hexdigest()[:32]

    def unspent(self, given: Given) -> Given:
        return self.right()

    def wrong(self) -> Given:
        other = new_key()
        return {
            "answers": ["123456"],
            "device": [self.card.carries, lambda request: DeviceReply(self.card.signed(request, key=other))],
        }

    def foreign(self) -> list[Given]:
        signatures = b"", bytes(70), b"\x30\x06" * 9, bytes(256), b"\xff" * 64
        answers = [Signed(1, NINE_A, scheme, signature) for scheme in Scheme for signature in signatures]
        answers += [Signed(1, Slot.SIGNATURE, Scheme.ECDSA, b"")]
        return [{"answers": ["123456"], "device": [self.card.carries, DeviceReply(answer)]} for answer in answers]


class TicketRow(Row):
    name = "ticket"
    options: ClassVar[Mapping[str, Any]] = {"valid": 4 * 3600}

    def enrolling(self) -> Given:
        return {}

    def right(self) -> Given:
        """The code; where it was given before, that of a new one, which takes the place of the old one."""
        assert self.made is not None
        assert self.made.reveal is not None
        code = self.made.reveal["code"]
        if code in self.secrets:
            code = self._another()
        self.secrets.append(code)
        return {"answers": [code]}

    def _another(self) -> str:
        assert self.world is not None
        owner = self.credential.uid, self.credential.user
        enrolment = Enrolment(*owner, self.credential.id, "its name", "host", self.clock, self.options)
        self.made = self.world.run(FACTORS[self.name].enrol(enrolment))
        assert self.made.reveal
        self.world.store.apply([(Enrol((self.credential,), frozenset({self.name})),)])
        return str(self.made.reveal["code"])

    def wrong(self) -> Given:
        return {"answers": ["-".join(["ZZZZ"] * 4)]}


ROWS: tuple[type[Row], ...] = (Fido2Row, SmartcardRow, TotpRow, RecoveryRow, TicketRow)
