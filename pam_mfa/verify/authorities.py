"""What administrators trust: certificates and revocation lists below /etc/pam-mfa/ca, PEM or DER.

A file that others than root may change is not read. What cannot be read is left out and named among the problems:
without an anchor there is no path, and without a list nobody knows, so that leaving out makes no certificate good -
but under `revocation = "soft"`, where an administrator has said that nobody need know.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from .crls import MALFORMED, Lists, extension

DIRECTORY = "/etc/pam-mfa/ca"
ANCHORS, INTERMEDIATES, CRLS = "anchors", "intermediates", "crls"
SUFFIXES = (".pem", ".crt", ".cer", ".der", ".crl")  # no .bak, no ~: what was put aside is not trusted
MAX_FILE = 64 * 1024 * 1024  # the longest lists of governments have half of that
OWNER = 0
CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)

Parse = Callable[[bytes], tuple[Any, ...]]


class Untrusted(Exception):
    """A file or folder that is not taken; the text says why."""


@dataclass(frozen=True)
class Authorities:
    """All of it, parsed.

    Args:
        anchors: with the names of their files.
        lists: the contents of `crls`, their signatures checked where the issuer is one of these.
        crls: by the path of their file.
        problems: one line for each file that was left out.
    """

    anchors: Mapping[x509.Certificate, str] = field(default_factory=dict)
    intermediates: tuple[x509.Certificate, ...] = ()
    lists: Lists = field(default_factory=lambda: Lists(()))
    crls: Mapping[str, tuple[x509.CertificateRevocationList, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    """One file as it was read: what is in it, or why that is not taken."""

    stamp: tuple[int, ...]
    found: tuple[Any, ...] = ()
    problem: str = ""


class Directory:
    """The directory, looked at for each request. What did not change is not read again."""

    def __init__(self, path: str | os.PathLike[str] = DIRECTORY) -> None:
        self._path = os.fspath(path)
        self._files: dict[str, _File] = {}
        self._current = Authorities()

    def current(self) -> Authorities:
        """What is there now. What cannot be read is among the problems."""
        parsers = {ANCHORS: _authorities, INTERMEDIATES: _authorities, CRLS: _crls}
        files = {path: file for folder, parse in parsers.items() for path, file in self._folder(folder, parse)}
        if files != self._files:
            self._files = files
            self._current = self._assembled()
        return self._current

    def _folder(self, folder: str, parse: Parse) -> Iterator[tuple[str, _File]]:
        path = os.path.join(self._path, folder)
        try:
            for each in (self._path, path):
                _must_be_trusted(os.stat(each))
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
        except FileNotFoundError:
            return
        except (OSError, Untrusted) as problem:
            yield path, _File((), problem=_text(problem))
            return
        for name in names:
            file = os.path.join(path, name)
            yield file, _read(file, parse, self._files.get(file))

    def _assembled(self) -> Authorities:
        anchors: dict[x509.Certificate, str] = {}
        for path, file in self._within(ANCHORS):
            for certificate in file.found:
                anchors.setdefault(certificate, os.path.basename(path))
        intermediates = tuple(each for _, file in self._within(INTERMEDIATES) for each in file.found)
        crls = {path: file.found for path, file in self._within(CRLS)}
        lists = Lists(each for found in crls.values() for each in found)
        lists.prepare((*anchors, *intermediates))
        problems = tuple(f"{path}: {file.problem}" for path, file in self._files.items() if file.problem)
        return Authorities(anchors, intermediates, lists, crls, problems)

    def _within(self, folder: str) -> list[tuple[str, _File]]:
        start = os.path.join(self._path, folder, "")
        return [(path, file) for path, file in self._files.items() if path.startswith(start)]


def _read(path: str, parse: Parse, before: _File | None) -> _File:
    stamp: tuple[int, ...] = ()
    try:
        # O_NONBLOCK: a FIFO that lies in the way must not wait for its other end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if before and before.stamp == stamp:
                return before
            _must_be_a_file(path, found)
            return _File(stamp, parse(file.read(MAX_FILE)))
    except (OSError, Untrusted, *MALFORMED) as problem:
        return _File(stamp, problem=_text(problem))


def _must_be_a_file(path: str, found: os.stat_result) -> None:
    if not path.endswith(SUFFIXES):
        raise Untrusted(f"its name must end in one of {' '.join(SUFFIXES)}")
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted("not a regular file")
    if found.st_size > MAX_FILE:
        raise Untrusted(f"larger than {MAX_FILE} bytes")
    _must_be_trusted(found)


def _must_be_trusted(found: os.stat_result) -> None:
    if found.st_uid != OWNER:
        raise Untrusted(f"owned by uid {found.st_uid}; must be owned by uid {OWNER}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Untrusted(f"mode {stat.S_IMODE(found.st_mode):04o}; must not be writable by group or others")


def _text(problem: Exception) -> str:
    if isinstance(problem, MALFORMED):
        return f"cannot be read: {ascii(str(problem))[1:100]}"
    return problem.strerror or "" if isinstance(problem, OSError) else str(problem)


def _authorities(data: bytes) -> tuple[x509.Certificate, ...]:
    pem = b"-----BEGIN" in data
    found = x509.load_pem_x509_certificates(data) if pem else [x509.load_der_x509_certificate(data)]
    for certificate in found:
        constraints = extension(certificate, x509.BasicConstraints)
        if not (constraints and constraints.ca):
            raise Untrusted("not the certificate of an authority")
    return tuple(found)


def _crls(data: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    if b"-----BEGIN" not in data:
        found = [x509.load_der_x509_crl(data)]
    else:
        found = [x509.load_pem_x509_crl(block) for block in CRL_BLOCK.findall(data)]
    if not found:
        raise Untrusted("no revocation list in it")
    for each in found:
        list(each.extensions)  # what cannot be read is better known now
    return tuple(found)
