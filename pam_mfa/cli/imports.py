"""`pam-mfa import`: take over security keys and smartcards that another program enrolled, or that sshd knows."""

from __future__ import annotations

import os
import pwd
import socket
import stat
from collections.abc import Iterable, Iterator

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
    """Take over security keys and smartcards that another program enrolled (root)."""


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


@import_keys.command("pam-p11")
@click.argument("file", metavar="FILE")
@USER
@SHARED
@APPLY
@with_json
def pam_p11(call: Call, file: str, user: str | None, **how: bool) -> int:
    """Take over the smartcards of pam_p11.

    FILE is a user's authorized_certificates or authorized_keys. What is taken over is the key: leave out of the file
    what is on no card. For each you are told whether it can be taken over, and why not. A file that belongs to a user
    counts for that user alone.
    """
    from ..importers import pam_p11 as importer

    root_only("import pam-p11")
    data, user = _read(file, user)
    return Takeover(call, "pam_p11", **how).run(importer.parse(data, user))


@import_keys.command("authorized-keys")
@click.argument("file", metavar="FILE")
@click.option(
    "--allow-no-touch", is_flag=True, help="Also take keys whose line says no-touch-required; touched they count."
)
@USER
@SHARED
@APPLY
@with_json
def authorized_keys(call: Call, file: str, allow_no_touch: bool, user: str | None, **how: bool) -> int:
    """Take over the security keys with which a user logs in by ssh.

    FILE is the user's authorized_keys. Its sk- keys are enrolled as ssh-key, and count at sshd where the rule says
    credit_ssh_keys; verify-required of a line is kept. For each line you are told whether it can be taken over, and
    why not. A file that belongs to a user counts for that user alone.
    """
    from ..importers import authorized_keys as importer

    root_only("import authorized-keys")
    data, user = _read(file, user)
    return Takeover(call, "authorized_keys", **how).run(importer.parse(data, user, allow_no_touch))


@import_keys.command("pam-pkcs11")
@click.argument("file", metavar="FILE")
@click.option(
    "--certificates",
    metavar="PATH",
    multiple=True,
    help="A file with certificates that were issued, or a directory of such files; may be given more than once.",
)
@USER
@SHARED
@APPLY
@with_json
def pam_pkcs11(call: Call, file: str, certificates: tuple[str, ...], user: str | None, **how: bool) -> int:
    """Take over the smartcards of pam_pkcs11.

    FILE is the map of its digest or subject mapper. It says which certificates count, not which keys: so give the
    certificates as well (PEM or DER). For each line you are told whether it can be taken over, and why not.
    """
    from ..importers import pam_pkcs11 as importer
    from ..importers.certificate import certificates as within

    root_only("import pam-pkcs11")
    data, user = _read(file, user)
    found = [each for path in _files(certificates) for each in within(_roots(path))]
    return Takeover(call, "pam_pkcs11", **how).run(importer.parse(data, importer.issued(found), user))


def _files(paths: Iterable[str]) -> Iterator[str]:
    """The files that are named, and those in directories that are. Raises RefusedError."""
    for path in paths:
        try:
            names = sorted(os.listdir(path)) if os.path.isdir(path) else None
        except OSError as error:
            raise RefusedError("not_found", f"{one_line(path)}: {error.strerror}") from None
        yield from [path] if names is None else (each for n in names if os.path.isfile(each := os.path.join(path, n)))


def _roots(path: str) -> bytes:
    """A file that says who is who for everybody. Raises RefusedError."""
    data, owner = _read(path, None)
    if owner is not None:
        raise RefusedError("invalid", f"{one_line(path)} belongs to {owner}; if you trust it, run chown root")
    return data


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
