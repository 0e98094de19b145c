"""Does sshd ask PAM at all, and can it show our prompts? Judged from `sshd -T`, which prints the settings in force."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..pamfiles import Line, Unreadable
from ..paths import Paths
from . import sk_keys, sshd_match, stacks
from .finding import Finding, bad, ok, warn
from .pam import read_stacks, services

PROGRAM = "/usr/sbin/sshd"
SERVICE = "sshd"
SECONDS = 10
LOGIN_SECONDS = 90  # what a login through sshd may take us
METHODS = "AuthenticationMethods publickey,keyboard-interactive"
CONFIG = "in /etc/ssh/sshd_config, then reload sshd"
MOST_BLOCKS = 50  # that are looked at
WAITING = 10  # logins that may wait for their second factor at the same time


@dataclass(frozen=True, slots=True)
class Wanted:
    """What pam-mfa's own side asks of sshd.

    Args:
        seconds: a login may take.
        public_key: in words, the rules that refuse a login that showed no public key; empty where none does.
        passing: in words, the rules that let some people pass where PAM asks for nothing else.
        credit: in words, the rules that take a security key which sshd has seen for the second factor.
        verified: those of them for which it has to verify its user.
        touch_believed: the settings say that sshd demands a touch.
    """

    seconds: int = LOGIN_SECONDS
    public_key: str = ""
    passing: str = ""
    credit: str = ""
    verified: str = ""
    touch_believed: bool = False


ORDINARY = Wanted()


def check(where: Paths) -> Iterator[Finding]:
    """Only where sshd's PAM file names the module and sshd is installed here."""
    if str(where.root) != "/" or os.geteuid() != 0 or not os.access(PROGRAM, os.X_OK):
        return
    with contextlib.suppress(Unreadable):
        lines = read_stacks(where, SERVICE)["auth"] if SERVICE in services(where) else ()
        if any(map(stacks.ours, lines)):
            yield from _examine(where, _wanted(where, lines))


def _wanted(where: Paths, lines: tuple[Line, ...]) -> Wanted:
    from . import expected

    found = expected.settings(where)
    rules = expected.possible(found, SERVICE) if found else []
    return Wanted(
        stacks.seconds(SERVICE, lines),
        expected.named(expected.wanting_a_key(rules)),
        expected.named(expected.letting_pass(rules, lines)),
        expected.named(sk_keys.crediting(rules)),
        expected.named(sk_keys.verifying(rules)),
        found is not None and found.sshd_touch_required,
    )


def _examine(where: Paths, wanted: Wanted) -> Iterator[Finding]:
    try:
        found = list(judge(printed("-C", sshd_match.written()), wanted))
        found += _matched(where, wanted, {each.found for each in found})
    except (OSError, subprocess.SubprocessError) as error:
        yield warn("sshd", f"sshd -T does not print its settings: {_said(error)}", _fix(_said(error)))
        return
    yield from found or [ok("sshd", "asks PAM in every way to log in, as far as its Match blocks can be tried")]


def _matched(where: Paths, wanted: Wanted, known: set[str]) -> Iterator[Finding]:
    """What holds for some connections only."""
    for block in sshd_match.blocks(where)[:MOST_BLOCKS]:
        connection = sshd_match.connection(block)
        for finding in judge(printed("-C", connection), wanted) if connection else ():
            if finding.found not in known:
                yield replace(finding, found=f"{finding.found} ({block})")


def printed(*arguments: str, before: Sequence[str] = ()) -> str:
    """What `sshd -T` prints.

    Args:
        arguments: further ones.
        before: what runs it.

    Raises:
        OSError, SubprocessError: it does not run, or not to its end.
    """
    command = [*before, PROGRAM, "-T", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, env={"LC_ALL": "C"}, check=True)
    return done.stdout.decode(errors="replace")


def _said(error: OSError | subprocess.SubprocessError) -> str:
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    return said.decode(errors="replace").strip() if said else str(error)


def _fix(said: str) -> str:
    if "separation directory" in said:  # sshd's unit makes it
        return "start sshd once, then run doctor again"
    return "correct what it names, then run doctor again"


def judge(text: str, wanted: Wanted = ORDINARY) -> Iterator[Finding]:
    """What is wrong with the settings that `sshd -T` prints."""
    settings = dict(line.lower().partition(" ")[::2] for line in text.splitlines())
    yield from _reach(settings)
    yield from _limits(settings, wanted.seconds)
    yield from _ways_round(settings)
    if wanted.public_key:
        yield from _key_first(settings, wanted.public_key)
    if wanted.passing:
        yield from _nothing_else(settings, wanted.passing)
    if wanted.credit:
        options = frozenset(settings.get("pubkeyauthoptions", "").split())
        yield from sk_keys.judge(options, wanted.credit, wanted.verified, wanted.touch_believed)


def _reach(settings: dict[str, str]) -> Iterator[Finding]:
    if settings.get("usepam") != "yes":
        yield bad("sshd", "UsePAM is off: PAM is never asked", f"set UsePAM yes {CONFIG}")
    service = settings.get("pamservicename", SERVICE)  # since OpenSSH 10.0
    if service != SERVICE:
        yield bad("sshd", f"it asks the PAM service {service}, not {SERVICE}", f"take PAMServiceName out {CONFIG}")
    if settings.get("kbdinteractiveauthentication", settings.get("challengeresponseauthentication")) != "yes":
        yield bad(
            "sshd",
            "without keyboard-interactive no prompt can be shown",
            f"set KbdInteractiveAuthentication yes {CONFIG}",
        )


def _limits(settings: dict[str, str], seconds: int) -> Iterator[Finding]:
    """What ends logins that take their time, or turns away those who come meanwhile or after a wrong code."""
    grace = settings.get("logingracetime", "")
    if grace.isdecimal() and 0 < int(grace) < seconds:
        yield warn(
            "sshd",
            f"LoginGraceTime {grace} ends logins that take their time",
            f"set LoginGraceTime {seconds + 30} {CONFIG}",
        )
    begin = settings.get("maxstartups", "").partition(":")[0]
    if begin.isdecimal() and int(begin) < WAITING:
        yield warn(
            "sshd",
            f"MaxStartups turns connections away as soon as {begin} users wait for their second factor",
            f"set MaxStartups 10:30:100 {CONFIG}",
        )
    penalties = _penalties(settings.get("persourcepenalties", ""))
    for name, what in (("authfail", "one wrong code"), ("grace-exceeded", "one login that waited too long")):
        if penalties.get(name, 0) >= penalties.get("min", 15) > 0:
            yield warn(
                "sshd",
                f"PerSourcePenalties {name} shuts out a client's whole address for {what}",
                f"set PerSourcePenalties authfail:5 grace-exceeded:10 min:15 {CONFIG}",
            )


def _penalties(text: str) -> dict[str, float]:
    """Seconds by kind; OpenSSH 9.8 and later."""
    found = {}
    for name, _, value in (word.partition(":") for word in text.split()):
        with contextlib.suppress(ValueError):
            found[name] = float(value)
    return found


def _chains(settings: dict[str, str]) -> list[list[str]]:
    """The ways to log in, each a list of methods; empty where any one method will do."""
    chains = settings.get("authenticationmethods", "any").split()
    return [] if chains == ["any"] else [[each.partition(":")[0] for each in chain.split(",")] for chain in chains]


def _ways_round(settings: dict[str, str]) -> Iterator[Finding]:
    """Ways to log in that never reach the auth stack (F23), or that answer our prompt with the password."""
    chains = _chains(settings)
    enabled = [
        name
        for name in ("publickey", "gssapi", "hostbased")
        if settings.get({"publickey": "pubkey"}.get(name, name) + "authentication") == "yes"
    ]
    past = [",".join(chain) for chain in chains if "keyboard-interactive" not in chain] if chains else enabled
    for way in past:
        yield warn("sshd", f"a login by {way} is not asked for a second factor", f"set {METHODS} {CONFIG}")
    password = not chains or any("password" in chain for chain in chains)
    if settings.get("passwordauthentication") == "yes" and password:
        yield warn(
            "sshd",
            "clients that send a plain password answer our prompt with it, and fail",
            f"set PasswordAuthentication no {CONFIG}",
        )


def _key_first(settings: dict[str, str], rules: str) -> Iterator[Finding]:
    """Rules that want a public key refuse whoever was asked by PAM before showing one."""
    for chain in _chains(settings) or [["keyboard-interactive"]]:
        if "keyboard-interactive" in chain and "publickey" not in chain[: chain.index("keyboard-interactive")]:
            yield warn(
                "sshd",
                f"a login by {','.join(chain)} is always refused: {rules} wants a public key first",
                f"set {METHODS} {CONFIG}",
            )


def _nothing_else(settings: dict[str, str], rules: str) -> Iterator[Finding]:
    """Ways to log in that ask PAM alone, where PAM asks for nothing of those whom a rule lets pass."""
    for chain in _chains(settings) or [["keyboard-interactive"]]:
        if {"keyboard-interactive", "password"}.issuperset(chain):
            yield bad(
                "sshd",
                f"by {','.join(chain)} whom {rules} lets pass gets in with nothing proven",
                f"set {METHODS} {CONFIG}",
            )
