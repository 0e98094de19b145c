"""The public key of a security key for ssh, read from a file for the service to judge."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from typing import Any

import click

from ..errors import RefusedError
from .plain import one_line

MAX_FILE = 64 * 1024
STANDARD_INPUT = "-"


def ssh_key(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `enroll ssh-key` as the service takes them. Raises RefusedError.

    Args:
        given: `file`, `verify` and `allow_no_touch`, as far as they were given.
    """
    from ..importers import authorized_keys
    from ..importers.base import Presented

    if "file" not in given:
        raise click.UsageError("say which key: pam-mfa enroll ssh-key ~/.ssh/id_ed25519_sk.pub")
    path = given["file"]
    entries = authorized_keys.parse(_bytes(path), "root", given.get("allow_no_touch") is True)
    if len(entries) != 1:
        raise RefusedError("invalid", f"{one_line(path)} has to hold one key, and holds {len(entries)}")
    key = entries[0].imported
    if not isinstance(key, Presented):
        raise RefusedError("invalid", f"{one_line(path)}: {entries[0].why}")
    sent = {"key": f"{key.kind} {base64.b64encode(key.public_key).decode()}"}
    return sent | ({"verify": True} if key.verified or given.get("verify") else {})


def shown(path: str) -> str:
    """The first key or certificate of a file, as its type, a blank, and base64. Raises RefusedError."""
    words = _bytes(path).decode(errors="replace").split()
    if len(words) < 2:
        raise RefusedError("invalid", f"{one_line(path)} holds no SSH key")
    return " ".join(words[:2])


def _bytes(path: str) -> bytes:
    """Raises RefusedError."""
    try:
        if path == STANDARD_INPUT:
            return sys.stdin.buffer.readline(MAX_FILE)  # answers to questions may stand in the next ones
        with open(path, "rb") as file:
            return file.read(MAX_FILE)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise RefusedError("not_found", f"{one_line(path)}: {reason}") from None
