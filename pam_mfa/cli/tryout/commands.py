"""`pam-mfa try`: make a change that takes itself back, unless somebody gets in with it and says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from .. import show
from ..accounts import root_only
from ..call import Call, with_json
from ..client import Record

if TYPE_CHECKING:
    from .record import Tryout

UNITS = {"s": 1, "m": 60, "h": 3600}
SHORTEST, LONGEST = 1, 24 * 3600
STATES = {
    "none": "Nothing is being tried.",
    "changing": "A change is being made; its time begins when that is done.",
    "confirmed": "What was tried last was confirmed, and stays.",
    "restored": "What was tried last was taken back: everything is as it was before.",
    "unchanged": "What was run last changed none of the files.",
}


class Duration(click.ParamType[int]):
    """Seconds, written as 90s, 5m or 1h."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of seconds."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([smh])", value, re.ASCII)
        seconds = int(found[1]) * UNITS[found[2]] if found else 0
        if not SHORTEST <= seconds <= LONGEST:
            self.fail(f"{value!r} is not a time from 1s to 24h, as 90s, 5m or 1h", param, ctx)
        return seconds


class Trying(click.Group):
    """`try ... -- COMMAND` is `try run ... -- COMMAND`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the word that is left out."""
        if "--" in args and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


ROLLBACK = click.option(
    "--rollback",
    "seconds",
    type=Duration(),
    default="5m",
    show_default=True,
    metavar="TIME",
    help="How long there is to confirm it: 90s, 5m, 1h.",
)


@click.group("try", cls=Trying, no_args_is_help=False)
def trying() -> None:
    """Make a change that is taken back unless somebody gets in with it (root)."""


@trying.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@ROLLBACK
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_json
def run_command(call: Call, seconds: int, command: tuple[str, ...]) -> None:
    """Run COMMAND, which changes PAM files or the settings of pam-mfa, for a try.

    The word run may be left out: pam-mfa try -- vi /etc/pam.d/sudo. All of /etc/pam.d, /etc/pam.conf and
    /etc/pam-mfa/config.toml is restored when the time is over, when COMMAND fails, and after a reboot, unless pam-mfa
    try confirm was called in between. The time begins anew when COMMAND ends. What other programs change in these files
    meanwhile is restored with it.
    """
    root_only("try")
    from . import steps

    _show_state(call, steps.run(call, seconds, command))


@trying.command()
@ROLLBACK
@click.argument("service", metavar="SERVICE")
@with_json
def enable(call: Call, seconds: int, service: str) -> None:
    """Have SERVICE (sudo, sshd, su, login, ...) ask for the second factor, for a try.

    Puts the line behind the one that asks for the password, also for sudo -i where it is sudo and for su - where it is
    su. Refuses where it cannot know the place.
    """
    root_only("try enable")
    from . import steps

    _show_state(call, steps.enable(call, seconds, service))


@trying.command()
@with_json
def confirm(call: Call) -> None:
    """Keep what is being tried.

    To be called by whoever got in after the change: by ssh, sudo, su or login, by that one whose PAM file was changed.
    A shell that was open before proves nothing, and is refused. sudo asks everybody anew after the change.
    """
    root_only("try confirm")
    from . import steps

    steps.confirm(call.where)
    _show_state(call, None)


@trying.command()
@with_json
def rollback(call: Call) -> None:
    """Take back at once what is being tried."""
    root_only("try rollback")
    from . import steps

    steps.rollback(call.where)
    _show_state(call, None)


@trying.command()
@with_json
def status(call: Call) -> None:
    """Show what is being tried, and for how long."""
    root_only("try status")
    from . import record

    _show_state(call, record.load(call.where))


@trying.command(hidden=True)
@with_json
def watch(call: Call) -> None:
    """Wait until what is being tried was confirmed or its time is over."""
    root_only("try watch")
    from . import watcher

    watcher.watch(call.where)


def _show_state(call: Call, tryout: Tryout | None) -> None:
    from . import record

    if tryout is None:
        found = {"state": "none", "about": []} | dict(record.last(call.where))
    else:
        state = "changing" if tryout.changed is None else "waiting"
        left = max(0, round(tryout.left()))
        found = {"state": state, "about": tryout.about, "left": left, "programs": tryout.programs}
    call.show({"kind": "tryout"} | found, {"tryout": _show})


def _show(state: Record) -> None:
    if state["state"] != "waiting":
        print(STATES.get(state["state"], ""))
        return
    show.line(f"Changed: {', '.join(state['about'])}")
    show.line(f"All of it is taken back in {state['left']} s, and after a reboot, unless it is confirmed.")
    how = f" by {' or '.join(state['programs'])}" if state["programs"] else ""
    show.line(f"Keep this shell open. Log in afresh{how} in another terminal, and run there: sudo pam-mfa try confirm")
