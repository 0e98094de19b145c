"""What `pam-mfa doctor` says of PAM stacks, against what the real libpam does with them.

Our line's answer comes from pam_debug.so; the other modules are the system's own, as far as they touch nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from pam_mfa.cli import pamfiles
from pam_mfa.cli.checks import stacks
from pam_mfa.cli.checks.finding import Severity
from pam_mfa.cli.checks.stacks import CONTROL, LINE, PERMIT, REFUSALS
from pam_mfa.outcome import PAM_CODE
from pam_mfa.pam import Code, Style, Transaction

SERVICE = "judged"
# A package of its own, which Debian installs by itself only where there is room for it.
CAP = "pam_cap.so" if list(Path("/usr/lib").glob("*/security/pam_cap.so")) else "pam_debug.so auth=success"
NAMED = [pamfiles.RETURNS[code] for code in REFUSALS]
DEBIAN = "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n"
PERMITTED = f"{PERMIT}\n{PERMIT}\n"


@dataclass(frozen=True)
class Row:
    """What was measured once, before any line of doctor was written.

    Args:
        ours: what our module answers; module_unknown: it is absent.
        ends: what libpam answers.
        says: words of doctor's finding.
    """

    text: str
    ours: str
    ends: Code
    severity: Severity
    says: str


TABLE = [
    Row("auth required pam_mfa.so\n", "ignore", Code.PERM_DENIED, Severity.WARN, "locked out"),
    Row(f"auth required pam_mfa.so\n{PERMIT}\n", "ignore", Code.SUCCESS, Severity.OK, "who is exempt gets in"),
    Row(f"auth required pam_env.so\nauth required pam_mfa.so\nauth optional {CAP}\n", "ignore", Code.SUCCESS,
        Severity.OK, "who is exempt gets in"),
    Row("auth required pam_mfa.so\nauth required pam_faillock.so preauth dir=@HERE@\nauth required pam_nologin.so\n",
        "ignore", Code.SUCCESS, Severity.OK, "who is exempt gets in"),
    Row(f"auth [success=ok default=bad] pam_mfa.so\n{PERMIT}\n", "ignore", Code.PERM_DENIED, Severity.WARN,
        "locked out"),
    Row(f"auth sufficient pam_mfa.so\n{PERMIT}\n", "authinfo_unavail", Code.SUCCESS, Severity.BAD, "authinfo_unavail"),
    Row(f"auth optional pam_mfa.so\n{PERMIT}\n", "auth_err", Code.SUCCESS, Severity.BAD, "auth_err"),
    Row(f"auth required pam_mfa.so\n{PERMIT}\n", "module_unknown", Code.MODULE_UNKNOWN, Severity.OK, "refuses"),
    Row(f"-auth required pam_mfa.so\n{PERMIT}\n", "module_unknown", Code.MODULE_UNKNOWN, Severity.OK, "refuses"),
    Row(f"auth optional pam_mfa.so\n{PERMIT}\n", "module_unknown", Code.SUCCESS, Severity.BAD, "module_unknown"),
]  # fmt: skip


def real(directory: Path, text: str, ours: str, first: str = "pam_unix.so") -> tuple[Code, list[str]]:
    """What pam_authenticate(3) answers, and what was shown meanwhile.

    Args:
        ours: stands for our module, with its arguments.
        first: stands for pam_unix.
    """
    shown: list[str] = []

    def converse(style: Style, message: str) -> str | None:
        shown.append(message)
        return ""

    module = {"module_unknown": "no_such_module.so"}.get(ours, ours if ".so" in ours else f"pam_debug.so auth={ours}")
    text = text.replace("pam_mfa.so", module).replace("pam_unix.so", first).replace("@HERE@", str(directory))
    (directory / SERVICE).write_text(text)
    (directory / "common").write_text(DEBIAN.replace("pam_unix.so", first))
    (directory / "other").write_text("auth required pam_deny.so\n")
    with Transaction(SERVICE, "root", converse, str(directory), on_delay=lambda code, delay: None) as transaction:
        return transaction.authenticate(), shown


def said(text: str) -> Iterator[tuple[Severity, str]]:
    """What doctor says of the service."""
    return ((finding.severity, finding.found) for finding in stacks.judge(SERVICE, simulated(text)))


def simulated(text: str) -> pamfiles.Stacks:
    return pamfiles.stacks(SERVICE, {SERVICE: text, "@HERE@/common": DEBIAN}.get)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.text.splitlines()[0]} {row.ours}")
def test_the_table(row: Row, tmp_path: Path) -> None:
    assert real(tmp_path, row.text, row.ours)[0] is row.ends
    found = list(said(row.text))
    assert [severity for severity, _ in found] == [row.severity]
    assert row.says in found[0][1]


# ------------------------------------------------------------------------------------------------- every code

CONTROLS = [
    CONTROL, "required", "requisite", "optional", "sufficient", "[default=ignore]", "[success=ok default=ignore]",
    "[success=done default=bad]", "[success=ok ignore=ignore default=1]", "[success=ok ignore=ignore default=reset]",
    "[success=ok auth_err=ignore default=die]", "[success=ok maxtries=1 default=bad]", "[success=ok default=ok]",
    "[success=ok module_unknown=ignore default=die]", "[success=ok conv_err=done default=die]", "[success=ok abort=2]",
]  # fmt: skip
AROUND = [("", PERMITTED), (PERMITTED, ""), (PERMITTED, PERMITTED), ("auth required pam_deny.so\n", PERMITTED)]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_refusal_lets_in_exactly_where_doctor_says_so(control: str, tmp_path: Path) -> None:
    for (before, behind), code in product(AROUND, NAMED):
        text = f"{before}auth {control} pam_mfa.so\n{behind}"
        lets_in = real(tmp_path, text, code)[0] is Code.SUCCESS
        words = [found.rpartition("stop at ")[2].split(", ") for _, found in said(text) if "a refusal can" in found]
        assert (code in (words[0] if words else [])) == lets_in, (text, code)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_right_people_get_in_where_doctor_says_so(control: str, tmp_path: Path) -> None:
    for before, behind in AROUND:
        text = f"{before}auth {control} pam_mfa.so\n{behind}"
        found = " ".join(found for _, found in said(text))
        nobody, locked_out = "lets nobody in" in found, "are locked out" in found
        assert (real(tmp_path, text, "success")[0] is Code.SUCCESS) == (not nobody), text
        if not nobody:
            assert (real(tmp_path, text, "ignore")[0] is Code.SUCCESS) == (not locked_out), text


# -------------------------------------------------------------------------------------------- the first factor

FIRST = {
    DEBIAN + LINE: True,
    f"auth requisite pam_unix.so\n{LINE}": True,
    f"auth [success=ok default=die] pam_unix.so\n{LINE}": True,
    f"auth required pam_unix.so\n{LINE}": False,
    f"auth sufficient pam_unix.so\n{LINE}": False,
    f"auth optional pam_unix.so\n{LINE}": False,
    f"auth [success=ok default=1] pam_unix.so\n{LINE}\n{PERMIT}": True,
    f"auth [success=ok default=1] pam_unix.so\n{PERMIT}\n{LINE}": False,
    f"auth substack @HERE@/common\n{LINE}": False,
    f"auth include @HERE@/common\n{LINE}": True,
    f"{LINE}\n{DEBIAN}": False,
    f"{LINE}\n{PERMIT}": False,
}


@pytest.mark.parametrize("text", FIRST)
@pytest.mark.parametrize("answer", ["auth_err", "user_unknown", "authinfo_unavail", "maxtries"])
def test_whether_our_line_is_reached_without_a_password(text: str, answer: str, tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    reached.write_text("reached\n")
    _, shown = real(tmp_path, text + "\n", f"pam_echo.so file={reached}", f"pam_debug.so auth={answer}")
    assert ("reached" not in " ".join(shown)) == FIRST[text]
    assert (not stacks.unproven(simulated(text + "\n")["auth"])) == FIRST[text]


REACHED = [text for text in FIRST if "default=1" not in text]  # who passes our line by is another question


@pytest.mark.parametrize("text", [*REACHED, f"{LINE}\nauth required pam_env.so", f"{LINE}\nauth required pam_unix.so"])
def test_whether_anybody_passes_with_nothing_proven(text: str, tmp_path: Path) -> None:
    gets_in = real(tmp_path, text + "\n", "ignore", "pam_debug.so auth=auth_err")[0] is Code.SUCCESS
    assert stacks.lets_anybody_pass(simulated(text + "\n")["auth"]) == gets_in


def test_every_code_that_leaves_the_module_is_tried() -> None:
    assert {code for _, code in PAM_CODE.values()} <= {*REFUSALS, pamfiles.SUCCESS, pamfiles.IGNORE}
