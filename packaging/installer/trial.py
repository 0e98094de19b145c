"""One real PAM login with a throw-away TOTP credential: a wrong code must be denied, the right one granted.

A program of its own, run with /usr/bin/python3 -I -S -B as root; exit status 0 and one line where all went well. The
credential belongs to the account pam-mfa itself, which nobody logs in as, and is removed whatever happens.
"""

from __future__ import annotations

import pwd
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append("/usr/lib/pam-mfa/site")

from pam_mfa.cli import client
from pam_mfa.cli.paths import Paths
from pam_mfa.pam import Code, Style, Transaction

ACCOUNT = "pam-mfa"
SERVICE = "pam-mfa-trial"
PAM_FILE = "auth required pam_mfa.so\naccount required pam_deny.so\n"
PERIOD = 30


class Failed(Exception):
    """The trial showed that logins would not do what they should."""


class App:
    """What an authenticator app does, and the one who reads it. A client.Conversation."""

    def __init__(self) -> None:
        self.secret = ""
        self.used = 0

    def code(self) -> str:
        """The code of a time step that was not used yet: of now, or of the next one."""
        import pyotp

        self.used = max(int(time.time()) // PERIOD, self.used + 1)
        return pyotp.HOTP(self.secret).at(self.used)

    def wrong_code(self) -> str:
        """Six digits that none of the steps around now has."""
        import pyotp

        now = int(time.time()) // PERIOD
        right = {pyotp.HOTP(self.secret).at(step) for step in range(now - 2, now + 4)}
        return next(code for code in map("{:06d}".format, range(10)) if code not in right)

    def ask(self, text: str) -> str:
        return self.code()

    def ask_secret(self, text: str) -> str:
        return self.code()

    def tell(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""


def request(verb: str, app: App, **arguments: Any) -> Iterator[client.Record]:
    """The records of one request for the account."""
    account = client.Account(pwd.getpwnam(ACCOUNT).pw_uid, ACCOUNT)
    with client.connected(Paths()) as channel:
        yield from client.request(channel, verb, arguments, app, account)


def clean(app: App) -> None:
    """Remove every credential of the account: of this run, or of one that was killed. Raises Failed where one stays."""
    for record in list(request("list", app)):
        list(request("remove", app, credential=record["id"]))
    list(request("unlock", app))
    if list(request("list", app)):
        raise Failed("the throw-away credential could not be removed: remove it with pam-mfa remove --user pam-mfa")


@contextmanager
def enrolled(app: App) -> Iterator[None]:
    """The throw-away credential."""
    clean(app)
    try:
        for record in request("enroll", app, factor="totp", label="installation trial"):
            app.secret = record.get("secret", app.secret)
        yield
    finally:
        clean(app)


def login(confdir: str, answer: str) -> Code:
    """One PAM transaction that answers every prompt alike."""

    def converse(style: Style, text: str) -> str | None:
        return answer if style in (Style.SECRET, Style.PROMPT) else None

    with Transaction(SERVICE, ACCOUNT, converse, confdir, on_delay=lambda code, delay: None) as transaction:
        return transaction.authenticate()


def offers_totp() -> bool:
    """Whether the settings let this service ask for a code at all."""
    from pam_mfa.config import load
    from pam_mfa.factors import methods, registry
    from pam_mfa.origin import Origin
    from pam_mfa.policy import Facts, choose
    from pam_mfa.rules import Rule

    _, settings = load("/etc/pam-mfa/config.toml", methods(registry(lambda data: b"")))
    facts = [Facts(SERVICE, ACCOUNT, "", True, frozenset({ACCOUNT}), where) for where in Origin]
    rules = [choose(settings.policy, settings.rules, each) for each in facts]
    return all(isinstance(rule, Rule) and "totp" in rule.methods and not rule.exempt for rule in rules)


def trial() -> str:
    """Run it; returns the line to print. Raises Failed and what client.request raises."""
    if not offers_totp():
        return "left out: your settings do not offer totp"
    app = App()
    with tempfile.TemporaryDirectory(prefix="pam-mfa-trial-") as confdir, enrolled(app):
        Path(confdir, SERVICE).write_text(PAM_FILE)
        Path(confdir, "other").write_text(PAM_FILE.replace("pam_mfa.so", "pam_deny.so"))
        denied = login(confdir, app.wrong_code())
        granted = login(confdir, app.code())
    if denied is Code.SUCCESS:
        raise Failed("a wrong code was accepted: do not use this installation")
    if granted is not Code.SUCCESS:
        raise Failed(
            f"the right code was refused (PAM_{granted.name}); the system log says why, pam-mfa doctor what to do"
        )
    return f"wrong code denied (PAM_{denied.name}), right code granted, credential removed"


def main() -> int:
    """Run it; one line."""
    try:
        print(trial())
        return 0
    except Exception as problem:  # noqa: BLE001 - whatever it is, the installation is not proven
        print(f"{problem}" if isinstance(problem, Failed) else f"{type(problem).__name__}: {problem}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
