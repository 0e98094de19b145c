"""Does sshd ask PAM at all, and can it show our prompts? Judged from `sshd -T`, which prints the settings in force."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from ..pamfiles import Unreadable
from ..paths import Paths
from . import stacks
from .finding import Finding, bad, ok, warn
from .pam import read_stacks, services

PROGRAM = "/usr/sbin/sshd"
SERVICE = "sshd"
SECONDS = 10
LOGIN_SECONDS = 90  # what a login through sshd may take us
METHODS = "AuthenticationMethods publickey,keyboard-interactive"
CONFIG = "in /etc/ssh/sshd_config, then reload sshd"


def check(where: Paths) -> Iterator[Finding]:
    """Only where sshd's PAM file names the module and sshd is installed here."""
    if str(where.root) != "/" or os.geteuid() != 0 or not os.access(PROGRAM, os.X_OK):
        return
    with contextlib.suppress(Unreadable):
        if SERVICE in services(where) and stacks.names_us(read_stacks(where, SERVICE)):
            yield from _examine()


def _examine() -> Iterator[Finding]:
    try:
        done = subprocess.run([PROGRAM, "-T"], capture_output=True, timeout=SECONDS, env={"LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError) as error:
        yield warn("sshd", f"sshd -T does not run: {error}", "run it by hand and correct what it names")
        return
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        yield warn("sshd", f"sshd -T does not print its settings: {said}", "correct that, then run doctor again")
    else:
        yield from judge(done.stdout.decode(errors="replace"))


def judge(text: str) -> Iterator[Finding]:
    """What the output of `sshd -T` means for us. Match blocks are not in it."""
    settings = dict(line.lower().partition(" ")[::2] for line in text.splitlines())
    found = [*_reach(settings), *_ways_round(settings)]
    yield from found or [ok("sshd", "asks PAM in every way to log in (Match blocks are not looked at)")]


def _reach(settings: dict[str, str]) -> Iterator[Finding]:
    if settings.get("usepam") != "yes":
        yield bad("sshd", "UsePAM is off: PAM is never asked", f"set UsePAM yes {CONFIG}")
    if settings.get("kbdinteractiveauthentication", settings.get("challengeresponseauthentication")) != "yes":
        yield bad(
            "sshd",
            "without keyboard-interactive no prompt can be shown",
            f"set KbdInteractiveAuthentication yes {CONFIG}",
        )
    grace = settings.get("logingracetime", "")
    if grace.isdecimal() and 0 < int(grace) < LOGIN_SECONDS:
        yield warn(
            "sshd", f"LoginGraceTime {grace} ends logins that take their time", f"set LoginGraceTime 120 {CONFIG}"
        )


def _ways_round(settings: dict[str, str]) -> Iterator[Finding]:
    """Ways to log in that never reach the auth stack (F23), or that answer our prompt with the password."""
    chains = settings.get("authenticationmethods", "any").split()
    if chains == ["any"]:
        for name in ("publickey", "gssapi", "hostbased"):
            if settings.get({"publickey": "pubkey"}.get(name, name) + "authentication") == "yes":
                yield warn("sshd", f"a {name} login is not asked for a second factor", f"set {METHODS} {CONFIG}")
    else:
        for chain in chains:
            if not any(method.partition(":")[0] == "keyboard-interactive" for method in chain.split(",")):
                yield warn("sshd", f"a login by {chain} is not asked for a second factor", f"set {METHODS} {CONFIG}")
    if settings.get("passwordauthentication") == "yes" and _password_alone(chains):
        yield warn(
            "sshd",
            "clients that send a plain password answer our prompt with it, and fail",
            f"set PasswordAuthentication no {CONFIG}",
        )


def _password_alone(chains: list[str]) -> bool:
    return chains == ["any"] or any("password" in chain.split(",") for chain in chains)
