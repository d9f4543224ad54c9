import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.scoring.normalizer import normalise
from asr.scoring.written_text import align_written, written


@given(st.text(alphabet=st.characters(codec="utf-8", max_codepoint=0x2FFF), max_size=60), st.sampled_from([None, "tr"]))
def test_words_are_those_of_the_normaliser_and_chunks_are_the_text(text: str, language: str | None) -> None:
    found = written(text, language)
    assert "".join(found.words) == normalise(text, "normalised", language).replace(" ", "")
    assert len(found.words) == len(found.spelled) == len(found.chunks) == len(found.marks) - 1
    assert [one.lower() for one in found.spelled] == list(found.words) or language or not text.isascii()


@pytest.mark.parametrize(
    ("text", "words", "marks"),
    [
        ("Ciao, Anna!", "ciao anna", [(), (",",), ("!",)]),
        ("È l'amico, un po' stanco", "è l amico un po stanco", [(), (), (), (",",), (), (), ()]),
        ("«Sì» — disse", "sì disse", [('"',), ('"', "-"), ()]),
        ("“Yes”...", "yes", [('"',), ('"', "…")]),
        ("¿Qué? 3.5 a 10:30, 50%", "qué 3 5 a 10 30 50", [("¿",), ("?",), (), (), (), (), (",",), ()]),
        ("well-known U.S. case", "well known u s case", [(), (), (), (), (".",), ()]),
        ("ދިވެހި ބަސް، އަދި.", "ދިވެހި ބަސް އަދި", [(), (), ("،",), (".",)]),
        ("यह क्या है।", "यह क्या है", [(), (), (), ("।",)]),
        ("好、是。", "好 是", [(), ("、",), ("。",)]),
        ("Привет, мир?", "привет мир", [(), (",",), ("?",)]),
        ("...", "", [("…",)]),
        ("", "", [()]),
    ],
)
def test_marks_stand_between_words_and_what_is_inside_a_word_is_none(
    text: str, words: str, marks: list[tuple[str, ...]]
) -> None:
    found = written(text)
    assert " ".join(found.words) == words
    assert list(found.marks) == marks
    if words:
        assert "".join(found.chunks) == text


def test_a_letter_of_two_words_is_typed_once() -> None:
    found = written("una ½ tazza")
    assert (found.words, found.chunks) == (("una", "1", "2", "tazza"), ("una ", "½ ", "", "tazza"))


def test_a_turkish_capital_is_its_own_small_letter() -> None:
    assert written("ISPARTA İzmir", "tr").words == ("ısparta", "izmir")
    assert written("ISPARTA İzmir", "tr").spelled == ("ISPARTA", "İzmir")


def test_an_alignment_covers_both_texts_in_order() -> None:
    said, heard = written("a b c d"), written("a x c d e")
    pairs = [(one.operation, one.reference, one.hypothesis) for one in align_written(said, heard)]
    assert pairs == [
        ("equal", 0, 0),
        ("substitute", 1, 1),
        ("equal", 2, 2),
        ("equal", 3, 3),
        ("insert", None, 4),
    ]
    assert [one.operation for one in align_written(said, written(""))] == ["delete"] * 4
