"""Is a PAM stack that names pam_mfa.so safe, and does it let the right people in? Pure.

Other modules are taken at their worst where safety is judged (they may answer anything), and as they usually answer
(yes, no, or nothing) where the question is whether somebody can get in at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from .. import pamfiles
from ..pamfiles import IGNORE, SUCCESS, Kind, Line, Stacks
from ..pamstack import End, run
from .finding import Finding, bad, ok, warn

MODULE = "pam_mfa.so"
CONTROL = "[success=ok ignore=ignore default=die]"
LINE = f"auth {CONTROL} {MODULE}"
PERMIT = "auth required pam_permit.so"

# Everything that pam_mfa.so may answer besides success and ignore, and what libpam answers for it where it is absent.
REFUSALS = (
    pamfiles.AUTH_ERR,
    pamfiles.MAXTRIES,
    pamfiles.AUTHINFO_UNAVAIL,
    pamfiles.ABORT,
    pamfiles.CONV_ERR,
    pamfiles.MODULE_UNKNOWN,
)
ANYTHING = tuple(code for code in range(len(pamfiles.RETURNS)) if pamfiles.RETURNS[code] != "incomplete")
CONSTANT = {"pam_permit.so": (SUCCESS,), "pam_deny.so": (pamfiles.AUTH_ERR,)}

# Measured on Linux-PAM 1.5.2: these leave the verdict of an auth stack to others.
SILENT = frozenset(
    f"pam_{name}.so" for name in "env faildelay group issue keyinit mail nologin sepermit warn wheel".split()
)
# Whoever gets past our line by one of these has shown a password at most.
PASSWORD = frozenset(
    f"pam_{name}.so" for name in "unix sss krb5 ldap winbind userdb pwdfile tcb systemd_home ftp permit".split()
)
ROOT_ALREADY = "pam_rootok.so"
# Whoever satisfies one of these has proven something.
FIRST = (PASSWORD - {"pam_ftp.so", "pam_permit.so"}) | frozenset(
    f"pam_{name}.so" for name in "authd fprintd himmelblau p11 pkcs11 radius tacplus u2f".split()
)
REFUSES = tuple(code for code in ANYTHING if pamfiles.RETURNS[code] not in ("success", "new_authtok_reqd", "ignore"))
NEVER_IGNORES = "pam_unix.so"  # the others may leave somebody whom they do not know to the next one
TIMEOUTS = frozenset(map(str, range(5, 601)))  # seconds
USUAL_TIMEOUTS = {"login": 45, "sshd": 90}  # seconds; as in pam_mfa.c
USUAL_TIMEOUT = 180


def judge(service: str, stacks: Stacks) -> list[Finding]:
    """Everything to be said about one service; nothing where none of its lines names the module."""
    subject = f"pam {service}"
    lines = stacks["auth"]
    found = list(_elsewhere(subject, stacks))
    if any(map(ours, lines)):
        problems = [*_refusals(subject, lines), *_bypasses(subject, lines), *_twice(subject, lines)]
        problems += list(_broken(subject, lines)) or _entrance(subject, lines)
        found += problems or [ok(subject, "a refusal refuses, and who is exempt gets in")]
        found += chain.from_iterable(_arguments(subject, line) for line in lines if ours(line))
    return found


def names_us(stacks: Stacks) -> bool:
    """Whether any line of the service names the module."""
    return any(map(ours, chain.from_iterable(stacks.values())))


def ours(line: Line) -> bool:
    """Whether a line runs the module."""
    return line.name == MODULE and line.kind is Kind.MODULE


def unproven(lines: tuple[Line, ...]) -> str:
    """Why our line can be reached by somebody who has proven nothing; empty where that cannot be."""

    def answers(line: Line) -> Iterable[int]:
        if line.name in FIRST:
            return REFUSES if line.name == NEVER_IGNORES else (*REFUSES, IGNORE)
        return CONSTANT.get(line.name, ANYTHING)

    if not any(end.ran for end in run(lines, answers, ours)):
        return ""
    at = next(index for index, line in enumerate(lines) if ours(line))
    checks = [line for line in lines[:at] if line.name in FIRST]
    if not checks:
        return f"{lines[at].place}: nothing in front of it checks a password"
    return f"{lines[at].place}: it is reached also without a right password ({checks[-1].place})"


def lets_anybody_pass(lines: tuple[Line, ...]) -> bool:
    """Whether somebody whom our line lets pass unasked gets in with nothing proven at all."""

    def answers(line: Line) -> Iterable[int]:
        if ours(line) or line.name in SILENT:
            return (IGNORE,)
        return REFUSES if line.name in FIRST else CONSTANT.get(line.name, (SUCCESS, pamfiles.AUTH_ERR))

    return any(end.ran and end.code == SUCCESS for end in run(lines, answers, ours))


def seconds(service: str, lines: tuple[Line, ...]) -> int:
    """How long our line may take."""
    given = (argument.partition("=") for line in lines if ours(line) for argument in line.arguments)
    found = [int(value) for name, _, value in given if name == "timeout" and value in TIMEOUTS]
    return found[-1] if found else USUAL_TIMEOUTS.get(service, USUAL_TIMEOUT)


def _elsewhere(subject: str, stacks: Stacks) -> Iterator[Finding]:
    for type_, lines in stacks.items():
        for line in filter(ours, lines):
            if type_ != "auth":
                yield warn(
                    subject, f"{line.place}: {MODULE} does nothing in the {type_} stack", f"remove line {line.place}"
                )


def _worst(refusal: int, lines: tuple[Line, ...]) -> set[End]:
    return run(lines, lambda line: (refusal,) if ours(line) else CONSTANT.get(line.name, ANYTHING), ours)


def _usual(answer: int, lines: tuple[Line, ...]) -> set[End]:
    def answers(line: Line) -> Iterable[int]:
        if ours(line):
            return (answer,)
        return CONSTANT.get(line.name, (IGNORE,) if line.name in SILENT else (SUCCESS, pamfiles.AUTH_ERR))

    return run(lines, answers, ours)


def _refusals(subject: str, lines: tuple[Line, ...]) -> Iterator[Finding]:
    through = [code for code in REFUSALS if any(end.ran and end.code == SUCCESS for end in _worst(code, lines))]
    if not through:
        return
    line = next(filter(ours, lines))
    names = ", ".join(pamfiles.RETURNS[code] for code in through)
    yield bad(
        subject,
        f"{line.place}: a refusal can still let the user in: {line.control!r} does not stop at {names}",
        f"make the line: {LINE}",
    )


def _bypasses(subject: str, lines: tuple[Line, ...]) -> Iterator[Finding]:
    past = {end.culprit for end in _worst(SUCCESS, lines) if end.code == SUCCESS and not end.ran}
    for culprit in sorted(index for index in past if index is not None):
        line = lines[culprit]
        where = f"{line.place}: {line.name} ({line.control}) can let users in past {MODULE}"
        if line.name in PASSWORD:
            yield bad(subject, where, f"put the {MODULE} line in front of {line.place}, or where that line jumps to")
        elif line.name != ROOT_ALREADY:
            yield warn(subject, where, f"keep it only if whoever satisfies {line.name} need not be asked")


def _twice(subject: str, lines: tuple[Line, ...]) -> Iterator[Finding]:
    if any(end.ran > 1 and end.code == SUCCESS for end in _usual(SUCCESS, lines)):
        first, *others = [line.place for line in lines if ours(line)]
        yield warn(subject, f"users are asked twice: at {first} and {', '.join(others)}", f"remove line {others[-1]}")


def _broken(subject: str, lines: tuple[Line, ...]) -> Iterator[Finding]:
    for line in lines:
        if line.kind is Kind.BROKEN:
            yield bad(subject, f"{line.place}: libpam cannot read this line, and fails it", "correct or remove it")


def _entrance(subject: str, lines: tuple[Line, ...]) -> Iterator[Finding]:
    place = next(filter(ours, lines)).place
    if not _lets_in(SUCCESS, lines):
        yield bad(subject, f"{place}: the right code lets nobody in", f"make the line: {LINE}")
    elif not _lets_in(IGNORE, lines):
        yield warn(
            subject, f"{place}: users who are exempt, or allowed unenrolled, are locked out", f"put behind it: {PERMIT}"
        )


def _lets_in(answer: int, lines: tuple[Line, ...]) -> bool:
    return any(end.ran and end.code == SUCCESS for end in _usual(answer, lines))


def _arguments(subject: str, line: Line) -> Iterator[Finding]:
    for argument in line.arguments:
        if argument == "alwaysok":
            yield bad(subject, f"{line.place}: alwaysok is refused by {MODULE}", "remove the argument")
        elif not _known(argument):
            yield warn(subject, f"{line.place}: {MODULE} ignores the argument {argument!r}", "remove the argument")


def _known(argument: str) -> bool:
    name, _, value = argument.partition("=")
    if name == "timeout":
        return value in TIMEOUTS
    return argument == "debug" or name in ("socket", "engine")
