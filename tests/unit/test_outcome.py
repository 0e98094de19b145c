"""The verdict: codes that no flipped bit confuses, and the one door to GRANTED."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY, MagicMock, Mock

import pytest

import pam_mfa
from pam_mfa.outcome import PAM_CODE, Outcome, Proof, Verdict, grant
from pam_mfa.structure import replace, values

PACKAGE = Path(pam_mfa.__file__).parent
PROOF = Proof("session-1", 1000, "totp", "ff00", "phone")


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


# ------------------------------------------------------------------------------------------------- codes


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(Outcome, 2)))
def test_any_two_outcomes_differ_in_four_bits(one: Outcome, other: Outcome) -> None:
    assert distance(one, other) >= 4


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_outcome_is_one_byte_far_from_zero_one_and_all_ones(outcome: Outcome) -> None:
    assert 0 < outcome < 0xFF
    assert distance(outcome, 0x00) >= 4
    assert distance(outcome, 0x01) >= 3
    assert distance(outcome, 0xFF) >= 4


def test_what_the_host_program_is_told() -> None:
    # Linux-PAM's _pam_types.h, written out once more on purpose.
    assert {outcome.name: code for outcome, code in PAM_CODE.items()} == {
        "GRANTED": ("PAM_SUCCESS", 0),
        "EXEMPT": ("PAM_IGNORE", 25),
        "DENIED": ("PAM_AUTH_ERR", 7),
        "LOCKED": ("PAM_AUTH_ERR", 7),
        "TRIES_SPENT": ("PAM_MAXTRIES", 11),
        "UNAVAILABLE": ("PAM_AUTHINFO_UNAVAIL", 9),
        "ABORTED": ("PAM_ABORT", 26),
    }
    assert set(PAM_CODE) == set(Outcome)


# ------------------------------------------------------------------------------------------------- grant


def test_a_proof_of_this_session_and_account_grants_and_names_the_credential() -> None:
    assert grant(PROOF, "session-1", 1000) == Verdict(Outcome.GRANTED, "proven", "totp", "ff00", "phone")


class Forged(Proof):
    """Whoever can subclass can overrule: no subclass is a proof."""


class Agreeable:
    """Equal to everything, and what one asks for."""

    session, uid, factor, credential, label = "session-1", 1000, "totp", "ff00", "phone"

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Disguised(Agreeable):
    """Says that it is a Proof."""

    @property  # type: ignore[misc]
    def __class__(self) -> type[Proof]:  # type: ignore[override]
        return Proof


def lookalike() -> Mock:
    mock = Mock(spec=Proof)
    mock.configure_mock(session="session-1", uid=1000, factor="totp", credential="ff00", label="phone")
    return mock


@pytest.mark.parametrize(
    "proof",
    [
        None,
        True,
        False,
        1,
        0,
        "",
        "session-1",
        (),
        Outcome.GRANTED,
        Verdict(Outcome.GRANTED, "proven"),
        Proof,
        tuple(values(PROOF).values()),
        values(PROOF),
        Forged("session-1", 1000, "totp", "ff00", "phone"),
        lookalike(),
        MagicMock(),
        ANY,
        Agreeable(),
        Disguised(),
        replace(PROOF, session="session-2"),
        replace(PROOF, session="session-1 "),
        replace(PROOF, session=""),
        replace(PROOF, uid=1001),
        replace(PROOF, uid=0),
        replace(PROOF, uid=-1),
        replace(PROOF, session="session-2", uid=0),
    ],
    ids=lambda proof: type(proof).__name__,
)
def test_nothing_else_grants(proof: object) -> None:
    assert grant(proof, "session-1", 1000) == Verdict(Outcome.UNAVAILABLE, "no_proof")
    assert grant(proof, "session-1", 1000, "crl_missing") == Verdict(Outcome.UNAVAILABLE, "no_proof")


def test_what_was_let_pass_is_told() -> None:
    assert grant(PROOF, "session-1", 1000, "crl_missing").reason == "proven_crl_missing"


def test_a_proof_cannot_be_turned_into_another() -> None:
    with pytest.raises(AttributeError):
        PROOF.uid = 0  # type: ignore[misc]
    assert not hasattr(PROOF, "__dict__")


# ----------------------------------------------------------------------------- who may say it in the package

# Rendering may compare (`outcome is Outcome.GRANTED`) and do nothing else with it: list the files here.
MAY_COMPARE: frozenset[str] = frozenset()
# Making an Outcome from a number or a name could make any of them.
MAY_DECODE: frozenset[str] = frozenset()
MAY_PROVE = frozenset({"factors/base.py", "break_glass.py"})


def name_of(node: ast.AST) -> str | None:
    """The last part of a name, however it is reached."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return None


def says_granted(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (str, int) and node.value in ("GRANTED", int(Outcome.GRANTED))
    return name_of(node) == "GRANTED"


def decodes(node: ast.AST) -> bool:
    made = node.func if isinstance(node, ast.Call) else node.value if isinstance(node, ast.Subscript) else None
    return made is not None and name_of(made) == "Outcome"


def only_compares(parent: ast.AST) -> bool:
    return isinstance(parent, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in parent.ops)


def offences(source: str, file: str) -> list[str]:
    """What one file of the package may not say."""
    found = []
    for parent in ast.walk(ast.parse(source)):
        for node in ast.iter_child_nodes(parent):
            place = f"{file}:{getattr(node, 'lineno', 0)}"
            if says_granted(node) and not (file in MAY_COMPARE and only_compares(parent)):
                found.append(f"{place} says GRANTED")
            if decodes(node) and file not in MAY_DECODE:
                found.append(f"{place} makes an Outcome out of a value")
            if isinstance(node, ast.Call) and name_of(node.func) == "Proof" and file not in MAY_PROVE:
                found.append(f"{place} makes a Proof")
            if isinstance(node, ast.alias) and node.name == "Proof" and node.asname:
                found.append(f"{place} hides Proof behind another name")
            if isinstance(node, ast.alias) and node.name == "Outcome" and node.asname:
                found.append(f"{place} hides Outcome behind another name")
    return found


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text()


def test_outcome_py_says_granted_in_enum_table_verdict_and_grant_alone() -> None:
    parsed = ast.parse((PACKAGE / "outcome.py").read_text())
    places = [
        getattr(statement, "name", None) or ast.unparse(statement).partition(" ")[0]
        for statement in parsed.body
        for node in ast.walk(statement)
        if says_granted(node) and not isinstance(node, ast.Constant)
    ]
    assert places == ["Outcome", "PAM_CODE", "Verdict", "grant"]


def test_nothing_else_in_the_package_can_say_it() -> None:
    files = dict(sources())
    assert "outcome.py" in files
    assert "wire.py" in files
    del files["outcome.py"]
    assert [offence for file, source in files.items() for offence in offences(source, file)] == []


@pytest.mark.parametrize(
    "source",
    [
        "return Outcome.GRANTED",
        "return outcome.Outcome.GRANTED",
        "x = Verdict(Outcome.GRANTED, 'proven')",
        "x = Outcome['GRANTED']",
        "x = getattr(Outcome, 'GRANTED')",
        "x = Outcome(0xA5)",
        "x = Outcome(code)",
        "x = Outcome[name]",
        "x = outcome.Outcome(code)",
        "code = 0xA5",
        "x = GRANTED if ok else DENIED",
        "x = y is Outcome.GRANTED",
        "from .outcome import Outcome as O",
        "from .outcome import Proof as P",
        "x = Proof(session, uid, factor, id, label)",
        "x = outcome.Proof(*fields)",
    ],
)
def test_the_search_above_finds(source: str) -> None:
    assert offences(source, "service/session.py") != []


@pytest.mark.parametrize(
    "source",
    [
        "from .outcome import Outcome, Proof, Verdict, grant",
        "x = Verdict(Outcome.DENIED, 'wrong_code')",
        "def f(proof: Proof) -> Outcome: ...",
        "x: dict[Outcome, str] = {}",
        "'''what ends in GRANTED'''",
    ],
)
def test_the_search_above_leaves_alone(source: str) -> None:
    assert offences(source, "service/session.py") == []
