"""`pam-mfa lease`: proofs that still hold for further logins."""

from __future__ import annotations

import click

from ..errors import PamMfaError, RefusedError
from . import client, show
from .accounts import root_only
from .call import Call, with_account, with_json
from .client import Record
from .paths import Paths
from .terminal import Terminal

HEAD = ("Service", "Where", "Account", "Still holds for")


@click.group("lease")
def lease() -> None:
    """See and end proofs that still hold for further logins (setting `lease`)."""


@lease.command("list")
@with_account
def list_leases(call: Call) -> None:
    """List them.

    Those of whose factor was proven: with subject = "caller" that is who ran su.
    """
    found: list[Record] = []
    call.run("leases", {}, {"lease": found.append})
    if call.json:
        return
    if not found:
        return show.line("None: whoever logs in is asked.")
    show.table(HEAD, [(each["service"], each["place"], each["user"], _time(each["left"])) for each in found])


@lease.command()
@click.argument("user", metavar="[USER]", required=False)
@click.option("--all", "everybody", is_flag=True, help="Those of all users; only for root.")
@with_json
def revoke(call: Call, user: str | None, everybody: bool) -> None:
    """End them: the next login is asked again.

    Your own, or for root those of USER.
    """
    if everybody and user is not None:
        raise click.UsageError("Name a user or say --all, not both.")
    if everybody:
        root_only("lease revoke --all")
    call.user = user
    call.run("end_leases", {"all": everybody}, {"leases_ended": lambda record: show.line(_ended(record["ended"]))})


def end_all(where: Paths) -> str:
    """End those of everybody; returns what a person should know of it, "" where all is well."""
    try:
        with client.connected(where) as channel:
            for _ in client.request(channel, "end_leases", {"all": True}, Terminal()):
                pass
    except RefusedError as error:
        return f"leases may still hold: {error.message}"
    except PamMfaError as error:
        return f"leases may still hold: {error}"
    return ""


def _ended(count: int) -> str:
    return f"Ended: {count}." if count else "There was none."


def _time(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
