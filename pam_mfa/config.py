"""The settings file: TOML in, frozen structures out, every problem at once by key path.

Nothing is guessed: an unknown key, a doubled name or a value out of range refuses the whole file, because a
setting that is silently not applied is a rule that its administrator believes in.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from .errors import ConfigError
from .structure import field, structure

MAX_SIZE = 256 * 1024
MAX_LINE = 4096
MAX_FAIL_DELAY = 10
MAX_NAME = 256
MAX_ISSUER = 64
SERVICE = re.compile(r"[a-z0-9_.@-]{1,64}", re.ASCII)
BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*", re.ASCII)
TOP_KEYS = ("first_enrolment", "audit", "fail_delay", "issuer", "fido2", "policy", "service")
NEWLINE = "\n"
FIDO2_KEYS = ("rp_id", "synced", "clone")
RULE_KEYS = ("methods", "unenrolled", "exempt_groups", "user_verification", "local_key")


class Unenrolled(StrEnum):
    """What becomes of a user without any credential."""

    DENY = "deny"
    ALLOW = "allow"


class FirstEnrolment(StrEnum):
    """What the first credential of an account costs: its password, or nothing but being that user."""

    PASSWORD = "password"  # noqa: S105 - the word itself
    SELF = "self"


class Audit(StrEnum):
    """Whether a login may end without its audit record."""

    BEST_EFFORT = "best-effort"
    REQUIRED = "required"


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


class Synced(StrEnum):
    """Whether credentials count that can leave their authenticator (passkeys in a cloud)."""

    ALLOW = "allow"
    DENY = "deny"


class Clone(StrEnum):
    """What becomes of an answer whose sign count fell back."""

    DENY = "deny"
    WARN = "warn"


@structure
class Fido2:
    """What holds for security keys in all services.

    Args:
        rp_id: relying party id of new credentials; None for the host's name. Those that are there keep theirs.
        synced, clone: see there.
    """

    rp_id: str | None = None
    synced: Synced = Synced.ALLOW
    clone: Clone = Clone.DENY


@structure
class Rule:
    """What one PAM service asks for.

    Args:
        methods: names of factors, the preferred one first.
        unenrolled: what becomes of users without a credential.
        exempt_groups: members of these are not asked.
        user_verification, local_key: see there.
    """

    methods: tuple[str, ...] = ("fido2", "totp", "recovery")
    unenrolled: Unenrolled = Unenrolled.DENY
    exempt_groups: frozenset[str] = frozenset()
    user_verification: UserVerification = UserVerification.DISCOURAGED
    local_key: LocalKey = LocalKey.AUTO


@structure
class Settings:
    """The whole file.

    Args:
        policy: the rule of every service that has none of its own.
        services: rules by PAM service name.
        first_enrolment: what the first credential of an account costs.
        audit_required: a login whose record cannot be written is refused.
        fail_delay_ms: what PAM is asked to wait after a refusal, in milliseconds.
        issuer: the name shown in authenticator apps; None for the host's name.
        fido2: of security keys.
    """

    policy: Rule = Rule()
    services: Mapping[str, Rule] = field(default_factory=lambda: MappingProxyType({}))
    first_enrolment: FirstEnrolment = FirstEnrolment.PASSWORD
    audit_required: bool = False
    fail_delay_ms: int = 2000
    issuer: str | None = None
    fido2: Fido2 = Fido2()

    def rule(self, service: str) -> Rule:
        """The rule of a PAM service."""
        return self.services.get(service, self.policy)


def parse(text: str, factors: Collection[str]) -> Settings:
    """Convert the text of a settings file.

    Args:
        text: TOML.
        factors: the names of all factors that this program knows.

    Raises:
        ConfigError: with all problems of the text.
    """
    reading = _Reading(tuple(factors))
    settings = reading.settings(_toml(text))
    if reading.problems:
        raise ConfigError(reading.problems)
    return settings


def load(path: str, factors: Collection[str], owner: int = 0) -> tuple[str, Settings]:
    """Read and convert a settings file that only its owner can have written.

    Args:
        path: the file; neither it nor its directory may be a symbolic link.
        factors: the names of all factors that this program knows.
        owner: the uid that must own the file and its directory.

    Returns:
        The text, so that it can be kept as the last good one, and the settings.

    Raises:
        ConfigError: with the path, or with all problems of the text.
    """
    text = _text(path, owner)
    return text, parse(text, factors)


T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)


class _Reading:
    """One conversion. Every method returns a usable value and notes in `problems` why it is not the file's."""

    def __init__(self, factors: tuple[str, ...]) -> None:
        self.factors = factors
        self.problems: list[str] = []

    def settings(self, top: dict[str, object]) -> Settings:
        self._keys("", top, TOP_KEYS)
        default = Settings()
        policy = self._rule("policy", top.get("policy", {}), default.policy)
        return Settings(
            policy=policy,
            services=self._services(top.get("service", {}), policy),
            first_enrolment=_given(top, "first_enrolment", self._choice, default.first_enrolment),
            audit_required=_given(top, "audit", self._choice, Audit.BEST_EFFORT) is Audit.REQUIRED,
            fail_delay_ms=_given(top, "fail_delay", self._delay, default.fail_delay_ms),
            issuer=_given(top, "issuer", self._issuer, default.issuer),
            fido2=_given(top, "fido2", self._fido2, default.fido2),
        )

    def _fido2(self, path: str, value: object, default: Fido2) -> Fido2:
        table = self._table(path, value)
        self._keys(path, table, FIDO2_KEYS)
        return Fido2(
            rp_id=_given(table, "rp_id", self._host, default.rp_id, path),
            synced=_given(table, "synced", self._choice, default.synced, path),
            clone=_given(table, "clone", self._choice, default.clone, path),
        )

    def _services(self, value: object, policy: Rule) -> Mapping[str, Rule]:
        rules: dict[str, Rule] = {}
        for name, table in self._table("service", value).items():
            path = _join("service", name)
            if not SERVICE.fullmatch(name):
                self._problem(path, "not a PAM service name: 1 to 64 of a-z 0-9 _ . @ - (PAM has them in lower case)")
            rules[name] = self._rule(path, table, policy)
        return MappingProxyType(rules)

    def _rule(self, path: str, value: object, base: Rule) -> Rule:
        table = self._table(path, value)
        self._keys(path, table, RULE_KEYS)
        return Rule(
            methods=_given(table, "methods", self._methods, base.methods, path),
            unenrolled=_given(table, "unenrolled", self._choice, base.unenrolled, path),
            exempt_groups=_given(table, "exempt_groups", self._groups, base.exempt_groups, path),
            user_verification=_given(table, "user_verification", self._choice, base.user_verification, path),
            local_key=_given(table, "local_key", self._choice, base.local_key, path),
        )

    def _methods(self, path: str, value: object, default: tuple[str, ...]) -> tuple[str, ...]:
        names = self._names(path, value)
        for at, name in names.items():
            if name not in self.factors:
                self._problem(at, f"unknown method {_quoted(name)}; one of: {', '.join(self.factors)}")
        if value == []:
            self._problem(path, f"empty; at least one of: {', '.join(self.factors)}")
        return tuple(names.values())

    def _groups(self, path: str, value: object, default: frozenset[str]) -> frozenset[str]:
        names = self._names(path, value)
        for at, name in names.items():
            if not 0 < len(name) <= MAX_NAME or name != name.strip() or not name.isprintable() or ":" in name:
                self._problem(at, f"{_quoted(name)} is not the name of a group")
        return frozenset(names.values())

    def _names(self, path: str, value: object) -> dict[str, str]:
        """The texts of a list without doubles, by key path."""
        if not isinstance(value, list):
            self._problem(path, f"{_kind(value)}; must be a list of texts")
            return {}
        names: dict[str, str] = {}
        seen: set[str] = set()
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            if not isinstance(item, str):
                self._problem(at, f"{_kind(item)}; must be a text")
            elif item in seen:
                self._problem(at, f"{_quoted(item)} is named twice")
            else:
                names[at] = item
                seen.add(item)
        return names

    def _choice(self, path: str, value: object, default: Choice) -> Choice:
        kind = type(default)
        if isinstance(value, str) and value in tuple(kind):
            return kind(value)
        shown = _quoted(value) if isinstance(value, str) else _kind(value)
        self._problem(path, f"{shown}; one of: {', '.join(kind)}")
        return default

    def _delay(self, path: str, value: object, default: int) -> int:
        # bool is an int to Python; NaN compares as neither.
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_FAIL_DELAY:
            return round(value * 1000)
        self._problem(path, f"must be a number of seconds from 0 to {MAX_FAIL_DELAY}")
        return default

    def _issuer(self, path: str, value: object, default: str | None) -> str | None:
        # ":" parts issuer and account in the label of an otpauth URI.
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ISSUER or not value.isprintable() or ":" in value:
            self._problem(path, f"must be a text of 1 to {MAX_ISSUER} printable characters without a colon")
            return default
        return value

    def _host(self, path: str, value: object, default: str | None) -> str | None:
        if isinstance(value, str) and HOST.fullmatch(value):
            return value
        self._problem(path, "must be a domain name in lower case, for example example.org")
        return default

    def _table(self, path: str, value: object) -> dict[str, object]:
        if isinstance(value, dict):
            return value
        self._problem(path, f"{_kind(value)}; must be a table")
        return {}

    def _keys(self, path: str, table: dict[str, object], known: tuple[str, ...]) -> None:
        for key in table:
            if key in known:
                continue
            import difflib  # a good file does not pay for it

            near = difflib.get_close_matches(key[:MAX_NAME], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}"
            self._problem(_join(path, key), f"unknown key; {hint}")

    def _problem(self, path: str, text: str) -> None:
        self.problems.append(f"{path}: {text}")


def _given(table: dict[str, object], key: str, read: Callable[[str, object, T], T], default: T, path: str = "") -> T:
    return read(_join(path, key), table[key], default) if key in table else default


def _toml(text: str) -> dict[str, object]:
    # tomllib takes quadratic time for the parts of a dotted key, and a key cannot be longer than its line.
    long = [number for number, line in enumerate(text.split(NEWLINE), 1) if len(line) > MAX_LINE]
    if long:
        raise ConfigError([f"line {number} is longer than {MAX_LINE} characters" for number in long])
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(["nested too deeply"]) from None
    except ValueError as error:
        end = f"at line {text.count(NEWLINE) + 1}, column {len(text) - text.rfind(NEWLINE)}"
        message = _printable(str(error).replace("at end of document", end))
        # It may quote a key of any length, and ends with the place.
        raise ConfigError([message if len(message) <= 200 else f"{message[:140]}...{message[-57:]}"]) from None


def _text(path: str, owner: int) -> str:
    """The text of a file that nobody but `owner` can have written."""
    folder = os.path.dirname(path) or "."
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    with _opened(folder, flags | os.O_PATH | os.O_DIRECTORY) as folder_fd:
        _trusted(folder, os.fstat(folder_fd), owner)
        # O_NONBLOCK: a FIFO that lies in the way must not wait for its other end.
        with _opened(path, flags | os.O_RDONLY | os.O_NONBLOCK, folder_fd) as fd:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError([f"{path}: not a regular file"])
            _trusted(path, found, owner)
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise ConfigError([f"{path}: larger than {MAX_SIZE} bytes"])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}: not UTF-8 at line {line}"]) from None


@contextmanager
def _opened(path: str, flags: int, folder_fd: int | None = None) -> Iterator[int]:
    """A file descriptor; what the system refuses is a ConfigError with the whole path."""
    try:
        fd = os.open(path if folder_fd is None else os.path.basename(path), flags, dir_fd=folder_fd)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None


def _trusted(path: str, found: os.stat_result, owner: int) -> None:
    if found.st_uid != owner:
        raise ConfigError([f"{path}: owned by uid {found.st_uid}; must be owned by uid {owner}"])
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError([f"{path}: mode {mode:04o}; must not be writable by group or others"])


def _join(path: str, key: str) -> str:
    shown = key if BARE_KEY.fullmatch(key) else _quoted(key)
    return f"{path}.{shown}" if path else shown


def _quoted(text: str) -> str:
    """Foreign text for a problem: one line of ASCII, bounded."""
    return '"' + _printable(text[:MAX_ISSUER]).replace('"', '\\"') + ("..." if len(text) > MAX_ISSUER else "") + '"'


def _printable(text: str) -> str:
    return ascii(text)[1:-1]


def _kind(value: object) -> str:
    return {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a table"}.get(
        type(value), "a date or time"
    )
