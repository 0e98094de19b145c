"""Every PAM file that names pam_mfa.so, judged one service at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .. import pamfiles, paths
from ..pamfiles import Read, Stacks, Unreadable
from ..paths import Paths
from . import stacks
from .files import REINSTALL
from .finding import Finding, bad, ok, warn

PASSWORD_SERVICE = "pam-mfa"  # noqa: S105 - a file name: the stack that checks the password at the first enrolment
FIRST = '[service.pam-mfa] with unenrolled = "allow"'
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
    for service in services(where):
        try:
            found = read_stacks(where, service)
        except Unreadable as error:
            if _mentions(where, service):
                yield bad(f"pam {service}", f"libpam refuses the whole service: {error}", "correct the file")
            continue
        asking[service] = any(map(stacks.ours, found["auth"]))
        yield from stacks.judge(service, found)
        yield from _absent_modules(where, service, found)
    yield from _twins(asking)
    if not any(asking.values()):
        yield warn("pam", "no PAM file names pam_mfa.so: nobody is asked for a second factor", f"add: {stacks.LINE}")


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


def read_stacks(where: Paths, service: str) -> Stacks:
    """The stacks of one service. Raises Unreadable."""
    if _directories(where):
        return pamfiles.stacks(service, _reader(where))
    return pamfiles.stacks_of_conf(service, _text(where, paths.PAM_CONF) or "", _reader(where))


def _directories(where: Paths) -> list[str]:
    return [path for path in paths.PAM_DIRECTORIES if where.at(path).is_dir()]


def _reader(where: Paths) -> Read:
    def read(name: str) -> str | None:
        candidates = [name] if name.startswith("/") else [f"{path}/{name}" for path in paths.PAM_DIRECTORIES]
        return next((text for path in candidates if (text := _text(where, path)) is not None), None)

    return read


def _text(where: Paths, path: str) -> str | None:
    """A file as libpam sees it: bytes. None where there is no file that we can read."""
    file = where.at(path)
    try:
        return file.read_bytes().decode("latin-1") if file.is_file() else None
    except OSError:
        return None


def _mentions(where: Paths, service: str) -> bool:
    return stacks.MODULE in (_reader(where)(service) or "")


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
    from ...config import Unenrolled, load
    from ...errors import ConfigError
    from ...factors import registry

    with contextlib.suppress(ConfigError):
        _, settings = load(str(where.at(paths.SETTINGS)), registry(lambda data: data))
        return settings.rule(PASSWORD_SERVICE).unenrolled is Unenrolled.ALLOW
    return False


def _absent_modules(where: Paths, service: str, found: Stacks) -> Iterator[Finding]:
    for line in filter(stacks.ours, found["auth"]):
        if line.module.startswith("/") and not where.at(line.module).is_file():
            yield bad(
                f"pam {service}", f"{line.place}: there is no {line.module}", f"write {stacks.MODULE} without a path"
            )
