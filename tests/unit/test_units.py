"""What the units must allow; that systemd understands them, and confines by them, is for the e2e tests."""

from __future__ import annotations

from pathlib import Path

from pam_mfa.devices.errand import MAX_DEVICES
from pam_mfa.devices.helper import MAX_DATA
from pam_mfa.devices.service import MAX_ERRANDS
from pam_mfa.service.loop import LOOK_UP_THREADS, PASSWORD_THREADS

GLASS = "-/var/lib/pam-mfa-break-glass"
UNITS = Path(__file__).resolve().parents[2] / "packaging/systemd"


def settings(unit: str) -> dict[str, str]:
    """NAME=VALUE of one unit, all sections."""
    lines = (UNITS / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_passwords_are_reported_to_the_kernels_audit() -> None:
    """By netlink, with the capability, and from the initial user namespace: libpam says nothing where it may not."""
    unit = settings("pam-mfa-password.service")
    assert unit["RestrictAddressFamilies"].split() == ["AF_UNIX", "AF_NETLINK"]
    assert "CAP_AUDIT_WRITE" in unit["CapabilityBoundingSet"].split()
    assert "PrivateUsers" not in unit


def test_the_network_stays_out_of_reach_of_whoever_reads_passwords() -> None:
    unit = settings("pam-mfa-password.service")
    assert (unit["PrivateNetwork"], unit["IPAddressDeny"]) == ("yes", "any")


def test_devices_are_the_device_services_alone() -> None:
    """And of those the hidraw nodes: readers are pcscd's, whose socket is a file that no sandbox may hide."""
    unit = settings("pam-mfa-device.service")
    assert (unit["DevicePolicy"], unit["DeviceAllow"]) == ("closed", "char-hidraw rw")
    assert "PrivateDevices" not in unit
    assert "TemporaryFileSystem" not in unit
    assert "/run" not in unit["InaccessiblePaths"]
    for other in ("pam-mfad.service", "pam-mfa-password.service", "pam-mfa-verify.service"):
        assert settings(other)["PrivateDevices"] == "yes"


def test_the_device_service_has_neither_network_nor_key_nor_store() -> None:
    unit = settings("pam-mfa-device.service")
    assert (unit["PrivateNetwork"], unit["IPAddressDeny"]) == ("yes", "any")
    assert unit["RestrictAddressFamilies"] == "AF_UNIX"
    assert unit["InaccessiblePaths"].split() == ["-/var/lib/pam-mfa", GLASS, "-/etc/pam-mfa"]
    assert not {"LoadCredential", "StateDirectory", "ReadWritePaths"} & unit.keys()


def test_the_device_service_is_never_given_up_on() -> None:
    unit = settings("pam-mfa-device.service")
    assert (unit["Restart"], unit["StartLimitIntervalSec"]) == ("always", "0")
    assert settings("pam-mfa-device.socket")["FileDescriptorName"] == "device"


def test_the_path_checker_has_nothing_but_certificates() -> None:
    unit = settings("pam-mfa-verify.service")
    assert (unit["PrivateNetwork"], unit["IPAddressDeny"], unit["RestrictAddressFamilies"]) == ("yes", "any", "AF_UNIX")
    assert unit["InaccessiblePaths"].split() == ["-/var/lib/pam-mfa", GLASS, "-/etc/pam-mfa/seal.key", "-/run/pcscd"]
    assert not {"LoadCredential", "StateDirectory", "ReadWritePaths", "DeviceAllow"} & unit.keys()
    assert unit["MemoryMax"]


def test_the_path_checker_is_never_given_up_on() -> None:
    unit = settings("pam-mfa-verify.service")
    assert (unit["Restart"], unit["StartLimitIntervalSec"]) == ("always", "0")
    socket = settings("pam-mfa-verify.socket")
    assert (socket["FileDescriptorName"], socket["SocketUser"], socket["SocketMode"]) == ("verify", "pam-mfa", "0600")


def test_the_service_sees_the_sessions_of_others() -> None:
    """/proc/PID/cgroup of whoever asks, and /run/systemd/sessions and users."""
    unit = settings("pam-mfad.service")
    assert not {"ProtectProc", "ProcSubset", "TemporaryFileSystem", "InaccessiblePaths", "RootDirectory"} & unit.keys()


def test_the_service_can_take_break_glass_codes_away() -> None:
    """Everything else outside of its own state is read-only to it."""
    unit = settings("pam-mfad.service")
    assert (unit["ProtectSystem"], unit["ReadWritePaths"]) == ("strict", GLASS)
    made = (UNITS.parent / "tmpfiles.d/pam-mfa.conf").read_text().splitlines()
    assert f"d {GLASS.removeprefix('-')} 0770 root pam-mfa -" in made


def test_no_record_of_a_login_is_dropped_by_journald() -> None:
    assert settings("pam-mfad.service")["LogRateLimitIntervalSec"] == "0"


def test_memory_and_processes_of_the_device_service_are_bounded_and_enough() -> None:
    """A helper that is too many is ended, and nothing beside it."""
    unit = settings("pam-mfa-device.service")
    assert MAX_DEVICES * MAX_DATA <= int(unit["MemoryMax"].removesuffix("M")) << 20 <= 1 << 30
    assert 2 * MAX_ERRANDS * MAX_DEVICES < int(unit["TasksMax"]) <= 1000
    assert unit["OOMPolicy"] == "continue"


def test_memory_and_threads_of_the_service_are_bounded_and_enough() -> None:
    unit = settings("pam-mfad.service")
    needed = 35 + int(unit["LimitNOFILE"]) * 50 // 1024  # MiB, as tests/bench measures them
    assert 2 * needed <= int(unit["MemoryMax"].removesuffix("M")) <= 1024
    assert 3 + 3 * LOOK_UP_THREADS + PASSWORD_THREADS < int(unit["TasksMax"]) <= 100
