"""Every PAM file that names pam_mfa.so, judged one service at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from .. import pamfiles, paths
from ..pamfiles import Read, Stacks, Unreadable
from ..paths import Paths
from . import stacks
from .files import REINSTALL, writable
from .finding import Finding, Severity, bad, ok, some, warn

PASSWORD_SERVICE = "pam-mfa"  # noqa: S105 - a file name: the stack that checks the password at the first enrolment
FIRST = '[[rule]] services = ["pam-mfa"], unenrolled = "allow"'
# Debian builds sudo and su so that a login shell has a service file of its own.
TWINS = {"sudo": "sudo-i", "sudo-i": "sudo", "su": "su-l", "su-l": "su"}
SPARE = (
    "~",
    ".bak",
    ".old",
    ".orig",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".ucf-old",
    ".ucf-dist",
    ".rpmsave",
    ".rpmnew",
)


def check(where: Paths) -> Iterator[Finding]:
    """The module's own service file, then every service that names the module."""
    yield from _password_service(where)
    asking: dict[str, bool] = {}
    found: list[Finding] = []
    for service in services(where):
        try:
            read = read_stacks(where, service)
        except Unreadable as error:
            if _mentions(where, service):
                found.append(bad(f"pam {service}", f"libpam refuses the whole service: {error}", "correct the file"))
            continue
        asking[service] = any(map(stacks.ours, read["auth"]))
        found += [*stacks.judge(service, read), *_absent_modules(where, service, read)]
    found += _unproven(where, [service for service, asks in asking.items() if asks])
    yield from _once(found)
    yield from _twins(asking)
    yield from _writers(where, [service for service, asks in asking.items() if asks])
    if not any(asking.values()):
        yield warn("pam", "no PAM file names pam_mfa.so: nobody is asked for a second factor", f"add: {stacks.LINE}")


def _once(found: Iterable[Finding]) -> Iterator[Finding]:
    """What is wrong in a file that many services include is one problem."""
    same: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        if finding.severity is Severity.OK:
            yield finding
        else:
            same.setdefault((finding.found, finding.fix), []).append(finding)
    for first, *others in same.values():
        names = [other.subject.removeprefix("pam ") for other in others if other.subject != first.subject]
        yield replace(first, found=f"{first.found} (also {some(names)})") if names else first


def _unproven(where: Paths, asking: list[str]) -> Iterator[Finding]:
    """What the rules believe to be proven before us, and is not. Bad settings are for service.py to tell."""
    from . import expected

    found = expected.settings(where)
    if found is None:
        return
    for service in asking:
        yield from expected.judge(service, read_stacks(where, service)["auth"], expected.possible(found, service))


def _writers(where: Paths, asking: list[str]) -> Iterator[Finding]:
    """Whoever may write to one of these files can take our line out."""
    read: set[str] = set()
    for service in asking:
        read_stacks(where, service, read)
    loose = [problem for path in sorted(read) if (problem := writable(where.at(path), path))]
    for problem in loose:
        yield bad("pam files", problem, "give it to root, and take the right to write from everybody else")
    if read and not loose:
        yield ok("pam files", f"only root can write to the {len(read)} that lead to {stacks.MODULE}")


def _twins(asking: dict[str, bool]) -> Iterator[Finding]:
    """Whoever is asked at one of two doors to the same room must not find the other one open."""
    for service, asks in asking.items():
        twin = TWINS.get(service, service)
        if asks and not asking.get(twin, True):
            yield bad(
                f"pam {twin}",
                f"{service} asks for a second factor, {twin} does not: that way goes past it",
                f"put the same line into the file {twin}: {stacks.LINE}",
            )


def services(where: Paths) -> list[str]:
    """The names of all PAM services of the system."""
    directories = _directories(where)
    if not directories:
        return pamfiles.services_of_conf(_text(where, paths.PAM_CONF) or "")
    names = {entry.name for path in directories for entry in where.at(path).iterdir() if entry.is_file()}
    return sorted(name for name in names if not name.endswith(SPARE) and not name.startswith("."))


def read_stacks(where: Paths, service: str, read: set[str] | None = None) -> Stacks:
    """The stacks of one service. The files they came from, and their directories, go into `read`. Raises Unreadable."""
    read = set() if read is None else read
    if _directories(where):
        return pamfiles.stacks(service, _reader(where, read))
    read.add(paths.PAM_CONF)
    return pamfiles.stacks_of_conf(service, _text(where, paths.PAM_CONF) or "", _reader(where, read))


def _directories(where: Paths) -> list[str]:
    return [path for path in paths.PAM_DIRECTORIES if where.at(path).is_dir()]


def _reader(where: Paths, found: set[str]) -> Read:
    def read(name: str) -> str | None:
        candidates = [name] if name.startswith("/") else [f"{path}/{name}" for path in paths.PAM_DIRECTORIES]
        for path in candidates:
            text = _text(where, path)
            if text is not None:
                found.update((path, path.rpartition("/")[0]))
                return text
        return None

    return read


def _text(where: Paths, path: str) -> str | None:
    """A file as libpam sees it: bytes. None where there is no file that we can read."""
    file = where.at(path)
    try:
        return file.read_bytes().decode("latin-1") if file.is_file() else None
    except OSError:
        return None


def _mentions(where: Paths, service: str) -> bool:
    return stacks.MODULE in (_reader(where, set())(service) or "")


def _password_service(where: Paths) -> Iterator[Finding]:
    try:
        found = read_stacks(where, PASSWORD_SERVICE) if PASSWORD_SERVICE in services(where) else None
    except Unreadable as error:
        yield bad("pam pam-mfa", f"libpam refuses it: {error}", REINSTALL)
        return
    if found is None:
        yield bad("pam pam-mfa", "absent: the first enrolment cannot check a password", REINSTALL)
    elif stacks.names_us(found) and not _first_let_in(where):
        yield bad(
            "pam pam-mfa", "names pam_mfa.so: nobody can enrol for the first time", f"add to {paths.SETTINGS}: {FIRST}"
        )
    else:
        yield ok("pam pam-mfa", "checks the password at the first enrolment")


def _first_let_in(where: Paths) -> bool:
    """Whether the settings let somebody without a credential pass our own service; without settings nobody enrols."""
    from ...policy import Facts, choose
    from ...rules import Rule, Unenrolled
    from . import expected

    settings = expected.settings(where)
    if settings is None:
        return False
    rule = choose(settings.policy, settings.rules, Facts(PASSWORD_SERVICE))
    return isinstance(rule, Rule) and (rule.exempt or rule.unenrolled is Unenrolled.ALLOW)


def _absent_modules(where: Paths, service: str, found: Stacks) -> Iterator[Finding]:
    for line in filter(stacks.ours, found["auth"]):
        if line.module.startswith("/") and not where.at(line.module).is_file():
            yield bad(
                f"pam {service}", f"{line.place}: there is no {line.module}", f"write {stacks.MODULE} without a path"
            )
