"""One rule of the settings: whom it is for, and what it asks of them.

A rule says no more than what its administrator wrote: every condition that is given has to hold, and what is not given
is inherited from [policy]. All but `exempt` and `lease`, which are inherited by no rule: what lets somebody by stands
where it holds.
How rules are chosen is policy.py's.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from .fields import Fields, given, join, quoted
from .structure import structure

if TYPE_CHECKING:
    from datetime import date
    from ipaddress import IPv4Network, IPv6Network

MAX_RULES = 256
MAX_NAME = 256
TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.@+-]{0,63}", re.ASCII)
SERVICES = re.compile(r"[a-z0-9_.@*?-]{1,64}", re.ASCII)
NOT = "!"
POLICY = "policy"
MAX_LOGINS = 1000
MAX_HELP = 200
SHORTEST_LEASE, LONGEST_LEASE = 60, 12 * 3600
MATCH_KEYS = ("services", "users", "groups", "networks", "session")
TERM_KEYS = (
    "methods", "exempt", "unenrolled", "enrol_by", "logins_left", "enrol_at_login", "help", "user_verification",
    "local_key", "subject", "first_factor", "credit_ssh_keys", "lease",
)  # fmt: skip


class Unenrolled(StrEnum):
    """What becomes of a user without any credential."""

    DENY = "deny"
    ALLOW = "allow"


class UserVerification(StrEnum):
    """Whether a security key has to verify its user by PIN or fingerprint (WebAuthn section 5.8.6)."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    DISCOURAGED = "discouraged"


class LocalKey(StrEnum):
    """Whether a session is offered this host's own USB ports and readers: where it is local, in any case, or never."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Subject(StrEnum):
    """Whose factor is proven: that of the account that is entered, or of whoever enters it (PAM_RUSER)."""

    USER = "user"
    CALLER = "caller"


class FirstFactor(StrEnum):
    """What was proven before us: by the PAM stack above our line, by sshd with a public key, or nothing."""

    STACK = "stack"
    PUBLICKEY = "publickey"
    NONE = "none"


class Session(StrEnum):
    """Where a session comes from (origin.py)."""

    LOCAL = "local"
    REMOTE = "remote"


@structure
class Match:
    """Whom a rule is for. What is empty or None holds for everybody.

    Args:
        services: PAM service names; "*" and "?" stand for any characters and any one.
        users, groups: names; with "!" in front those whom the rule is not for.
        networks: of the address that root's host names; no other word of where somebody comes from counts.
        session: see there.
    """

    services: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    session: Session | None = None


@structure
class Rule:
    """What is asked of whom.

    Args:
        methods: names of factors, the preferred one first.
        exempt: nothing is asked.
        unenrolled: what becomes of users without a credential.
        enrol_by: until the end of that day (UTC) they get in, and are told how long.
        logins_left: as often they get in, and are told how often.
        enrol_at_login: then they enrol an authenticator app in the login itself.
        help: what to do, for somebody who is refused because of nothing enrolled; "" for nothing to say.
        user_verification, local_key, subject, first_factor: see there.
        credit_ssh_keys: an enrolled security key that sshd has seen counts as proven.
        lease: for how many seconds a proof holds for further logins from the same session; None for this one alone.
        name: its title, or its place in the file.
        match: whom it is for.
    """

    methods: tuple[str, ...] = ("fido2", "smartcard", "totp", "recovery")
    unenrolled: Unenrolled = Unenrolled.DENY
    user_verification: UserVerification = UserVerification.DISCOURAGED
    local_key: LocalKey = LocalKey.AUTO
    exempt: bool = False
    subject: Subject = Subject.USER
    first_factor: FirstFactor = FirstFactor.STACK
    enrol_by: date | None = None
    logins_left: int | None = None
    enrol_at_login: bool = False
    help: str = ""
    credit_ssh_keys: bool = False
    lease: int | None = None
    name: str = POLICY
    match: Match = Match()


class RuleFields(Fields):
    """The conversion of rules.

    Args:
        factors: names of all factors that this program knows.
    """

    def __init__(self, factors: tuple[str, ...]) -> None:
        super().__init__()
        self.factors = factors

    def policy(self, path: str, value: object, default: Rule) -> Rule:
        """What holds where no rule does, and what rules inherit."""
        return self._terms(path, self.table(path, value, TERM_KEYS), default)

    def rules(self, path: str, value: object, base: Rule) -> tuple[Rule, ...]:
        """The array of tables."""
        if not isinstance(value, list) or len(value) > MAX_RULES:
            self.problem(path, f"must be at most {MAX_RULES} tables: [[{path}]]")
            return ()
        rules: dict[str, Rule] = {}
        for index, table in enumerate(value):
            rule = self._rule(f"{path}[{index}]", table, base, str(index + 1))
            if rule.name in rules:
                self.problem(join(f"{path}[{index}]", "name"), f"{quoted(rule.name)} is the name of another rule")
            rules[rule.name] = rule
        return tuple(rules.values())

    def _rule(self, path: str, value: object, base: Rule, number: str) -> Rule:
        table = self.table(path, value, ("name", *MATCH_KEYS, *TERM_KEYS))
        return self._terms(path, table, base, given(table, "name", self._title, number, path), self._match(path, table))

    def _terms(
        self, path: str, table: dict[str, object], base: Rule, name: str = POLICY, match: Match | None = None
    ) -> Rule:
        return Rule(
            methods=given(table, "methods", self._methods, base.methods, path),
            unenrolled=given(table, "unenrolled", self.choice, base.unenrolled, path),
            user_verification=given(table, "user_verification", self.choice, base.user_verification, path),
            local_key=given(table, "local_key", self.choice, base.local_key, path),
            exempt=given(table, "exempt", self.truth, False, path),
            subject=given(table, "subject", self.choice, base.subject, path),
            first_factor=given(table, "first_factor", self.choice, base.first_factor, path),
            enrol_by=given(table, "enrol_by", self.day, base.enrol_by, path),
            logins_left=given(table, "logins_left", self._logins, base.logins_left, path),
            enrol_at_login=given(table, "enrol_at_login", self.truth, base.enrol_at_login, path),
            help=given(table, "help", self._help, base.help, path),
            credit_ssh_keys=given(table, "credit_ssh_keys", self.truth, base.credit_ssh_keys, path),
            lease=given(table, "lease", self._lease, None, path),
            name=name,
            match=match or Match(),
        )

    def _match(self, path: str, table: dict[str, object]) -> Match:
        return Match(
            services=given(table, "services", self._services, (), path),
            users=given(table, "users", self._listed, (), path),
            groups=given(table, "groups", self._listed, (), path),
            networks=given(table, "networks", self._networks, (), path),
            session=given(table, "session", self.choice, Session.LOCAL, path) if "session" in table else None,
        )

    def _title(self, path: str, value: object, default: str) -> str:
        if isinstance(value, str) and TITLE.fullmatch(value) and not value.isdecimal() and value != POLICY:
            return value
        self.problem(path, f"must be a text of 1 to 64 of A-Z a-z 0-9 space _ . @ + -, and no number, nor {POLICY}")
        return default

    def _methods(self, path: str, value: object, default: tuple[str, ...]) -> tuple[str, ...]:
        return self.some(path, value, self.factors, "method")

    def _services(self, path: str, value: object, default: tuple[str, ...]) -> tuple[str, ...]:
        what = "a PAM service name: 1 to 64 of a-z 0-9 _ . @ - (PAM has them in lower case), * or ?"
        return self.not_empty(path, value, self.each(path, value, SERVICES, what))

    def _listed(self, path: str, value: object, default: tuple[str, ...]) -> tuple[str, ...]:
        names = self.names(path, value)
        for at, listed in names.items():
            name = listed.removeprefix(NOT)
            if not 0 < len(name) <= MAX_NAME or name != name.strip() or not name.isprintable() or ":" in name:
                self.problem(at, f"{quoted(listed)} is not the name of a user or group")
        if names and all(name.startswith(NOT) for name in names.values()):
            # Whoever is in none of them would be meant too, which is everybody whom a directory does not list just now.
            self.problem(path, "only says whom the rule is not for: name at least one whom it is for")
        return self.not_empty(path, value, tuple(names.values()))

    def _networks(
        self, path: str, value: object, default: tuple[IPv4Network | IPv6Network, ...]
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        return self.networks(path, value)

    def _logins(self, path: str, value: object, default: int | None) -> int | None:
        return self.whole(path, value, MAX_LOGINS)

    def _lease(self, path: str, value: object, default: int | None) -> int | None:
        return self.time(path, value, SHORTEST_LEASE, LONGEST_LEASE)

    def _help(self, path: str, value: object, default: str) -> str:
        return self.sentence(path, value, MAX_HELP) or default
