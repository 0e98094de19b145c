"""Local or remote: each of the five rules, and that the first one that fits decides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from pam_mfa.origin import UNKNOWN, Facts, Origin, Sessions, origin

HERE = Sessions(seat=True, remote=False)
BOTH = Sessions(seat=True, remote=True)
AWAY = Sessions(seat=False, remote=True)
NONE = Sessions(seat=False, remote=False)
LOCAL, REMOTE = Origin.LOCAL, Origin.REMOTE
EVERYTHING_LOCAL = Facts(peer_remote=False, owner=HERE, user=HERE)


@pytest.mark.parametrize(
    ("service", "rhost", "tty", "peer", "owner", "facts", "expected"),
    [
        # 1: sshd, tty ssh or any rhost is remote, and no later rule is asked
        ("sshd", "", "tty1", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("login", "", "ssh", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("login", "192.0.2.1", "tty1", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("login", "localhost", "tty1", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("login", "127.0.0.1", "tty1", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("login", "::ffff:127.0.0.1", "tty1", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("login", "UNKNOWN", "tty1", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("login", " ", "tty1", 0, None, EVERYTHING_LOCAL, REMOTE),
        ("gdm-password", "\x00", ":0", 0, None, EVERYTHING_LOCAL, REMOTE),
        # 2: logind's session of the peer, before anything about the owner or the tty
        ("sudo", "", "/dev/pts/0", 0, 1000, Facts(peer_remote=False), LOCAL),
        ("sudo", "", "/dev/pts/0", 0, 1000, Facts(peer_remote=False, owner=AWAY), LOCAL),
        ("sudo", "", "/dev/pts/0", 0, 1000, Facts(peer_remote=True, owner=HERE), REMOTE),
        ("login", "", "tty1", 0, None, Facts(peer_remote=True), REMOTE),
        ("polkit-1", "", "", 0, None, Facts(peer_remote=True, user=HERE), REMOTE),
        # 3: an owner: on a seat and nowhere else; its tty says nothing
        ("sudo", "", "/dev/pts/0", 0, 1000, Facts(owner=HERE), LOCAL),
        ("sudo", "", "/dev/pts/0", 0, 1000, Facts(owner=BOTH), REMOTE),
        ("sudo", "", "/dev/pts/0", 0, 1000, Facts(owner=AWAY), REMOTE),
        ("sudo", "", "tty1", 0, 1000, Facts(owner=NONE), REMOTE),
        ("sudo", "", "tty1", 0, 1000, UNKNOWN, REMOTE),
        ("sudo", "", "tty1", 0, 0, UNKNOWN, REMOTE),
        ("sudo", "", ":0", 0, 1000, Facts(user=HERE), REMOTE),
        ("polkit-1", "", "", 0, 1000, Facts(owner=AWAY, user=HERE), REMOTE),
        # 3: also one whom only logind knows
        ("polkit-1", "", "", 0, None, Facts(owner=HERE), LOCAL),
        ("polkit-1", "", "", 0, None, Facts(owner=BOTH, user=HERE), REMOTE),
        ("login", "", "tty1", 0, None, Facts(owner=NONE), REMOTE),
        ("xscreensaver", "", ":0", 1000, None, Facts(owner=HERE), LOCAL),
        ("xscreensaver", "", ":0", 1000, None, Facts(owner=BOTH), REMOTE),
        ("xscreensaver", "", ":0", 1000, None, UNKNOWN, REMOTE),
        ("polkit-1", "", "", 1000, None, Facts(user=HERE), REMOTE),
        # 4: nobody yet: a virtual console or a display
        ("login", "", "tty1", 0, None, UNKNOWN, LOCAL),
        ("login", "", "/dev/tty1", 0, None, UNKNOWN, LOCAL),
        ("login", "", "tty63", 0, None, UNKNOWN, LOCAL),
        ("gdm-password", "", ":0", 0, None, UNKNOWN, LOCAL),
        ("lightdm", "", ":10.0", 0, None, UNKNOWN, LOCAL),
        ("login", "", "tty1", 0, None, Facts(user=AWAY), LOCAL),
        # 4: polkit has no tty; the seat of its user counts
        ("polkit-1", "", "", 0, None, Facts(user=HERE), LOCAL),
        ("polkit-1", "", "", 0, None, Facts(user=BOTH), LOCAL),
        ("polkit-1", "", "", 0, None, Facts(user=AWAY), REMOTE),
        ("polkit-1", "", "", 0, None, UNKNOWN, REMOTE),
        ("polkit-2", "", "", 0, None, Facts(user=HERE), REMOTE),
        # 5: everything else
        ("login", "", "", 0, None, UNKNOWN, REMOTE),
        ("login", "", "", 0, None, Facts(user=HERE), REMOTE),
        ("login", "", "tty", 0, None, UNKNOWN, REMOTE),
        ("login", "", "tty0", 0, None, UNKNOWN, REMOTE),
        ("login", "", "tty64", 0, None, UNKNOWN, REMOTE),
        ("login", "", "ttyS0", 0, None, UNKNOWN, REMOTE),
        ("login", "", "tty1\n", 0, None, UNKNOWN, REMOTE),
        ("login", "", "tty\u0661", 0, None, UNKNOWN, REMOTE),
        ("login", "", "/dev/pts/1", 0, None, UNKNOWN, REMOTE),
        ("login", "", "pts/tty1", 0, None, UNKNOWN, REMOTE),
        ("login", "", "console", 0, None, UNKNOWN, REMOTE),
        ("gdm-password", "", ":", 0, None, UNKNOWN, REMOTE),
        ("gdm-password", "", "localhost:10.0", 0, None, UNKNOWN, REMOTE),
        ("gdm-password", "", "192.0.2.1:0", 0, None, UNKNOWN, REMOTE),
    ],
)
def test_rules_in_their_order(
    service: str, rhost: str, tty: str, peer: int, owner: int | None, facts: Facts, expected: Origin
) -> None:
    assert origin(service, rhost, tty, peer, owner, facts) is expected


def test_facts_are_unknown_unless_given() -> None:
    assert origin("sudo", "", "tty1", 0, 1000) is REMOTE
    assert origin("login", "", "tty1", 0, None) is LOCAL


def test_the_environment_is_no_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"XDG_SEAT": "seat0", "XDG_VTNR": "1", "DISPLAY": ":0", "XDG_SESSION_TYPE": "x11"}.items():
        monkeypatch.setenv(name, value)
    assert origin("sudo", "", "/dev/pts/0", 0, 1000) is REMOTE
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
    assert origin("login", "", "tty1", 0, None) is LOCAL


SESSIONS = st.none() | st.builds(Sessions, st.booleans(), st.booleans())
FACTS = st.builds(Facts, st.none() | st.booleans(), SESSIONS, SESSIONS)


@settings(deadline=None)
@given(st.text(), st.text(min_size=1), st.text(), st.integers(0), st.none() | st.integers(0), FACTS)
def test_a_remote_host_is_remote_whatever_it_is_called(
    service: str, rhost: str, tty: str, peer: int, owner: int | None, facts: Facts
) -> None:
    assert origin(service, rhost, tty, peer, owner, facts) is REMOTE


@settings(deadline=None)
@given(st.text(), st.text(), st.text(), st.integers(1), st.none() | st.integers(0))
def test_whoever_is_not_root_is_never_local_without_facts(
    service: str, rhost: str, tty: str, peer: int, owner: int | None
) -> None:
    assert origin(service, rhost, tty, peer, owner) is REMOTE
