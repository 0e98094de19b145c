"""Do service and engine answer, with a usable store and the settings that the administrator wrote?"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

from ... import __version__
from ...errors import AbortedError, PamMfaError, RefusedError
from .. import client, paths
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
ROUNDING = 1  # seconds, of `uptime`
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
        yield from _examine("service", client.open_service(where), where)
    except NoService:
        pass
    except RefusedError as error:
        yield bad("service", error.message, RESTART)
    if os.geteuid() == 0:
        yield from _examine("engine", client.engine(where), where)


def _examine(subject: str, connected: AbstractContextManager[socket.socket], where: Paths) -> Iterator[Finding]:
    records: list[Record] = []
    failure = ""
    try:
        with connected as channel:
            for record in client.request(channel, "status", {}, _Nobody()):
                records.append(record)
    except PamMfaError as error:
        failure = error.message if isinstance(error, RefusedError) else f"no usable answer: {error}"
    health = [record for record in records if record.get("kind") == "service"]
    found = [finding for record in health for finding in (*judge(subject, record), *_outlived(where, record))]
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


def _outlived(where: Paths, record: Record) -> Iterator[Finding]:
    """A process that is older than what is installed. The link to the packages is made anew by every installation."""
    with contextlib.suppress(OSError):
        installed = where.at(paths.SITE).lstat().st_ctime
        if time.time() - record.get("uptime", 0) + ROUNDING < installed:
            yield warn("service", "it was started before the last installation, and still is what it was", RESTART)


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
