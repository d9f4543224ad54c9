import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError, UserError
from asr.models.ctc.text_rules import TextRules
from asr.models.ctc.vocabulary import CtcVocabulary, character_vocabulary, characters, named, subword_vocabulary

TEXTS = {
    "latin": "Voilà l'été: Don't panic, naïve well-known people!",
    "turkish": "IŞIK İyi günler Iğdır",
    "chinese": "你好，世界！我們 OK",
    "thaana": "ދިވެހިރާއްޖެ، އެއީ ކޮބާ؟",
    "devanagari": "नमस्ते दुनिया। क्षत्रिय!",
    "tamil": "வணக்கம், உலகம்!",
    "arabic": "الْحَمْدُ لِلَّهِ؟ می\u200cروم",
    "hostile": "a<pad>b [UNK] <s> x|y ▁z <unk>\0 \u200b<pad> |",
}
RULES = [TextRules(), TextRules("lower", "drop"), TextRules("upper", "drop"), TextRules("lower", "drop", "tr")]


def vocabularies(texts: list[str], rules: TextRules) -> list[CtcVocabulary]:
    return [character_vocabulary(texts, rules), subword_vocabulary(texts, rules, 150)]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_comes_back_as_the_rules_have_it(name: str, rules: TextRules) -> None:
    for vocabulary in vocabularies([TEXTS[name]], rules):
        ids = vocabulary.encode(TEXTS[name])
        assert vocabulary.decode(ids) == rules.apply(TEXTS[name])
        assert not {vocabulary.blank, vocabulary.unknown} & set(ids)
        assert vocabulary.unknown_in(TEXTS[name]) == set()


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4), st.sampled_from(RULES))
def test_any_text_comes_back(texts: list[str], rules: TextRules) -> None:
    texts = [*texts, "a b"]
    vocabulary = character_vocabulary(texts, rules)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text)) == rules.apply(text)


@given(st.text(st.sampled_from("<pad>unks/[]|▁ \0"), max_size=40))
def test_no_text_spells_the_blank(text: str) -> None:
    for vocabulary in vocabularies(["<pad><unk>[PAD]</s> ▁|"], TextRules()):
        assert not vocabulary.silent & set(vocabulary.encode(text))


def test_symbols_are_code_points_in_their_order_behind_the_blank() -> None:
    vocabulary = character_vocabulary(["b é a", "É ", "ก"], TextRules("lower"))
    assert vocabulary.symbols == ("<pad>", "<unk>", "|", "a", "b", "é", "ก")
    assert (vocabulary.blank, vocabulary.unknown, vocabulary.word_delimiter, vocabulary.size) == (0, 1, 2, 7)
    assert character_vocabulary(["ก", "É", "a b é"], TextRules("lower")) == vocabulary
    assert not vocabulary.is_subword


def test_vowel_signs_are_symbols_of_their_own() -> None:
    assert character_vocabulary(["कि", "ދި"], TextRules("lower", "drop")).symbols[3:] == ("ދ", "ި", "क", "ि")


def test_a_language_without_spaces_has_a_delimiter_only_where_its_texts_have_a_space() -> None:
    assert character_vocabulary(["你好"], TextRules(language="zh")).word_delimiter is None
    assert character_vocabulary(["你 好"], TextRules(language="zh")).word_delimiter == 2
    assert character_vocabulary(["yes", "no"], TextRules(language="en")).word_delimiter == 2


def test_without_a_delimiter_spaces_are_dropped() -> None:
    vocabulary = character_vocabulary(["你好"], TextRules(language="zh"))
    assert vocabulary.decode(vocabulary.encode("你 好")) == "你好"
    assert vocabulary.unknown_in("你 好") == {" "}


@pytest.mark.parametrize("texts", [[], [""], [" | "]])
def test_texts_without_a_letter_make_no_vocabulary(texts: list[str]) -> None:
    with pytest.raises(UserError, match="no letters"):
        character_vocabulary(texts, TextRules())
    with pytest.raises(UserError, match="no letters"):
        subword_vocabulary(texts, TextRules(), 100)


def test_subwords_are_the_same_whatever_the_order_and_mark_the_beginning_of_words() -> None:
    texts = [*TEXTS.values(), "the cat", "the hat", ""]
    vocabulary = subword_vocabulary(texts, TextRules("lower", "drop"), 140)
    assert vocabulary == subword_vocabulary(texts[::-1], TextRules("lower", "drop"), 140)
    assert vocabulary.is_subword and vocabulary.size <= 140
    assert "▁the" in vocabulary.symbols
    assert vocabulary.word_delimiter is None


def test_no_merge_makes_the_blank_of_its_letters() -> None:
    vocabulary = subword_vocabulary([f"{one}<pad>" for one in "abcdefghijkl"], TextRules(), 40)
    assert vocabulary.decode(vocabulary.encode("al<pad>d")) == "al<pad>d"


def test_subwords_need_room_for_the_characters() -> None:
    with pytest.raises(UserError, match="has no room"):
        subword_vocabulary(["abcdefghij"], TextRules(), 8)


def test_a_letter_that_is_lacking_is_named_and_punctuation_dropped() -> None:
    for vocabulary in vocabularies(["it's a cat"], TextRules()):
        with pytest.raises(DataError) as caught:
            vocabulary.encode("a \u0301zoo 5")
        assert caught.value.reason == "unknown_letters"
        assert caught.value.detail == "5 o z \u0301 (U+0301)"
        assert vocabulary.decode(vocabulary.encode("“it’s” (a)—cat!")) == "it's a cat"
        assert vocabulary.unknown_in("z!a") == {"z", "!"}
        assert vocabulary.encode("") == vocabulary.encode("!?") == []


def test_an_error_names_at_most_twenty_letters() -> None:
    with pytest.raises(DataError, match=r"and 6 more$"):
        character_vocabulary(["1"], TextRules()).encode("abcdefghijklmnopqrstuvwxyz")


def test_a_letter_is_spelled_by_its_parts_where_the_vocabulary_has_those() -> None:
    vocabulary = CtcVocabulary(("<pad>", "|", "e", "\u0301"), TextRules(), 0, None, 1, frozenset({0}))
    assert vocabulary.encode("é") == [2, 3]
    assert vocabulary.unknown_in("éè") == {"è"}


def test_a_symbol_of_several_letters_is_found_before_its_letters() -> None:
    vocabulary = CtcVocabulary(("<pad>", "|", "c", "h", "ch"), TextRules(), 0, None, 1, frozenset({0}))
    assert vocabulary.encode("ch hc") == [4, 1, 3, 2]


def test_repeats_are_one_and_blanks_none() -> None:
    vocabulary = character_vocabulary(["al b"], TextRules())
    heard = np.array([0, 3, 3, 0, 5, 0, 5, 5, 2, 2, 0, 4, 0])
    assert vocabulary.decode(vocabulary.collapse(heard)) == "all b"
    assert vocabulary.collapse(np.array([], np.int64)) == []


def test_what_stands_for_no_text_is_not_said() -> None:
    for vocabulary in vocabularies(["a b"], TextRules()):
        spelled = vocabulary.encode("a b")
        assert vocabulary.decode([0, 1, *spelled, 1]) == "a b"
        assert vocabulary.decode(np.array(spelled)) == "a b"


def test_it_pickles() -> None:
    for vocabulary in vocabularies(["a b"], TextRules()):
        vocabulary.encode("a")
        again = pickle.loads(pickle.dumps(vocabulary))
        assert again == vocabulary
        assert again.encode("b a") == vocabulary.encode("b a")


def test_characters_of_parts_are_united() -> None:
    rules = TextRules("lower", "drop")
    assert characters(["A b"], rules) | characters(["c!"], rules) == characters(["A b", "c!"], rules)


def test_a_mark_is_named_by_its_number() -> None:
    assert named("a") == "a"
    assert named("\u0301") == "\u0301 (U+0301)"


@pytest.mark.medium
def test_it_is_imported_without_torch() -> None:
    code = "import asr.models.ctc.vocabulary, sys; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
