"""`pam-mfa break-glass`: codes to lock away. They are files of root's, made here without service, store or settings."""

from __future__ import annotations

import secrets
import time
from typing import Any

import click

from ..errors import RefusedError
from ..service import glass
from ..service.glass import Code
from . import paths, show
from .accounts import root_only
from .call import Call, find_user, with_json
from .client import Record
from .paths import Paths

MOST = 16
SHORTEST, LONGEST = 3600, 3650 * 86400
FOLDER_MODE, FILE_MODE = 0o770, 0o640
ANYBODY = "any account"


class Validity(click.ParamType[int]):
    """Seconds, written as 12h or 90d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of seconds."""
        from ..fields import duration

        seconds = duration(value)
        if seconds is None or not SHORTEST <= seconds <= LONGEST:
            self.fail(f"{value!r} is not a time from 1h to 3650d, as 12h or 90d", param, ctx)
        return seconds


@click.group("break-glass", no_args_is_help=False)
def break_glass() -> None:
    """Make codes to lock away, that open where nothing else does (root)."""


@break_glass.command()
@click.option("--name", default="break-glass", show_default=True, metavar="NAME", help="What it is called in the log.")
@click.option("--user", metavar="USER", help="The only account that it opens; without it, any that exists.")
@click.option(
    "--valid", type=Validity(), metavar="TIME", help="How long it can be used: 12h, 90d. Without it, for ever."
)
@with_json
def create(call: Call, name: str, user: str | None, valid: int | None) -> None:
    """Make a code, and print it once.

    Write it down and lock it away. It opens one login, at any prompt for a code, and also where the settings or the
    store of pam-mfa cannot be used or its service is down. Every use raises an alert in the log.
    """
    root_only("break-glass create")
    if not glass.LABEL.fullmatch(name):
        raise RefusedError("invalid", "a name has 1 to 64 printable ASCII characters")
    if user is not None:
        find_user(user)
    held = _held(call.where)
    if len(held) >= MOST:
        raise RefusedError("invalid", f"there are {MOST} codes already: pam-mfa break-glass revoke takes one away")
    from ..break_glass import LENGTH, digest
    from ..factors.recovery import ALPHABET, grouped

    code, now = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)), int(time.time())
    made = Code(_new_id(held), digest(code), name, now, None if valid is None else now + valid, user)
    _put(call.where, made)
    _tell_log(call.where, "created", made.id, made)
    call.show(_record(made) | {"code": grouped(code)}, {"break_glass": _show_new})


@break_glass.command("list")
@with_json
def list_codes(call: Call) -> None:
    """List the codes that were not used yet. The codes themselves are kept nowhere."""
    root_only("break-glass list")
    held = _held(call.where)
    codes = [code for code in held.values() if isinstance(code, Code)]
    for code in codes:
        call.show(_record(code), {})
    if not call.json and codes:
        show.table(("Name", "Made", "Until", "Opens", "Id"), [_row(code) for code in codes])
    elif not call.json and not held:
        print("No break-glass code: sudo pam-mfa break-glass create makes one.")
    for name, problem in held.items():
        if isinstance(problem, str):
            record = {"kind": "break_glass_damaged", "id": name, "problem": problem}
            call.show(record, {"break_glass_damaged": _show_damaged})


@break_glass.command()
@click.argument("code", metavar="CODE", required=False)
@click.option("--all", "every", is_flag=True, help="All of them.")
@with_json
def revoke(call: Call, code: str | None, every: bool) -> None:
    """Have a code open nothing any more.

    CODE is its name or id, as pam-mfa break-glass list shows them.
    """
    root_only("break-glass revoke")
    if every == (code is not None):
        raise RefusedError("invalid", "name one code, or say --all")
    held = _held(call.where)
    wanted = [name for name, found in held.items() if every or code in (name, getattr(found, "label", None))]
    if not wanted:
        raise RefusedError("not_found", "there is no such code; see pam-mfa break-glass list")
    if not every and len(wanted) > 1:
        raise RefusedError("invalid", "several codes have that name: take its id from pam-mfa break-glass list")
    for name in wanted:
        _take_away(call.where, name)
        _tell_log(call.where, "revoked", name, held[name])
        call.show({"kind": "break_glass_revoked", "id": name}, {})
    if not call.json:
        print("Revoked." if len(wanted) == 1 else f"Revoked {len(wanted)} codes.")


def _held(where: Paths) -> dict[str, Code | str]:
    """All files of codes, by name. Raises RefusedError where the directory is not as it must be."""
    path = where.at(paths.BREAK_GLASS)
    try:
        with glass.opened(str(path)) as folder:
            return dict(glass.codes(folder))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unusable(error) from None


def _put(where: Paths, code: Code) -> None:
    """Write a code's file, and its directory where that is missing. Raises RefusedError."""
    from . import wholefile
    from .checks.files import ACCOUNT, REINSTALL
    from .wholefile import Kind, Whole

    group, path = group_of(where), where.at(paths.BREAK_GLASS)
    if group is None:
        raise RefusedError("unavailable", f"there is no system user {ACCOUNT}: {REINSTALL}")
    try:
        problems = wholefile.put(path, Whole(Kind.DIRECTORY, FOLDER_MODE, 0, group))
        problems += wholefile.put(path / code.id, Whole(Kind.FILE, FILE_MODE, 0, group, content=code.pack()))
    except OSError as error:
        raise _unusable(error) from None
    if _held(where).get(code.id) != code:
        raise RefusedError("unavailable", f"the code would not count: look at {path} with pam-mfa doctor")


def _take_away(where: Paths, name: str) -> None:
    from . import wholefile

    try:
        wholefile.remove(where.at(paths.BREAK_GLASS) / name)
    except OSError as error:
        raise _unusable(error) from None


def _unusable(error: OSError) -> RefusedError:
    what = error.strerror or str(error)
    return RefusedError("unavailable", f"{paths.BREAK_GLASS} cannot be used ({what}): look at it with pam-mfa doctor")


def group_of(where: Paths) -> int | None:
    """The group that the service and the engine have, from the file in which the engine reads it."""
    from .checks.files import ACCOUNT, lines_of

    for line in lines_of(where, "/etc/passwd"):
        name, *fields = line.split(":")
        if name == ACCOUNT and len(fields) > 2 and fields[2].isdecimal():
            return int(fields[2])
    return None


def _new_id(held: dict[str, Code | str]) -> str:
    return next(name for name in iter(lambda: secrets.token_hex(4), "") if name not in held)


def _tell_log(where: Paths, what: str, name: str, code: Code | str) -> None:
    """A record of the change; the log of this machine, where it is this machine that is changed."""
    from ..audit import JOURNAL, SYSLOG, Datagram, Log, Record as Entry, journal_form, syslog_form

    label, user = (code.label, code.user or "") if isinstance(code, Code) else (None, "")
    entry = Entry("break-glass", None, what, "manage", "", user, None, "", 0, credential=name, label=label)
    sinks = [Datagram(str(where.at(JOURNAL)), journal_form), Datagram(str(where.at(SYSLOG)), syslog_form)]
    log = Log(sinks)
    written = log.write(entry)
    log.close()
    if not written:
        click.echo("pam-mfa: no log has taken a record of this", err=True)


def _record(code: Code) -> Record:
    return {
        "kind": "break_glass",
        "id": code.id,
        "name": code.label,
        "created": code.created,
        "expires": code.expires,
        "user": code.user,
    }


def _row(code: Code) -> tuple[object, ...]:
    until = "for ever" if code.expires is None else show.day(code.expires)
    if code.expired(int(time.time())):
        until += " (expired)"
    return code.label, show.day(code.created), until, code.user or ANYBODY, code.id


def _show_damaged(record: Record) -> None:
    show.line(f"{record['id']} does not count: {record['problem']}")


def _show_new(record: Record) -> None:
    until = f", until {show.day(record['expires'])}" if record["expires"] else ""
    show.line(f'Break-glass code "{record["name"]}" for {record["user"] or ANYBODY} of this host{until}:')
    print(f"\n  {record['code']}\n")
    print("Write it down and lock it away: it opens once, and is shown only now.", flush=True)
