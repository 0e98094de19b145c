"""`pam-mfa import`: take over keys that another program enrolled."""

from __future__ import annotations

import os
import pwd
import socket
import stat

import click

from ..errors import RefusedError
from .accounts import root_only
from .call import Call, with_json
from .plain import one_line
from .takeover import Takeover

MAX_FILE = 64 * 1024 * 1024
USER = click.option("--user", metavar="USER", help="Whose keys these are, where the file does not say it.")
SHARED = click.option("--shared", is_flag=True, help="Also take a key that another account has.")
APPLY = click.option("--apply", is_flag=True, help="Do it; without this nothing is changed.")


@click.group("import", no_args_is_help=False)
def import_keys() -> None:
    """Take over keys that another program enrolled (root)."""


@import_keys.command("pam-u2f")
@click.argument("file", metavar="FILE")
@click.option("--origin", metavar="ID", help="origin= of pam_u2f's line; default pam:// and the host name.")
@click.option("--appid", metavar="ID", help="appid= of pam_u2f's line; default the origin.")
@USER
@SHARED
@APPLY
@with_json
def pam_u2f(call: Call, file: str, origin: str | None, appid: str | None, user: str | None, **how: bool) -> int:
    """Take over what pam_u2f has enrolled.

    FILE is its mapping file (authfile=), or the SSH key of its option sshformat. For each key you are told whether it
    can be taken over, and why not. A file that belongs to a user counts for that user alone.
    """
    from ..importers import pam_u2f as importer

    root_only("import pam-u2f")
    origin = _rp_id(origin or f"pam://{socket.gethostname()}", "--origin")
    parties = importer.RelyingParties(origin, _rp_id(appid or origin, "--appid"))
    data, user = _read(file, user)
    return Takeover(call, "pam_u2f", **how).run(importer.parse(data, parties, user))


@import_keys.command("passkey")
@click.argument("mapping", metavar="STRING|FILE")
@click.option("--rp-id", metavar="DOMAIN", required=True, help="What the keys were made for: SSSD's domain.")
@USER
@SHARED
@APPLY
@with_json
def passkey(call: Call, mapping: str, rp_id: str, user: str | None, **how: bool) -> int:
    """Take over the passkeys of SSSD and FreeIPA.

    STRING is a mapping, passkey:CREDENTIAL,KEY; FILE holds one on each line, or is LDIF. For each key you are told
    whether it can be taken over, and why not.
    """
    from ..importers import passkey as importer

    root_only("import passkey")
    rp_id = _rp_id(rp_id, "--rp-id")
    data = mapping.encode(errors="surrogateescape")
    if not mapping.startswith(importer.PREFIX):
        data, user = _read(mapping, user)
    return Takeover(call, "passkey", **how).run(importer.parse(data, rp_id, user))


def _rp_id(value: str, option: str) -> str:
    from ..importers.base import Unusable, check_rp_id

    try:
        return check_rp_id(value)
    except Unusable as problem:
        raise click.UsageError(f"{option}: {problem}") from None


def _read(path: str, user: str | None) -> tuple[bytes, str | None]:
    """A file, and the one whose lines count, None for everybody's. Raises RefusedError.

    Whoever can write to it could enrol a key for root: so a file that is not root's counts for its owner alone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise RefusedError("invalid", f"{one_line(path)} is no regular file; copy it to one")
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise RefusedError("not_found", f"{one_line(path)}: {reason}") from None
    if len(data) > MAX_FILE:
        raise RefusedError("invalid", f"{one_line(path)} is larger than {MAX_FILE} bytes; import it in parts")
    if found.st_mode & 0o022:
        raise RefusedError(
            "invalid", f"others than its owner may write to {one_line(path)}; run chmod go-w, look at it"
        )
    return data, user if found.st_uid == 0 else _owner(path, found.st_uid, user)


def _owner(path: str, uid: int, user: str | None) -> str:
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise RefusedError(
            "invalid", f"{one_line(path)} belongs to uid {uid}, which is nobody; run chown root"
        ) from None
    if user not in (None, owner):
        raise RefusedError(
            "invalid",
            f"{one_line(path)} belongs to {owner} and counts for {owner} alone; if you trust it, run chown root",
        )
    return owner
