"""Every store and every transport there is, to be held to the same promises."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from devices_bench import Bench
from stores import SEALER, ThroughWriter, credential, discard, enrol, make
from vdev import keys
from vdev.authenticator import Authenticator
from vdev.pcscd import Pcscd
from witness import Plug, Plugged

from pam_mfa.store.sqlite import SqliteStore


@pytest.fixture
def store_path(tmp_path: Path) -> str:
    """An empty SQLite store."""
    return make(tmp_path / "state")


@pytest.fixture
def opened() -> Iterator[Callable[..., SqliteStore]]:
    """Opens stores that are closed again at the end of the test."""
    stores: list[SqliteStore] = []

    def open_store(path: str, **more: Any) -> SqliteStore:
        stores.append(SqliteStore(path, SEALER, **more))
        return stores[-1]

    yield open_store
    for store in stores:
        discard(store)


@pytest.fixture
def enrolled(store_path: str) -> str:
    """A store with alice's phone in it, closed, all of it in one file."""
    store = SqliteStore(store_path, SEALER)
    enrol(store, credential("phone"))
    discard(store)
    return store_path


@pytest.fixture(params=["sqlite", "writer"])
def store(request: pytest.FixtureRequest, store_path: str) -> Iterator[SqliteStore | ThroughWriter]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        direct = SqliteStore(store_path, SEALER)
        yield direct
        discard(direct)
    else:
        through = ThroughWriter(store_path)
        yield through
        through.close()


@pytest.fixture
def plug() -> Iterator[Plug]:
    """Plugs virtual keys into sockets, each with a client that has it open."""
    with contextlib.ExitStack() as stack:

        def plug(seed: bytes = b"one", **options: Any) -> Plugged:
            plugged = Plugged(Authenticator(seed, **options))
            stack.callback(plugged.memory.__exit__)
            return plugged

        yield plug


@pytest.fixture(scope="session")
def hidraw_keys() -> Iterator[keys.Keys]:
    """A testbed for all keys of a run."""
    if lack := keys.missing():
        pytest.skip(f"hidraw nodes: {lack}")
    with keys.Keys() as testbed:
        yield testbed


@pytest.fixture(params=["memory", "hidraw", "pcsc"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A broker, without any key, on each transport."""
    place = {"memory": None, "hidraw": "hidraw_keys", "pcsc": "pcscd"}[request.param]
    with Bench(request.param, tmp_path, request.getfixturevalue(place) if place else None) as bench:
        yield bench


@pytest.fixture
def card_bench(tmp_path: Path, pcscd: Pcscd) -> Iterator[Bench]:
    """A broker that sees the virtual readers."""
    with Bench("pcsc", tmp_path, pcscd) as bench:
        yield bench
