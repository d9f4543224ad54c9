import pytest

from asr.models.ctc.text_rules import TextRules
from asr.models.ctc.vocabulary import character_vocabulary
from asr.models.ctc.vocabulary_report import Unseen, mismatch, unseen


def test_characters_that_only_other_texts_have_are_counted() -> None:
    vocabulary = character_vocabulary(["abc d"], TextRules("lower"))
    found = unseen(vocabulary, [("one", "a b"), ("two", "Zoo!"), ("three", "o z o")])
    assert found == {"o": Unseen(4, "two"), "z": Unseen(2, "two"), "!": Unseen(1, "two")}
    assert list(found) == ["o", "z", "!"]
    assert unseen(vocabulary, [("one", "a B")]) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ABC DEF", ""),
        ("A’B'C \u200b", ""),
        ("Abc", "it is upper case alone"),
        ("ABC, DEF!", "it has no ! (U+0021) , (U+002C), which will be dropped"),
        ("ABÉ", "it has no É (in row)"),
        ("AB3", "it has no 3 (in row)"),
    ],
)
def test_transcripts_of_another_make_are_told_of(text: str, told: str) -> None:
    vocabulary = character_vocabulary(["A'BCDEF"], TextRules("upper", "drop"))
    sentence = mismatch(vocabulary, [("row", text)])
    assert told in sentence
    assert bool(sentence) == bool(told)
