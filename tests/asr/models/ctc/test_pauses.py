from __future__ import annotations

import numpy as np
import pytest

from asr.models.ctc.pauses import with_delimiters

BLANK, DELIMITER = 0, 1


def saying(*symbols: int) -> np.ndarray:
    """Emissions in which each position is nearly sure of its symbol."""
    probabilities_TV = np.full((len(symbols), 5), 0.01, np.float32)
    probabilities_TV[np.arange(len(symbols)), list(symbols)] = 0.96
    return np.log(probabilities_TV)


def likeliest(logprobs_TV: np.ndarray) -> list[int]:
    found: list[int] = logprobs_TV.argmax(1).tolist()
    return found


@pytest.mark.parametrize(("blanks", "parts"), [(24, False), (25, True), (200, True)])
def test_words_end_in_a_long_pause(blanks: int, parts: bool) -> None:
    given = saying(2, *[BLANK] * blanks, 3)
    found = with_delimiters(given, BLANK, DELIMITER, 0.02)
    assert (DELIMITER in likeliest(found)) is parts
    assert likeliest(found)[0] == 2 and likeliest(found)[-1] == 3
    np.testing.assert_allclose(np.exp(found).sum(1), 1.0, rtol=1e-4)
    assert DELIMITER not in likeliest(given)


@pytest.mark.parametrize("order", [(2, DELIMITER, *[BLANK] * 99, 3), (2, *[BLANK] * 99, DELIMITER, 3)])
def test_a_pause_beside_a_delimiter_says_no_second_one(order: tuple[int, ...]) -> None:
    assert likeliest(with_delimiters(saying(*order), BLANK, DELIMITER, 0.02)).count(DELIMITER) == 1


def test_silence_around_speech_is_no_word() -> None:
    assert DELIMITER not in likeliest(with_delimiters(saying(*[BLANK] * 90, 2, *[BLANK] * 90), BLANK, DELIMITER, 0.02))
    assert likeliest(with_delimiters(saying(*[BLANK] * 90), BLANK, DELIMITER, 0.02)) == [BLANK] * 90
