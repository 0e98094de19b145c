"""What a help desk does for somebody who has lost what they had: a one-time code, or a fresh start. Root only.

Both leave an audit record with the reason that was given, and are told to the user. Neither lets anybody in by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from .conversation import Steps, commit, show
from .credentials import root_only
from .enroll import Desk
from .errors import RefusedError
from .factors.base import Enrolment
from .factors.ticket import LABEL
from .store.base import Enrol, Reset
from .store.rows import TICKET

MAX_REASON = 200


def issue(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: a new one-time code, shown once it is stored; the one before ends with the same transaction.

    Args:
        args: `valid`, seconds; `reason`.
    """
    root_only(desk)
    demand_reason(args)
    caller = desk.caller
    enrolment = Enrolment(caller.uid, caller.user, secrets.token_hex(16), LABEL, caller.host, desk.now, options=args)
    made = yield from desk.factors[TICKET].enrol(enrolment)
    stored = Enrol((made.credential,), replace=frozenset({TICKET}))
    yield from commit(desk.announced(stored, "issued"))
    yield from show(id=made.credential.id, factor=TICKET, label=LABEL, **made.reveal or {})


def reset(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: forget all that an account has, whatever state it is in.

    Args:
        args: `reason`.
    """
    root_only(desk)
    demand_reason(args)
    (removed,) = yield from commit(desk.announced(Reset(desk.caller.uid), "reset"))
    yield from show(kind="reset", credentials=removed)


def demand_reason(args: Mapping[str, Any]) -> None:
    """Why something is done has to be said, for the audit record. Raises RefusedError."""
    given = args.get("reason")
    if not isinstance(given, str) or not given.strip() or not given.isprintable() or len(given) > MAX_REASON:
        raise RefusedError("invalid", f"say why, in 1 to {MAX_REASON} printable characters: --reason TEXT")
