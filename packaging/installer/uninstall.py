"""packaging/uninstall: refuse while a PAM file names the module, then take away what install put there."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from files import remove
from steps import LIB, StepFailed, report, run
from system import ACCOUNTS, BREAK_GLASS, HELPERS, KEY, RESCUER, RUN, SOCKETS, STATE, exists, runs_by_hand, systemd_runs
from tree import COMMAND, OWN_SERVICE, PACKAGING, SETTINGS, UNITS, module_path, shipped

MODULE = "pam_mfa.so"
PAM_PLACES = ("/etc/pam.conf", "/etc/pam.d", "/usr/lib/pam.d")
SERVICES = ("pam-mfad.service", RESCUER, *(f"{name}.service" for name in HELPERS))
TRYOUT = Path("/var/lib/pam-mfa-try")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="uninstall",
        description="Remove pam-mfa. Store, seal key, settings and break-glass codes stay: a later install finds "
        "everybody enrolled.",
    )
    parser.add_argument(
        "--purge",
        action="store_true",
        help="remove store, seal key, settings, break-glass codes and the users of the services too",
    )
    return parser.parse_args()


def users_of_module(places: tuple[str, ...] = PAM_PLACES) -> list[Path]:
    """The PAM files, besides our own, that name the module outside of a comment."""
    files = [path for place in map(Path, places) for path in ([place] if place.is_file() else sorted(place.glob("*")))]
    return [path for path in files if path.is_file() and path != OWN_SERVICE and names_module(path)]


def names_module(path: Path) -> bool:
    """Whether one line does, up to its comment."""
    text = path.read_text(errors="replace")
    return any(MODULE in line.partition("#")[0] for line in text.splitlines())


def stop() -> None:
    """Stop and disable the units. What runs without systemd was started by hand, and ends by hand."""
    units = [unit for unit in (*SOCKETS, *SERVICES) if (UNITS / unit).exists()]
    if units and systemd_runs():
        run(["systemctl", "disable", "--quiet", "--now", *units], "the units did not stop, see above")
        report("service", "stopped")
    elif runs_by_hand():
        report("service", "pam-mfad was started by hand and still runs: end it")


def take_away() -> None:
    """Remove the files. Raises StepFailed."""
    own_service = [OWN_SERVICE] if is_as_shipped(OWN_SERVICE) else []
    files = [module_path(), COMMAND, *shipped().values(), *own_service]
    gone = [path for path in [*files, LIB, RUN, TRYOUT] if remove(path)]
    if systemd_runs():
        run(["systemctl", "daemon-reload"], "systemd did not forget the units, see above")
    report("files", f"{len(gone)} removed" if gone else "there were none")


def is_as_shipped(path: Path) -> bool:
    """Whether a file that belongs to the administrator was never changed."""
    return path.is_file() and path.read_bytes() == (PACKAGING / "pam.d" / path.name).read_bytes()


def purge() -> None:
    """Remove what is not made again: who is enrolled, the key, the settings, the account."""
    for path in (STATE, BREAK_GLASS, SETTINGS.parent, OWN_SERVICE):
        remove(path)
    for name in filter(exists, ACCOUNTS):
        run(["userdel", name], f"userdel could not remove the user {name}, see above")
    report("store, seal key, settings, break-glass codes, accounts", "removed")


def uninstall(purged: bool) -> None:
    """All steps. Raises StepFailed."""
    if os.geteuid() != 0:
        raise StepFailed("needs root: sudo ./packaging/uninstall")
    if users := users_of_module():
        named = "".join(f"\n  {path}" for path in users)
        raise StepFailed(f"without {MODULE} these would let nobody in; take its line out of them first:{named}")
    if (TRYOUT / "pending.json").exists():
        raise StepFailed(
            "something is being tried, and would be taken back: pam-mfa try confirm, or pam-mfa try rollback"
        )
    stop()
    take_away()
    if purged:
        purge()
    else:
        report("kept", f"{STATE}, {BREAK_GLASS}, {KEY}, {SETTINGS}; to remove them too: packaging/uninstall --purge")


def main() -> int:
    """Run the steps; one line, and the files, on standard error where one fails."""
    given = options()
    try:
        uninstall(given.purge)
    except StepFailed as failed:
        print(f"uninstall: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
