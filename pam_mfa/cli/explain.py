"""`pam-mfa explain`: what would happen at a login, and why."""

from __future__ import annotations

import click

from . import show
from .call import Call, with_json
from .client import Record
from .sshkeys import shown

HOLDS = {True: "yes", False: "no", None: "not looked at"}
METHODS = {
    "open": "can be used",
    "waiting": "not now: too many wrong answers",
    "disabled": "locked: pam-mfa unlock",
    "behind codes": "never asked for: it stands behind a code in methods",
    "credited": "counts: sshd has seen it",
    "not seen": "counts where sshd has seen it: --ssh-key FILE supposes that",
    "sshd not trusted": "does not count: sshd_touch_required is false",
}
ENTRIES = {
    "exempt": "nothing is asked: the rule lets them by",
    "unenrolled_allowed": "nothing is asked: they have no credential, and the rule lets those by",
    "enrol_by": "nothing is asked: they have no credential, and some days are left to enrol",
    "lease": "nothing is asked: a proof of {minutes} min ago holds",
    "logins_left": "nothing is asked: they have no credential, and some logins are left to enrol",
    "enrol_at_login": "then they enrol that app, and the code that it shows lets them in",
    "no_public_key": "refused at once: no public key was proven to sshd before",
}
CODES = {
    "PAM_SUCCESS": "after a right answer",
    "PAM_IGNORE": "this module has no say",
    "PAM_AUTH_ERR": "refused",
    "PAM_MAXTRIES": "refused after three answers, whatever they are",
}


@click.command()
@click.option("--user", metavar="USER", help="The account that is entered; yours where it is left out.")
@click.option("--service", metavar="SERVICE", required=True, help="The PAM service, for example sudo or sshd.")
@click.option("--rhost", metavar="HOST", default="", help="Where the login comes from, as sshd says: an address.")
@click.option("--tty", metavar="TTY", default="", help="The terminal, for example tty1.")
@click.option("--ruser", metavar="USER", default="", help="Who calls su; for sudo it is the user, if left out.")
@click.option("--public-key", is_flag=True, help="Suppose that sshd has taken a public key.")
@click.option("--ssh-key", metavar="FILE", help="Suppose that sshd has taken this one, or a certificate.")
@click.option(
    "--session", type=click.Choice(["local", "remote"]), help="Suppose where it comes from; else it is as from here."
)
@with_json
def explain(
    call: Call,
    user: str | None,
    service: str,
    public_key: bool,
    ssh_key: str | None,
    session: str | None,
    **items: str,
) -> None:
    """Tell what would happen at a login, and why.

    Shows the rules that are looked at with each of their conditions, the one that holds, the methods on offer, what
    the user would see first, and what PAM is told. Nothing is asked and nothing is counted. For an account other than
    your own you have to be root.
    """
    call.user = user
    arguments = {"service": service.lower(), "public_key": public_key, "session": session, **items}
    if ssh_key is not None:
        arguments["ssh_key"] = shown(ssh_key)
    call.run("explain", arguments, {"rule": _rule, "explained": _explained})


def _rule(record: Record) -> None:
    name = record["name"]
    title = "[policy]" if name == "policy" else f'rule "{name}"'
    show.line(f"{title}: {'holds' if record['holds'] else 'does not hold'}")
    for each in record["conditions"]:
        show.line(f"{each['key']} = {each['wanted']}: {HOLDS[each['holds']]}", indent=2)


def _explained(record: Record) -> None:
    terms = ", ".join(f"{key} = {_term(value)}" for key, value in record["terms"].items() if value not in (None, ""))
    show.line(f"It says: {terms}")
    if record["subject"] != record["user"]:
        show.line(f"Whose factor: {record['subject']}'s, who calls")
    for method, state in record["methods"].items():
        show.line(f"{method}: {METHODS.get(state, state)}", indent=2)
    credited = record["entry"] == "prove" and "credited" in record["methods"].values()
    if credited:
        show.line("Nothing is asked: sshd has seen a security key that is enrolled")
    elif record["entry"] == "prove":
        sees = f'"{record["sees"]}"' if record["sees"] else "nothing: no method can be offered"
        show.line(f"{record['user']} sees: {sees}")
    else:
        if record["sees"]:
            show.line(f'{record["user"]} sees: "{record["sees"]}"')
        said = ENTRIES.get(str(record["reason"]), str(record["reason"])).capitalize()
        show.line(said.format(minutes=(record["ago"] or 0) // 60))
    show.line(f"PAM is told {record['code']}: {'at once' if credited else CODES[record['code']]}")


def _term(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
