"""packaging/install after its prerequisites are there: the order of the steps."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from pathlib import Path

import devices
import relying_party
import sitedir
import system
import tree
from steps import LIB, PROJECT, StepFailed, report


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="install",
        description="Build pam-mfa and install it on this system (Debian 12 or 13). Run it again after every update of "
        "the sources or of Python. It never edits the PAM file of another program.",
    )
    parser.add_argument("--destdir", metavar="DIR", type=Path, help="only stage the files, below DIR")
    parser.add_argument(
        "--rp-id",
        metavar="NAME",
        help="domain name that security keys are enrolled for, one for a fleet; only a first installation takes it. "
        f"Default: ${relying_party.VARIABLE}, what you answer, the full name of this host",
    )
    parser.add_argument("--no-apt", "--offline", action="store_true", help="take the Debian packages as they are")
    return parser.parse_args()


def install(root: Path, staged: bool, rp_id: str | None) -> None:
    """All steps. Raises StepFailed."""
    fresh = not staged and not tree.SETTINGS.exists()
    chosen = relying_party.choose(rp_id) if fresh else ""
    tree.make_folders(root)
    site = sitedir.build(root)
    tree.lay(root, site, keep=not staged, rp_id=chosen)
    if fresh:
        report("relying party", f"{chosen or 'the name of this host'}, for security keys (rp_id in {tree.SETTINGS})")
    elif rp_id is not None:
        report("relying party", f"--rp-id is for a first installation: see rp_id in {tree.SETTINGS}")
    if staged:
        tree.forget_sites(tree.below(root, LIB), site.name)
        return
    system.accounts()
    devices.access()
    system.seal_key()
    system.store()
    if system.start():
        tree.forget_sites(LIB, site.name)
    system.check()
    system.advise()


def main() -> int:
    """Run the steps; one line on standard error where one fails."""
    given = options()
    os.umask(0o022)
    try:
        if os.geteuid() != 0:
            raise StepFailed("needs root: sudo ./packaging/install")
        root = given.destdir.resolve() if given.destdir else Path("/")
        project = os.open(PROJECT, os.O_RDONLY)
        fcntl.flock(project, fcntl.LOCK_EX)  # one at a time, until the process ends
        install(root, bool(given.destdir), given.rp_id)
    except StepFailed as failed:
        print(f"install: {failed}", file=sys.stderr)
        return 1
    if given.destdir:
        report("staged", str(root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
