"""`pam-mfa doctor`: is everything as it must be?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import show
from .call import Call, with_json
from .client import Record
from .exits import Exit
from .paths import Paths
from .plain import one_line

if TYPE_CHECKING:
    from .checks.finding import Finding

AREAS = (
    "files", "site", "sockets", "devices", "certificates", "service", "rules", "accounts", "keys", "glass", "clock",
    "pam", "sshd", "logindefs", "confinement", "tryout",
)  # fmt: skip
MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "bad": ("BAD ", "red")}


@click.command()
@click.option("--root", hidden=True, help="Look at a system that lies elsewhere.")
@with_json
@click.pass_context
def doctor(context: click.Context, call: Call, root: str | None) -> None:
    """Check this installation.

    Looks at files, packages, service, store, keys, clock and confinement, runs every PAM stack that names the module
    with everything its modules may answer, and reads the settings of sshd. It changes nothing. Every finding says what
    to do about it; the exit code says how bad the worst one is.
    """
    if root is not None:
        call.where = Paths(Path(root))
    worst = Exit.DONE
    for finding in _findings(call):
        call.show(
            {
                "kind": "finding",
                "subject": finding.subject,
                "severity": finding.severity.value,
                "found": finding.found,
                "fix": finding.fix,
            },
            {"finding": _show},
        )
        worst = max(worst, {"ok": Exit.DONE, "warn": Exit.WARNINGS, "bad": Exit.WRONG}[finding.severity])
    context.exit(worst)


def _findings(call: Call) -> Iterator[Finding]:
    # Imported here: no other command should pay for them.
    from .checks.files import REINSTALL
    from .checks.finding import bad, warn

    for name in AREAS:
        try:
            yield from import_module(f".checks.{name}", __package__).check(call.where)
        except Exception as error:  # noqa: BLE001 - packages of another Python, for one: doctor must go on
            yield bad(name, f"this check failed itself: {error!r}", REINSTALL)
    if os.geteuid() != 0:
        yield warn(
            "doctor", "only root sees everything: store, engine and sshd were left out", "run: sudo pam-mfa doctor"
        )


def _show(record: Record) -> None:
    mark, colour = MARKS[record["severity"]]
    shown = click.style(mark, fg=colour, bold=True) if show.colours() else mark
    click.echo(f"{shown}  {one_line(record['subject']):16}  {one_line(record['found'])}")
    if record["fix"]:
        click.echo(f"{'':24}-> {one_line(record['fix'])}")
