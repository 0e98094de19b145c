"""One request on the manage socket: JSON in, a conversation, records out.

A user manages its own account alone, by the kernel's word; root names any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from .. import credentials, helpdesk, importing, keys, leases, wire
from ..audit import Record
from ..conversation import (
    Aborted,
    Alert,
    Commit,
    Event,
    Expired,
    LookedUp,
    LookUp,
    Show,
    Shown,
    Steps,
    Want,
    expect,
    show,
)
from ..enroll import Caller, Desk, enroll
from ..errors import AbortedError, ConfigError, PamMfaError, PeerFull, ProtocolError, RefusedError
from ..explain import explain
from ..outcome import Outcome
from ..store.base import Attempt
from ..structure import replace
from .channel import Channel
from .session import Session
from .transaction import verdict_of

TOTAL_SECONDS = 600  # scanning a QR code and writing down ten codes takes its time

VERBS: Mapping[str, Callable[[Desk, Mapping[str, Any]], Steps[None]]] = {
    "enroll": enroll,
    "list": credentials.list_credentials,
    "rename": credentials.rename,
    "remove": credentials.remove,
    "recovery": credentials.recovery,
    "unlock": credentials.unlock,
    "status": credentials.status,
    "accounts": credentials.accounts,
    "devices": keys.devices,
    "check_import": importing.check_import,
    "import": importing.apply_import,
    "explain": explain,
    "leases": leases.list_leases,
    "end_leases": leases.end_leases,
    "issue": helpdesk.issue,
    "reset": helpdesk.reset,
}
# What leaves an audit record: everything that changes something.
RECORDED = frozenset({"enroll", "rename", "remove", "recovery", "unlock", "import", "issue", "reset", "end_leases"})
# What a flow shows once a credential is changed, or a ticket used up for that; each has an audit record of its own.
CHANGED = frozenset({"proven", "enrolled", "renamed", "removed", "imported", "issued"})
# How much was changed: what some records say in front of the reason that was given.
COUNTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "reset": lambda shown: f"credentials removed: {shown['credentials']}",
    "leases_ended": lambda shown: f"leases ended: {shown['ended']}" + (", of everybody" if shown["everybody"] else ""),
}
MESSAGES = {
    "unavailable": "pam-mfa cannot do this now: ask an administrator to run pam-mfa doctor",
    "aborted": "stopped, nothing was changed",
    "invalid": "the request makes no sense: use the pam-mfa command of this version",
}


class Management(Session):
    """The session of one request."""

    _verb = ""
    _user = ""
    _uid: int | None = None
    _note: str | None = None
    _closing = False

    def _frame(self, kind: wire.Type, payload: bytes) -> None:
        if self._channel is not None:
            return super()._frame(kind, payload)
        if kind is not wire.Type.REQUEST:
            raise ProtocolError(f"{kind.name} before REQUEST")
        verb, args, account = parse(payload)
        self._verb = verb
        self._note = reason if isinstance(reason := args.get("reason"), str) else None
        channel = Channel(self._flow(args, account), self._link.backend, self._say, self._finish)
        self._run(channel, TOTAL_SECONDS)

    def _flow(self, args: Mapping[str, Any], account: Mapping[str, Any]) -> Steps[None]:
        settings = self._ground.settings
        if self._verb == "status" and self._peer_uid == 0:
            yield from show(kind="service", **self._ground.health())
        if settings is None:
            raise ConfigError(["no usable settings"])
        uid, user = yield from self._account(account)
        self._uid, self._user = uid, user
        caller = Caller(self.id, self._peer_uid, uid, user, self._ground.host)
        yield from VERBS[self._verb](Desk(caller, settings, self._ground.factors, self._ground.now), args)

    def _account(self, account: Mapping[str, Any]) -> Steps[tuple[int, str]]:
        """Uid and name of the managed account; what a peer says of itself is not believed."""
        if account:
            uid, name = account.get("uid"), account.get("name")
            if self._peer_uid != 0:
                raise RefusedError("not_allowed", "only root manages other accounts: use sudo")
            if type(uid) is not int or not 0 <= uid < wire.NO_UID or not _is_name(name):
                raise RefusedError("invalid", MESSAGES["invalid"])
            return uid, str(name)
        found = expect((yield LookUp(uid=self._peer_uid)), LookedUp)
        if found.name is None:
            raise RefusedError("not_found", "your user id has no account on this machine")
        return self._peer_uid, found.name

    def _say(self, want: Want) -> Event | None:
        if isinstance(want, Alert):
            self._tell_of(self._record("alert", None, want.reason), want.factor, want.credential, want.label)
            return Shown()
        if not isinstance(want, Show):
            return super()._say(want)
        change = want.record.get("state", want.record.get("kind"))
        if change in CHANGED:
            self._tell_of(self._record(self._verb, None, change), *map(want.record.get, ("factor", "id", "label")))
        if change in COUNTED:
            self._note = "; ".join(filter(None, (COUNTED[change](want.record), self._note)))
        part = wire.encode(wire.Type.PART, json.dumps(dict(want.record)).encode())
        return Shown() if self._put(part, self._shown) else None

    def _tell_of(self, record: Record, factor: str | None, credential: str | None, label: str | None) -> None:
        about = replace(record, factor=factor, credential=credential, label=label)
        self._link.record(about, False, lambda written: None)

    def _put(self, frame: bytes, then: Callable[[], None]) -> bool:
        """Whether the peer took a frame at once. If not it gets it, and `then` is called, when there is room again:
        a list of all accounts is longer than what a socket holds."""
        try:
            self._send(frame)
        except PeerFull:
            self._link.when_writable(partial(self._put_late, frame, then))
            return False
        return True

    def _put_late(self, frame: bytes, then: Callable[[], None]) -> None:
        try:
            if not self.over and self._put(frame, then):
                then()
        except ProtocolError as problem:
            self.stop(problem)

    def _shown(self) -> None:
        if self._channel is not None:
            self._channel.deliver(Shown())

    def stop(self, why: Aborted | Expired | PamMfaError) -> None:
        want = self._channel.want if self._channel is not None else None
        if isinstance(want, Commit) and not any(isinstance(operation, Attempt) for operation in want.operations):
            return  # a change that is being written is not given up any more, and what it is has to be recorded
        super().stop(why)
        if self._closing and not self.over:  # nobody takes the last frame
            self._close()

    def _finish(self, end: BaseException | None) -> None:
        if self._closing:
            return
        self._closing = True
        answer = answer_of(end)
        if self._verb not in RECORDED:
            return self._done(answer)
        failure = None if answer["ok"] else verdict_of(end)
        outcome, reason = (failure.outcome, failure.reason) if failure else (None, "done")
        self._link.record(self._record(self._verb, outcome, reason), False, lambda written: self._done(answer))

    def _done(self, answer: Mapping[str, Any]) -> None:
        with suppress(ProtocolError):  # nobody is there any more
            if not self._put(wire.encode(wire.Type.DONE, json.dumps(answer).encode()), self._close):
                return
        self._close()

    def _record(self, event: str, outcome: Outcome | None, reason: str) -> Record:
        return Record(
            event=event,
            outcome=outcome,
            reason=reason,
            role="manage",
            service="",
            user=self._user,
            uid=self._uid,
            session=self.id,
            duration_ms=self._milliseconds(),
            note=self._note,
        )


def parse(payload: bytes) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Verb, arguments and account of a REQUEST. Raises ProtocolError for anything else."""
    try:
        request = json.loads(
            payload.decode(), object_pairs_hook=_object, parse_float=_no_number, parse_constant=_no_number
        )
        verb, args, account = request["verb"], request.get("args", {}), request.get("account")
    except Exception:  # noqa: BLE001 - hostile JSON raises many things, RecursionError among them
        raise ProtocolError("REQUEST is not what it should be") from None
    account = {} if account is None else account
    if not isinstance(verb, str) or verb not in VERBS or not isinstance(args, dict) or not isinstance(account, dict):
        raise ProtocolError("REQUEST with an unknown verb or malformed arguments")
    return verb, args, account


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a doubled key")
    return found


def _no_number(text: str) -> Any:
    raise ValueError("only whole numbers mean anything here")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and 0 < len(name.encode()) <= wire.TEXT_LIMITS[wire.Tag.USER]


def answer_of(end: object) -> dict[str, Any]:
    """The content of DONE for whatever a flow ended with."""
    if end is None:
        return {"ok": True}
    if isinstance(end, RefusedError):
        return {"ok": False, "error": end.code, "message": end.message}
    code = "unavailable"
    if isinstance(end, AbortedError | ProtocolError):
        code = "aborted" if isinstance(end, AbortedError) else "invalid"
    return {"ok": False, "error": code, "message": MESSAGES[code]}
