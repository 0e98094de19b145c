"""Whatever the host's environment, descriptors, limits, signals and directory are: the same verdicts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hosts import PROGRAM, Host, Scene
from machine import PYTHON, SITE, wait_for
from people import ENGINE

EVIL = "/tmp/evil"
OWNED = "/tmp/owned"
TRACE = "/tmp/trace"
# Row L04: what interpreters, loaders, libraries and desktops take from the environment.
HOSTILE = {
    "PYTHONPATH": EVIL, "PYTHONHOME": EVIL, "PYTHONSTARTUP": f"{EVIL}/json.py", "PYTHONPLATLIBDIR": EVIL,
    "PYTHONUSERBASE": EVIL, "PYTHONEXECUTABLE": f"{EVIL}/python3", "PYTHONPYCACHEPREFIX": EVIL,
    "PYTHONINSPECT": "1", "PYTHONWARNINGS": "error", "PYTHONBREAKPOINT": "json.loads", "PYTHONCASEOK": "1",
    "PYTHONMALLOC": "debug", "PYTHONHASHSEED": "0", "PYTHONOPTIMIZE": "2", "PYTHONFAULTHANDLER": "1",
    "LD_LIBRARY_PATH": EVIL, "LD_DEBUG": "files", "LD_DEBUG_OUTPUT": TRACE, "LD_BIND_NOW": "1",
    "GCONV_PATH": EVIL, "LOCPATH": EVIL, "NLSPATH": f"{EVIL}/%N", "LANGUAGE": "nl", "LC_ALL": "xx_XX.UTF-8",
    "HOME": EVIL, "TMPDIR": "/nowhere", "PATH": EVIL, "IFS": "/", "TZ": "Pacific/Kiritimati", "HOSTALIASES": EVIL,
    "RES_OPTIONS": "attempts:9", "XDG_CONFIG_HOME": EVIL, "XDG_RUNTIME_DIR": EVIL, "XDG_SEAT": "seat0",
    "SQLITE_TMPDIR": EVIL, "OPENSSL_CONF": f"{EVIL}/json.py", "SSLKEYLOGFILE": OWNED, "http_proxy": "http://evil.test",
    "NOTIFY_SOCKET": f"{EVIL}/notify", "CREDENTIALS_DIRECTORY": EVIL, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "priv",
    "SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAA", "MALLOC_PERTURB_": "99", "PAM_MFA_CONFIG": EVIL,
}  # fmt: skip
MODULES = (
    "sitecustomize",
    "usercustomize",
    "json",
    "socket",
    "sqlite3",
    "encodings",
    "pam_mfa",
    "cffi",
)


def lay_trap(scene: Scene) -> None:
    """Modules that leave a trace when anybody imports them, where the environment and the directory point to."""
    trap = f"open({OWNED!r}, 'a').write(__name__)\n"
    scene.machine.run(["/bin/mkdir", EVIL])
    for module in MODULES:
        scene.machine.write(f"{EVIL}/{module}.py", trap)
    scene.machine.write(f"{EVIL}/notify", "")


def expect_usual_verdicts(scene: Scene, host: Host) -> None:
    """A right code, a used one, and a wrong one."""
    code = scene.alice.code()
    assert host.login("alice", code).code == "SUCCESS"
    assert host.login("alice", code, None).code == "CONV_ERR"
    assert host.login("alice", *[scene.alice.wrong()] * 3).code == "MAXTRIES"
    assert host.login("carol", *["000000"] * 3).code == "MAXTRIES"


def test_the_environment_has_no_effect(scene: Scene) -> None:
    assert len(HOSTILE) >= 40
    lay_trap(scene)
    with Host(scene.up(), env=HOSTILE, before=f"cd {EVIL}") as host:
        expect_usual_verdicts(scene, host)
        host.begin("alice")
        host.prompt()
        for engine in scene.machine.processes("pam-mfa-engine"):
            environment = Path(f"/proc/{engine}/environ").read_bytes().decode()
            assert environment.split("\0") == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", ""]
    assert not scene.machine.path(OWNED).exists()
    assert traced(scene)
    assert not [name for name in traced(scene) if ENGINE in name]


def traced(scene: Scene) -> set[str]:
    """Programs that obeyed LD_DEBUG: the host itself does."""
    found = set()
    for file in scene.machine.path("/tmp").glob("trace.*"):
        found |= {word for word in file.read_text(errors="replace").split() if word.startswith(("/usr/", "file="))}
    return found


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2), (2,), (1, 2)])
def test_closed_standard_descriptors_have_no_effect(scene: Scene, closed: Sequence[int]) -> None:
    with Host(scene.up(), closed=closed) as host:
        host.login("alice", None)
        before = descriptors(host)  # syslog(3) keeps its socket, in the lowest place
        expect_usual_verdicts(scene, host)
        assert descriptors(host) == before


def descriptors(host: Host) -> dict[str, str]:
    """What the host has open."""
    return {file.name: os.readlink(file) for file in Path(f"/proc/{host.pid}/fd").iterdir()}


@pytest.mark.parametrize("umask", ["000", "777"])
def test_the_umask_has_no_effect(scene: Scene, umask: str) -> None:
    with Host(scene.up(), before=f"umask {umask}") as host:
        expect_usual_verdicts(scene, host)
    modes = "find /var/lib/pam-mfa /run/pam-mfa -type f -perm /077"
    assert scene.machine.run(["/bin/sh", "-c", modes]).stdout == ""


def test_signals_that_are_ignored_or_blocked_have_no_effect(scene: Scene) -> None:
    before = "trap '' INT TERM HUP QUIT CHLD PIPE ALRM USR1 XFSZ"
    with Host(scene.up(), before=before) as host:
        status = Path(f"/proc/{host.pid}/status").read_text()
        expect_usual_verdicts(scene, host)
        assert signals(Path(f"/proc/{host.pid}/status").read_text()) == signals(status)


def signals(status: str) -> list[str]:
    """Which signals are blocked, ignored and handled."""
    return [line for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]


@pytest.mark.parametrize(
    "limit", ["--fsize=0", "--nofile=8", "--nproc=0", "--stack=262144", "--core=unlimited", "--as=300000000"]
)
def test_tiny_limits_open_nothing_and_break_nothing(scene: Scene, limit: str) -> None:
    with Host(scene.up()) as host:
        assert host.login("alice", scene.alice.code()).code == "SUCCESS"
        scene.machine.run(["/usr/bin/prlimit", "--pid", str(host.pid), limit])
        code = scene.alice.code()
        assert host.login("alice", code).code in ("SUCCESS", "AUTHINFO_UNAVAIL")
        assert host.login("alice", *[scene.alice.wrong()] * 3).code in ("MAXTRIES", "AUTHINFO_UNAVAIL")
    wait_for("the engine's end", lambda: not scene.machine.processes("pam-mfa-engine"))
    assert scene.login("alice", scene.alice.code()).code == "SUCCESS"


def test_a_host_in_another_directory_that_is_gone_has_no_effect(scene: Scene) -> None:
    with Host(scene.up(), before="mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone") as host:
        expect_usual_verdicts(scene, host)


def test_a_thousand_transactions_leave_no_descriptor_and_no_child(scene: Scene) -> None:
    times = 1000 if scene.side == "service" else 10
    with Host(scene.up()) as host:
        host.login("alice", None)
        before = descriptors(host)
        for _ in range(times):
            host.login("alice", None)
        assert descriptors(host) == before
        assert Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text() == ""


def test_one_host_that_is_another_python_logs_in_by_ctypes(scene: Scene) -> None:
    """A host that is Python with libpam loaded by ctypes: another interpreter than the engine's, other settings."""
    script = (
        "import json, sys, ctypes.util\n"
        f"sys.argv = [{PROGRAM!r}]; sys.path.insert(0, {SITE!r})\n"
        "ctypes.CDLL(ctypes.util.find_library('pam'), mode=ctypes.RTLD_GLOBAL)\n"
        "import runpy, asyncio, sqlite3, threading\n"
        "threading.Thread(target=lambda: asyncio.run(asyncio.sleep(3600)), daemon=True).start()\n"
        f"runpy.run_path({PROGRAM!r}, run_name='__main__')\n"
    )
    with Host(scene.up(), program=[PYTHON, "-B", "-c", script]) as host:
        expect_usual_verdicts(scene, host)


def test_hosts_that_are_threads(scene: Scene) -> None:
    """Four wrong codes in all, as after five the right ones would have to wait, whoever is the quicker."""
    codes = [scene.alice.code() for _ in range(4)]
    logins = [[code] for code in codes[:2]] + [[scene.alice.wrong()] * 3, [scene.alice.wrong()]]
    assert sorted(scene.host.together("alice", logins)) in (
        ["CONV_ERR", "MAXTRIES", "SUCCESS", "SUCCESS"],
        ["CONV_ERR", "CONV_ERR", "MAXTRIES", "SUCCESS"],  # the code of the later step was quicker
    )
