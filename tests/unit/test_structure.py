"""Structures keep what dataclasses promise: they are compared with those, field by field."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from pam_mfa.structure import field, replace, structure


@structure
class Both:
    name: str
    secret: bytes = field(repr=False)
    number: int = 3
    names: list[str] = field(default_factory=list)

    @property
    def twice(self) -> int:
        return 2 * self.number


@structure
class Other:
    name: str
    secret: bytes
    number: int = 3
    names: tuple[str, ...] = ()


@structure(frozen=False)
class Open:
    count: int = 0


@structure
class Empty:
    """Nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Witness:
    name: str
    secret: bytes = dataclasses.field(repr=False)
    number: int = 3
    names: list[str] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize(
    ("args", "kwargs"), [(("a", b"b"), {}), (("a", b"b", 4, ["c"]), {}), (("a",), {"secret": b"b", "number": 0})]
)
def test_it_is_made_and_shown_as_a_dataclass_is(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    made, witness = Both(*args, **kwargs), Witness(*args, **kwargs)
    assert repr(made) == repr(witness).replace("Witness", "Both")
    assert [getattr(made, each.name) for each in dataclasses.fields(Witness)] == list(dataclasses.astuple(witness))
    assert Both.__match_args__ == Witness.__match_args__


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), (("a",), {}), (("a", b"b", 1, [], 5), {}), (("a", b"b"), {"other": 1})]
)
def test_what_a_dataclass_does_not_take_is_not_taken(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for kind in (Witness, Both):
        with pytest.raises(TypeError):
            kind(*args, **kwargs)


def test_a_secret_is_not_shown() -> None:
    assert "b'hidden'" not in repr(Both("a", b"hidden"))


def test_it_equals_its_like_alone() -> None:
    assert Both("a", b"b") == Both("a", b"b") != Both("a", b"c")
    others: list[object] = [Other("a", b"b"), Empty(), Open(), ("a", b"b", 3, [])]
    assert Both("a", b"b") not in others
    assert Empty() == others[1] != others[2]


def test_it_never_changes() -> None:
    made = Both("a", b"b")
    with pytest.raises(AttributeError):
        made.name = "c"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del made.name
    with pytest.raises(AttributeError):
        made.other = 1  # type: ignore[attr-defined]
    assert made == Both("a", b"b")
    assert not hasattr(made, "__dict__")


def test_one_that_may_change_does_and_is_no_key() -> None:
    made = Open()
    made.count += 1
    assert made == Open(1)
    with pytest.raises(TypeError):
        hash(made)
    with pytest.raises(AttributeError):
        made.other = 1  # type: ignore[attr-defined]


def test_it_is_a_key() -> None:
    assert {Other("a", b"b"): 1}[Other("a", b"b")] == 1
    assert len({Other("a", b"b"), Other("a", b"b", 4)}) == 2


def test_a_default_is_made_for_each() -> None:
    Both("a", b"b").names.append("x")
    assert Both("a", b"b").names == []


def test_it_is_matched() -> None:
    match Both("a", b"b", 5):
        case Both(name, number=number):
            assert (name, number) == ("a", 5)
        case _:
            pytest.fail("not matched")


def test_one_field_is_replaced() -> None:
    assert replace(Both("a", b"b"), number=7) == Both("a", b"b", 7)
    assert Both("a", b"b", 7).twice == 14
    with pytest.raises(TypeError):
        replace(Both("a", b"b"), other=7)


def test_an_engine_starts_without_dataclasses() -> None:
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import pam_mfa.engine, pam_mfa.service.transaction\n"
        "print([name for name in ('dataclasses', 'inspect', 'asyncio', 'click') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
