"""What the other tests stand on: private machines keep to themselves and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from machine import PASSWORDS, PROJECT, Base, Machine, wait_for


def mounts() -> str:
    """What is mounted outside."""
    return Path("/proc/self/mountinfo").read_text()


def test_what_it_writes_stays_inside(machine: Machine) -> None:
    machine.write("/etc/pam.d/machine-test", "auth required pam_deny.so\n", mode=0o640, owner="root:alice")
    machine.run(["touch", "/tmp/machine-test", "/dev/shm/machine-test", "/run/machine-test", "/var/lib/machine-test"])
    assert machine.read("/etc/pam.d/machine-test") == "auth required pam_deny.so\n"
    assert machine.run(["stat", "-c", "%a %U %G", "/etc/pam.d/machine-test"]).stdout == "640 root alice\n"
    for folder in ("/etc/pam.d", "/tmp", "/dev/shm", "/run", "/var/lib"):
        assert not Path(folder, "machine-test").exists()


def test_machines_do_not_see_each_other(machine_base: Base, machine: Machine) -> None:
    with Machine(machine_base) as other:
        machine.write("/etc/only-here", "x")
        assert other.run(["test", "-e", "/etc/only-here"], check=False).returncode == 1
        machine.run(["logger", "for one alone"])
        machine.wait_for_journal("for one alone")
        assert other.journal() == []


def test_project_is_there_and_safe(machine: Machine) -> None:
    assert machine.run(["test", "-f", str(PROJECT / "pyproject.toml")], check=False).returncode == 0
    failed = machine.run(["touch", str(PROJECT / "machine-test")], check=False)
    assert "Read-only file system" in failed.stderr


def test_network_is_a_lone_loopback(machine: Machine) -> None:
    devices = machine.read("/proc/net/dev").splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in devices] == ["lo"]
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(s.getsockname()); print('ok')"
    )
    assert machine.python(code).stdout == "ok\n"


def test_people_can_log_in(machine: Machine) -> None:
    for user, password in PASSWORDS.items():
        shell = machine.spawn(["su", "-", user, "-c", "id -un"], user="bob" if user == "alice" else "alice")
        shell.expect("Password: ")
        assert shell.waitnoecho()  # what is typed before that is thrown away
        shell.sendline(password)
        shell.expect(rf"\r\n{user}\r\n")
        shell.close()


def test_runs_as_the_user_in_a_bare_environment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "yes")
    done = machine.run(["/bin/sh", "-c", "id -un; id -Gn; env"], user="alice", env={"ADDED": "yes"}).stdout
    assert done.splitlines()[:2] == ["alice", "alice"]
    assert "ADDED=yes" in done
    assert "LEAKED" not in done
    assert "HOME=/home/alice" in done


def test_python_is_the_installed_one(machine: Machine) -> None:
    where = machine.python("import sys, pam_mfa, cryptography; print(sys.executable, pam_mfa.__file__)").stdout
    assert where == "/usr/bin/python3 /usr/lib/pam-mfa/site/pam_mfa/__init__.py\n"


def test_close_ends_everything(machine_base: Base) -> None:
    before = mounts()
    machine = Machine(machine_base)
    home = Path(f"/proc/{machine.pid}")
    hung = machine.popen(["/bin/sh", "-c", "trap '' TERM HUP INT; (setsid sleep 1000 &) ; sleep 1000"])
    pids = wait_for("three processes", lambda: found if len(found := machine.processes("sleep")) >= 3 else None)
    os.kill(pids[0], signal.SIGSTOP)
    machine.close()
    machine.close()
    hung.wait(30)
    assert not home.exists() or (home / "status").read_text().count("Z (zombie)")
    for pid in pids:
        wait_for_end(pid)
    assert mounts() == before


def wait_for_end(pid: int) -> None:
    """Until the process is gone."""
    wait_for(f"the end of {pid}", lambda: is_gone(pid))


def is_gone(pid: int) -> bool:
    """Ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_it_ends_with_the_tests(machine_base: Base, tmp_path: Path) -> None:
    script = (
        f"import sys, os, signal; sys.path.insert(0, {str(PROJECT / 'tests')!r})\n"
        "from machine import Base, Machine, wait_for\n"
        "machine = Machine(Base(furnish=False))\n"
        "child = machine.popen(['/bin/sleep', '1000'])\n"
        "wait_for('sleep', lambda: machine.processes('sleep'))\n"
        "print(machine.pid, child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    for pid in map(int, done.stdout.split()):
        wait_for_end(pid)


def test_service_says_when_it_does_not_start(machine: Machine) -> None:
    machine.run(["rm", "/etc/pam-mfa/seal.key"])
    with pytest.raises(AssertionError, match=r"the service ended: .*seal\.key"):
        machine.service.start()


def test_service_starts_stops_and_hangs(machine: Machine) -> None:
    machine.service.start()
    machine.service.send(signal.SIGSTOP)
    assert machine.service.stop() == 0
    machine.service.start()
    pid = machine.service.pid
    machine.service.kill()
    assert is_gone(pid)
    machine.service.start()
    assert machine.service.stop() == 0


@pytest.mark.parametrize("ci", ["true", ""])
@pytest.mark.parametrize("where", ["test", "module"])
def test_nothing_skips_in_ci(tmp_path: Path, ci: str, where: str) -> None:
    skip = "pytest.skip('no device', allow_module_level=True)"
    code = f"import pytest\n{skip if where == 'module' else ''}\ndef test_it():\n    {skip}\n"
    (tmp_path / "test_skips.py").write_text(code)
    env = {"PATH": os.environ["PATH"], "CI": ci, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*argv, "-c", os.devnull, str(tmp_path / "test_skips.py")], env=env, capture_output=True, text=True, check=False
    )
    assert ("no device" in done.stdout and done.returncode in (1, 2)) if ci else "1 skipped" in done.stdout, done.stdout
