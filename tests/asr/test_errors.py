from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError, UserError, one_line

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))


@pytest.mark.medium
@given(message=TEXT, hint=TEXT)
def test_a_user_error_survives_a_process_hop(message: str, hint: str) -> None:
    error = pickle.loads(pickle.dumps(UserError(message, hint)))
    assert (type(error), error.message, error.hint) == (UserError, message, hint)
    assert str(error) == str(UserError(message, hint))


@given(reason=TEXT, detail=TEXT)
def test_a_data_error_survives_a_process_hop(reason: str, detail: str) -> None:
    error = pickle.loads(pickle.dumps(DataError(reason, detail)))
    assert (type(error), error.reason, error.detail) == (DataError, reason, detail)
    assert str(error) == str(DataError(reason, detail))


@given(message=TEXT, hint=TEXT)
def test_one_line_is_what_the_person_reads(message: str, hint: str) -> None:
    assert len(f"{UserError(message, hint)}.".splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("no model 'x'"), "no model 'x'"),
        (UserError("no model 'x'", "did you mean 'y'?"), "no model 'x' (did you mean 'y'?)"),
        (DataError("too_long"), "too_long"),
        (DataError("too_long", "31 s"), "too_long: 31 s"),
    ],
)
def test_what_is_shown(error: Exception, text: str) -> None:
    assert str(error) == text


def test_the_two_are_not_each_other() -> None:
    assert not issubclass(UserError, DataError), "who must act decides: a row is not a person's mistake"
    assert not issubclass(DataError, UserError)


@pytest.mark.parametrize(
    ("error", "line"),
    [(OSError("no\nsuch  \r host"), "no such host"), (ValueError("\n"), "ValueError"), (KeyError(), "KeyError")],
)
def test_what_an_error_says_is_one_line_and_never_none(error: Exception, line: str) -> None:
    assert one_line(error) == line
