from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from asr.errors import UserError
from asr.models.ctc.decoder import (
    LANGUAGE_MODEL,
    SETTINGS,
    SYMBOLS,
    WORDS,
    CtcDecoder,
    how_it_decodes,
    load_decoder,
    require_language_model,
    require_words,
    write_language_model,
)
from asr.models.ctc.text_rules import TextRules
from asr.models.ctc.vocabulary import CtcVocabulary, character_vocabulary
from asr.models.head import HeadSettings

TEXTS = ["buon natale", "buon giorno a tutti", "il natale viene", "un buon natale a tutti", "buona notte"]
CHARACTERS = character_vocabulary(TEXTS, TextRules(language="it"))


def heard(text: str, vocabulary: CtcVocabulary = CHARACTERS, doubt: dict[int, str] | None = None) -> np.ndarray:
    """Emissions that spell a text, a blank behind each symbol; at some places another symbol is a bit likelier."""
    ids = vocabulary.encode(text)
    probabilities_TV = np.full((2 * len(ids), vocabulary.size), 0.001)
    probabilities_TV[1::2, vocabulary.blank] = 1.0
    for place, symbol in enumerate(ids):
        probabilities_TV[2 * place, symbol] = 0.4
        for other in (doubt or {}).get(place, ""):
            probabilities_TV[2 * place, vocabulary.encode(other)[0]] = 0.6
    return np.log(probabilities_TV / probabilities_TV.sum(1, keepdims=True)).astype(np.float32)


def said(decoder: CtcDecoder, logprobs_TV: np.ndarray, *keywords: str) -> str:
    return decoder.vocabulary.decode(decoder.decode(logprobs_TV, keywords))


def test_without_a_language_model_each_position_says_its_likeliest_symbol(tmp_path: Path) -> None:
    decoder = load_decoder(tmp_path, CHARACTERS)
    assert decoder.language_model is None
    assert said(decoder, heard("buon natale", doubt={9: "r"})) == "buon natare"


def test_the_n_gram_of_the_transcripts_corrects_what_was_heard_in_doubt(tmp_path: Path) -> None:
    write_language_model(tmp_path, CHARACTERS, TEXTS, HeadSettings())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(LANGUAGE_MODEL)
    decoder = load_decoder(tmp_path, CHARACTERS)
    assert said(decoder, heard("buon natale", doubt={9: "r"})) == "buon natale"
    again = tmp_path / "again"
    again.mkdir()
    write_language_model(again, CHARACTERS, [*TEXTS, "straße"], HeadSettings())  # which the vocabulary cannot write
    assert all((again / name).read_bytes() == (tmp_path / name).read_bytes() for name in LANGUAGE_MODEL)


def test_keywords_are_heard_where_the_sound_allows_them() -> None:
    decoder = CtcDecoder(CHARACTERS)
    clip = heard("buon natale", doubt={9: "r"})
    assert said(decoder, clip, "Natale".lower()) == "buon natale"
    assert said(decoder, clip, "giorno") == "buon natare"


def test_keywords_that_no_sound_makes_it_write_are_passed_over() -> None:
    """They were an error of the batch, and three of them the end of a replica."""
    decoder = CtcDecoder(CHARACTERS)
    clip = heard("buon natale", doubt={9: "r"})
    assert said(decoder, clip, "straße", "зал", "natale") == "buon natale"
    assert said(decoder, clip, "straße") == "buon natare"


def test_words_of_an_arpa_file_stand_in_for_those_of_the_transcripts(tmp_path: Path) -> None:
    own = tmp_path / "own.arpa"
    write_language_model(tmp_path, CHARACTERS, ["buon natare"], HeadSettings())
    (tmp_path / WORDS).rename(own)
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_language_model(folder, CHARACTERS, TEXTS, HeadSettings(language_model=str(own)))
    assert (folder / WORDS).read_bytes() == own.read_bytes()
    assert load_decoder(folder, CHARACTERS).language_model is not None


@pytest.mark.parametrize("content", [None, b"\xff", b"no arpa"])
def test_a_file_that_is_no_language_model_is_told_at_once(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "words.arpa"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"words\.arpa"):
        require_language_model(HeadSettings(language_model=str(path)))
    require_language_model(HeadSettings())


@pytest.mark.parametrize("name", [WORDS, SETTINGS])
def test_a_language_model_that_is_not_whole_is_one_line(name: str, tmp_path: Path) -> None:
    write_language_model(tmp_path, CHARACTERS, TEXTS, HeadSettings())
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=name):
        load_decoder(tmp_path, CHARACTERS)


def test_a_weight_that_is_no_number_is_refused(tmp_path: Path) -> None:
    write_language_model(tmp_path, CHARACTERS, TEXTS, HeadSettings())
    for weight in (float("nan"), float("inf"), -0.1, 1e300, 1001):
        (tmp_path / SETTINGS).write_text(json.dumps({"weight": weight, "word_bonus": 1.0}))
        with pytest.raises(UserError, match="no number"):
            load_decoder(tmp_path, CHARACTERS)


@pytest.mark.parametrize("bonus", [1e300, -1e300, float("nan"), 1001])
def test_a_bonus_that_outweighs_any_sound_is_refused(tmp_path: Path, bonus: float) -> None:
    write_language_model(tmp_path, CHARACTERS, TEXTS, HeadSettings())
    (tmp_path / SETTINGS).write_text(json.dumps({"weight": 0.5, "word_bonus": bonus}))
    with pytest.raises(UserError, match="word_bonus"):
        load_decoder(tmp_path, CHARACTERS)
    with pytest.raises(ValidationError, match="word_bonus"):
        HeadSettings(word_bonus=bonus)


@pytest.mark.parametrize(
    ("texts", "language"), [(["ދިވެހި ބަސް"], "dv"), (["今日は晴れ", "明日は雨"], "ja"), (["नमस्ते दुनिया"], "hi")]
)
def test_any_script_has_a_language_model(texts: list[str], language: str, tmp_path: Path) -> None:
    vocabulary = character_vocabulary(texts, TextRules(language=language))
    write_language_model(tmp_path, vocabulary, texts, HeadSettings())
    assert said(load_decoder(tmp_path, vocabulary), heard(texts[0], vocabulary)) == texts[0]
    assert (tmp_path / SYMBOLS).is_file()


def test_words_in_another_letter_case_are_no_language_model_of_a_vocabulary(tmp_path: Path) -> None:
    write_language_model(tmp_path, CHARACTERS, TEXTS, HeadSettings())
    own = tmp_path / WORDS
    require_words(HeadSettings(language_model=str(own)), CHARACTERS)
    shouted = tmp_path / "shouted.arpa"
    ngrams = re.compile(r"\b(?!s\b|unk\b)[a-z]+\b")
    lines = own.read_text().splitlines(keepends=True)
    shouted.write_text("".join(ngrams.sub(lambda m: m[0].upper(), one) if "\t" in one else one for one in lines))
    with pytest.raises(UserError, match=r"the vocabulary does not write \d+ of its words, such as '[A-Z]+'"):
        require_words(HeadSettings(language_model=str(shouted)), CHARACTERS)


def test_a_vocabulary_without_spaces_takes_no_file_of_words(tmp_path: Path) -> None:
    write_language_model(tmp_path, CHARACTERS, TEXTS, HeadSettings())
    japanese = character_vocabulary(["今日は晴れ"], TextRules(language="ja"))
    with pytest.raises(UserError, match="the vocabulary has no space between them"):
        require_words(HeadSettings(language_model=str(tmp_path / WORDS)), japanese)


@pytest.mark.parametrize(
    ("language_model", "transcripts_known", "expected"),
    [
        ("auto", True, "by n-grams of the training transcripts: ctc.language_weight=0.7, ctc.word_bonus=1"),
        ("transcripts", True, "by n-grams of the training transcripts"),
        ("it.arpa", False, "by n-grams of it.arpa"),
        ("auto", False, "there are none, as n-grams are not made of a stream: each position says its likeliest symbol"),
        ("none", True, "there are none: each position says its likeliest symbol"),
    ],
)
def test_a_run_whose_artifact_decodes_by_n_grams_said_it_would_not(
    language_model: str, transcripts_known: bool, expected: str
) -> None:
    assert expected in how_it_decodes(HeadSettings(language_model=language_model), transcripts_known)
