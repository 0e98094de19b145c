"""Reading PAM files; that it is libpam's way of reading is for tests/pam/test_pamfiles_vs_libpam.py to say."""

from __future__ import annotations

import pytest

from pam_mfa.cli import pamfiles
from pam_mfa.cli.pamfiles import BAD, DIE, DONE, IGNORE, OK, RETURNS, SKIP, SUCCESS, Kind, Unreadable, actions

NOTHING: dict[str, str] = {}
CONF = """\
# /etc/pam.conf
sudo  auth required pam_mfa.so \\
      debug
SUDO  account required pam_permit.so
login @include common
other auth required pam_deny.so
"""


def test_places_count_from_where_a_line_starts() -> None:
    texts = {
        "sudo": "#%PAM\n\nauth required \\\n pam_a.so\n@include common\n",
        "common": "auth required pam_b.so [x y] z",
    }
    lines = pamfiles.stacks("sudo", texts.get)["auth"]
    assert [(line.place, line.name, line.arguments) for line in lines] == [
        ("sudo:3", "pam_a.so", ()),
        ("common:1", "pam_b.so", ("x y", "z")),
    ]


def test_a_type_without_lines_has_those_of_other() -> None:
    found = pamfiles.stacks(
        "sudo", {"sudo": "auth required a.so", "other": "auth required b.so\naccount required c.so"}.get
    )
    assert [line.name for line in found["auth"]] == ["a.so"]
    assert [line.name for line in found["account"]] == ["c.so"]
    assert found["session"] == ()


def test_substacks_are_one_level_deeper() -> None:
    texts = {"sudo": "auth substack one", "one": "auth substack two\nauth required a.so", "two": "auth include three",
             "three": "auth required b.so"}  # fmt: skip
    lines = pamfiles.stacks("sudo", texts.get)["auth"]
    assert [(line.kind, line.level, line.module) for line in lines] == [
        (Kind.SUBSTACK, 0, "one"),
        (Kind.SUBSTACK, 1, "two"),
        (Kind.MODULE, 2, "b.so"),
        (Kind.MODULE, 1, "a.so"),
    ]


REFUSED: list[dict[str, str]] = [
    {},
    {"sudo": "@include absent"},
    {"sudo": "@include sudo"},
    {"sudo": "auth x \\"},
    {"sudo": "auth x \\\n"},
    {"sudo": "auth required \\\n\npam_permit.so"},
    {"sudo": "auth required \\\n # why\npam_permit.so"},
]


@pytest.mark.parametrize("texts", REFUSED)
def test_what_libpam_refuses_as_a_whole(texts: dict[str, str]) -> None:
    with pytest.raises(Unreadable):
        pamfiles.stacks("sudo", texts.get)


def test_a_file_that_includes_itself_is_a_broken_line() -> None:
    (*_, last) = pamfiles.stacks("sudo", {"sudo": "auth include sudo"}.get)["auth"]
    assert last.kind is Kind.BROKEN


def test_pam_conf_has_a_service_in_front_of_every_line() -> None:
    assert pamfiles.services_of_conf(CONF) == ["sudo", "login", "other"]
    sudo = pamfiles.stacks_of_conf("sudo", CONF, NOTHING.get)
    assert [(line.name, line.arguments, line.place) for line in sudo["auth"]] == [
        ("pam_mfa.so", ("debug",), "pam.conf:2")
    ]
    assert [line.name for line in sudo["account"]] == ["pam_permit.so"]
    login = pamfiles.stacks_of_conf("login", CONF, {"common": "auth required pam_unix.so"}.get)
    assert [line.name for line in login["auth"]] == ["pam_unix.so"]
    assert [line.name for line in pamfiles.stacks_of_conf("su", CONF, NOTHING.get)["auth"]] == ["pam_deny.so"]


@pytest.mark.parametrize(
    ("control", "success", "ignore", "rest"),
    [
        ("required", OK, SKIP, BAD),
        ("REQUISITE", OK, SKIP, DIE),
        ("sufficient", DONE, SKIP, SKIP),
        ("optional", OK, SKIP, SKIP),
        ("success=2 default=ignore", 2, SKIP, SKIP),
        ("default=die success=ok", OK, DIE, DIE),
        ("success = ok ignore =done", OK, DONE, BAD),
        ("", BAD, BAD, BAD),
        ("success=ok defualt=die", BAD, BAD, BAD),
        ("success=0", BAD, BAD, BAD),
        ("success=ok,default=die", BAD, BAD, BAD),
        ("success", BAD, BAD, BAD),
    ],
)
def test_control_fields(control: str, success: int, ignore: int, rest: int) -> None:
    found = actions(control)
    assert len(found) == len(RETURNS) == 32
    assert (found[SUCCESS], found[IGNORE]) == (success, ignore)
    assert {found[code] for code in range(32) if RETURNS[code] not in ("success", "ignore", "new_authtok_reqd")} == {
        rest
    }
