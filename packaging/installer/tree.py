"""What lies where: the files of an installation below / or below a staging directory."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import relying_party
from files import make_directory, place, place_bytes, remove
from steps import LIB, PROJECT, StepFailed, report

PACKAGING = PROJECT / "packaging"
SETTINGS = Path("/etc/pam-mfa/config.toml")
AUTHORITIES = tuple(SETTINGS.parent / "ca" / name for name in ("", "anchors", "intermediates", "crls"))
OWN_SERVICE = Path("/etc/pam.d/pam-mfa")
COMMAND = Path("/usr/bin/pam-mfa")
UNITS = Path("/usr/lib/systemd/system")
EXECUTABLES = ("pam-mfad", "pam-mfa-password")
OTHER_NAMES = ("pam-mfa-engine", "pam-mfa-device", "pam-mfa-verify")  # of pam-mfad
SHARE = Path("/usr/share")
# Directories of the distribution that get files of ours: by pattern below packaging/.
SHARED = {
    "systemd/*": UNITS,
    "udev/*": Path("/usr/lib/udev/rules.d"),
    "polkit/*": Path("/usr/share/polkit-1/rules.d"),
    "sysusers.d/*": Path("/usr/lib/sysusers.d"),
    "tmpfiles.d/*": Path("/usr/lib/tmpfiles.d"),
    "man/*.[1-8]": SHARE / "man",
    "completions/pam-mfa": SHARE / "bash-completion/completions",
    "completions/_pam-mfa": SHARE / "zsh/vendor-completions",
    "completions/pam-mfa.fish": SHARE / "fish/vendor_completions.d",
}


def shipped() -> dict[Path, Path]:
    """Where each file for SHARED goes, by source; a manual page into the directory of its section."""
    found = {}
    for pattern, folder in SHARED.items():
        for path in sorted(PACKAGING.glob(pattern)):
            section = f"man{path.suffix[1:]}" if folder.name == "man" else ""
            found[path] = folder / section / path.name
    return found


def below(root: Path, path: Path) -> Path:
    """An absolute path as it is below `root`."""
    return root / path.relative_to("/")


def module_path() -> Path:
    """Where libpam looks for modules: the multiarch directory that holds Debian's own."""
    folder = Path("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "", "security")
    if not (folder / "pam_permit.so").exists():
        raise StepFailed(f"{folder} holds no PAM modules: this is not a Debian 12 or 13 with libpam-modules")
    return folder / "pam_mfa.so"


def lay(root: Path, site: Path, keep: bool, rp_id: str = "") -> None:
    """Put every file in place and switch to `site`.

    Args:
        keep: files that belong to the administrator stay as they are.
        rp_id: for fresh settings.
    """
    native = site / "pam_mfa/_native"
    for name in EXECUTABLES:
        place(native / name, below(root, LIB / name), 0o755)
    for name in OTHER_NAMES:
        link_daemon(below(root, LIB), name)
    switch(below(root, LIB), site.name)
    place(native / "pam_mfa.so", below(root, module_path()), 0o644)
    place(PACKAGING / "pam-mfa", below(root, COMMAND), 0o755)
    for source, target in shipped().items():
        place(source, below(root, target), 0o644)
    shipped_files = {
        SETTINGS: relying_party.written((PACKAGING / SETTINGS.name).read_text(), rp_id),
        OWN_SERVICE: (PACKAGING / "pam.d" / OWN_SERVICE.name).read_text(),
    }
    kept = [path for path, text in shipped_files.items() if not settle(below(root, path), text, keep)]
    report("files", "in place" + (f"; kept your {' and '.join(map(str, kept))}" if kept else ""))


def settle(path: Path, text: str, keep: bool) -> bool:
    """A file that belongs to the administrator once it is there; returns whether it was put there now."""
    try:
        place_bytes(text.encode(), path, 0o644, once=keep)
    except FileExistsError:
        return False
    return True


def link_daemon(lib: Path, name: str) -> None:
    """The same file as pam-mfad by another name, which decides what it does."""
    new = lib / f".{name}"
    remove(new)
    new.hardlink_to(lib / "pam-mfad")
    new.rename(lib / name)  # the same file already: rename(2) does nothing and leaves `new`
    remove(new)


def switch(lib: Path, name: str) -> None:
    """Point `site` at another directory in one step."""
    new = lib / ".site"
    remove(new)
    new.symlink_to(name)
    new.rename(lib / "site")


def forget_sites(lib: Path, kept: str) -> None:
    """Remove every site directory but one, and what was left unfinished."""
    for path in [*lib.glob("site-*"), *lib.glob(".site-*")]:
        if path.name != kept:
            remove(path)


def make_folders(root: Path) -> None:
    """The directories whose mode matters, before anything is put in them."""
    for path in (LIB, SETTINGS.parent, *AUTHORITIES):
        make_directory(below(root, path))
        below(root, path).chmod(0o755)
        os.chown(below(root, path), 0, 0)
