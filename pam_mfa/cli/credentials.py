"""`pam-mfa list`, `rename`, `remove` and `recovery`: what an account has."""

from __future__ import annotations

import click

from . import show
from .call import Call, with_account
from .client import Record

CREDENTIAL = click.argument("credential", metavar="CREDENTIAL")


@click.command("list")
@with_account
def list_credentials(call: Call) -> None:
    """List your credentials."""
    found: list[Record] = []
    call.run("list", {}, {"credential": found.append})
    if not call.json:
        show.credentials(found)


@click.command()
@CREDENTIAL
@click.argument("new_name", metavar="NAME")
@with_account
def rename(call: Call, credential: str, new_name: str) -> None:
    """Give a credential another name.

    CREDENTIAL is its name as `pam-mfa list` shows it, or the start of its id (4 characters or more).
    """
    arguments = {"credential": credential, "label": new_name}
    call.run("rename", arguments, {"renamed": lambda record: show.line(f'Now called "{record["label"]}".')})


@click.command()
@CREDENTIAL
@with_account
def remove(call: Call, credential: str) -> None:
    """Remove a credential for good.

    CREDENTIAL is its name as `pam-mfa list` shows it, or the start of its id (4 characters or more).
    """
    call.run("remove", {"credential": credential}, {"removed": _removed})


def _removed(record: Record) -> None:
    show.line(f'Removed {record["factor"]} "{record["label"]}".')
    if not record["left"]:
        show.line("Nothing is enrolled any more: wherever a second factor is asked for, you are refused.")


@click.command()
@click.option("--new", "renew", is_flag=True, help="Make ten new codes; the old ones stop working.")
@with_account
def recovery(call: Call, renew: bool) -> None:
    """Count your recovery codes, or make new ones."""
    call.run("recovery", {"renew": renew}, {"recovery_left": _left, "recovery": show.recovery})


def _left(record: Record) -> None:
    hint = "" if record["left"] else "; make new ones: pam-mfa recovery --new"
    show.line(f"{record['left']} of {record['of']} recovery codes left{hint}")
