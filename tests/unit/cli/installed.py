"""A system with everything in order, for `pam-mfa doctor` to look at."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manage_double import Peer

from pam_mfa import __version__
from pam_mfa.cli.checks.finding import Finding, Severity
from pam_mfa.cli.checks.stacks import LINE

from .test_client import ENGINE

SERVICE_UID = 990
PYTHON = ".".join(map(str, sys.version_info[:3]))
HEALTH = {
    "kind": "service", "version": __version__, "role": "service", "uptime": 0, "sessions": 1, "config": "file",
    "problems": [], "store": "ok", "audit_lost": 0, "python": PYTHON, "rp_id": "example.org",
}  # fmt: skip
ENGINE_BODY = f"""
session = socket.socket(fileno=3)
session.recv(5000)
session.send(wire.encode(Type.PART, json.dumps({HEALTH!r}).encode()))
session.send(wire.encode(Type.DONE, b'{{"ok": true}}'))
"""
FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\npam-mfa:x:990:990::/nonexistent:/usr/sbin/nologin\n"
    "pam-mfa-device:x:989:989::/nonexistent:/usr/sbin/nologin\n"
    "pam-mfa-verify:x:988:988::/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\npam-mfa:x:990:\npam-mfa-device:x:989:\n",
    "usr/lib/udev/rules.d/71-pam-mfa-device.rules": 'ENV{ID_FIDO_TOKEN}=="1", GROUP="pam-mfa-device"\n',
    "etc/pam-mfa/config.toml": "",
    "etc/pam.d/pam-mfa": "@include common-auth\n",
    "etc/pam.d/common-auth": "auth requisite pam_unix.so\n",
    "etc/pam.d/sudo": f"@include common-auth\n{LINE}\n",
    "usr/lib/x86_64-linux-gnu/security/pam_mfa.so": "ELF",
    "usr/lib/pam-mfa/pam-mfa-password": "ELF",
    "var/lib/pam-mfa/store.db": "SQLite",
    "run/systemd/timesync/synchronized": "",
    "usr/lib/pam-mfa/site-1/thing/__init__.py": "x = 1\n",
    f"usr/lib/pam-mfa/site-1/pam_mfa/_native/_libpam.cpython-{sys.version_info[0]}{sys.version_info[1]}-x.so": "ELF",
    "usr/lib/pam-mfa/site-1/pam_mfa/_native/pam_mfa.so": "ELF",
}
SOCKETS = (
    ("priv", 0o600, 0), ("user", 0o666, 0), ("password", 0o600, SERVICE_UID), ("device", 0o600, SERVICE_UID),
    ("verify", 0o600, SERVICE_UID),
)  # fmt: skip
MODES = {
    "etc/pam-mfa/seal.key": 0o400,
    "usr/lib/pam-mfa/pam-mfad": 0o755,
    "usr/lib/pam-mfa/pam-mfa-password": 0o755,
    "var/lib/pam-mfa": 0o700,
    "var/lib/pam-mfa/store.db": 0o600,
    "var/lib/pam-mfa-break-glass": 0o770,
}


def record_line(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text)}\n"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.write_text(text)
    path.chmod(0o644)


def lay(root: Path) -> None:
    """An installation."""
    for name, text in FILES.items():
        write(root, name, text)
    write(root, "etc/pam-mfa/config.toml", "[[rule]]\nservices = ['pam-mfa']\nunenrolled = 'allow'\n")
    record = record_line("thing/__init__.py", FILES["usr/lib/pam-mfa/site-1/thing/__init__.py"])
    write(root, "usr/lib/pam-mfa/site-1/thing-1.dist-info/RECORD", record + "../../bin/thing,sha256=xx,1\nRECORD,,\n")
    (root / "usr/lib/pam-mfa/site").symlink_to("site-1")
    write(root, "usr/lib/pam-mfa/pam-mfad", ENGINE.format(python=sys.executable, path=sys.path, body=ENGINE_BODY))
    for name in ("pam-mfa-engine", "pam-mfa-device", "pam-mfa-verify"):
        (root / "usr/lib/pam-mfa" / name).hardlink_to(root / "usr/lib/pam-mfa/pam-mfad")
    (root / "etc/pam-mfa/seal.key").write_bytes(bytes(32))
    (root / "var/lib/pam-mfa-break-glass").mkdir()
    os.chown(root / "var/lib/pam-mfa-break-glass", 0, SERVICE_UID)
    for name, mode in MODES.items():
        (root / name).chmod(mode)
    for name in ("var/lib/pam-mfa", "var/lib/pam-mfa/store.db"):
        os.chown(root / name, SERVICE_UID, SERVICE_UID)


def healthy(peer: Peer, request: dict[str, Any]) -> None:
    """A service without a complaint."""
    parts: dict[str, list[dict[str, Any]]] = {
        "status": [HEALTH],
        "accounts": [{"kind": "account", "uid": 0, "name": "root"}],
        "list": [],
    }
    for part in parts[request["verb"]]:
        peer.part(**part)
    peer.done()


@contextlib.contextmanager
def listening(root: Path) -> Iterator[None]:
    """The other sockets of the service."""
    with contextlib.ExitStack() as stack:
        for name, mode, uid in SOCKETS:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            path = root / f"run/pam-mfa/{name}.sock"
            listener.bind(str(path))
            path.chmod(mode)
            os.chown(path, uid, -1)
            listener.listen()
        yield


def wrong(found: Iterator[Finding]) -> list[tuple[str, str]]:
    """Subject and severity of what is not fine; every one of them says what to do."""
    problems = [finding for finding in found if finding.severity is not Severity.OK]
    assert all(finding.fix for finding in problems)
    return [(finding.subject, finding.severity.value) for finding in problems]
