from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from asr.transcript import told, transcript

not_text = (
    st.floats() | st.booleans() | st.binary() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()) | st.dates()
)


@given(not_text)
def test_what_is_not_text_never_becomes_a_word(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        transcript(value)
    assert caught.value.reason == "not_text"
    assert len(caught.value.detail) < 120 and "\n" not in caught.value.detail


@given(st.text())
def test_text_is_what_is_written(text: str) -> None:
    assert transcript(text) == text


@pytest.mark.parametrize("word", ["nan", "NaN", "null", "NA", "None", "true", "inf", ""])
def test_words_of_a_table_stay_words(word: str) -> None:
    assert transcript(word) == word


def test_whole_numbers_may_have_been_said() -> None:
    assert (transcript(1984), transcript(np.int64(7)), transcript(None)) == ("1984", "7", "")


def test_a_name_that_is_no_number_is_no_name() -> None:
    assert told(math.nan) is told(math.inf) is told(np.float64("nan")) is told(None) is None
    assert (told(1.5), told("nan"), told(3)) == (1.5, "nan", 3)
