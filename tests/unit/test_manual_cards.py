"""packaging/manual/cards.md tells what each message of a smartcard means, and names nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pam_mfa.cli.main import cli
from pam_mfa.config import SMARTCARD_KEYS
from pam_mfa.devices.base import Failure
from pam_mfa.factors import card_ceremonies, card_dialogue, card_enrolment, dialogue
from pam_mfa.factors.piv import KINDS

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "packaging/manual/cards.md").read_text()
TEXTS = {
    *card_dialogue.WORDS.values(), card_dialogue.NO_SERVICE, card_dialogue.NO_CARD, card_dialogue.NOT_ACCEPTED,
    card_dialogue.BAD_PIN, card_ceremonies.BAD_PATH, card_ceremonies.UNDECIDED, card_ceremonies.SHARED,
    *card_ceremonies.PATHS.values(), *card_enrolment.REFUSALS.values(),
} - {card_enrolment.STOPPED}  # fmt: skip


@pytest.mark.parametrize("text", sorted(TEXTS))
def test_every_message_is_in_the_manual(text: str) -> None:
    assert f"| `{text}` |" in MANUAL


def test_no_message_is_explained_that_is_never_given() -> None:
    assert set(re.findall(r"^\| `([A-Z][^`]+\.)` \|", MANUAL, re.MULTILINE)) == TEXTS


def test_every_failure_of_a_device_has_words_for_one_of_the_two() -> None:
    assert set(card_dialogue.WORDS) | set(dialogue.WORDS) == set(Failure)


def test_its_commands_are_there() -> None:
    fenced = "".join(re.findall(r"```(.*?)```", MANUAL, re.DOTALL))
    for line in re.findall(r"^ *(?:\$ |sudo )?pam-mfa (.*)", fenced, re.MULTILINE):
        words = line.partition("#")[0].split()
        command = cli.commands[words[0]]
        inner = getattr(command, "commands", {}).get(words[1]) if len(words) > 1 else None
        known = {option for param in (inner or command).params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_its_settings_and_kinds_are_there() -> None:
    own, _, _ = MANUAL.partition("## Coming from")
    settings = re.findall(r"^ *\| `([a-z_]+)(?: = [^`]*)?` \|", own, re.MULTILINE)
    assert {*SMARTCARD_KEYS, *KINDS.values()} >= set(settings)
    assert {"trust", *(key for key in SMARTCARD_KEYS if not key.endswith("_anchors"))} <= {*settings, "trust"}
    for key in re.findall(r"^ *([a-z_]+) = ", MANUAL, re.MULTILINE):
        assert key in SMARTCARD_KEYS
    assert all(f"| `{word}` |" in MANUAL for word in KINDS.values())


def test_the_readme_and_the_settings_file_point_to_it() -> None:
    for name in ("README.md", "packaging/config.toml"):
        assert "packaging/manual/cards.md" in (ROOT / name).read_text()
