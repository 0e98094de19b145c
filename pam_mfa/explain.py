"""What would happen at a login, by the very code that decides it: `pam-mfa explain`.

Rule, subject and methods come from the flows of login.py, and what the user would see is the first text of the flow
that proves a factor: it is run until it says something, and given up. Nothing is counted, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from . import credit, notices, tickets
from .assessment import Assessment, Request, assess
from .conversation import Ask, AskSecret, Commit, DeviceReply, DeviceTouch, Event, Steps, Tell, Wait, Want, Warn, show
from .devices.base import Assert, Holds, Idle, Sign, Touch, Transport
from .enroll import Desk
from .errors import RefusedError
from .factors.base import Ceremony, Factor, is_device
from .login import begin, hears, notice, proven
from .origin import Origin
from .outcome import PAM_CODE, Outcome
from .policy import PUBLIC_KEY, Entry, conditions
from .rules import TERM_KEYS, Rule
from .store.rows import TICKET
from .throttle import Standing, Tally, standing
from .wire import TEXT_LIMITS, Tag

ITEMS = {"service": Tag.SERVICE, "rhost": Tag.RHOST, "tty": Tag.TTY, "ruser": Tag.RUSER}
MAX_SHOWN = 256
SUCCESS = "PAM_SUCCESS"  # the outcome that it stands for is said by whoever has a proof, and nobody else
# How a method stands for a user; the other words are those of Standing.
ABSENT, AWAY, BEHIND, OPEN = "not enrolled", "not at this host", "behind codes", Standing.OPEN.value


def explain(desk: Desk, args: Mapping[str, Any]) -> Steps[None]:
    """Flow: one record for every rule that was looked at, then one for what becomes of the login.

    Args:
        args: the PAM items service, rhost, tty and ruser; `session`, where it comes from, if that is not to be found
            out; `public_key`, whether sshd has taken one; `ssh_key`, which one.
    """
    request = _request(desk, args)
    found = yield from assess(request, desk.settings, desk.now, _where(args.get("session")))
    for rule in _tried(desk, found):
        yield from show(kind="rule", name=rule.name, holds=rule is found.rule, conditions=_held(rule, found))
    ceremony = yield from begin(request, desk.settings, desk.factors, desk.now, found)
    methods = _methods(ceremony, desk.factors)
    seen = found.decision.entry is Entry.PROVE and credit.credited(request, desk.settings, ceremony) is not None
    sees = _told(found, seen)
    if not seen and found.decision.entry in (Entry.PROVE, Entry.ENROL):
        sees = yield from _first_words(proven(request, desk.settings, desk.factors, found, ceremony))
    yield from show(
        kind="explained",
        rule=found.rule.name,
        terms={key: _plain(getattr(found.rule, key)) for key in TERM_KEYS},
        user=request.user,
        subject=found.user,
        local=ceremony.place.local,
        entry=found.decision.entry.value,
        reason=found.decision.reason,
        ago=found.ago,
        methods=methods | credit.stands(request, desk.settings, ceremony),
        sees=sees,
        code=SUCCESS if seen else _code(found, methods, desk.factors),
    )


def _told(found: Assessment, seen: bool) -> str:
    """What they are told first who get in without being asked."""
    if not seen and found.decision.entry is not Entry.EXEMPT:
        return ""
    return notice(found) or next(iter(notices.news(found.account) if seen or hears(found) else ()), "")


def _request(desk: Desk, args: Mapping[str, Any]) -> Request:
    """The login of which it is about: a host that root runs asks, as nearly all do. Raises RefusedError."""
    caller = desk.caller
    items = {name: args.get(name, "") for name in ITEMS}
    for name, text in items.items():
        if not isinstance(text, str) or not text.isprintable() or len(text.encode()) > TEXT_LIMITS[ITEMS[name]]:
            raise RefusedError("invalid", f"that cannot be a {name}")
    if not items["service"]:
        raise RefusedError("invalid", "name a PAM service: --service sudo")
    if not items["ruser"] and items["service"].startswith("sudo"):
        items["ruser"] = caller.user  # sudo names its user as the caller
    if caller.peer_uid != 0 and items["ruser"] not in ("", caller.user):
        raise RefusedError("not_allowed", "only root may ask what somebody else would be asked: use sudo")
    return Request(
        caller.session, 0, user=caller.user, uid=caller.uid, host=caller.host, authinfo=_authinfo(args), **items
    )


def _authinfo(args: Mapping[str, Any]) -> tuple[bytes, ...]:
    """What sshd is supposed to have proven. Raises RefusedError."""
    if "ssh_key" not in args:
        return (PUBLIC_KEY + b"...",) if args.get("public_key") is True else ()
    key = args["ssh_key"]
    if not isinstance(key, str) or not key.isascii() or not key.isprintable():
        raise RefusedError("invalid", "that cannot be an SSH key")
    return (PUBLIC_KEY + key.encode(),)


def _held(rule: Rule, found: Assessment) -> list[dict[str, Any]]:
    return [
        {"key": each.key, "wanted": ", ".join(each.wanted)[:MAX_SHOWN], "holds": each.holds}
        for each in conditions(rule.match, found.facts)
    ]


def _plain(value: object) -> object:
    """What JSON has, and dates as they stand in the file."""
    return value if value is None or isinstance(value, str | bool | tuple) else str(value)


def _where(session: object) -> Origin | None:
    if session is None:
        return None
    if session not in tuple(each.value for each in Origin):
        raise RefusedError("invalid", "a session is local or remote")
    return Origin(session)


def _tried(desk: Desk, found: Assessment) -> Iterator[Rule]:
    """The rules that were looked at, in their order, and the policy where none of them holds."""
    for rule in desk.settings.rules:
        yield rule
        if rule is found.rule:
            return
    yield desk.settings.policy


def _methods(ceremony: Ceremony, factors: Mapping[str, Factor]) -> dict[str, str]:
    """How each method stands. Codes that follow each other are asked for until the tries are spent: that is the end."""
    listed = [factors[name] for name in ceremony.place.rule.methods]
    runs = [(device, list(group)) for device, group in groupby(listed, key=is_device)]
    codes = next((number for number, (device, _) in enumerate(runs) if not device), len(runs))
    stands = {factor.name: _stands(ceremony, factor) for _, run in runs[: codes + 1] for factor in run}
    stands |= {factor.name: BEHIND for _, run in runs[codes + 1 :] for factor in run}
    ticket = tickets.asked(ceremony, codes=codes < len(runs))
    return stands | ({TICKET: _stands(ceremony, factors[TICKET])} if ticket else {})


def _stands(ceremony: Ceremony, factor: Factor) -> str:
    """Whether a method can be used now, in a word."""
    if ceremony.uid is None or not ceremony.account.of(factor.name):
        return ABSENT
    if is_device(factor) and not ceremony.place.local:
        return AWAY
    return standing(ceremony.account.tallies.get(factor.name, Tally()), ceremony.now()).value


def _code(found: Assessment, methods: Mapping[str, str], factors: Mapping[str, Factor]) -> str:
    """What PAM is told where whoever can answer right does."""
    if found.decision.entry is Entry.ENROL or (found.decision.entry is Entry.PROVE and OPEN in methods.values()):
        return SUCCESS
    outcome = Outcome.DENIED
    if found.decision.entry is Entry.EXEMPT:
        outcome = Outcome.EXEMPT
    elif found.decision.entry is Entry.PROVE and not all(is_device(factors[name]) for name in methods):
        outcome = Outcome.TRIES_SPENT
    return PAM_CODE[outcome][0]


def _first_words(flow: Steps[Any]) -> Steps[str]:
    """Sub-flow: what a flow says first, "" where it ends without a word. A key waits for a touch; no card is there."""
    said: Event | None = None
    try:
        while True:
            want: Want = flow.send(said)  # type: ignore[arg-type]
            if isinstance(want, Tell | Warn | Ask | AskSecret):
                return want.text
            if isinstance(want, Commit):  # never before a word
                return ""
            said = _device(want.request) if isinstance(want, Wait) else (yield want)
    except StopIteration:
        return ""
    finally:
        flow.close()


def _device(request: object) -> Event:
    """What a device says: a key that it holds what is wanted, then that it waits; no card is there."""
    if isinstance(request, Assert):
        return DeviceReply(Holds(0, Transport.USB, "", tuple(wanted.credential_id for wanted in request.wanted)))
    return DeviceReply(Idle(0)) if isinstance(request, Sign) else DeviceTouch(Touch(0, verifies=False))
