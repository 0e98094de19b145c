"""What decides who gets in, as it was before a change: saved, compared and restored."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pam_mfa.cli import wholefile
from pam_mfa.cli.paths import Paths
from pam_mfa.cli.tryout import files
from pam_mfa.cli.wholefile import Whole

from .installed import lay


def everything(root: Path) -> dict[str, tuple[object, ...]]:
    """Every entry below /etc as the system shows it, by name."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted((root / "etc").rglob("*")):
        about = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path)] = (
            about.st_mode,
            about.st_uid,
            about.st_gid,
            os.listxattr(path, follow_symlinks=False),
            content,
        )
    return found


@pytest.fixture
def etc(root: Path) -> Path:
    lay(root)
    (root / "etc/pam.d/linked").symlink_to("sudo")
    (root / "etc/pam.d/folder").mkdir()
    (root / "etc/pam.d/folder/inner").write_text("inner")
    return root / "etc"


MARK = """exec /usr/bin/python3 -Ic 'import os; os.setxattr("pam.d/sudo", "trusted.mark", b"1")'"""
CHANGES = {  # shell commands, run in /etc
    "another content": "echo auth required pam_deny.so > pam.d/sudo",
    "another mode": "chmod 0600 pam.d/sudo",
    "another owner": "chown 1:1 pam.d/sudo",
    "an attribute": MARK,
    "gone": "rm pam.d/sudo",
    "new": "echo auth sufficient pam_permit.so > pam.d/new",
    "a new directory": "mkdir -p pam.d/more/deep",
    "new in a directory": "touch pam.d/folder/new",
    "a link elsewhere": "ln -sfn su pam.d/linked",
    "a link for a file": "ln -sfn common-auth pam.d/sudo",
    "a directory for a file": "rm pam.d/sudo; mkdir -p pam.d/sudo/x",
    "a file for a directory": "rm -r pam.d/folder; touch pam.d/folder",
    "a file under another name": "mv pam.d/sudo pam.d/sudo.off",
    "the mode of the directory": "chmod 0700 pam.d",
    "no directory": "rm -r pam.d",
    "another directory": "mv pam.d pam.off; mkdir pam.d",
    "settings": "echo > pam-mfa/config.toml",
    "no settings": "rm pam-mfa/config.toml",
    "pam.conf": "echo sudo auth required pam_permit.so > pam.conf",
}


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_seen_and_taken_back(root: Path, etc: Path, name: str) -> None:
    saved, before = files.save(Paths(root)), everything(root)
    assert files.changed(saved) == []
    subprocess.run(["/bin/sh", "-euc", CHANGES[name]], cwd=etc, check=True)
    assert everything(root) != before
    assert files.changed(saved)
    assert files.restore(saved) == ([], [])
    shutil.rmtree(etc / "pam.off", ignore_errors=True)
    assert everything(root) == before
    assert files.changed(saved) == []
    assert (etc / "pam.d").stat().st_mode & 0o777 == 0o755


def test_what_did_not_change_is_not_touched(root: Path, etc: Path) -> None:
    saved = files.save(Paths(root))
    before = {path: path.lstat().st_ino for path in etc.rglob("*")}
    (etc / "pam.d/sudo").write_text("")
    files.restore(saved)
    assert {path for path, number in before.items() if path.lstat().st_ino != number} == {etc / "pam.d/sudo"}


def test_what_a_link_leads_to_counts_too(root: Path, etc: Path) -> None:
    elsewhere = root / "etc/authselect/system-auth"
    elsewhere.parent.mkdir()
    elsewhere.write_text("auth required pam_unix.so\n")
    (etc / "pam.d/system-auth").symlink_to(elsewhere)
    saved = files.save(Paths(root))
    elsewhere.write_text("auth required pam_deny.so\n")
    assert files.changed(saved) == [elsewhere]
    files.restore(saved)
    assert elsewhere.read_text() == "auth required pam_unix.so\n"


def test_one_that_fails_keeps_none_of_the_others(root: Path, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = files.save(Paths(root))
    real, stuck = wholefile.put, etc / "pam.d/common-auth"

    def put(path: Path, whole: Whole) -> list[str]:
        if path == stuck:
            raise PermissionError(1, "Operation not permitted", str(path))
        return real(path, whole)

    monkeypatch.setattr(wholefile, "put", put)
    stuck.write_text("changed")
    (etc / "pam.d/sudo").write_text("changed")
    (etc / "pam.d/new").write_text("new")
    assert files.restore(saved) == ([f"{stuck}: Operation not permitted"], [])
    assert files.changed(saved) == [stuck]
