"""packaging/manual/break-glass.md tells what there is: commands, options, prompts, reasons, modes."""

from __future__ import annotations

import re
from pathlib import Path

from pam_mfa import break_glass
from pam_mfa.cli.break_glass import FILE_MODE, FOLDER_MODE, break_glass as command
from pam_mfa.factors.code import PROMPT
from pam_mfa.factors.recovery import LENGTH
from pam_mfa.service import glass

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "packaging/manual/break-glass.md").read_text()


def test_its_commands_and_options_are_there() -> None:
    assert set(re.findall(r"pam-mfa break-glass ([a-z]+)", MANUAL)) == set(command.commands)
    options = {option for each in command.commands.values() for param in each.params for option in param.opts}
    named = set(re.findall(r"`(--[a-z]+)", MANUAL))
    assert named == {option for option in options if option.startswith("--")} - {"--json"}


def test_its_prompts_are_those_that_are_shown() -> None:
    assert f"`{PROMPT}`" in MANUAL
    assert f"`{break_glass.LAST_PROMPT}`" in MANUAL


def test_every_reason_is_told() -> None:
    told = set(re.findall(r"`(?:reason=)?(break_glass_[a-z_]+)`", MANUAL))
    source = "".join((ROOT / "pam_mfa" / name).read_text() for name in ("break_glass.py", "service/glass.py"))
    assert told == set(re.findall(r'"(break_glass_[a-z_]+)"', source))


def test_its_numbers_are_right() -> None:
    assert f"{break_glass.LENGTH} characters" in MANUAL
    assert f"recovery codes ({LENGTH})" in MANUAL
    assert f"`{glass.FOLDER}` (root:pam-mfa, {FOLDER_MODE:04o})" in MANUAL
    assert f"(root:pam-mfa, {FILE_MODE:04o})" in MANUAL


def test_the_readme_points_to_it() -> None:
    assert "packaging/manual/break-glass.md" in (ROOT / "README.md").read_text()
