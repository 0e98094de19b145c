"""packaging/manual tells what each message of a security key means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pam_mfa.cli.main import cli
from pam_mfa.config import FIDO2_KEYS
from pam_mfa.devices.base import Failure
from pam_mfa.factors import ceremonies, dialogue
from pam_mfa.rules import MATCH_KEYS, TERM_KEYS

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "packaging/manual/keys.md").read_text()
MORE = (
    dialogue.NO_SERVICE, dialogue.NO_KEY, dialogue.NOT_ACCEPTED, dialogue.BAD_PIN, ceremonies.NO_PASSKEYS,
    ceremonies.NOT_VERIFIED, ceremonies.TAKEN,
)  # fmt: skip


@pytest.mark.parametrize("failure", dialogue.WORDS, ids=lambda failure: failure.name)
def test_every_failure_of_a_device_has_its_message_in_the_manual(failure: Failure) -> None:
    assert f"| `{dialogue.WORDS[failure]}` |" in MANUAL


@pytest.mark.parametrize("text", MORE)
def test_every_other_message_too(text: str) -> None:
    assert f"| `{text}` |" in MANUAL


def test_no_message_is_explained_that_is_never_given() -> None:
    source = "".join((ROOT / f"pam_mfa/factors/{name}.py").read_text() for name in ("dialogue", "ceremonies"))
    given = {*dialogue.WORDS.values(), *MORE}
    for text in re.findall(r"^\| `([A-Z][^`]+)` \|", MANUAL, re.MULTILINE):
        assert text in given or text in source


def test_its_commands_are_there() -> None:
    commands = set(re.findall(r"(?:`|^|sudo |do )pam-mfa ([a-z]+)", MANUAL, re.MULTILINE))
    assert {"enroll", "import", "key", "list"} <= commands <= set(cli.commands)
    options = {option for command in cli.commands.values() for option in _options(command)}
    for line in re.findall(r"^(?:sudo )?pam-mfa .*", MANUAL, re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", line)) <= options


def _options(command: object) -> set[str]:
    found = {option for param in getattr(command, "params", []) for option in param.opts}
    return found.union(*(_options(inner) for inner in getattr(command, "commands", {}).values()))


def test_its_settings_are_there() -> None:
    for key in re.findall(r"^([a-z_]+) = ", MANUAL, re.MULTILINE):
        assert key in {*FIDO2_KEYS, *MATCH_KEYS, *TERM_KEYS}


def test_the_readme_points_to_it() -> None:
    assert "packaging/manual/keys.md" in (ROOT / "README.md").read_text()
