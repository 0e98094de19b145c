"""One call of the program: what every command gets, and the options that all of them share."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from ..errors import PamMfaError, RefusedError
from . import client
from .client import Account, Record
from .paths import Paths
from .terminal import Terminal

Shows = Mapping[str, Callable[[Record], object]]
"""What to do with each kind of record for a person; other kinds are not shown."""

# What somebody who is gone gets nothing of.
ADDING = frozenset({"enroll", "check_import", "import", "explain", "issue"})


@dataclass(slots=True)
class Call:
    """One call of the program.

    Args:
        where: the places of the system.
        json: records go to standard output as they come, one a line.
        user: the account that root named, None for the caller's own.
        terminal: prompts.
    """

    where: Paths
    json: bool = False
    user: str | None = None
    terminal: Terminal = field(default_factory=Terminal)

    def run(self, verb: str, arguments: Mapping[str, Any], shows: Shows) -> None:
        """Make one request and show its records as they come. Raises what client.request raises."""
        for record in self.records(verb, arguments):
            self.show(record, shows)

    def records(self, verb: str, arguments: Mapping[str, Any] | None = None) -> Iterator[Record]:
        """The records of one request. Raises what client.request raises."""
        account = self.account(verb)
        try:
            with client.connected(self.where) as channel:
                yield from client.request(channel, verb, arguments or {}, self.terminal, account)
        except RefusedError as error:
            if account is not None and error.code == "unavailable":
                self._explain(account)
            raise

    def show(self, record: Record, shows: Shows) -> None:
        """One record, as JSON or for a person."""
        if self.json:
            print(json.dumps(record), flush=True)
        elif show := shows.get(str(record.get("kind"))):
            show(record)

    def account(self, verb: str) -> Account | None:
        """The account that root asks for. Raises RefusedError for anybody else's wish, or an unknown user."""
        if self.user is None:
            return None
        try:
            found = find_user(self.user)
        except RefusedError:
            left = find_stored(self.user, self.where) if os.geteuid() == 0 and verb not in ADDING else None
            if left is None:
                raise
            return left
        if os.geteuid() == 0:
            return found
        if found.uid == os.geteuid():
            return None
        raise RefusedError("not_allowed", "only root manages other accounts; run it with sudo, or leave out the user")

    def _explain(self, account: Account) -> None:
        """Raise RefusedError where the account cannot be used because its uid was somebody else's before."""
        stored: list[Account] = []
        with contextlib.suppress(PamMfaError):
            stored = stored_accounts(self.where)
        for other in stored:
            if other.uid == account.uid and other.name != account.name:
                raise RefusedError(
                    "unavailable",
                    f"what uid {other.uid} has enrolled belongs to the name {other.name}, not {account.name}; "
                    f"{removal(other)}",
                )


def find_user(name: str) -> Account:
    """A user of this system. Raises RefusedError."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise RefusedError("not_found", f"there is no user {name}; see getent passwd") from None
    return Account(entry.pw_uid, entry.pw_name)


def stored_accounts(where: Paths) -> list[Account]:
    """Everybody who is enrolled; only for root. Raises what client.request raises."""
    with client.connected(where) as channel:
        records = list(client.request(channel, "accounts", {}, Terminal()))
    return [Account(record["uid"], record["name"]) for record in records if record.get("kind") == "account"]


def find_stored(wanted: str, where: Paths) -> Account | None:
    """The one enrolled account of that uid or name; the system need not know it any more.

    Raises what client.request raises.
    """
    stored = stored_accounts(where)
    for found in ([a for a in stored if str(a.uid) == wanted], [a for a in stored if a.name == wanted]):
        if len(found) == 1:
            return found[0]
    return None


def removal(account: Account) -> str:
    """How root gets rid of what an account has, whoever bears its name now."""
    return f"see pam-mfa list --user {account.uid}, then run: pam-mfa reset {account.uid}"


Command = Callable[..., int | None]


def with_json(command: Command) -> Command:
    """Give a command `--json`, and a Call as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for programs.")
    @functools.wraps(command)
    def called(as_json: bool, **options: Any) -> int | None:
        return command(Call(click.get_current_context().obj, as_json), **options)

    return called


def with_account(command: Command) -> Command:
    """Give a command `--json` and `--user`, and a Call as its first argument."""

    @click.option(
        "--user", metavar="USER", help="Whose account it is about: name, or uid of one that is gone; only for root."
    )
    @with_json
    @functools.wraps(command)
    def called(call: Call, user: str | None, **options: Any) -> int | None:
        call.user = user
        return command(call, **options)

    return called
