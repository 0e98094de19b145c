"""`pam-mfa`: the group of commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from .. import __version__
from ..errors import AbortedError, PamMfaError, RefusedError
from .accounts import accounts, status, unlock
from .break_glass import break_glass
from .call import Call, with_json
from .credentials import list_credentials, recovery, remove, rename
from .doctor import doctor
from .enroll import enroll
from .exits import BY_CODE, MEANING, Exit
from .explain import explain
from .helpdesk import issue_code, reset
from .imports import import_keys
from .key import key
from .lease import lease
from .paths import Paths
from .plain import one_line
from .policy import policy
from .settings import config
from .trial import trial
from .tryout.commands import trying

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:3}  {meaning}" for code, meaning in MEANING.items())
HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=HELP, epilog=EPILOG, invoke_without_command=True)
@click.option("--debug", is_flag=True, hidden=True, help="Say where an internal error happened.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Manage the second factor of your account: what asks for a code at sudo, ssh and login."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(Exit.USAGE)


@cli.command()
@with_json
def version(call: Call) -> None:
    """Print the version."""
    call.show({"kind": "version", "version": __version__}, {"version": lambda record: print("pam-mfa", __version__)})


COMMANDS: tuple[click.Command, ...] = (
    enroll, list_credentials, rename, remove, recovery, key, import_keys, status, trial, unlock, issue_code, reset,
    lease, accounts, doctor, explain, policy, trying, config, break_glass,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None, where: Paths | None = None) -> int:
    """Run the program.

    Args:
        arguments: without the program's name; None for those of the process.
        where: the places of the system; None for the running one.

    Returns:
        One of exits.Exit.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare()
    try:
        return _code(cli.main(given, prog_name="pam-mfa", standalone_mode=False, obj=where or Paths()))
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "pam-mfa"
        return _fail(Exit.USAGE, f"{error.format_message().rstrip('.')}; see {command} --help")
    except (AbortedError, click.Abort, KeyboardInterrupt):
        return _fail(Exit.ABORTED, "aborted; run the command again to start over")
    except RefusedError as error:
        return _fail(BY_CODE.get(error.code, Exit.INTERNAL), error.message)
    except PamMfaError as error:
        return _fail(Exit.UNAVAILABLE, f"the pam-mfa service gave no usable answer ({error}); restart pam-mfad")
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.INTERNAL
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets one line
        return _internal(error, "--debug" in given)


def _prepare() -> None:
    """Odd bytes must not end the program, and a hidden prompt must not leave the terminal without echo."""
    for stream in (sys.stdin, sys.stdout):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="surrogateescape" if stream is sys.stdin else "replace")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _code(result: object) -> int:
    """What a command returned: its exit code, or nothing."""
    return result if isinstance(result, int) else Exit.DONE


def _fail(code: Exit, message: str) -> int:
    print(f"pam-mfa: {one_line(message)}", file=sys.stderr)
    return code


def _internal(error: Exception, debug: bool) -> int:
    """Names the error by its type alone: its text, and the values in a traceback, may hold a secret."""
    if debug:
        sys.stderr.writelines(traceback.format_tb(error.__traceback__))
    return _fail(Exit.INTERNAL, f"internal error ({type(error).__name__}); please report it, with pam-mfa --debug ...")
