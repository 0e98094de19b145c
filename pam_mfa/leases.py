"""The flows that show and end leases (lease.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .conversation import Steps, commit, read, show
from .credentials import root_only
from .enroll import Desk
from .store.base import EndLeases, ListLeases
from .store.rows import Lease


def list_leases(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: one record for each proof of an account that may still hold, by its begin."""
    yield from desk.account()  # whoever had that uid before is not shown to who has it now
    leases: tuple[Lease, ...] = yield from read(ListLeases(desk.caller.uid))
    now = desk.now()
    for lease in leases:
        left = lease.ends - now.boot
        if lease.boot_id == now.boot_id and left > 0:
            yield from show(kind="lease", service=lease.service, place=lease.place, user=lease.user, left=left)


def end_leases(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: nothing that was proven before holds for a login; with `all`, root only, of nobody."""
    everybody = args.get("all") is True
    if everybody:
        root_only(desk)
    (ended,) = yield from commit(EndLeases(None if everybody else desk.caller.uid))
    yield from show(kind="leases_ended", ended=ended, everybody=everybody)
