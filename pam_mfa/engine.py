"""Where the executable's Python begins: `run` is called by its C part with a role.

    service   pam-mfad: listening sockets, until it is told to stop
    engine    pam-mfa-engine: one login on descriptor 3
    manage    pam-mfa-engine --manage: one request of root's CLI on descriptor 3
    prepare   pam-mfa-engine --prepare: make or migrate the store; a step of an installation

The exit status means nothing to anybody but an administrator: only a RESULT frame is a verdict.
Imports stay inside the roles: each start pays for what it uses.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from .service.broker import Broker


def run(role: str, sockets: Mapping[str, int]) -> int:
    """Serve in one role; returns the exit status.

    Args:
        role: see above.
        sockets: descriptors by name: the service's listening sockets, the engine's ways to its device broker and its
            path checker.
    """
    broker = Broker(sockets["devices"]) if "devices" in sockets else None
    if broker and role == "engine":
        broker.begin()  # before the rest is imported: two Pythons start at once
    from .audit import system_log
    from .errors import PamMfaError

    try:
        if role == "service":
            # The service speaks no TLS: asyncio does without (it asks), and the process is 6 MiB smaller.
            sys.modules["ssl"] = None  # type: ignore[assignment]
            from .service.main import serve

            return serve(sockets)
        if role == "prepare":
            return prepare()
        from .service.single import one_session

        return one_session(role, sockets, broker)
    except PamMfaError as problem:
        system_log().alert(f"pam-mfa {role}: {problem.reason}: {problem}")
        return 1


def prepare() -> int:
    """Make the store if there is none, bring it to this program's schema, keep the settings if they are good."""
    import os

    from .service.ground import STORE, Base, remember, take_key
    from .store.sqlite_setup import create, migrate

    base = Base("engine", take_key())
    if os.path.exists(STORE):
        migrate(STORE, base.sealer)
    else:
        create(STORE, base.sealer)
    store = base.store()
    store.prepare(base.factors)
    base.load_settings(store)
    remember(base, store)
    return 0
