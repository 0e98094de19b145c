"""The exception tree: whatever goes wrong, the login that meets it is not let in."""

from __future__ import annotations

import pytest

from pam_mfa import errors
from pam_mfa.errors import AbortedError, ConfigError, PamMfaError, RefusedError
from pam_mfa.outcome import Outcome


def tree(kind: type[PamMfaError]) -> list[type[PamMfaError]]:
    return [kind] + [leaf for child in kind.__subclasses__() for leaf in tree(child)]


# A name with an underscore is one file's own business; which files are imported by now depends on the order of tests.
ALL = [kind for kind in tree(PamMfaError) if not kind.__name__.startswith("_")]


@pytest.mark.parametrize("kind", ALL)
def test_no_error_lets_anybody_in(kind: type[PamMfaError]) -> None:
    assert type(kind.outcome) is Outcome
    assert kind.outcome in {Outcome.DENIED, Outcome.UNAVAILABLE, Outcome.ABORTED}


def test_only_a_user_who_gave_up_and_a_refused_request_are_not_unavailable() -> None:
    assert {kind: kind.outcome for kind in ALL if kind.outcome is not Outcome.UNAVAILABLE} == {
        AbortedError: Outcome.ABORTED,
        RefusedError: Outcome.DENIED,
    }


def test_each_error_has_its_own_word_for_the_audit_record() -> None:
    reasons = [kind.__dict__["reason"] for kind in ALL]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.isidentifier() and reason.islower() for reason in reasons)


def test_all_of_them_are_on_the_one_screen() -> None:
    assert {kind.__module__ for kind in ALL} == {errors.__name__}
    assert errors.__doc__ is not None
    shown = [word for word in errors.__doc__.replace("`", " ").split() if word[0].isupper()]
    assert {kind.__name__ for kind in ALL} <= set(shown)


def test_a_config_error_carries_every_problem() -> None:
    error = ConfigError(["a: wrong", "b: wrong too"])
    assert error.problems == ["a: wrong", "b: wrong too"]
    assert str(error) == "a: wrong; b: wrong too"


def test_a_refusal_carries_word_and_message() -> None:
    error = RefusedError("not_enrolled", "Run pam-mfa enroll first.")
    assert (error.code, error.message, str(error)) == ("not_enrolled", error.message, "Run pam-mfa enroll first.")
