"""Manual pages and completions are what packaging/man/generate.py makes of the program as it is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from pam_mfa import config, rules
from pam_mfa.cli.main import cli
from pam_mfa.outcome import PAM_CODE

from .conftest import environment

PACKAGING = Path(__file__).resolve().parents[3] / "packaging"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PACKAGING / "man/generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_is_up_to_date(generate: ModuleType) -> None:
    files = generate.generated()
    kept = [*(PACKAGING / "completions").iterdir(), *(PACKAGING / "man").glob("*.[158]")]
    assert sorted(files) == sorted(kept)
    stale = [path.name for path, text in files.items() if path.read_text() != text]
    assert not stale, "run packaging/man/generate.py"


def test_nothing_is_described_that_is_not_there(generate: ModuleType) -> None:
    assert set(generate.TOP_KEYS) == set(config.TOP_KEYS)
    assert set(generate.MATCH_KEYS) == {"name", *rules.MATCH_KEYS}
    assert set(generate.TERM_KEYS) == set(rules.TERM_KEYS)
    assert set(generate.ENROL_FROM_KEYS) == set(config.ENROL_FROM_KEYS)
    assert set(generate.FIDO2_KEYS) == set(config.FIDO2_KEYS)
    assert set(generate.SMARTCARD_KEYS) == set(config.SMARTCARD_KEYS)
    assert set(generate.WHEN) == set(PAM_CODE)


def test_every_command_and_option_has_its_place(generate: ModuleType) -> None:
    page = generate.command_page().replace("\\-", "-")
    for command, path in generate.commands(cli, click.Context(cli)):
        assert f".SS {path}" in page
        assert command.help
        assert all(option in page for param in command.params for option in param.opts if option.startswith("--")
                   if not getattr(param, "hidden", False))  # fmt: skip
    assert "--confdir" not in page


def test_text_is_escaped(generate: ModuleType) -> None:
    assert generate.roff(".a\\b-c\n'd") == "\\&.a\\eb\\-c\n\\&'d"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pam-mfa re", {"recovery", "remove", "rename", "reset"}),
        ("pam-mfa enroll ", {"fido2", "smartcard", "totp", "recovery", "ssh-key"}),
        ("pam-mfa list --u", {"--user"}),
        ("pam-mfa key ", {"list", "info"}),
        ("pam-mfa try ", {"run", "enable", "confirm", "rollback", "status"}),
        ("pam-mfa try run --r", {"--rollback"}),
        ("pam-mfa config ", {"get", "set", "validate", "edit"}),
        ("pam-mfa import pam-u2f --a", {"--apply", "--appid"}),
    ],
)
def test_bash_completes(tmp_path: Path, words: str, expected: set[str]) -> None:
    program = tmp_path / "pam-mfa"
    program.write_text('#!/bin/sh\nexec "$PYTHON" -P -m pam_mfa.cli "$@"\n')
    program.chmod(0o755)
    script = (
        f'. {PACKAGING}/completions/pam-mfa; COMP_WORDS=({words}); [ "${{words% }}" = "$words" ] || COMP_WORDS+=("");'
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _pam_mfa_completion pam-mfa; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    more = {"PATH": f"{tmp_path}:/usr/bin:/bin", "words": words, "PYTHON": sys.executable}
    done = subprocess.run(
        ["/bin/bash", "-c", script], capture_output=True, text=True, timeout=60, env=environment(**more)
    )
    assert set(done.stdout.split()) == expected, done.stderr


def test_the_installer_names_both_files_of_sudo() -> None:
    text = (PACKAGING / "installer/system.py").read_text()
    assert "/etc/pam.d/sudo and /etc/pam.d/sudo-i" in text
