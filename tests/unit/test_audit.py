"""Audit records: the fields they become, and one bounded ASCII line whatever is in them."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given, settings, strategies as st

from pam_mfa import audit
from pam_mfa.audit import Record, escape, render
from pam_mfa.outcome import Outcome
from pam_mfa.structure import replace


def record(**changes: object) -> Record:
    base = Record(
        event="login",
        outcome=Outcome.DENIED,
        reason="wrong_code",
        role="service",
        service="sshd",
        user="alice",
        uid=1000,
        session="0123abcd",
        duration_ms=412,
        rhost="192.0.2.1",
        tty="ssh",
        factor="totp",
        credential="ff00",
        label="blue nano",
    )
    return replace(base, **changes)


# --------------------------------------------------------------------------------------------- rendering


def test_an_alert_is_one_whatever_became_of_the_session() -> None:
    for outcome in (None, Outcome.GRANTED):
        fields = render(record(event="alert", outcome=outcome, reason="clone_suspect"))
        assert fields["PRIORITY"] == "1"
        assert "reason=clone_suspect" in fields["MESSAGE"]
        assert 'label="blue nano"' in fields["MESSAGE"]


def test_the_fields_of_a_record() -> None:
    assert render(record()) == {
        "MESSAGE": "login DENIED reason=wrong_code role=service uid=1000 factor=totp credential=ff00 session=0123abcd "
        'duration_ms=412 service="sshd" user="alice" rhost="192.0.2.1" tty="ssh" label="blue nano"',
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "pam-mfa",
        "SYSLOG_FACILITY": "10",
        "SYSLOG_PID": str(os.getpid()),
        "PAM_MFA_EVENT": "login",
        "PAM_MFA_OUTCOME": "DENIED",
        "PAM_MFA_REASON": "wrong_code",
        "PAM_MFA_ROLE": "service",
        "PAM_MFA_SERVICE": "sshd",
        "PAM_MFA_USER": "alice",
        "PAM_MFA_UID": "1000",
        "PAM_MFA_RHOST": "192.0.2.1",
        "PAM_MFA_TTY": "ssh",
        "PAM_MFA_FACTOR": "totp",
        "PAM_MFA_CREDENTIAL": "ff00",
        "PAM_MFA_LABEL": "blue nano",
        "PAM_MFA_SESSION": "0123abcd",
        "PAM_MFA_DURATION_MS": "412",
    }


def test_what_is_not_known_is_left_out_but_zero_is_known() -> None:
    bare = render(Record("login", Outcome.UNAVAILABLE, "store", "engine", "su", "bob", None, "s", 0))
    assert {name for name in bare if name.startswith("PAM_MFA_")} == {
        f"PAM_MFA_{name}"
        for name in ("EVENT", "OUTCOME", "REASON", "ROLE", "SERVICE", "USER", "SESSION", "DURATION_MS")
    }
    assert render(record(uid=0, duration_ms=0))["PAM_MFA_UID"] == "0"
    assert render(record(uid=0, duration_ms=0))["PAM_MFA_DURATION_MS"] == "0"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_priorities(outcome: Outcome) -> None:
    fields = render(record(outcome=outcome))
    assert fields["PRIORITY"] == ("4" if outcome in (Outcome.LOCKED, Outcome.UNAVAILABLE) else "5")
    assert fields["PAM_MFA_OUTCOME"] == outcome.name


def test_a_management_request_that_was_carried_out() -> None:
    fields = render(record(event="remove", outcome=None, role="manage"))
    assert fields["PAM_MFA_OUTCOME"] == "DONE"
    assert fields["PRIORITY"] == "5"
    assert fields["MESSAGE"].startswith("remove DONE ")


def test_an_alert_is_one_line_at_alert_level() -> None:
    fields = audit.render_alert('config.toml\n"x" ' + "y" * 5000)
    assert fields["PRIORITY"] == "1"
    assert fields["MESSAGE"].startswith("config.toml\\x0a\\x22x\\x22 yyy")
    assert len(fields["MESSAGE"]) <= 2003


def test_a_record_has_no_place_for_a_secret() -> None:
    assert set(Record.__match_args__) == {
        "event", "outcome", "reason", "role", "service", "user", "uid", "session", "duration_ms", "rhost", "tty",
        "factor", "credential", "label", "subject", "note",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("alice", "alice"),
        ("", ""),
        ("a b~!", "a b~!"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\0\x7f\x80\x9f\xe9", "\\x00\\x7f\\x80\\x9f\\xe9"),
        ("\u202e\u2028", "\\u202e\\u2028"),
        ("\U0001f511", "\\U0001f511"),
        ("\udcff", "\\udcff"),
        ("\\x0a", "\\x5cx0a"),
        ('a" uid=0 "', "a\\x22 uid=0 \\x22"),
        ("%s%n{0}", "%s%n{0}"),
    ],
)
def test_escapes(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_long_text_is_cut_and_says_so() -> None:
    assert escape("a" * 256) == "a" * 256
    assert escape("a" * 257) == "a" * 256 + "..."
    assert escape("a" * 255 + "\n") == "a" * 255 + "..."  # never within an escape
    assert escape("a" * 252 + "\n") == "a" * 252 + "\\x0a"
    assert len(escape("\U0001f511" * 65536)) <= 259


HOSTILE = st.text() | st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp")), max_size=400)
ESCAPED = re.compile(r"(?:[ !#-\[\]-~]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*(?:\.\.\.)?", re.ASCII)


@settings(deadline=None)
@given(st.lists(HOSTILE, min_size=8, max_size=8))
def test_hostile_text_stays_one_bounded_line(texts: list[str]) -> None:
    names = ("reason", "service", "user", "rhost", "tty", "factor", "credential", "label")
    fields = render(record(**dict(zip(names, texts, strict=True))))
    for name, value in fields.items():
        assert re.fullmatch(r"[ -~]{1,4000}", value), name
        if name != "MESSAGE":
            assert len(value) <= 259, name
            assert ESCAPED.fullmatch(value), name
    assert len(audit.journal_form(fields)) <= 8192
    assert audit.journal_form(fields).count(b"\n") == len(fields)
    assert b"\n" not in audit.syslog_form(fields)
    # The quotes around foreign text are the only ones: no value can end its own.
    assert fields["MESSAGE"].count('"') == 2 * sum(bool(t) for t in (*texts[1:5], texts[7]))


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)
