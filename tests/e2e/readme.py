"""What README.md tells an administrator to write: taken from there, so that what is documented is what is tested."""

from __future__ import annotations

import re

from machine import PROJECT

_BLOCK = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INCLUDE = "@include common-auth\n"


def blocks(section: str) -> list[str]:
    """The blocks of literal text under a heading of README.md, in order."""
    text = (PROJECT / "README.md").read_text()
    _, found, rest = text.partition(f"\n## {section}\n")
    assert found, f"README.md has no section {section!r}"
    return _BLOCK.findall(rest.partition("\n## ")[0])


def sudo_line() -> str:
    """For /etc/pam.d/sudo, below @include common-auth."""
    (line,) = blocks("sudo")
    return line


def sshd_lines(section: str) -> tuple[str, str, str]:
    """For /etc/pam.d/sshd, for sshd_config, and for our settings."""
    pam, sshd, *settings = blocks(section)
    return pam, sshd, "".join(settings)


def below_include(pam_file: str, lines: str) -> str:
    """A PAM file of Debian with our lines below its include of common-auth."""
    assert pam_file.count(INCLUDE) == 1
    return pam_file.replace(INCLUDE, INCLUDE + lines)


def in_place_of_include(pam_file: str, lines: str) -> str:
    """A PAM file of Debian with our lines in place of its include of common-auth."""
    assert pam_file.count(INCLUDE) == 1
    return pam_file.replace(INCLUDE, lines)
