"""Where our line goes in a PAM file: behind the one line that asks for the first factor, if it does its work there.

The place is not guessed: the file with the line in it is judged as `pam-mfa doctor` does, and what would be found fault
with is not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import RefusedError
from .. import pamfiles, paths, wholefile
from ..checks import pam, stacks
from ..checks.finding import Finding, Severity
from ..pamfiles import Stacks, Unreadable
from ..paths import Paths
from ..wholefile import Kind, Whole

NOT_OURS = ("pam-mfa", "other")
NEW = (f"{stacks.LINE}\n", f"{stacks.LINE}\n{stacks.PERMIT}\n")
ASKS_FIRST = stacks.PASSWORD - {"pam_permit.so", "pam_ftp.so"}
LATIN = "latin-1"  # as libpam sees it: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be written, and what doctor would say of it besides."""

    files: Mapping[Path, Whole]
    warnings: Sequence[Finding]


def plan(where: Paths, service: str) -> Plan:
    """The files with our line in them: the service's own, and that of its twin, which sudo -i takes.

    Raises:
        RefusedError: with why the place is not known, and what to do.
    """
    found: dict[Path, Whole] = {}
    warnings: list[Finding] = []
    for name in _doors(where, service):
        path = where.at(f"{paths.PAM_DIRECTORIES[0]}/{name}")
        whole = _own_file(name, path)
        text, said = _with_line(_System(where, name), whole.content.decode(LATIN))
        found[path] = replace(whole, content=text.encode(LATIN))
        warnings += said
    return Plan(found, warnings)


def _doors(where: Paths, service: str) -> Iterator[str]:
    """The service and its twin; where one includes the other, the line goes into the included one alone."""
    if service in NOT_OURS or "/" in service:
        raise RefusedError("invalid", f"nobody is to be asked at {service}; name a service as sudo, sshd, su or login")
    twin = pam.TWINS.get(service, "")
    if twin in _words(where, service):
        yield twin
        return
    yield service
    if (words := _words(where, twin)) and service not in words:
        yield twin


def _words(where: Paths, service: str) -> list[str]:
    return (_text(where.at(f"{paths.PAM_DIRECTORIES[0]}/{service}")) or "").split() if service else []


def _text(path: Path) -> str | None:
    return path.read_bytes().decode(LATIN) if path.is_file() else None


def _own_file(service: str, path: Path) -> Whole:
    whole = wholefile.read(path)
    if whole is None:
        raise RefusedError("not_found", f"there is no {path}; see the files in {path.parent}")
    if whole.kind is not Kind.FILE:
        raise _refused(service, f"is no regular file ({whole.kind})")
    return whole


class _System:
    """A service whose file is another text than it is."""

    def __init__(self, where: Paths, service: str) -> None:
        self.service = service
        self._where = where

    def stacks(self, text: str, alone: bool = False) -> Stacks:
        """Its stacks; `alone`: without those of `other` for the types that it lacks. Raises RefusedError."""

        def read(name: str) -> str | None:
            if name == self.service:
                return text
            return None if alone and name == "other" else self._file(name)

        try:
            return pamfiles.stacks(self.service, read)
        except Unreadable as error:
            raise _refused(self.service, f"cannot be read: {error}") from None

    def _file(self, name: str) -> str | None:
        places = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in paths.PAM_DIRECTORIES]
        return next((text for place in places if (text := _text(self._where.at(place))) is not None), None)


def _with_line(system: _System, text: str) -> tuple[str, list[Finding]]:
    if any(map(stacks.ours, system.stacks(text)["auth"])):
        raise _refused(system.service, "asks already")
    behind = _first_factor(system, text)
    lines = text.splitlines(keepends=True)
    before, after = "".join(lines[:behind]), "".join(lines[behind:])
    if not before.endswith("\n"):
        before += "\n"
    tried = [(before + new + after, _faults(system, before + new + after)) for new in NEW]
    best, faults = min(tried, key=lambda each: _weight(each[1]))
    for fault in faults:
        if fault.severity is Severity.BAD:
            raise _refused(system.service, f"has no place for the line behind its line {behind}: {fault.found}")
    return best, faults


def _first_factor(system: _System, text: str) -> int:
    """The number of the last physical line of the one entry that asks for a password."""
    entries = list(pamfiles.logical_lines(text, system.service))
    asking = [start for start, entry in entries if _asks_first(system.stacks(entry, alone=True))]
    if len(asking) != 1:
        count = "no line that asks" if not asking else f"{len(asking)} lines that ask"
        raise _refused(system.service, f"has {count} for a password")
    lines = text.splitlines()
    end = asking[0]
    while lines[end - 1].rstrip().endswith("\\"):
        end += 1
    return end


def _asks_first(found: Stacks) -> bool:
    return any(line.name in ASKS_FIRST for line in found["auth"])


def _faults(system: _System, text: str) -> list[Finding]:
    judged = stacks.judge(system.service, system.stacks(text))
    return [finding for finding in judged if finding.severity is not Severity.OK]


def _weight(faults: Iterable[Finding]) -> tuple[int, int]:
    severities = [fault.severity for fault in faults]
    return severities.count(Severity.BAD), severities.count(Severity.WARN)


def _refused(service: str, why: str) -> RefusedError:
    return RefusedError(
        "refused", f"{service} {why}; put the line where it belongs by: pam-mfa try -- EDITOR /etc/pam.d/{service}"
    )
