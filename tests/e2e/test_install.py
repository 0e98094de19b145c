"""packaging/install and packaging/uninstall on systems that can be thrown away: with systemd, and without."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from booted import Booted
from e2e.installing import ACCOUNTS, INSTALL, MODULE, PROVEN, TRIAL, UNINSTALL, Installed, about
from machine import PROJECT, STAGE, Machine, wait_for

STEPS = (
    "build", "files", "relying party", "account", "security keys", "seal key", "store", "service", "doctor",
    "trial login",
)  # fmt: skip
SOCKETS = {
    "priv": "600 root",
    "user": "666 root",
    "manage": "666 root",
    "password": "600 pam-mfa",
    "device": "600 pam-mfa",
    "verify": "600 pam-mfa",
}
OLD_SITE = "/usr/lib/pam-mfa/site-000000000000"
MAKE_OLD_SITE = f"cd /usr/lib/pam-mfa; cp -a site/. {OLD_SITE}; ln -sfn site-000000000000 site"


def credentials(machine: Machine) -> str:
    """Everybody who is enrolled."""
    return machine.run(["pam-mfa", "accounts", "--json"]).stdout


def is_active(system: Booted, unit: str) -> bool:
    """Whether systemd says so."""
    return system.run(["systemctl", "is-active", unit], check=False).stdout == "active\n"


class TestWithSystemd:
    """What was installed, and that it stays."""

    def test_install(self, installed: Installed) -> None:
        lines = installed.said.splitlines()
        assert [line.partition(":")[0] for line in lines if line.startswith(STEPS)] == list(STEPS), lines
        assert PROVEN in lines
        assert "service: running" in lines
        named = next(line for line in lines if line.startswith("not enrolled, with a shell: "))
        assert {"alice", "bob", "carol"} <= set(named.partition(": ")[2].split(", "))
        assert lines[-1].endswith("then run: pam-mfa doctor")
        assert credentials(installed) == ""

    def test_what_lies_where(self, installed: Installed) -> None:
        assert about(installed, "/etc/pam-mfa/seal.key") == "400 root"
        assert installed.run(["stat", "-c", "%s", "/etc/pam-mfa/seal.key"]).stdout == "32\n"
        assert about(installed, "/etc/pam-mfa/config.toml") == "644 root"
        assert about(installed, "/var/lib/pam-mfa") == "700 pam-mfa"
        assert about(installed, "/var/lib/pam-mfa/store.db") == "600 pam-mfa"
        assert about(installed, "/var/lib/pam-mfa-break-glass") == "770 root"
        assert installed.run(["stat", "-c", "%G", "/var/lib/pam-mfa-break-glass"]).stdout == "pam-mfa\n"
        assert about(installed, "/run/pam-mfa") == "755 root"
        assert about(installed, f"/{MODULE}") == "644 root"
        for name, expected in SOCKETS.items():
            assert about(installed, f"/run/pam-mfa/{name}.sock") == expected
        assert about(installed, "/run/pam-mfa/pending") == "755 pam-mfa"
        names = [
            f"/usr/lib/pam-mfa/{name}" for name in ("pam-mfad", "pam-mfa-engine", "pam-mfa-device", "pam-mfa-verify")
        ]
        assert len(set(installed.run(["stat", "-c", "%i", *names]).stdout.split())) == 1
        assert about(installed, "/usr/lib/udev/rules.d/71-pam-mfa-device.rules") == "644 root"
        assert about(installed, "/usr/share/polkit-1/rules.d/pam-mfa-device.rules") == "644 root"

    @pytest.mark.parametrize("account", ACCOUNTS)
    def test_account_cannot_log_in(self, installed: Installed, account: str) -> None:
        entry = installed.run(["getent", "passwd", account]).stdout.strip()
        assert entry.endswith("/nologin")
        assert installed.run(["getent", "shadow", account]).stdout.split(":")[1][0] in "!*"

    def test_no_pam_file_of_others_is_touched(self, installed: Installed) -> None:
        upper = "find /etc/pam.d /etc/sudoers /etc/ssh -newer /etc/pam-mfa/seal.key"
        assert installed.run(["/bin/sh", "-c", upper]).stdout == ""

    def test_units_are_well_formed(self, installed: Installed) -> None:
        units = sorted(path.name for path in (PROJECT / "packaging/systemd").iterdir())
        assert len(units) == 11
        done = installed.run(["systemd-analyze", "verify", *units])
        assert done.stdout + done.stderr == ""

    @pytest.mark.parametrize(
        ("unit", "most"),
        [
            ("pam-mfad.service", 1.0),
            ("pam-mfa-password.service", 2.5),
            ("pam-mfa-device.service", 1.0),
            ("pam-mfa-verify.service", 1.0),
        ],
    )
    def test_units_are_confined(self, installed: Installed, unit: str, most: float) -> None:
        look = ["systemd-analyze", "security", "--offline=yes", f"--threshold={most * 10:.0f}"]
        shown = installed.run([*look, f"/usr/lib/systemd/system/{unit}"]).stdout  # fails where it is above
        assert f"Overall exposure level for {unit}" in shown

    @pytest.mark.parametrize(("unit", "account"), [("pam-mfad", "pam-mfa"), *((name, name) for name in ACCOUNTS[1:])])
    def test_service_has_nothing_to_spare(self, installed: Installed, unit: str, account: str) -> None:
        installed.run(["systemctl", "start", unit])
        pid = installed.main_pid(unit)
        fields = dict(
            line.split(":\t", 1) for line in installed.read(f"/proc/{pid}/status").splitlines() if ":\t" in line
        )
        assert fields["CapPrm"] == fields["CapEff"] == fields["CapBnd"] == "0" * 16
        assert fields["NoNewPrivs"] == "1"
        assert fields["Seccomp"] == "2"
        assert set(fields["Uid"].split()) == {installed.run(["id", "-u", account]).stdout.strip()}

    def test_second_install_changes_nothing(self, own: Installed) -> None:
        own.write("/etc/pam-mfa/config.toml", "fail_delay = 1.5\n")
        before = own.run(["md5sum", "/etc/pam-mfa/seal.key"]).stdout
        done = own.install()
        assert PROVEN in done
        assert "kept your /etc/pam-mfa/config.toml and /etc/pam.d/pam-mfa" in done
        assert "seal key: kept" in done
        assert "is current" in done
        assert own.run(["md5sum", "/etc/pam-mfa/seal.key"]).stdout == before
        assert own.read("/etc/pam-mfa/config.toml") == "fail_delay = 1.5\n"

    def test_old_site_goes_and_the_service_uses_the_new(self, own: Installed) -> None:
        lib = "/usr/lib/pam-mfa"
        own.run(["/bin/sh", "-c", MAKE_OLD_SITE])
        own.install()
        left = own.run(["/bin/sh", "-c", f"cd {lib}; ls -d site-*; readlink site"]).stdout.split()
        assert len(left) == 2
        assert left[0] == left[1] != Path(OLD_SITE).name

    def test_password_of_a_first_enrolment(self, installed: Installed) -> None:
        """The whole way: socket, sandboxed helper, PAM, shadow."""
        code = (
            "from pam_mfa.service.password import check; from pam_mfa.conversation import CheckPassword\n"
            "print([check(CheckPassword('alice', word)).right for word in ('correct horse', 'wrong')])"
        )
        assert installed.python(code).stdout == "[True, False]\n"

    def test_reload_takes_new_settings(self, own: Installed) -> None:
        own.write("/etc/pam-mfa/config.toml", "fail_delay = 99\n")
        own.run(["systemctl", "reload", "pam-mfad"])
        wait_for("the complaint", lambda: "fail_delay" in own.records("--unit=pam-mfad", "--priority=alert"))
        own.write("/etc/pam-mfa/config.toml", "")
        own.run(["systemctl", "reload", "pam-mfad"])
        assert own.run(TRIAL).stdout in PROVEN + "\n"

    @pytest.mark.parametrize("number", ["KILL", "STOP"])
    def test_service_comes_back(self, own: Installed, number: str) -> None:
        """After a crash, and by the watchdog when it hangs; meanwhile root's logins go on by the engine."""

        before = own.main_pid("pam-mfad")
        own.run(["systemctl", "kill", "--kill-whom=main", f"--signal={number}", "pam-mfad"])
        if number == "STOP":
            assert own.run(TRIAL).stdout in PROVEN + "\n"
        wait_for(
            "another process", lambda: own.main_pid("pam-mfad") not in (before, "0") and is_active(own, "pam-mfad")
        )
        assert own.run(TRIAL).stdout in PROVEN + "\n"

    def test_uninstall_refuses_and_lists(self, own: Installed) -> None:
        own.write("/etc/pam.d/one", "auth required pam_mfa.so # ours\n")
        own.write("/etc/pam.d/two", "  auth [default=die] /usr/lib/security/pam_mfa.so\n")
        own.write("/etc/pam.d/three", "# auth required pam_mfa.so\n")
        done = own.run(UNINSTALL, check=False)
        assert done.returncode == 1
        assert [line.strip() for line in done.stderr.splitlines()[1:]] == ["/etc/pam.d/one", "/etc/pam.d/two"]
        assert is_active(own, "pam-mfad")
        assert about(own, f"/{MODULE}") == "644 root"

    def test_uninstall_keeps_what_is_not_made_again(self, own: Installed) -> None:
        before = own.run(["md5sum", "/etc/pam-mfa/seal.key", "/var/lib/pam-mfa/store.db"]).stdout
        own.run(UNINSTALL)
        assert own.run(["md5sum", "/etc/pam-mfa/seal.key", "/var/lib/pam-mfa/store.db"]).stdout == before
        found = own.run(["find", "/usr", "/run", "/etc", "-name", "*pam-mfa*", "-o", "-name", "*pam_mfa*"]).stdout
        assert found.split() == ["/etc/pam-mfa"]
        assert not is_active(own, "pam-mfad-priv.socket")
        own.run(UNINSTALL)
        own.run(["cp", "-a", f"{STAGE}/usr/lib/pam-mfa", "/usr/lib"])  # instead of a build
        assert "seal key: kept" in own.install()

    def test_purge(self, own: Installed) -> None:
        own.run([*UNINSTALL, "--purge"])
        found = own.run(["find", "/usr", "/run", "/etc", "/var/lib", "-name", "*pam[-_]mfa*"]).stdout
        assert found == ""
        for account in ACCOUNTS:
            assert own.run(["getent", "passwd", account], check=False).returncode == 2
            assert own.run(["getent", "group", account], check=False).returncode == 2


class TestWithoutSystemd:
    """Each on a machine of its own."""

    def test_engine_serves(self, bare: Machine) -> None:
        done = bare.run(INSTALL).stdout
        assert "service: no systemd here: start /usr/lib/pam-mfa/pam-mfad as root" in done
        assert PROVEN in done
        bare.wait_for_journal("role=engine")
        bare.service.start()
        assert bare.run(TRIAL).stdout in PROVEN + "\n"
        bare.wait_for_journal("role=service")

    def test_old_site_stays_for_a_service_that_runs(self, bare: Machine) -> None:
        bare.run(INSTALL)
        bare.run(["/bin/sh", "-c", MAKE_OLD_SITE])
        bare.service.start()
        assert "service: started by hand, no systemd here: restart it" in bare.run(INSTALL).stdout
        assert bare.run(["test", "-d", OLD_SITE], check=False).returncode == 0
        bare.service.stop()
        bare.run(INSTALL)
        assert bare.run(["test", "-d", OLD_SITE], check=False).returncode == 1

    def test_account_without_sysusers(self, bare: Machine) -> None:
        bare.run(["rm", "/usr/bin/systemd-sysusers"])
        assert "account: made pam-mfa and pam-mfa-device and pam-mfa-verify" in bare.run(INSTALL).stdout
        for account in ACCOUNTS:
            assert bare.run(["getent", "passwd", account]).stdout.strip().endswith("/nologin")

    def test_root_only(self, bare: Machine) -> None:
        for command in (INSTALL, UNINSTALL, INSTALL[:1]):
            done = bare.run(command, user="alice", check=False)
            assert done.returncode == 1
            assert "needs root: sudo" in done.stderr

    def test_lost_key_is_not_replaced(self, bare: Machine) -> None:
        bare.run(INSTALL)
        bare.run(["rm", "/etc/pam-mfa/seal.key"])
        done = bare.run(INSTALL, check=False)
        assert done.returncode == 1
        assert "put the key back" in done.stderr
        assert bare.run(["test", "-e", "/etc/pam-mfa/seal.key"], check=False).returncode == 1

    def test_unusable_settings_are_told(self, bare: Machine) -> None:
        bare.write("/etc/pam-mfa/config.toml", "fail_delay = 99\n")
        done = bare.run(INSTALL, check=False)
        assert done.returncode == 1
        assert "fail_delay" in done.stderr

    @pytest.mark.parametrize(
        ("instead", "told"),
        [("pam_permit.so", "a wrong code was accepted"), ("pam_deny.so", "the right code was refused (PAM_AUTH_ERR)")],
    )
    def test_trial_finds_a_wrong_module(self, machine: Machine, instead: str, told: str) -> None:
        folder = f"/{MODULE.parent}"
        machine.run(["cp", f"{folder}/{instead}", f"{folder}/pam_mfa.so"])
        done = machine.run(TRIAL, check=False)
        assert done.returncode == 1
        assert told in done.stdout
        assert credentials(machine) == ""

    def test_trial_removes_what_a_killed_one_left(self, machine: Machine) -> None:
        code = (
            f"import os, signal, sys; sys.path.insert(0, {str(PROJECT / 'packaging/installer')!r}); import trial\n"
            "with trial.enrolled(trial.App()): os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert machine.python(code, check=False).returncode == -9
        assert '"pam-mfa"' in credentials(machine)
        assert machine.run(TRIAL).stdout in PROVEN + "\n"
        assert credentials(machine) == ""

    def test_sudoers_without_a_credential_are_named(self, bare: Machine) -> None:
        bare.run(["usermod", "--append", "--groups", "sudo", "alice"])
        bare.run(["groupadd", "ops"])
        bare.run(["usermod", "--append", "--groups", "ops", "carol"])
        bare.write("/etc/sudoers.d/extra", "Defaults lecture=never\nbob ALL = (root) ALL\n%ops ALL=(ALL) ALL\n", 0o440)
        done = bare.run(INSTALL).stdout
        named = next(line for line in done.splitlines() if line.startswith("not enrolled, with sudo"))
        assert {"alice", "bob", "carol"} <= set(named.partition(": ")[2].split(", "))


def test_stage_holds_no_surprise() -> None:
    """Root's alone, no secret, no link but `site`, every module compiled."""
    links, sources, compiled = [], set(), set()
    for path in STAGE.rglob("*"):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (0, 0), path
        if stat.S_ISLNK(found.st_mode):
            links.append(path)
            continue
        assert not found.st_mode & 0o7022, path
        assert path.name != "seal.key"
        if path.suffix == ".py" and "site-" in str(path):
            sources.add(path)
        elif path.suffix == ".pyc":
            compiled.add(path.parent.parent / f"{path.name.partition('.')[0]}.py")
    assert [path.name for path in links] == ["site"]
    assert len(sources) > 100
    assert sources == compiled


def test_command_starts_nothing_of_the_callers(machine: Machine) -> None:
    machine.write("/tmp/evil/click.py", "raise SystemExit('evil')\n", mode=0o644)
    machine.write("/tmp/evil/sitecustomize.py", "raise SystemExit('evil')\n", mode=0o644)
    env = {"PYTHONPATH": "/tmp/evil", "PYTHONSTARTUP": "/tmp/evil/click.py"}
    done = machine.run(["/bin/sh", "-c", "cd /tmp/evil && pam-mfa --help"], env=env)
    assert "enroll" in done.stdout
    assert Path(machine.path("/usr/bin/pam-mfa")).read_text().startswith("#!/usr/bin/python3 -IS\n")
