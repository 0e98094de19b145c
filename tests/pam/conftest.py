"""Machines full of people, answered by the service and by the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import Scene
from machine import Machine
from people import Town


@pytest.fixture(scope="session")
def town() -> Iterator[Town]:
    """alice, bob and carol; made once for each process of the test run."""
    town = Town()
    yield town
    town.close()


@pytest.fixture
def machine_of_people(town: Town) -> Iterator[Machine]:
    """A machine of this test's own; its service is not started."""
    with Machine(town.base) as machine:
        yield machine


@pytest.fixture(params=["service", "engine"])
def scene(request: pytest.FixtureRequest, machine_of_people: Machine, town: Town) -> Iterator[Scene]:
    """The same expectations, whoever answers."""
    scene = Scene(machine_of_people, request.param, town.people())
    yield scene
    scene.close()
