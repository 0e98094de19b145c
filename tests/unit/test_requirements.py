"""What is installed is pinned, file by file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PINNED = [
    PROJECT / f"{name}requirements{kind}"
    for name, kind in [("packaging/", ""), ("packaging/", "-build"), ("packaging/", "-source"), ("tests/", "")]
]
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][^ ]*) \\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)


def entries(path: Path) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by name."""
    return {
        found["name"]: (found["version"], found["hashes"].count("--hash")) for found in ENTRY.finditer(path.read_text())
    }


@pytest.mark.parametrize("stem", PINNED, ids=lambda path: f"{path.parent.name}/{path.name}")
class TestPinned:
    """For each of the four files."""

    def test_every_line_belongs_to_a_hashed_entry(self, stem: Path) -> None:
        text = stem.with_suffix(".txt").read_text()
        rest = ENTRY.sub("", re.sub(r"^#.*\n", "", text))
        assert rest == ""
        assert entries(stem.with_suffix(".txt"))

    def test_what_was_asked_for_is_pinned(self, stem: Path) -> None:
        asked = stem.with_suffix(".in").read_text().split()
        assert asked == sorted(asked)
        assert set(asked) <= entries(stem.with_suffix(".txt")).keys()


def test_same_version_everywhere() -> None:
    versions: dict[str, set[str]] = {}
    for stem in PINNED:
        for name, (version, _) in entries(stem.with_suffix(".txt")).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_wheels_for_two_pythons_and_two_machines() -> None:
    """A compiled package has a file for each; how many hashes it has tells whether the pins saw them all."""
    found = entries(PINNED[0].with_suffix(".txt"))
    assert found["cffi"][1] > 20
    assert found["cryptography"][1] > 20


def test_runtime_imports_are_pinned() -> None:
    """Every top-level name that pam_mfa imports is the standard library's, its own, or pinned."""
    module_of = {"pyscard": "smartcard"}
    names = set()
    for path in (PROJECT / "pam_mfa").rglob("*.py"):
        names |= set(re.findall(r"^\s*(?:import|from) ([a-z_][a-z0-9_]*)", path.read_text(), re.MULTILINE))
    foreign = names - set(sys.stdlib_module_names) - {"pam_mfa"}
    pinned = {
        module_of.get(name, name).replace("-", "_")
        for stem in (PINNED[0], PINNED[2])
        for name in entries(stem.with_suffix(".txt"))
    }
    assert foreign <= pinned
