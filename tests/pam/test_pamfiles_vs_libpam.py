"""cli/pamfiles.py and cli/pamstack.py against the real libpam, which is the judge.

Every stack is written to a directory of its own and run twice: by libpam, with pam_debug.so answering what its line
says, and by the simulator that `pam-mfa doctor` judges PAM files with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from pam_mfa.cli import pamfiles, pamstack
from pam_mfa.cli.pamfiles import RETURNS, Line, Unreadable
from pam_mfa.pam import Code, PamError, Transaction

SERVICE = "judged"
CODES = [name for name in RETURNS if name != "incomplete"]  # that one asks to be called again
CONTROLS = ("required", "requisite", "optional", "sufficient", "[success=ok ignore=ignore default=die]", "[success=1]")
ANSWERS = {"pam_permit.so": Code.SUCCESS, "pam_deny.so": Code.AUTH_ERR, "absent.so": Code.MODULE_UNKNOWN}
PERMIT, DENY = "auth required pam_permit.so\n", "auth required pam_deny.so\n"

Files = Mapping[str, str]


def real(directory: Path) -> int:
    """What pam_authenticate(3) answers."""
    try:
        with Transaction(
            SERVICE, "root", lambda style, text: None, str(directory), on_delay=lambda code, delay: None
        ) as transaction:
            return transaction.authenticate()
    except PamError as error:
        return error.code


def simulated(directory: Path) -> int:
    """What the simulator answers."""

    def read(name: str) -> str | None:
        path = directory / name  # an absolute name replaces the directory
        return path.read_bytes().decode("latin-1") if path.is_file() else None

    try:
        stack = pamfiles.stacks(SERVICE, read)["auth"]
    except Unreadable:
        return Code.ABORT
    ends = pamstack.run(stack, answer)
    assert len(ends) == 1
    return ends.pop().code


def answer(line: Line) -> tuple[int]:
    """The return value that a line of a generated stack asks for."""
    for argument in line.arguments:
        if argument.startswith("auth="):
            return (RETURNS.index(argument.removeprefix("auth=")),)
    return (ANSWERS.get(line.module, Code.MODULE_UNKNOWN),)


def agree(files: Files) -> None:
    """Both give the same answer."""
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            Path(directory, name).write_bytes(text.replace("@HERE@", directory).encode())
        assert RETURNS[simulated(Path(directory))] == RETURNS[real(Path(directory))]


# ------------------------------------------------------------------------------------------- one line of ours


@pytest.mark.parametrize("around", [("", ""), (PERMIT, ""), ("", PERMIT), (DENY, ""), ("", DENY), ("", DENY + PERMIT)])
@pytest.mark.parametrize("control", CONTROLS)
def test_every_code_of_one_line(control: str, around: tuple[str, str]) -> None:
    for code in CODES:
        agree({SERVICE: f"{around[0]}auth {control} pam_debug.so auth={code}\n{around[1]}"})


# --------------------------------------------------------------------------------------------- whole stacks

actions = st.sampled_from(["ignore", "ok", "done", "bad", "die", "reset", "1", "2", "3"])
pairs = st.lists(st.tuples(st.sampled_from([*CODES, "default"]), actions), max_size=5)
brackets = pairs.map(lambda found: "[" + " ".join(f"{value}={action}" for value, action in found) + "]")
controls = st.one_of(st.sampled_from([*CONTROLS, "Required", "REQUISITE", "[required]", "[succes=ok]"]), brackets)
likely = st.sampled_from(["success", "ignore", "auth_err", "authinfo_unavail", "new_authtok_reqd", "abort"])
codes = st.one_of(likely, st.sampled_from(CODES))
modules = st.one_of(codes.map("pam_debug.so auth={}".format), st.sampled_from(list(ANSWERS)))
kinds = st.sampled_from(["auth"] * 8 + ["-auth", "AUTH", "account", "auht"])
gaps = st.sampled_from([" "] * 6 + ["\t", "  \t", " \\\n", " \\ \n \\\n"])
tails = st.sampled_from(["\n"] * 5 + ["  # why\n", " # not continued \\\n", "\n\n#\n"])
entries = st.tuples(kinds, gaps, controls, gaps, modules, tails).map("".join)


def texts(files: list[str], words: list[str]) -> st.SearchStrategy[str]:
    """A file with lines that read one of these files; now and then one that is absent."""
    includes = [f"{word} @HERE@/{file}\n" for word in words for file in (*files * 4, "absent")]
    line = st.one_of(entries, entries, entries, st.sampled_from(includes)) if files else entries
    return st.lists(line, max_size=6).map("".join)


# An absent @include below another include leaves libpam 1.5.2 with actions it never set: nothing to compare with.
typed = ["auth include", "auth substack", "account include"]
stacks = st.fixed_dictionaries(
    {SERVICE: texts(["one", "two"], [*typed, "@include"]), "one": texts(["two"], typed), "two": texts([], [])},
    optional={"other": texts([], [])},
)


@settings(max_examples=600, deadline=None)
@given(stacks)
@example({SERVICE: "auth [success=reset] pam_debug.so auth=success\n" + PERMIT})
@example({SERVICE: "auth substack @HERE@/one\n" + PERMIT, "one": "auth requisite pam_deny.so\n"})
@example({SERVICE: "auth [success=1] pam_permit.so\nauth substack @HERE@/one\n" + PERMIT, "one": DENY * 2})
@example({SERVICE: PERMIT + "auth substack @HERE@/one\n" + PERMIT, "one": "auth [auth_err=reset] pam_deny.so\n"})
@example(
    {SERVICE: PERMIT + "auth substack @HERE@/one\n", "one": "auth [auth_err=1 default=bad] pam_deny.so\n" + PERMIT}
)
@example({SERVICE: "account required pam_deny.so\n", "other": PERMIT})
@example({"other": PERMIT})
@example({SERVICE: PERMIT + "auth required \\\n"})
@example({SERVICE: PERMIT, "other": PERMIT + "auth required \\\n"})
@example({SERVICE: "@include @HERE@/absent\n" + PERMIT})
@example({SERVICE: "auth include @HERE@/absent\n" + PERMIT})
@example({SERVICE: "auth include @HERE@/one\n", "one": "@include @HERE@/two\n", "two": "account required x\n" + PERMIT})
@example({SERVICE: "auth include @HERE@/one\n" + PERMIT, "one": PERMIT + "auth required \\\n"})
@example({SERVICE: "auht include @HERE@/one\n", "one": PERMIT})
@example({SERVICE: "auth required [pam_permit.so]\n"})
@example({SERVICE: "auth [success=ok pam_permit.so\n" + PERMIT})
@example({SERVICE: "auth [success=okay] pam_permit.so\n"})
@example({SERVICE: "auth [success=0 default=ignore] pam_permit.so\n" + PERMIT})
@example({SERVICE: "auth [default=ignore success=ok]pam_permit.so\n"})
@example({SERVICE: "auth [] pam_permit.so\n"})
@example({SERVICE: "auth\trequired\tpam_permit.so\r\n"})
@example({SERVICE: "auth required pam_permit.so"})
@example({SERVICE: "auth required pam_permit.so\n\0auth required pam_deny.so\n"})
@example({SERVICE: "auth\n" + PERMIT})
@example({SERVICE: "auth optional\n" + PERMIT})
def test_whole_stacks(files: Files) -> None:
    agree(files)


def test_all_pairs_of_keywords_and_usual_answers() -> None:
    usual = ("success", "ignore", "auth_err", "maxtries")
    lines = [f"auth {control} pam_debug.so auth={code}\n" for control, code in product(CONTROLS, usual)]
    for first, second in product(lines, lines):
        agree({SERVICE: first + second})
