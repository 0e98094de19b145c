"""What the device service may open: udev's rule for security keys, polkit's for pcscd."""

from __future__ import annotations

from pathlib import Path

from steps import report, run

UDEV = Path("/run/udev/control")


def access() -> None:
    """Have udev look at its rules again, and at the keys that are plugged in. polkit notices its own."""
    if not UDEV.exists():
        report("security keys", "no udev here: nodes of keys get no group by themselves")
        return
    run(["udevadm", "control", "--reload"], "udev did not take its rules, see above")
    run(["udevadm", "trigger", "--subsystem-match=hidraw"], "udev did not look at the devices, see above")
    run(["udevadm", "settle", "--timeout=10"], "udev does not come to an end: udevadm settle")
    report("security keys", "the device service may open them")
