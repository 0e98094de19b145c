"""What the host program would leave to the engine: its limits and its scheduling."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from native.engine_machine import StubMachine


def without(capability: str) -> str:
    """The shell words that take one capability from what is started."""
    return f'set -- /usr/bin/setpriv --bounding-set=-{capability} --inh-caps=-{capability} "$@"'


CAP_SYS_RESOURCE = 24
CAPABILITIES = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
MAY_RAISE = bool(CAPABILITIES >> CAP_SYS_RESOURCE & 1)  # containers often may not

FEW = [(64, 8192, 4096), (64, 100, 4096 if MAY_RAISE else 100), (6000, 8192, 6000)]
FEW_FOR_GOOD = [(64, 8192, 4096), (64, 100, 100), (64, 64, 64)]


@pytest.mark.parametrize(("soft", "hard", "expected"), FEW)
def test_the_number_of_open_files_is_raised(box: StubMachine, soft: int, hard: int, expected: int) -> None:
    report = box.session(before=f"ulimit -Sn {soft}; ulimit -Hn {hard}").report
    assert report["files"][0] == expected


@pytest.mark.parametrize(("soft", "hard", "expected"), FEW_FOR_GOOD)
def test_without_the_right_to_raise_what_is_left_is_taken(
    box: StubMachine, soft: int, hard: int, expected: int
) -> None:
    before = f"ulimit -Sn {soft}; ulimit -Hn {hard}; {without('sys_resource')}"
    assert box.session(before=before).report["files"] == [expected, hard]


def test_too_few_open_files_are_refused_before_python_starts(box: StubMachine) -> None:
    ended = box.session(before=f"ulimit -n 15; {without('sys_resource')}")
    assert (ended.status, ended.report) == (1, {})
    assert "16 open files" in ended.stderr


USUAL = """
def run(role, sockets):
    import ctypes, json, os, resource
    names = ("CPU", "FSIZE", "AS", "DATA", "NPROC", "STACK")
    about = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}
    libc, attributes, size = ctypes.CDLL(None), ctypes.create_string_buffer(256), ctypes.c_size_t()
    libc.pthread_getattr_default_np(attributes)
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    about["thread"] = size.value
    about["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
    about["scheduler"] = os.sched_getscheduler(0)
    about["io"] = ctypes.CDLL(None).syscall(IOPRIO_GET, 1, 0)
    os.write(3, json.dumps(about).encode())
    return 0
"""
IOPRIO_GET = {"x86_64": 252}.get(os.uname().machine, 31)
STACK = 8 << 20


def test_limits_and_scheduling_of_the_host_hold_nothing_up(box: StubMachine) -> None:
    """One process, no file, little memory, as idle as can be: none of it is the engine's."""
    before = (
        "ulimit -S -t 60 -f 0 -v 4000000 -d 2000000 -s 1024; "
        'set -- /usr/bin/nice -n 19 /usr/bin/ionice -c 3 /usr/bin/chrt --idle 0 /usr/bin/prlimit --nproc=1: "$@"'
    )
    report = box.session(code=USUAL.replace("IOPRIO_GET", str(IOPRIO_GET)), before=before).report
    for name in ("CPU", "FSIZE", "AS", "DATA", "NPROC"):
        hard = -1 if MAY_RAISE else resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        assert report[name] == [hard, hard], name
    assert (report["STACK"][0], report["thread"]) == (STACK, STACK)
    assert (report["nice"], report["scheduler"], report["io"]) == (0, os.SCHED_OTHER, 0)
