"""What a process of pam-mfa stands on: the seal key, the factors, the store, the settings in force."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .. import __version__
from ..errors import ConfigError, PamMfaError, StoreError
from ..factors import methods, registry
from ..factors.base import Factor, Place
from ..store.base import KeepConfig, KeptConfig, Store
from ..store.seal import KEY_BYTES, Sealer
from ..store.sqlite import SqliteStore
from . import settings, system
from .session import Ground

KEY_FD = 4
STORE = "/var/lib/pam-mfa/store.db"


class Base:
    """Key, factors and paths; everything else is made from it.

    Args:
        role: "service" or "engine".
        sealer: made from the seal key.
    """

    def __init__(self, role: str, sealer: Sealer) -> None:
        self.sealer = sealer
        self.factors: dict[str, Factor] = registry(lambda data: sealer.mac("recovery code", data))
        self.chosen = settings.InForce(None, "none")
        self.ground = Ground(role, None, self.factors, system.now, socket.gethostname(), dict)
        self._started = time.monotonic()

    def store(self) -> SqliteStore:
        """A connection for one thread; it opens at its first use."""
        return SqliteStore(STORE, self.sealer)

    def load_settings(self, store: Store) -> str | None:
        """Put the settings into force; returns the alert to raise, None where the file is good."""
        kept = self.chosen.text  # what this process ran so far was good, whether or not the store could be told
        if kept is None:
            with suppress(StoreError):  # a good file needs no kept text
                kept = store.read(KeptConfig())
        self.chosen = settings.choose(kept, methods(self.factors))
        self.ground.settings = self.chosen.settings
        return settings.complaint(self.chosen)

    def keep(self, store: Store) -> tuple[KeepConfig, ...]:
        """The operation that remembers a good file, if there is one that `store` does not hold yet."""
        text = self.chosen.text
        with suppress(StoreError):
            if self.chosen.source == "file" and text is not None and store.read(KeptConfig()) != text:
                return (KeepConfig(text),)
        return ()

    def health(self, store: Store) -> Mapping[str, Any]:
        """What root is told of this process."""
        try:
            store.read(KeptConfig())
            state = "ok"
        except PamMfaError as problem:
            state = f"{problem.reason}: {problem}"[:200]
        settings = self.ground.settings
        return {
            "version": __version__,
            "role": self.ground.role,
            "python": ".".join(map(str, sys.version_info[:3])),
            "uptime": round(time.monotonic() - self._started),
            "config": self.chosen.source,
            "problems": [problem[:200] for problem in self.chosen.problems[:10]],
            "store": state,
            "rp_id": Place(host=self.ground.host, fido2=settings.fido2).rp_id if settings else "",
        }


def remember(base: Base, store: Store) -> None:
    """Remember good settings: what was in force last is what a broken file falls back to, with or without a service."""
    with suppress(StoreError):  # a login without a store ends as it must, and says why
        if keep := base.keep(store):
            store.apply([keep])


def take_key() -> Sealer:
    """Read the seal key from the descriptor that the C part left open, and close it.

    Raises ConfigError where it is not a key.
    """
    try:
        key = os.pread(KEY_FD, KEY_BYTES + 1, 0)
        os.close(KEY_FD)
    except OSError:
        raise ConfigError(["the seal key is not open"]) from None
    if len(key) != KEY_BYTES:
        raise ConfigError(["the seal key is not 32 bytes long"])
    return Sealer(key)
