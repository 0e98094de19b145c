"""Machines whose administrator has followed README.md."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from e2e.installing import Installed, forget, installed_system
from e2e.keyed import LOCAL, enrolled
from e2e.site_machine import SiteMachine, furnish
from machine import Base, Machine
from people import Town
from vdev import keys as vdev_keys
from vdev.keys import Key, Keys

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember failures for the fixtures' end."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def furnished_town() -> Iterator[Town]:
    """Made once for each process of the test run."""
    town = Town()
    furnish(town)
    yield town
    town.close()


def _site(request: pytest.FixtureRequest, town: Town, side: str) -> Iterator[SiteMachine]:
    with Machine(town.base) as machine:
        site = SiteMachine(machine, side, town.people())
        yield site
        site.close()
        if request.node.stash.get(FAILED, False):
            path = site.terminals.save(request.node.name)
            request.node.add_report_section("teardown", "transcript", str(path))


@pytest.fixture(params=["service", "engine"])
def site(request: pytest.FixtureRequest, furnished_town: Town) -> Iterator[SiteMachine]:
    """A machine of this test's own, answered by the service or, where none runs, by engines."""
    yield from _site(request, furnished_town, request.param)


@pytest.fixture
def served_site(request: pytest.FixtureRequest, furnished_town: Town) -> Iterator[SiteMachine]:
    """The same by the service alone, for what is about the service."""
    yield from _site(request, furnished_town, "service")


@pytest.fixture
def engine_site(request: pytest.FixtureRequest, furnished_town: Town) -> Iterator[SiteMachine]:
    """The same where no service runs."""
    yield from _site(request, furnished_town, "engine")


@pytest.fixture(scope="module")
def installed(machine_base: Base) -> Iterator[Installed]:
    """A system that pam-mfa was installed on: one for all tests that leave it as it was."""
    with installed_system(machine_base) as system:
        yield system


@pytest.fixture
def own(machine_base: Base) -> Iterator[Installed]:
    """The same for a single test."""
    with installed_system(machine_base) as system:
        yield system


@pytest.fixture
def bare(machine: Machine) -> Machine:
    """A system without systemd, not installed on yet."""
    forget(machine)
    return machine


def _keys(site: SiteMachine) -> Iterator[Keys]:
    if lack := vdev_keys.missing():
        pytest.skip(f"hidraw nodes: {lack}")
    with Keys(site.machine.command, site.machine.path, site.terminals.happened) as keys:
        keys.show_to()
        yield keys


@pytest.fixture
def keys(site: SiteMachine) -> Iterator[Keys]:
    """An empty testbed, which the site's device service sees."""
    yield from _keys(site)


@pytest.fixture
def blue(site: SiteMachine, keys: Keys) -> Key:
    """alice's key, on a machine that has started and asks for it wherever she is."""
    site.start(LOCAL)
    return enrolled(site, keys.key("blue"))


@pytest.fixture
def served_keys(served_site: SiteMachine) -> Iterator[Keys]:
    """The same where the service answers."""
    yield from _keys(served_site)
