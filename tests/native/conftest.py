"""Machines with the real executables and a stub of their Python part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machine import Base
from native.engine_machine import StubMachine, stub_base


@pytest.fixture(scope="session")
def stub_machine_base() -> Iterator[Base]:
    """What all stub machines stand on."""
    try:
        base = stub_base()
    except (PermissionError, FileNotFoundError) as error:
        pytest.fail(str(error), pytrace=False)
    yield base
    base.close()


@pytest.fixture
def box(stub_machine_base: Base) -> Iterator[StubMachine]:
    """A private machine where pam_mfa.engine is a stub that tells what it sees."""
    machine = StubMachine(stub_machine_base)
    with machine:
        machine.stub()
        yield machine
