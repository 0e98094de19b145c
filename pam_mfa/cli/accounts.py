"""`pam-mfa status`, `unlock` and `accounts`: how accounts stand."""

from __future__ import annotations

import os

import click

from ..errors import RefusedError
from . import show
from .call import Call, with_account, with_json


@click.command()
@with_account
def status(call: Call) -> None:
    """Show what is enrolled and accepted now.

    Root also sees how the service is.
    """
    call.run("status", {}, {"account": show.account, "service": show.service})


@click.command()
@click.argument("user", metavar="USER")
@click.option("--reason", metavar="TEXT", help="Why, for the log.")
@with_json
def unlock(call: Call, user: str, reason: str | None) -> None:
    """Accept USER's answers again (root).

    Forgets the wrong ones, after which right ones had to wait or were no longer accepted.
    """
    root_only("unlock")
    call.user = user
    given = {"reason": reason} if reason else {}
    call.run("unlock", given, {"unlocked": lambda record: show.line(f"Unlocked {user}.")})


@click.command()
@with_json
def accounts(call: Call) -> None:
    """List all enrolled accounts (root)."""
    root_only("accounts")
    call.run("accounts", {}, {"account": lambda record: show.line(f"{record['name']} (uid {record['uid']})")})


def root_only(command: str) -> None:
    """Raise RefusedError for anybody else."""
    if os.geteuid() != 0:
        raise RefusedError("not_allowed", f"only root may do that; run: sudo pam-mfa {command}")
