"""What every tier shares: private machines, and the rule that nothing is skipped where it counts."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator

import pytest
from machine import Base, Machine

pytest_plugins = ["vdev.fixtures"]

# A run that was started in the background ignores Ctrl-C, and so would every sudo and ssh that the tests start.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def handlers_of_its_own() -> Iterator[None]:
    """What a test sets to happen at a signal ends with it; a broker that a later one forks would have it, too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def machine_base() -> Iterator[Base]:
    """What the machines of this run stand on: the staged build and the users of machine.PASSWORDS."""
    try:
        base = Base()
    except (PermissionError, FileNotFoundError) as error:
        pytest.fail(str(error), pytrace=False)
    yield base
    base.close()


@pytest.fixture
def machine(machine_base: Base) -> Iterator[Machine]:
    """A private machine with pam-mfa installed; its service is not started."""
    with Machine(machine_base) as machine:
        yield machine


def _no_skips(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test fails in CI: what was not run is not known to work."""
    report = yield
    _no_skips(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file."""
    report = yield
    _no_skips(report)
    return report
