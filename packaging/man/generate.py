"""Write the manual pages and completions anew: `python3 packaging/man/generate.py`, where click can be imported.

pam-mfa(1) and the completions come from the commands themselves. The other pages are the *.in files beside this
script, where `@NAME@` on a line of its own stands for a table made from the program.
tests/unit/cli/test_manuals.py runs this and compares.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent.parent))

import click  # noqa: E402
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete  # noqa: E402

from pam_mfa import __version__, config, rules  # noqa: E402
from pam_mfa.cli.exits import MEANING  # noqa: E402
from pam_mfa.cli.main import cli  # noqa: E402
from pam_mfa.config import Fido2, Settings, Smartcard  # noqa: E402
from pam_mfa.outcome import PAM_CODE, Outcome  # noqa: E402
from pam_mfa.rules import Rule  # noqa: E402

VARIABLE = "_PAM_MFA_COMPLETE"
COMPLETIONS = {BashComplete: "pam-mfa", ZshComplete: "_pam-mfa", FishComplete: "pam-mfa.fish"}

WHEN = {
    Outcome.GRANTED: "A right answer was given, and its use is on disk.",
    Outcome.EXEMPT: "The user need not be asked: an exempt rule, a lease, or nothing enrolled where that is allowed.",
    Outcome.DENIED: "No right answer was given.",
    Outcome.LOCKED: "Too many wrong answers before; none is taken now.",
    Outcome.TRIES_SPENT: "Three wrong answers in this login.",
    Outcome.UNAVAILABLE: "Nobody could decide: no service, no store, no usable settings, a deadline.",
    Outcome.ABORTED: "The user gave up.",
}
TOP_KEYS = {
    "first_enrolment": ('What the first credential of an account costs: "password" (checked by PAM service pam-mfa), '
                        '"ticket" (a code that an administrator gives out by pam-mfa issue-code) or "self" (nothing).',
                        Settings().first_enrolment),
    "enrol_from": ("Table: from where the first credential of an account is enrolled.", "from everywhere"),
    "audit": ('"required" refuses a login whose audit record cannot be written.', "best-effort"),
    "fail_delay": ("Seconds that PAM is asked to wait after a refusal, 0 to 10.", Settings().fail_delay_ms / 1000),
    "issuer": ("The name that authenticator apps show.", "the host's name"),
    "sshd_touch_required": ("Your word that sshd has PubkeyAuthOptions touch-required; pam-mfa doctor looks. Without "
                            "it credit_ssh_keys has no effect.", "false"),
    "fido2": ("Table: what holds for security keys.", "the defaults below"),
    "smartcard": ("Table: what holds for smartcards.", "the defaults below"),
    "policy": ("Table: what every rule inherits, and what holds where no rule does.", "the defaults below"),
    "rule": ("Array of tables: the rules, in the order in which they are tried.", "none"),
}  # fmt: skip
ENROL_FROM_KEYS = {
    "networks": ("Networks of the address that the session comes from; whoever sits at this host is in all of them.",
                 "all"),
    "services": ('PAM services, with "*" and "?", by which the session began.', "all"),
}  # fmt: skip
FIDO2_KEYS = {
    "rp_id": ("The relying party id of new credentials, a domain name: the same on every host of a fleet. Credentials "
              "keep the one that they were made for.", "the host's name"),
    "synced": ('Whether passkeys count that can leave their device: "allow" or "deny".', Fido2().synced),
    "clone": ('What becomes of an answer whose sign count fell back, as that of a copied key does: "deny", or "warn" '
              "to let it pass. It is logged at alert level, and pam-mfa list shows the suspicion, in any case.",
              Fido2().clone),
}  # fmt: skip
SMARTCARD_KEYS = {
    "trust": ('What a certificate on a card has to be: "pinned", one whose public key was enrolled, or "chain", one '
              "whose path to a certificate in /etc/pam-mfa/ca/anchors holds as well.", Smartcard().trust),
    "revocation": ('With trust "chain", what holds where no certificate list (CRL) in /etc/pam-mfa/ca/crls tells '
                   'whether a certificate was revoked: "strict", then no card can be used, or "soft", then it was not.',
                   Smartcard().revocation),
    "slots": ("The keys of a card that count, the preferred one first: 9a (authentication), 9c (signature), 9d (key "
              "management). 9e demands no PIN, and never counts.", list(Smartcard().slots)),
    "usages": ('With trust "chain", extended key usages of which a certificate must have one; empty for any.',
               list(Smartcard().usages)),
    "upn_anchors": ('With trust "chain", the files in /etc/pam-mfa/ca/anchors whose certificates may name their user '
                    "by a user principal name.", "none"),
    "mail_anchors": ("The same for mail addresses.", "none"),
}  # fmt: skip
MATCH_KEYS = {
    "name": "The title of the rule, for pam-mfa explain and pam-mfa config; without one it is known by its number.",
    "services": 'PAM services. "*" stands for any characters, "?" for any one.',
    "users": 'Names of accounts that are entered; with "!" in front those whom the rule is not for.',
    "groups": 'The same for groups, of which the account has to be in one, and in none with "!" in front. A list that '
    "only says whom the rule is not for is refused.",
    "networks": "Networks of the address from which the login comes, as a host run by root says; a name, or none, "
    "is in none.",
    "session": '"local" or "remote": as local_key has it.',
}
TERM_KEYS = {
    "methods": ("The factors that are offered, the preferred one first.", list(Rule().methods)),
    "unenrolled": ('What becomes of a user without any credential: "deny" or "allow".', Rule().unenrolled),
    "exempt": ("Nothing is asked. Of [policy] alone: no rule inherits it.", "false"),
    "enrol_by": ("A date, for example 2030-12-31: until the end of that day (UTC) users without any credential get in, "
                 "and are told how many days are left; from then on unenrolled counts. A day of the past switches an "
                 "inherited one off.", "none"),
    "logins_left": ("A number from 0 to 1000: as often users without any credential get in, and are told how often "
                    "they still do; with enrol_by as long as both allow it. Logins are counted for the account, by all "
                    "rules together; 0 switches an inherited number off.", "none"),
    "enrol_at_login": ("From then on they enrol an authenticator app in the login itself: totp has to be in methods, "
                       'and a first factor to be proven before. With first_enrolment = "password" that has to be '
                       'first_factor = "stack"; with "ticket" that code comes first. enrol_from holds too.', "false"),
    "help": ("What somebody is told who is refused for having no credential, after the last answer: for example whom "
             'to call. With first_factor = "none" nobody is.', "nothing"),
    "user_verification": ('Whether a security key has to verify its user by PIN or fingerprint: "required", '
                          '"preferred" (where the key can) or "discouraged" (a touch is enough).',
                          Rule().user_verification),
    "local_key": ('Who is offered the security keys in this host\'s own ports: "auto" (whoever sits at it), "always" '
                  '(also over ssh) or "never".', Rule().local_key),
    "subject": ('Whose factor is asked for: "user", of the account that is entered, or "caller", of who enters'
                " it, as su says; where that is root, or unknown, it is the user's.", Rule().subject),
    "first_factor": ('What was proven before: "stack", by the PAM lines above this one; "publickey", by sshd with a '
                     'key, and without one the login is refused; "none", then no message depends on the account.',
                     Rule().first_factor),
    "credit_ssh_keys": ("An enrolled security key that sshd has taken the login's public key from counts as the "
                        "second factor; sshd_touch_required has to be true.", "false"),
    "lease": ('A time from "1m" to "12h" for which a proof also holds for further logins from the same session, '
              "terminal and kind of service; at sshd from the same address with the same key, and only where networks "
              "is given. pam-mfa lease shows and ends them. No rule inherits it.", "none"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- roff


def roff(text: object) -> str:
    """Plain text as one line of roff input."""
    escaped = str(text).replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def title(name: str, section: int) -> str:
    return f'.TH {name.upper()} {section} "" "pam-mfa {__version__}" "pam-mfa"\n'


def tagged(tag: str, text: object) -> str:
    return f".TP\n.B {roff(tag)}\n{roff(text)}\n"


def paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        yield roff(" ".join(paragraph.split()))


# ---------------------------------------------------------------------------------------------------- pam-mfa(1)


def command_page() -> str:
    """pam-mfa(1)."""
    context = click.Context(cli, info_name="pam-mfa")
    body = "".join(section(command, path) for command, path in commands(cli, context))
    codes = "".join(tagged(str(int(code)), meaning) for code, meaning in MEANING.items())
    return title("pam-mfa", 1) + (HERE / "pam-mfa.1.in").read_text().replace("@COMMANDS@\n", body).replace(
        "@EXITS@\n", codes
    )


def commands(group: click.Group, context: click.Context, path: str = "") -> Iterator[tuple[click.Command, str]]:
    """Every command with the words that call it, but for hidden ones; a group of commands stands for its own."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command), f"{path}{name} ")
        elif command is not None and not command.hidden:
            yield command, f"{path}{name}"


def section(command: click.Command, path: str) -> str:
    """One command with its options."""
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context)[1:])
    words = "\n.PP\n".join(paragraphs(command.help or ""))
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    return f".SS {roff(f'{path} {usage}'.strip())}\n{words}\n" + "".join(map(described, options))


def described(option: click.Option) -> str:
    """One option."""
    value = "" if option.is_flag else f" {option.make_metavar(click.Context(cli))}"
    return tagged(", ".join(option.opts) + value, option.help)


# ------------------------------------------------------------------------------------------------- the other pages


def codes_table() -> str:
    return "".join(tagged(name, WHEN[outcome]) for outcome, (name, _) in PAM_CODE.items())


def keys_table(known: tuple[str, ...], keys: dict[str, tuple[str, Any]]) -> str:
    return "".join(tagged(key, f"{keys[key][0]} Default: {shown(keys[key][1])}.") for key in known)


def shown(value: Any) -> str:
    """A default as it stands in the file; words of our own stay as they are."""
    if isinstance(value, list):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


TABLES: dict[str, Callable[[], str]] = {
    "CODES": codes_table,
    "TOP_KEYS": lambda: keys_table(config.TOP_KEYS, TOP_KEYS),
    "ENROL_FROM_KEYS": lambda: keys_table(config.ENROL_FROM_KEYS, ENROL_FROM_KEYS),
    "FIDO2_KEYS": lambda: keys_table(config.FIDO2_KEYS, FIDO2_KEYS),
    "SMARTCARD_KEYS": lambda: keys_table(config.SMARTCARD_KEYS, SMARTCARD_KEYS),
    "MATCH_KEYS": lambda: "".join(tagged(key, MATCH_KEYS[key]) for key in ("name", *rules.MATCH_KEYS)),
    "TERM_KEYS": lambda: keys_table(rules.TERM_KEYS, TERM_KEYS),
}


def other_page(name: str, section: int) -> str:
    """A page from its *.in file."""
    text = (HERE / f"{name}.{section}.in").read_text()
    for table, make in TABLES.items():
        text = text.replace(f"@{table}@\n", make() if f"@{table}@\n" in text else "")
    return title(name, section) + text


def completion(kind: type[ShellComplete]) -> str:
    """What a shell asks the program through."""
    return kind(cli, {}, "pam-mfa", VARIABLE).source().strip() + "\n"


def generated() -> dict[Path, str]:
    """Every file and its text."""
    pages = {f"{name}.{section}": other_page(name, section) for name, section in
             (("pam_mfa", 8), ("pam-mfad", 8), ("pam-mfa.toml", 5))}  # fmt: skip
    pages["pam-mfa.1"] = command_page()
    files = {HERE / name: text for name, text in pages.items()}
    return files | {HERE.parent / "completions" / name: completion(kind) for kind, name in COMPLETIONS.items()}


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
