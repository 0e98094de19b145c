"""One PAM transaction.

fresh --HELLO--> introduced --all AUTHINFO--> running --the flow ends--> over
"""

from __future__ import annotations

import time
from functools import partial

from .. import wire
from ..assessment import Request
from ..audit import Record
from ..conversation import Aborted, About, Alert, BreakGlass, Commit, Event, Expired, Show, Shown, Want
from ..errors import PamMfaError, ProtocolError, TooManyLogins
from ..login import login
from ..outcome import Outcome, Verdict
from ..structure import replace
from .channel import Channel
from .session import Session, error_of

TOTAL_SECONDS = {"login": 45, "sshd": 90}  # below what these hosts allow themselves
TOTAL_SECONDS_ELSE = 180
CALLER_CAP = 16  # logins at once that one user may begin through su, sudo and the like
GRACE_SECONDS = 5  # that a login that was stopped waits for the store: longer than the store waits for a lock
REFUSALS = frozenset({Outcome.DENIED, Outcome.LOCKED, Outcome.TRIES_SPENT})


class Transaction(Session):
    """The session of one login."""

    _hello: wire.Hello | None = None
    _authinfo: tuple[bytes, ...] = ()
    _verdict: Verdict | None = None
    _about: About | None = None
    _caller = ""
    _stopped: Aborted | Expired | PamMfaError | None = None

    @property
    def account(self) -> int | None:
        if self._about is not None:
            return self._about.uid
        return self._hello.uid if self._hello else None

    def _frame(self, kind: wire.Type, payload: bytes) -> None:
        if self._verdict is not None:
            return  # it waits for its record, and nothing changes it any more
        if self._channel is not None:
            return super()._frame(kind, payload)
        if kind is wire.Type.ABORT:
            return self.stop(Aborted())
        if self._hello is None and kind is wire.Type.HELLO:
            self._hello = wire.decode_hello(payload)
        elif self._hello is not None and kind is wire.Type.AUTHINFO:
            self._authinfo += (payload,)
        else:
            raise ProtocolError(f"{kind.name} out of turn")
        if len(self._authinfo) == self._hello.authinfo:
            self._begin(self._hello)

    def _begin(self, hello: wire.Hello) -> None:
        ground = self._ground
        self._count(hello.ruser)
        request = Request(
            session=self.id,
            peer_uid=self._peer_uid,
            service=hello.service,
            user=hello.user,
            uid=hello.uid,
            ruser=hello.ruser,
            rhost=hello.rhost,
            tty=hello.tty,
            host=ground.host,
            authinfo=self._authinfo,
        )
        flow = login(request, ground.settings, ground.factors, ground.now)
        channel = Channel(flow, self._link.backend, self._say, self._finish)
        self._run(channel, TOTAL_SECONDS.get(hello.service, TOTAL_SECONDS_ELSE))

    def stop(self, why: Aborted | Expired | PamMfaError) -> None:
        """End the login; what is being used up or written just now is waited for, and recorded, but lets nobody in."""
        want = self._channel.want if self._channel is not None else None
        writes = isinstance(want, Commit) or (isinstance(want, BreakGlass) and want.digest is not None)
        if self._channel is None or not writes or (self._stopped is not None and isinstance(why, Expired)):
            return super().stop(why)
        if self._stopped is None:
            self._stopped = why
            self._deadline = time.monotonic() + GRACE_SECONDS
            self._channel.stop_after(why)

    def _say(self, want: Want) -> Event | None:
        if isinstance(want, About):
            self._about = want
            return Shown()
        if isinstance(want, Alert):
            event, outcome = ("alert", None) if want.loud else ("attempt", Outcome.DENIED)
            self._note(event, outcome, want.reason, want.factor, want.credential, want.label)
        elif isinstance(want, Show) and want.record["kind"] in ("proven", "enrolled"):
            self._note("enroll", None, want.record["kind"], *map(want.record.__getitem__, ("factor", "id", "label")))
        else:
            return Shown() if self._stopped is not None else super()._say(want)
        return Shown()

    def _note(self, event: str, outcome: Outcome | None, *about: str) -> None:
        """Have something recorded that happens on the way to the verdict."""
        record = replace(self._record(Verdict(Outcome.DENIED, *about)), event=event, outcome=outcome)
        self._link.record(record, False, lambda written: None)

    def _count(self, ruser: str) -> None:
        """Nobody takes all of the service's room by starting su again and again. Raises TooManyLogins."""
        if self._peer_uid != 0 or ruser in ("", "root"):
            return
        if self._ground.callers[ruser] >= CALLER_CAP:
            raise TooManyLogins(f"{CALLER_CAP} logins begun by one user wait")
        self._caller = ruser
        self._ground.callers[ruser] += 1

    def _close(self, last: bytes = b"") -> None:
        callers = self._ground.callers
        if self._caller and not self.over:
            callers[self._caller] -= 1
            if not callers[self._caller]:
                del callers[self._caller]
        super()._close(last)

    def _finish(self, end: Verdict | BaseException) -> None:
        """Tell the verdict and record it; with `audit = "required"` the record comes first, and has to be written."""
        if self._verdict is not None:
            return
        verdict = self._verdict = self._too_late(verdict_of(end))
        self._deadline = self._next_alive = float("inf")
        record, settings = self._record(verdict), self._ground.settings
        if self._hello is None and verdict.outcome is Outcome.ABORTED:
            self._result(verdict.outcome)  # somebody looked whether we are there: that is no attempt
        elif settings is not None and settings.audit_required:
            self._link.record(record, True, partial(self._recorded, verdict.outcome))
        else:
            self._result(verdict.outcome)
            self._link.record(record, False, lambda written: None)

    def _too_late(self, verdict: Verdict) -> Verdict:
        """The verdict for a login that was stopped: who would have got in did not, and what was used is still named."""
        if self._stopped is None or not (verdict.grants or verdict.outcome is Outcome.EXEMPT):
            return verdict
        end = verdict_of(error_of(self._stopped))
        return replace(verdict, outcome=end.outcome, reason=end.reason)

    def _recorded(self, outcome: Outcome, written: bool) -> None:
        self._result(outcome if written else Outcome.UNAVAILABLE)

    def _result(self, outcome: Outcome) -> None:
        if self.over:
            return
        delay = self._ground.settings.fail_delay_ms if self._ground.settings and outcome in REFUSALS else 0
        nonce = self._hello.nonce if self._hello else bytes(wire.NONCE_SIZE)
        self._close(wire.encode_result(outcome, delay, nonce))

    def _record(self, verdict: Verdict) -> Record:
        hello = self._hello
        return Record(
            event="login",
            outcome=verdict.outcome,
            reason=verdict.reason,
            role=self._ground.role,
            service=hello.service if hello else "",
            user=hello.user if hello else "",
            uid=hello.uid if hello else None,
            session=self.id,
            duration_ms=self._milliseconds(),
            rhost=hello.rhost if hello else "",
            tty=hello.tty if hello else "",
            factor=verdict.factor,
            credential=verdict.credential,
            label=verdict.label,
            subject=self._about.user if self._about else None,
        )


def verdict_of(end: object) -> Verdict:
    """The verdict for whatever a login flow ended with: its own, or one that lets nobody in."""
    if type(end) is Verdict and type(end.outcome) is Outcome:
        return end
    if isinstance(end, PamMfaError) and end.outcome in (Outcome.ABORTED, Outcome.DENIED):
        return Verdict(end.outcome, end.reason)
    reason = end.reason if isinstance(end, PamMfaError) else f"exception_{type(end).__name__}"
    return Verdict(Outcome.UNAVAILABLE, reason)
