"""`pam-mfa issue-code` and `reset`: for somebody who has lost what they had."""

from __future__ import annotations

import time

import click

from ..errors import RefusedError
from . import show
from .accounts import root_only
from .call import Call, with_json
from .client import Record
from .tryout.commands import Duration

USER = click.argument("user", metavar="USER")
REASON = click.option("--reason", metavar="TEXT", help="Why, for the log: you are asked where it is left out.")


@click.command("issue-code")
@USER
@click.option(
    "--valid", type=Duration(), default="4h", show_default=True, help="How long it can be used, from 1m to 24h."
)
@REASON
@with_json
def issue_code(call: Call, user: str, valid: int, reason: str | None) -> None:
    """Make a one-time code for USER (root).

    It counts once, wherever a code is asked for, and is shown only now. A code that was given out before and not used
    yet ends. Be sure whom you give it to.
    """
    root_only("issue-code")
    call.user = user
    given = {"valid": valid, "reason": _reason(call, reason)}
    call.run("issue", given, {"issued": lambda record: _issued(user, record)})


@click.command()
@USER
@REASON
@with_json
def reset(call: Call, user: str, reason: str | None) -> None:
    """Remove everything that USER has enrolled (root).

    Also what cannot be read any more, or belonged to another name. USER then stands where a new user does: nothing is
    switched off.
    """
    root_only("reset")
    call.user = user
    why = _reason(call, reason)
    if call.terminal.ask(f'Everything that {user} has enrolled is removed for good. Type "{user}" to go on:') != user:
        raise RefusedError("refused", "nothing was changed: that was not the name")
    call.run("reset", {"reason": why}, {"reset": lambda record: _reset(user, record)})


def _reason(call: Call, given: str | None) -> str:
    return given if given is not None else call.terminal.ask("Reason, for the log:").strip()


def _issued(user: str, record: Record) -> None:
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(record["until"]))
    show.line(f"One-time code for {user}, until {until}:")
    print()
    show.line(record["code"], indent=2)
    print("\nIt works once, in the place of a code, and is shown only now.", flush=True)


def _reset(user: str, record: Record) -> None:
    show.line(f"Removed all that {user} had enrolled: {record['credentials']}.")
    show.line(f"To let {user} in once, where a second factor is needed: pam-mfa issue-code {user}")
