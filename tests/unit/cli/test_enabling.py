"""Where `pam-mfa try enable` puts the line, and where it does not dare to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pam_mfa.cli.checks.stacks import LINE, PERMIT
from pam_mfa.cli.paths import Paths
from pam_mfa.cli.tryout.enabling import plan
from pam_mfa.errors import RefusedError

DEBIAN = """auth [success=1 default=ignore] pam_unix.so nullok
auth requisite pam_deny.so
auth required pam_permit.so
"""
NO_PLACE = "thing has no place for the line behind its line 1: "
SUDO = "#%PAM-1.0\nsession required pam_limits.so\n{}@include common-account\n"
INCLUDED = "@include common-auth\n"


@pytest.fixture
def folder(root: Path) -> Path:
    folder = root / "etc/pam.d"
    folder.mkdir(parents=True)
    (folder / "common-auth").write_text(DEBIAN)
    (folder / "common-account").write_text("account required pam_unix.so\n")
    (folder / "other").write_text("@include common-auth\n@include common-account\n")
    return folder


def planned(folder: Path, service: str) -> dict[str, str]:
    """The planned files by name."""
    found = plan(Paths(folder.parent.parent), service)
    return {path.name: whole.content.decode("latin-1") for path, whole in found.files.items()}


def refusal(folder: Path, service: str) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        plan(Paths(folder.parent.parent), service)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SUDO.format(INCLUDED), SUDO.format(f"{INCLUDED}{LINE}\n")),
        ("@include common-auth", f"@include common-auth\n{LINE}\n"),  # no line end
        ("auth substack common-auth\n", f"auth substack common-auth\n{LINE}\n"),
        ("auth include common-auth # passwords\n", f"auth include common-auth # passwords\n{LINE}\n"),
        ("auth required \\\n  pam_unix.so\naccount required pam_unix.so\n",
         f"auth required \\\n  pam_unix.so\n{LINE}\naccount required pam_unix.so\n"),
        ("auth requisite pam_nologin.so\n@include common-auth\nauth optional pam_group.so\n",
         f"auth requisite pam_nologin.so\n@include common-auth\n{LINE}\nauth optional pam_group.so\n"),
        ("# caf\xe9\n@include common-auth\n", f"# caf\xe9\n@include common-auth\n{LINE}\n"),
    ],
)  # fmt: skip
def test_below_the_first_factor(folder: Path, text: str, expected: str) -> None:
    (folder / "thing").write_bytes(text.encode("latin-1"))
    assert planned(folder, "thing") == {"thing": expected}


def test_permit_follows_where_an_exempt_user_would_be_locked_out(folder: Path) -> None:
    (folder / "common-auth").write_text("auth [success=ignore default=die] pam_unix.so\n")
    (folder / "thing").write_text(INCLUDED)
    assert planned(folder, "thing") == {"thing": f"{INCLUDED}{LINE}\n{PERMIT}\n"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"@include common-auth\n{LINE}\n", "thing asks already"),
        ("@include asking\n", "thing asks already"),
        ("account required pam_unix.so\n", "thing has no line that asks for a password"),
        ("auth required pam_permit.so\n", "thing has no line that asks for a password"),
        ("auth required pam_unix.so\nauth required pam_sss.so\n", "thing has 2 lines that ask for a password"),
        (DEBIAN, NO_PLACE),
        ("auth sufficient pam_unix.so\nauth required pam_deny.so\n", NO_PLACE),
        ("auth include sufficient\n", NO_PLACE),
        ("@include absent\n", "thing cannot be read: "),
        ("@include common-auth\\\n", "thing cannot be read: "),
    ],
)  # fmt: skip
def test_refused_where_the_place_is_not_known(folder: Path, text: str, why: str) -> None:
    (folder / "asking").write_text(f"auth required pam_unix.so\n{LINE}\n")
    (folder / "sufficient").write_text("auth sufficient pam_unix.so\nauth required pam_deny.so\n")
    (folder / "thing").write_text(text)
    code, message = refusal(folder, "thing")
    assert code == "refused"
    assert message.startswith(why)
    assert message.endswith("by: pam-mfa try -- EDITOR /etc/pam.d/thing")


@pytest.mark.parametrize(
    ("service", "code"),
    [("absent", "not_found"), ("other", "invalid"), ("pam-mfa", "invalid"), ("../passwd", "invalid"), ("", "refused")],
)
def test_no_such_service(folder: Path, service: str, code: str) -> None:
    assert refusal(folder, service)[0] == code


def test_a_link_is_not_followed(folder: Path) -> None:
    (folder / "thing").symlink_to("other")
    assert refusal(folder, "thing")[1].startswith("thing is no regular file (link)")


@pytest.mark.parametrize(
    ("service", "twin", "files"),
    [
        ("sudo", INCLUDED, {"sudo", "sudo-i"}),
        ("sudo-i", INCLUDED, {"sudo", "sudo-i"}),
        ("sudo", None, {"sudo"}),
        ("sudo", "@include sudo\n", {"sudo"}),
        ("sudo-i", "@include sudo\n", {"sudo"}),
    ],
)
def test_both_doors_of_sudo(folder: Path, service: str, twin: str | None, files: set[str]) -> None:
    (folder / "sudo").write_text(SUDO.format(INCLUDED))
    if twin:
        (folder / "sudo-i").write_text(twin)
    found = planned(folder, service)
    assert found.keys() == files
    assert all(text.count(LINE) == 1 for text in found.values())


def test_nothing_is_planned_where_the_other_door_is_not_understood(folder: Path) -> None:
    (folder / "sudo").write_text(INCLUDED)
    (folder / "sudo-i").write_text("auth sufficient pam_unix.so\n")
    assert refusal(folder, "sudo")[1].startswith("sudo-i has no place")


def test_what_doctor_would_warn_of_is_passed_on(folder: Path) -> None:
    (folder / "thing").write_text(f"auth sufficient pam_fprintd.so\n{INCLUDED}")
    found = plan(Paths(folder.parent.parent), "thing")
    assert [warning.found.split(": ")[1][:14] for warning in found.warnings] == ["pam_fprintd.so"]
