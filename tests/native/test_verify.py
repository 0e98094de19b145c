"""pam-mfa-verify up to the moment Python runs, and the engine's own: who it becomes, what it never has, when it ends.

It is started as pam-mfa-device is (test_device.py, test_engine_broker.py): these tests are about what is its own.
"""

from __future__ import annotations

import json
import signal
import socket
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from machine import DEADLINE, Base, wait_for
from native.engine_machine import DAEMON, ENGINE, VERIFY, StubMachine
from native.test_device import HANG, SERVE, SERVICE, end, ids, told
from native.test_engine_broker import FLAGS, TELL, WAIT, Engine, processes
from native.test_engine_service import LISTEN

ACCOUNT = "pam-mfa-verify"
PATH = "/run/pam-mfa/verify.sock"
VERIFY_FD = 6
DENIED = dict.fromkeys(("/var/lib/pam-mfa", "/etc/pam-mfa/seal.key"), "Permission denied")
ASK = """
def part():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, socket.socket(fileno=os.dup(6)) as checker:
        socket.send_fds(checker, [b"\\0"], [theirs.fileno()])
    os.write(3, ours.recv(65536) or b"nobody")
"""


@pytest.fixture
def box(stub_machine_base: Base) -> Iterator[StubMachine]:
    """A machine that has the account."""
    with StubMachine(stub_machine_base) as machine:
        machine.run(["/usr/sbin/useradd", "--system", "--user-group", "--no-create-home", ACCOUNT])
        machine.stub()
        yield machine


def is_confined(box: StubMachine, about: dict[str, Any]) -> None:
    uid, gid = ids(box, ACCOUNT)
    assert about["status"]["Uid"].split() == [str(uid)] * 4
    assert about["status"]["Gid"].split() == [str(gid)] * 4
    assert (about["status"]["Groups"], about["status"]["NoNewPrivs"]) == ("", "1")
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(about["status"][name], 16) == 0, name
    assert about["environment"] == {}
    assert about["denied"] == DENIED
    assert not {name for name in about["modules"] if name.startswith(("pam_mfa.engine", "pam_mfa.devices", "sqlite3"))}


def answers(box: StubMachine) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        caller.settimeout(DEADLINE)
        caller.connect(str(box.path(PATH)))
        return caller.recv(10) == b"here"


def test_it_binds_its_socket_as_root_and_serves_without(box: StubMachine) -> None:
    box.run([ENGINE, "--prepare"])
    box.stub_paths(SERVE)
    process = box.start([VERIFY])
    about = told(process)
    is_confined(box, about)
    assert (about["argv"], about["isolated"], about["core"]) == (["verify"], 1, [0, 0])
    found = box.path(PATH).stat()
    assert (stat.S_ISSOCK(found.st_mode), found.st_mode & 0o7777) == (True, 0o600)
    assert found.st_uid == ids(box, "pam-mfa")[0]
    assert answers(box)
    end(process)


@pytest.mark.parametrize(("name", "status"), [("verify", None), ("device", 1), ("priv", 1)])
def test_systemds_socket_is_taken_by_its_name(box: StubMachine, name: str, status: int | None) -> None:
    box.stub_paths(SERVE)
    box.write("/tmp/listen.py", LISTEN)
    become = ["/usr/bin/setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
    process = box.start(["/usr/bin/python3", "-I", "/tmp/listen.py", "good", name, "1", "own", *become, VERIFY])
    if status is None:
        is_confined(box, told(process) | {"denied": DENIED})
        assert answers(box)
        end(process)
    else:
        assert process.wait(DEADLINE) == status


@pytest.mark.parametrize("argv", [[VERIFY, "x"], [VERIFY, "--manage"]])
def test_it_takes_no_argument(box: StubMachine, argv: list[str]) -> None:
    assert box.to_end(argv).status == 2


@pytest.mark.parametrize("user", ["nobody", "pam-mfa", ACCOUNT])
def test_only_root_may_start_it_by_hand(box: StubMachine, user: str) -> None:
    before = f'set -- /usr/bin/setpriv --reuid={user} --clear-groups "$@"'
    assert box.to_end([VERIFY], before=before).status == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("code", [SERVE, HANG], ids=["serves", "hangs"])
def test_it_lives_as_long_as_the_service(box: StubMachine, number: int, code: str) -> None:
    box.stub(SERVICE)
    box.stub_devices(SERVE)
    box.stub_paths(code)
    process = box.start([DAEMON])
    for _ in range(3):  # all of them have come up
        told(process)
    assert (len(box.processes("pam-mfa-device")), len(box.processes(ACCOUNT))) == (1, 1)
    if code == SERVE:
        assert answers(box)
    end(process, number)
    wait_for("the end of both", lambda: not box.processes(ACCOUNT) + box.processes("pam-mfa-device"))


@pytest.mark.parametrize("flags", FLAGS)
def test_the_engines_own(box: StubMachine, flags: list[str]) -> None:
    box.run([ENGINE, "--prepare"])
    box.stub_paths(TELL)
    engine = Engine(box, ASK, flags=flags, env={"PYTHONPATH": "/tmp/evil"})
    assert engine.sockets == {"session": 3, "devices": 5, "verify": VERIFY_FD}
    about = json.loads(engine.said())
    is_confined(box, about)
    assert about["argv"] == ["checker"]
    fds = {int(number): target for number, target in about["fds"].items()}
    assert [fds[number] for number in range(3)] == ["/dev/null"] * 3
    assert fds[3].startswith("socket:")
    rest = {target for number, target in fds.items() if number > 3 and not target.startswith("/proc/")}
    assert rest == {"anon_inode:[timerfd]"}
    assert engine.end() == 0
    wait_for("the end of everything", lambda: not processes(box))


def test_a_login_that_asks_nothing_starts_no_python_for_it(box: StubMachine) -> None:
    box.stub_paths("open('/tmp/started', 'w').close()\n" + TELL)
    assert Engine(box, "def part(): pass").process.wait(DEADLINE) == 0
    wait_for("the end of everything", lambda: not processes(box))
    assert not box.path("/tmp/started").exists()


@pytest.mark.parametrize("moment", ["waits", "is asked"])
def test_it_ends_with_an_engine_that_is_killed(box: StubMachine, moment: str) -> None:
    box.stub_paths("def serve_one(connection):\n    import ctypes\n    connection.send(b'hangs')\n"
                   "    ctypes.PyDLL(None).sleep(3600)")  # fmt: skip
    engine = Engine(box, WAIT if moment == "waits" else ASK + "    os.read(3, 1)")
    if moment == "is asked":
        assert engine.said() == b"hangs"
    engine.process.kill()
    engine.process.wait(DEADLINE)
    wait_for("the end of everything", lambda: not processes(box))


@pytest.mark.parametrize("code", ["", "import no_such_module", "raise SystemExit(0)"])
def test_without_its_python_nobody_answers_and_the_engine_goes_on(box: StubMachine, code: str) -> None:
    box.stub_paths(code)
    engine = Engine(box, ASK)
    assert engine.said() == b"nobody"
    assert engine.process.wait(DEADLINE) == 0


def test_without_the_device_account_it_is_there_alone(box: StubMachine) -> None:
    box.run(["/usr/sbin/userdel", "pam-mfa-device"])
    box.stub_paths(TELL)
    engine = Engine(box, ASK)
    assert engine.sockets == {"session": 3, "verify": VERIFY_FD}
    assert json.loads(engine.said())["argv"] == ["checker"]
