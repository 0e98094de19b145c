"""`pam-mfa enroll`: a new credential."""

from __future__ import annotations

from typing import Any

import click

from . import show
from .call import Call, with_account
from .sshkeys import ssh_key

FACTORS = (
    ("totp", "codes from an authenticator app"),
    ("recovery", "ten codes on paper"),
    ("fido2", "a security key"),
    ("smartcard", "a PIV smartcard"),
)
SSH_KEY = "ssh-key"  # not among those that are chosen from: it is of no use without a file
# Which factors an option is for.
OPTIONS = {
    "algorithm": ("totp",),
    "digits": ("totp",),
    "period": ("totp",),
    "verify": ("fido2", SSH_KEY),
    "discoverable": ("fido2",),
    "slot": ("smartcard",),
    "by": ("smartcard",),
    "file": (SSH_KEY,),
    "allow_no_touch": (SSH_KEY,),
}


@click.command()
@click.argument("factor", type=click.Choice([*(name for name, _ in FACTORS), SSH_KEY]), required=False)
@click.argument("file", metavar="FILE", required=False)
@click.option("--name", "label", metavar="LABEL", help='What you call it, for example "phone".')
@click.option("--algorithm", type=click.Choice(["SHA1", "SHA256", "SHA512"]), help="Only for totp; default SHA1.")
@click.option("--digits", type=click.IntRange(6, 8), metavar="6..8", help="Only for totp; default 6.")
@click.option("--period", type=click.Choice(["30", "60"]), help="Only for totp: seconds a code lasts; default 30.")
@click.option(
    "--verify", is_flag=True, help="Only for fido2 and ssh-key: the key has to ask for its PIN or a fingerprint."
)
@click.option("--discoverable", is_flag=True, help="Only for fido2: keep the credential on the key.")
@click.option(
    "--slot", type=click.Choice(["9a", "9c", "9d"]), help="Only for smartcard; default the first that counts."
)
@click.option(
    "--by",
    type=click.Choice(["key", "issuer-serial", "subject-key-id", "upn", "mail"]),
    help="Only for smartcard: what the certificate is recognised by; default key.",
)
@click.option("--allow-no-touch", is_flag=True, help="Only for ssh-key: also where FILE says no-touch-required.")
@with_account
def enroll(call: Call, factor: str | None, label: str | None, **options: Any) -> None:
    """Enrol a credential.

    FACTOR is totp (an authenticator app), recovery (ten codes on paper), fido2 (a security key), smartcard (a PIV
    card) or ssh-key; without it you are asked.

    An ssh-key is the public half of a security key with which you log in by ssh: FILE, for example id_ed25519_sk.pub,
    or - for a line of standard input. It counts at sshd alone, and where the administrator has set credit_ssh_keys.

    A key or card counts from the moment that it signed once, an app from the moment that you typed one right code. The
    first credential needs the account's password and comes with recovery codes; every further one needs a proof with
    one that you have.
    """
    factor = factor or _ask_factor(call)
    given = {key: value for key, value in options.items() if value is not None and value is not False}
    for option in given:
        if factor not in OPTIONS[option]:
            what = "a FILE" if option == "file" else f"--{option.replace('_', '-')}"
            raise click.UsageError(f"{what} is only for {' and '.join(OPTIONS[option])}")
    if factor == SSH_KEY:
        given = ssh_key(given)
    if "period" in given:
        given["period"] = int(given["period"])
    if label is not None:
        given["label"] = label
    call.run(
        "enroll",
        {"factor": factor, **given},
        {
            "totp": show.totp,
            "certificate": show.certificate,
            "enrolled": show.enrolled,
            "recovery": show.recovery,
        },
    )


def _ask_factor(call: Call) -> str:
    if not call.terminal.interactive():
        raise click.UsageError("say what to enrol: " + " or ".join(name for name, _ in FACTORS))
    return call.terminal.choose("What do you want to enrol?", FACTORS)
