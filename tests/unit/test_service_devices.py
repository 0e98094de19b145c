"""A session's devices: one event for each wait, nothing lost between them, and files for desktop notifiers."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_mfa.conversation import DeviceGone, DeviceReply, DeviceTouch, Shown, Wait
from pam_mfa.devices.base import Choose, Failed, Failure, Idle, List, Pin, Reply, Touch
from pam_mfa.errors import Gone, ProtocolError
from pam_mfa.service.channel import Answered
from pam_mfa.service.devices import MAX_REPLIES, Devices, Line, Pending, absent


class Scripted:
    """A line whose other end says what the test puts into `replies`."""

    def __init__(self) -> None:
        self.replies: list[Reply | Exception] = []
        self.sent: list[object] = []
        self.closed = False

    def fileno(self) -> int:
        return 99

    def send(self, request: object) -> None:
        self.sent.append(request)

    def receive(self) -> Reply | None:
        reply = self.replies.pop(0) if self.replies else None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self.closed = True


class Desk:
    """Devices, the lines they opened and what they told."""

    def __init__(self) -> None:
        self.lines: list[Scripted] = []
        self.watched: list[bool] = []
        self.touches: list[bool] = []
        self.events: list[Answered] = []
        self.taken = True
        self.devices = Devices(self._connect, self._watch, self.touches.append)

    def _connect(self) -> Line:
        self.lines.append(Scripted())
        return self.lines[-1]

    def _watch(self, line: Line, on: bool) -> None:
        self.watched.append(on)

    def done(self, event: Answered) -> bool:
        if self.taken:
            self.events.append(event)
        return self.taken

    def wait(self, request: object = None) -> Answered | None:
        """Begin to wait; the event, if there is one at once."""
        before = len(self.events)
        self.devices.wait(Wait(request, 30), self.done)
        return self.events[-1] if len(self.events) > before else None

    def says(self, *replies: Reply | Exception) -> None:
        self.lines[-1].replies += replies
        self.devices.readable()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_each_wait_gets_one_event_in_order(desk: Desk) -> None:
    assert desk.wait(List(3)) is None
    desk.says(Touch(1, False), Failed(1, Failure.DECLINED), Idle(1))
    assert desk.events == [DeviceTouch(Touch(1, False))]
    assert desk.wait() == DeviceReply(Failed(1, Failure.DECLINED))
    assert desk.wait() == DeviceReply(Idle(1))
    assert desk.wait() is None
    assert desk.lines[0].sent == [List(3)]


def test_it_is_watched_only_while_something_is_waited_for(desk: Desk) -> None:
    desk.wait(List(3))
    assert desk.watched[-1] is True
    desk.says(Idle(0))
    assert desk.watched[-1] is False
    desk.says(Idle(1))
    assert desk.events == [DeviceReply(Idle(0))]


def test_what_comes_when_a_wait_has_just_ended_is_kept_for_the_next(desk: Desk) -> None:
    desk.wait(List(3))
    desk.taken = False
    desk.says(Idle(7))
    desk.taken = True
    assert desk.wait() == DeviceReply(Idle(7))
    assert desk.wait() is None


def test_follow_ups_go_on_with_the_line_and_a_new_request_closes_it(desk: Desk) -> None:
    desk.wait(List(3))
    desk.wait(Pin(1, "1234"))
    desk.wait(Choose())
    assert desk.lines[0].sent == [List(3), Pin(1, "1234"), Choose()]
    desk.wait(List(4))
    assert desk.lines[0].closed
    assert desk.lines[1].sent == [List(4)]


@pytest.mark.parametrize("problem", [Gone("device_service_gone"), ProtocolError("nonsense")])
def test_a_device_service_that_goes_is_gone(desk: Desk, problem: ProtocolError) -> None:
    desk.wait(List(3))
    desk.says(problem)
    assert desk.events == [DeviceGone(problem.reason)]


def test_a_device_service_that_says_too_much_is_not_listened_to(desk: Desk) -> None:
    """Nobody but it has a word on the loop as long as it goes on."""
    desk.wait(List(3))
    desk.lines[0].replies = [Touch(number, False) for number in range(MAX_REPLIES + 1)]
    for _ in range(MAX_REPLIES):
        assert isinstance(desk.wait(), DeviceTouch)
    assert desk.wait() == DeviceGone("device_service_nonsense")
    desk.wait(List(3))
    desk.says(Idle(0))
    assert desk.events[-1] == DeviceReply(Idle(0))


def test_without_a_device_service_there_are_no_devices() -> None:
    events: list[Answered] = []

    def done(event: Answered) -> bool:
        events.append(event)
        return True

    Devices(absent).wait(Wait(List(3), 30), done)
    assert events == [DeviceGone("no_device_service")]


def test_hanging_up_closes_the_line_and_forgets_what_it_said(desk: Desk) -> None:
    desk.wait(List(3))
    desk.lines[0].replies.append(Idle(1))
    desk.devices.hang_up(desk.done)
    assert desk.events == [Shown()]
    assert desk.lines[0].closed
    assert desk.watched[-1] is False
    assert desk.wait() is None


@pytest.mark.parametrize("end", [lambda desk: desk.devices.close(), lambda desk: desk.wait(List(1))])
def test_a_touch_is_told_once_and_ends_with_the_last_device(desk: Desk, end: Callable[[Desk], object]) -> None:
    desk.wait(List(3))
    desk.says(Touch(1, False))
    desk.wait()
    desk.says(Touch(2, False))
    assert desk.touches == [True]
    desk.wait()
    desk.says(Failed(1, Failure.UNPLUGGED))
    assert desk.touches == [True]
    end(desk)
    assert desk.touches == [True, False]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_a_file_for_each_user_whose_login_waits(tmp_path: Path) -> None:
    pending = Pending(str(tmp_path))
    pending.change(1000, 1)
    pending.change(1000, 1)
    pending.change(1001, 1)
    assert names(tmp_path) == ["1000", "1001"]
    pending.change(1000, -1)
    assert names(tmp_path) == ["1000", "1001"]
    pending.change(1000, -1)
    pending.change(1001, -1)
    assert names(tmp_path) == []
    pending.change(1000, 1)
    assert names(tmp_path) == ["1000"]


def test_two_processes_wait_for_the_same_user(tmp_path: Path) -> None:
    service, engine = (Pending(str(tmp_path)) for _ in range(2))
    service.change(1000, 1)
    engine.change(1000, 1)
    service.change(1000, -1)
    assert names(tmp_path) == ["1000"]
    engine.change(1000, -1)
    assert names(tmp_path) == []


@pytest.mark.parametrize("later", ["another login", "the service"])
def test_what_a_killed_process_has_left_is_taken_away(tmp_path: Path, later: str) -> None:
    alive, pending = (Pending(str(tmp_path)) for _ in range(2))
    child = os.fork()
    if not child:
        Pending(str(tmp_path)).change(1000, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    alive.change(1001, 1)  # takes the first one away
    (tmp_path / "1000").touch()
    if later == "the service":
        pending.clear()
        assert names(tmp_path) == ["1001"]
    else:
        pending.change(1002, 1)
        assert names(tmp_path) == ["1001", "1002"]


def test_a_file_that_is_just_taken_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, how: int) -> None:
        monkeypatch.undo()
        (tmp_path / "1000").unlink()
        fcntl.flock(fd, how)

    monkeypatch.setattr("pam_mfa.service.devices.fcntl.flock", flock)
    Pending(str(tmp_path)).change(1000, 1)
    Pending(str(tmp_path)).clear()
    assert names(tmp_path) == ["1000"]


def test_a_file_that_others_keep_locked_disturbs_no_login(tmp_path: Path) -> None:
    pending = Pending(str(tmp_path))
    other = os.open(tmp_path / "1000", os.O_CREAT | os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    pending.change(1000, 1)
    pending.change(1000, -1)
    os.close(other)
    pending.change(1000, 1)
    pending.clear()
    assert names(tmp_path) == ["1000"]


def test_without_its_directory_nobody_is_disturbed(tmp_path: Path) -> None:
    pending = Pending(str(tmp_path / "absent"))
    pending.clear()
    pending.change(1000, 1)
    pending.change(1000, -1)
