"""`pam-mfa test SERVICE`: log in without logging in."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import RefusedError
from . import paths, show
from .call import Call, find_user, with_account
from .client import Record
from .paths import Paths, only_root_writes

if TYPE_CHECKING:
    from ..pam import Code, Style, Transaction


@click.command("test")
@click.argument("service", metavar="SERVICE")
@click.option("--confdir", hidden=True, help="Directory of PAM files in place of the system's.")
@with_account
def trial(call: Call, service: str, confdir: str | None) -> None:
    """Log in without logging in.

    Goes through the PAM stack of SERVICE (sudo, sshd, ...) as a login would, and says how it ends. The prompts are the
    real ones, and a code is used up as by a login. Nothing else is changed, and no session is opened.
    """
    _check_service(call.where, service, confdir)
    _check_confdir(service, confdir)
    user = find_user(call.user).name if call.user else pwd.getpwuid(os.geteuid()).pw_name
    if not _go(call, service, user, confdir):
        raise RefusedError("refused", f"{service} would not let {user} in; the code above says why")


def _check_service(where: Paths, service: str, confdir: str | None) -> None:
    # libpam takes an absent file for "other" and would test that instead.
    directories = [confdir] if confdir else [str(where.at(path)) for path in paths.PAM_DIRECTORIES]
    if "/" in service or not any(os.path.isfile(os.path.join(path, service)) for path in directories):
        raise RefusedError("not_found", f"there is no PAM service {service}; see the files in /etc/pam.d")


def _check_confdir(service: str, confdir: str | None) -> None:
    """Root's libpam loads whatever module the file names, so nobody else may have written it."""
    if confdir is None or os.geteuid() != 0:
        return
    directory = Path(confdir)
    if not only_root_writes(directory, stat.S_IFDIR) or not only_root_writes(directory / service, stat.S_IFREG):
        raise click.UsageError(f"others than root may write to {directory} or to {service} in it")


def _go(call: Call, service: str, user: str, confdir: str | None) -> bool:
    from ..pam import Code, PamError, Transaction

    def converse(style: Style, text: str) -> str | None:
        return _converse(call, style, text)

    try:
        with Transaction(service, user, converse, confdir) as transaction:
            return all(_step(call, transaction, step) is Code.SUCCESS for step in ("authenticate", "acct_mgmt"))
    except PamError as error:
        raise RefusedError("unavailable", f"libpam does not begin: {error}; look at the file of {service}") from None


def _step(call: Call, transaction: Transaction, step: str) -> Code:
    from ..pam import describe

    code: Code = getattr(transaction, step)()
    record = {"kind": "pam", "step": step, "code": int(code), "name": f"PAM_{code.name}", "text": describe(code)}
    call.show(record, {"pam": _show})
    return code


def _show(record: Record) -> None:
    show.line(f"{record['step']}: {record['name']} ({record['text']})")


def _converse(call: Call, style: Style, text: str) -> str | None:
    from ..pam import Style

    if style is Style.SECRET:
        return call.terminal.ask_secret(text)
    if style is Style.PROMPT:
        return call.terminal.ask(text)
    (call.terminal.warn if style is Style.ERROR else call.terminal.tell)(text)
    return None
