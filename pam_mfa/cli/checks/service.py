"""Do service and engine answer, with a usable store and the settings that the administrator wrote?"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

from ... import __version__
from ...errors import AbortedError, PamMfaError, RefusedError
from .. import client
from ..client import NoService, Record
from ..paths import Paths
from .files import REINSTALL
from .finding import Finding, Severity, bad, ok, warn
from .sockets import RESTART

STORE_FIX = {
    "store_missing": "restore a backup, or make an empty store: pam-mfa-engine --prepare (then nobody is enrolled)",
    "store_corrupt": "restore a backup of the store",
    "store_sealed": "put back the seal.key that the store was made with",
    "store_schema": "install the version of pam-mfa that last used this store, or a newer one",
}
STORE_UNAVAILABLE = "look at space and permissions of /var/lib/pam-mfa, and at the log"
CONFIG_FIX = "correct /etc/pam-mfa/config.toml, then reload pam-mfad"


class _Nobody:
    """Nothing is asked here; an answer would be a guess."""

    def ask(self, text: str) -> str:
        raise AbortedError

    ask_secret = ask

    def tell(self, text: str) -> None:
        pass

    warn = tell


def check(where: Paths) -> Iterator[Finding]:
    """The service and, for root, an engine of our own. That there is no service is for sockets.py to say."""
    try:
        yield from _examine("service", client.open_service(where))
    except NoService:
        pass
    except RefusedError as error:
        yield bad("service", error.message, RESTART)
    if os.geteuid() == 0:
        yield from _examine("engine", client.engine(where))


def _examine(subject: str, connected: AbstractContextManager[socket.socket]) -> Iterator[Finding]:
    records: list[Record] = []
    failure = ""
    try:
        with connected as channel:
            for record in client.request(channel, "status", {}, _Nobody()):
                records.append(record)
    except PamMfaError as error:
        failure = error.message if isinstance(error, RefusedError) else f"no usable answer: {error}"
    found = [finding for record in records if record.get("kind") == "service" for finding in judge(subject, record)]
    if failure and not any(finding.severity is Severity.BAD for finding in found):
        found.append(bad(subject, failure, RESTART if subject == "service" else REINSTALL))
    yield from found or [ok(subject, "answers")]


def judge(subject: str, record: Record) -> Iterator[Finding]:
    """What a `service` record of the status verb tells."""
    yield from _versions(subject, record)
    store = str(record.get("store"))
    reason = store.partition(":")[0]
    if store == "ok":
        yield ok("store", f"usable ({subject})")
    else:
        yield bad("store", f"{store} ({subject})", STORE_FIX.get(reason, STORE_UNAVAILABLE))
    yield from _settings(subject, record)
    lost = record.get("audit_lost", 0)
    if lost:
        yield warn("audit", f"{lost} audit records were lost since {subject} started", "look at journald or syslog")


def _versions(subject: str, record: Record) -> Iterator[Finding]:
    if record.get("version") != __version__:
        yield warn(subject, f"it is version {record.get('version')}, this is {__version__}", RESTART)
    built = str(record.get("python")).split(".")[:2]
    here = [str(part) for part in sys.version_info[:2]]
    if built == here:
        yield ok("python", f"{'.'.join(here)} ({subject})")
    else:
        yield bad("python", f"{subject} runs {'.'.join(built)}, this system {'.'.join(here)}", REINSTALL)


def _settings(subject: str, record: Record) -> Iterator[Finding]:
    source = record.get("config")
    for problem in record.get("problems", ()):
        yield bad("settings", f"{problem} ({subject})", CONFIG_FIX)
    if source == "kept":
        yield bad("settings", f"the last good text is in force, not the file ({subject})", CONFIG_FIX)
    elif source != "file":
        yield bad("settings", f"none are in force ({subject})", CONFIG_FIX)
    elif not record.get("problems"):
        yield ok("settings", f"in force ({subject})")
