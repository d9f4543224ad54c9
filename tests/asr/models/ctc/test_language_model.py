from __future__ import annotations

import math

import numpy as np
import pytest

from asr.models.ctc.beam_search import State, beam_search
from asr.models.ctc.language_model import LanguageModel, Weights, train_language_model
from asr.models.ctc.ngram_training import train_ngram
from asr.models.ctc.spelling import Spelling
from tests.asr.models.ctc.spelled import CHINESE, LETTERS, PIECES, emissions, ids, written

TEXTS = ["premere uno", "premere due", "premere il tasto", "il numero uno", "grazie", "premere il numero"]
ONLY = Weights(alpha=1.0, beta=0.0)


def trained(weights: Weights | None = None) -> LanguageModel:
    return train_language_model([ids(LETTERS, text) for text in TEXTS], LETTERS, weights)


def bonus(model: LanguageModel, tokens: list[int]) -> float:
    state: State = model.start()
    total = 0.0
    for one in tokens:
        total += float(state.row_V[one])
        state = state.after(one)
    return total + state.end


def test_a_known_word_is_either_itself_or_a_new_one_spelled_like_it() -> None:
    model = trained(ONLY)
    assert model.words is not None and model.symbols is not None
    spelled = sum(
        model.symbols.score(["<s>", *"premere"[:place]], one) for place, one in enumerate("premere")
    ) + np.logaddexp(*(model.symbols.score(["<s>", *"premere"], one) for one in ("|", "</s>")))
    word = np.logaddexp(model.words.score(["<s>"], "premere"), model.words.score(["<s>"], "<unk>") + spelled)
    expected = word + model.words.score(["<s>", "premere"], "</s>")
    assert bonus(model, ids(LETTERS, "premere")) == pytest.approx(expected)


def test_a_new_word_is_spelled_like_those_seen() -> None:
    model = trained(ONLY)
    assert bonus(model, ids(LETTERS, "numere")) > bonus(model, ids(LETTERS, "qzxwkj")) > -100


def test_a_word_costs_the_same_once_it_has_ended_however_it_was_foretold() -> None:
    """With words alone: two texts of the same known words, whatever their letters, differ by the words' scores only."""
    words = train_ngram([text.split() for text in TEXTS], 3)
    model = LanguageModel(LETTERS, None, words, ONLY)
    for text in TEXTS:
        history, expected = ["<s>"], 0.0
        for word in (*text.split(), "</s>"):
            expected += words.score(history, word)
            history.append(word)
        assert bonus(model, ids(LETTERS, text)) == pytest.approx(expected, abs=1e-3)  # new words spelled so are rare


def test_the_symbols_alone_are_scored_as_their_ngrams() -> None:
    symbols = train_ngram([list("東京都"), list("大阪"), list("東京")], 3, CHINESE.symbols[1:])
    model = LanguageModel(CHINESE, symbols, None, Weights(alpha=0.5, beta=0.25))
    history, expected = ["<s>"], 0.0
    for one in (*"東京大", "</s>"):
        expected += 0.5 * symbols.score(history, one)
        history.append(one)
    assert bonus(model, ids(CHINESE, "東京大")) == pytest.approx(expected + 3 * 0.25)


def test_letters_that_the_model_has_not_are_unknown_ones() -> None:
    symbols = train_ngram([list("東京")], 2)
    row_W = LanguageModel(CHINESE, symbols, None, ONLY).row_W(("東",))
    assert row_W[3:7] == pytest.approx([symbols.score(["東"], "?")] * 4)
    assert row_W[2] == pytest.approx(symbols.score(["東"], "京"))


@pytest.mark.parametrize(
    ("spelling", "said", "also", "text"),
    [
        (LETTERS, "brenere uno", "premere one", "premere uno"),
        (PIECES, ["▁", "t", "o", "ma"], ["▁ro", "m", "u", "gna"], "roma"),
        (CHINESE, "大京阪", "東阪都", "東京都"),
    ],
    ids=["letters", "pieces", "no spaces"],
)
def test_what_sounds_alike_is_written_as_it_was_in_the_texts(
    spelling: Spelling, said: list[str], also: list[str], text: str
) -> None:
    texts = {
        LETTERS: TEXTS,
        PIECES: [["▁ro", "ma"], ["▁", "a", "▁ro", "ma"], ["▁", "a", "▁", "o", "r", "a"]],
        CHINESE: ["東京都", "東京都庁", "大阪"],
    }
    model = train_language_model([ids(spelling, one) for one in texts[spelling]], spelling, Weights(1.0, 1.0))
    if spelling is PIECES:
        logprobs_TV = emissions(spelling, (["▁ro", "gna"], 0.55), (["▁", "ma"], 0.45))
        logprobs_TV[0, ids(spelling, ["▁roma"])] = math.log(0.1)
    else:
        logprobs_TV = emissions(spelling, (said, 0.6), (also, 0.4))
    assert written(spelling, beam_search(logprobs_TV, 0, model.start())[0].tokens) == text


def test_a_word_more_is_worth_beta_and_a_delimiter_more_is_not() -> None:
    plain, paid = trained(ONLY), trained(Weights(1.0, 2.5))
    for text, words in (("premere uno", 2), (" premere  uno ", 2), ("", 0)):
        tokens = ids(LETTERS, text)
        assert bonus(paid, tokens) - bonus(plain, tokens) == pytest.approx(2.5 * words)


def test_no_texts_give_a_model_all_the_same() -> None:
    model = train_language_model([], LETTERS)
    assert math.isfinite(bonus(model, ids(LETTERS, "a casa")))
