"""packaging/installer: the relying party id of a first installation."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from pam_mfa import config

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "packaging/installer"))

import relying_party  # noqa: E402
from steps import StepFailed  # noqa: E402

SETTINGS = (PROJECT / "packaging/config.toml").read_text()
NAMES = ["example.org", "a", "xn--bcher-kva.example", "1.2.3.4", f"{'a' * 63}.org", ".".join(["a" * 49] * 5)]
NO_NAMES = [
    "", ".", "example.org.", ".org", "Example.org", "a b", "-a", "a-", "a..b", "https://a", "a:1", "a_b", "a\n",
    "b\u00fccher.example", f"{'a' * 64}.org", ".".join(["a" * 50] * 5), 'a"',
]  # fmt: skip


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, nothing in the environment, a host without a domain."""
    monkeypatch.delenv(relying_party.VARIABLE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    monkeypatch.setattr(socket, "getfqdn", lambda: "machine")


@pytest.mark.parametrize("name", NAMES + NO_NAMES)
def test_the_settings_take_what_the_installer_takes(name: str) -> None:
    """One rule in two places: the installer runs before there is a pam_mfa to ask."""
    taken = relying_party.NAME.fullmatch(name) is not None
    assert taken == (config.HOST.fullmatch(name) is not None)
    assert taken == (name in NAMES)


def test_given_before_environment_before_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert relying_party.choose(None) == ""
    monkeypatch.setattr(socket, "getfqdn", lambda: "Machine.Example.NET.")
    assert relying_party.choose(None) == "machine.example.net"
    monkeypatch.setenv(relying_party.VARIABLE, "environment.example")
    assert relying_party.choose(None) == "environment.example"
    assert relying_party.choose("given.example") == "given.example"


@pytest.mark.parametrize("name", ["localhost", "localhost.localdomain", "machine", "two words.example", ""])
def test_a_name_that_no_key_should_be_bound_to_is_not_taken_from_the_host(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    assert relying_party.choose(None) == ""


@pytest.mark.parametrize("name", NO_NAMES[1:])
def test_no_domain_name_is_refused(name: str) -> None:
    with pytest.raises(StepFailed, match="--rp-id"):
        relying_party.choose(name)


def test_it_lands_in_the_settings_and_nothing_else_changes() -> None:
    settings = relying_party.written(SETTINGS, "login.example.org")
    assert config.parse(settings, ("fido2", "smartcard", "totp", "recovery")).fido2.rp_id == "login.example.org"
    assert settings.replace('rp_id = "login.example.org"', '#rp_id = "example.org"') == SETTINGS
    assert relying_party.written(SETTINGS, "") == SETTINGS


@pytest.mark.parametrize("settings", ["", SETTINGS.replace("#rp_id", "rp_id"), SETTINGS + relying_party.LINE])
def test_settings_without_a_place_for_it_are_refused(settings: str) -> None:
    with pytest.raises(StepFailed):
        relying_party.written(settings, "example.org")
