"""The flows that show and change what is enrolled: everything of the manage socket but enrolment itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .conversation import Steps, commit, read, show
from .enroll import Desk, checked_label, permit, renew_recovery
from .errors import RefusedError
from .factors.recovery import SET, remaining
from .notices import naming
from .store.base import FindBudgets, ListAccounts, Remove, Rename, Unlock
from .store.rows import TICKET, Account, Credential
from .throttle import Budget, Tally, remaining as seconds_left, standing

SHORTEST_PREFIX = 4


def list_credentials(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: one record for each credential, in the registry's order of factors, the oldest of each first."""
    account = yield from desk.account()
    order = {name: place for place, name in enumerate(desk.factors)}
    for credential in sorted(account.credentials, key=lambda c: (order.get(c.factor, len(order)), c.created, c.label)):
        yield from _show(desk, credential)


def rename(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: give a credential another name."""
    account = yield from desk.account()
    credential = _find(account, args.get("credential"))
    label = checked_label(args.get("label"), {c.label for c in account.credentials})
    yield from permit(desk, account)
    (done,) = yield from commit(
        desk.announced(Rename(desk.caller.uid, credential.id, label), "renamed", naming(credential.factor, label))
    )
    _must_exist(done)
    yield from show(kind="renamed", id=credential.id, factor=credential.factor, label=label)


def remove(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: remove a credential."""
    account = yield from desk.account()
    credential = _find(account, args.get("credential"))
    yield from permit(desk, account)
    (done,) = yield from commit(
        desk.announced(Remove(desk.caller.uid, credential.id), "removed", naming(credential.factor, credential.label))
    )
    _must_exist(done)
    left = sum(each.factor != TICKET for each in account.credentials if each is not credential)
    yield from show(kind="removed", id=credential.id, factor=credential.factor, label=credential.label, left=left)


def recovery(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: how many recovery codes are left, or a new set."""
    account = yield from desk.account()
    if args.get("renew") is not True:
        left = sum(remaining(c) for c in account.of("recovery"))
        return (yield from show(kind="recovery_left", left=left, of=SET))
    if not account.enrolled:
        raise RefusedError("not_found", "recovery codes come with the first credential: pam-mfa enroll")
    yield from permit(desk, account)
    yield from renew_recovery(desk, account)


def unlock(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow, root only: forget failures, and take back marks of a clock that ran ahead."""
    root_only(desk)
    account = yield from desk.account()
    now = desk.now()
    capped = []
    for credential in account.credentials:
        factor = desk.factors.get(credential.factor)
        highest = factor.ceiling(credential, now) if factor else None
        if highest is not None and credential.mark > highest:
            capped.append((credential.id, highest))
    (tallies,) = yield from commit(desk.announced(Unlock(desk.caller.uid, tuple(capped), now.wall), "unlocked"))
    yield from show(kind="unlocked", tallies=tallies, marks=len(capped))


def status(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: what is enrolled, and whether answers are being taken."""
    account = yield from desk.account()
    counts: dict[str, int] = {}
    for credential in account.credentials:
        counts[credential.factor] = counts.get(credential.factor, 0) + 1
    budgets: dict[str, Budget] = yield from read(FindBudgets(account.uid))
    states = {name: _standings(desk, budgets.get(name, Budget())) for name in counts}
    yield from show(kind="account", uid=account.uid, name=desk.caller.user, factors=counts, standing=states)


def accounts(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow, root only: everybody who has a credential."""
    root_only(desk)
    for uid, name in (yield from read(ListAccounts())):
        yield from show(kind="account", uid=uid, name=name)


def _standings(desk: Desk, budget: Budget) -> dict[str, Any]:
    """For whoever comes from anywhere, and for the familiar sources, the latest first."""
    familiar = [_standing(desk, budget.of(source)) for source, _ in budget.familiar]
    return {**_standing(desk, budget.of(None)), "familiar": familiar}


def _standing(desk: Desk, tally: Tally) -> dict[str, Any]:
    now = desk.now()
    return {"state": standing(tally, now).value, "wait": seconds_left(tally, now)}


def _show(desk: Desk, credential: Credential) -> Steps[None]:
    factor = desk.factors.get(credential.factor)
    return show(
        kind="credential",
        id=credential.id,
        factor=credential.factor,
        label=credential.label,
        created=credential.created,
        used=credential.used,
        details=dict(factor.details(credential)) if factor else {},
    )


def _find(account: Account, wanted: object) -> Credential:
    """The credential of that id, label, or id prefix that fits one alone. Raises RefusedError."""
    if not isinstance(wanted, str):
        raise RefusedError("invalid", "say which credential: its name or id as pam-mfa list shows them")
    own = account.credentials
    prefixed = [c for c in own if len(wanted) >= SHORTEST_PREFIX and c.id.startswith(wanted)]
    # The id comes first: a name may look like somebody's id, an id is never somebody's name.
    for found in ([c for c in own if c.id == wanted], [c for c in own if c.label == wanted], prefixed):
        if len(found) == 1:
            return found[0]
    raise RefusedError("not_found", "no credential fits that name or id: see pam-mfa list")


def _must_exist(done: bool) -> None:
    if not done:
        raise RefusedError("not_found", "that credential is gone: see pam-mfa list")


def root_only(desk: Desk) -> None:
    """Raise RefusedError for anybody else."""
    if desk.caller.peer_uid != 0:
        raise RefusedError("not_allowed", "only root may do this: use sudo")
