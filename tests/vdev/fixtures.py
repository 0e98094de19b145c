"""Virtual keys and readers as pytest fixtures, a plugin of conftest.py. Tests skip where the system lacks something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from . import keys as _keys, pcscd as _pcscd
from .keys import Keys
from .pcscd import Pcscd, Reader

if TYPE_CHECKING:
    from cards import Client
    from machine import Machine

READERS = 4  # with two drivers, for two are one driver's slots


@pytest.fixture
def keys() -> Iterator[Keys]:
    """An empty testbed for hidraw nodes; clients need keys.environment()."""
    if lack := _keys.missing():
        pytest.skip(f"hidraw nodes: {lack}")
    with Keys() as keys:
        yield keys


@pytest.fixture
def machine_keys(machine: Machine) -> Iterator[Keys]:
    """The same within the private machine of the test."""
    if lack := _keys.missing():
        pytest.skip(f"hidraw nodes: {lack}")
    with Keys(machine.command, machine.path) as keys:
        yield keys


@pytest.fixture(scope="session")
def pcscd_of_run() -> Iterator[Pcscd]:
    """One place for all pcscds of a run: libpcsclite looks at PCSCLITE_CSOCK_NAME only once in a process."""
    if lack := _pcscd.missing():
        pytest.skip(f"virtual readers: {lack}")
    with Pcscd(READERS) as pcscd:
        yield pcscd


@pytest.fixture
def pcscd(pcscd_of_run: Pcscd, monkeypatch: pytest.MonkeyPatch) -> Pcscd:
    """A pcscd started for this test, with four empty readers; this process and those it starts are its clients."""
    pcscd_of_run.start()
    for name, value in pcscd_of_run.environment.items():
        monkeypatch.setenv(name, value)
    return pcscd_of_run


@pytest.fixture
def readers(pcscd: Pcscd) -> list[Reader]:
    """Its readers."""
    return pcscd.readers


@pytest.fixture
def client(pcscd: Pcscd) -> Iterator[Client]:
    """A client of it by pyscard and python-fido2."""
    from cards import Client  # where it is used only: conftest.py takes this file in for every test

    with closing(Client()) as client:
        yield client


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    """Runs what waits for a card, as Executor.submit does."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit
