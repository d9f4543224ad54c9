"""Long texts, cut into pieces and joined again."""

from __future__ import annotations

import pytest

from asr.data.segments import LabelledSegment
from asr.models.ctc.long_alignment import SegmentSpan
from asr.models.ctc.long_text import PIECE_LETTERS, Piece, labelled_segments, pieces


def texts(text: str) -> list[str]:
    return [text[piece.start : piece.end] for piece in pieces(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["He paid 3.14 dollars!", 'She said: "Why?"', "(Nobody knows.)", "So it…", "is"],
        ["今日は。", "元気ですか？", "「はい。」", "そうです!", "よし"],
        ["यह एक वाक्य है।", "यह दूसरा है॥"],
        ["كيف حالك؟", "أنا بخير.", "آپ کیسے ہیں۔"],
        ["ሰላም ነው።", "እንዴት ነህ፧"],
        ["བདེ་ལེགས།", "ཡིན།"],
        ["မင်္ဂလာပါ။", "နေကောင်းလား။"],
        ["សួស្តី។", "អរគុណ៕"],
        ["Բարև։", "Ոնց ես։"],
    ],
)
def test_sentences_end_at_their_scripts_punctuation(sentences: list[str]) -> None:
    assert texts(" ".join(sentences)) == sentences
    assert all(piece.ends_sentence for piece in pieces(" ".join(sentences)))


def test_chinese_and_japanese_have_no_space_between_sentences() -> None:
    sentences = ["今日は。", "元気ですか？", "「はい。」", "そう!", "よし"]
    assert texts("".join(sentences)) == sentences


def test_a_paragraph_ends_a_sentence_and_a_line_does_not() -> None:
    assert texts("Chapter one\n\nIt was a\nday  \n \n") == ["Chapter one", "It was a\nday"]
    assert texts(" \n\n ") == texts("") == []


def test_long_sentences_are_cut_at_commas_or_between_words() -> None:
    clause = "so he went on and on and on for a while, "
    found = pieces(clause * 5 + "and stopped.")
    assert [piece.ends_sentence for piece in found] == [False, False, True]
    assert texts(clause * 5 + "and stopped.")[0] == (clause * 2).strip()
    words = " ".join(["word"] * 100)
    assert {len(text) for text in texts(words)} <= {94, 99}
    assert " ".join(texts(words)) == words


def test_what_has_no_spaces_is_cut_by_length() -> None:
    found = texts("天" * 1000)
    assert "".join(found) == "天" * 1000
    assert max(len(text) for text in found) * 3 <= PIECE_LETTERS
    assert "".join(texts("ก" * 1000)) == "ก" * 1000


def test_nothing_of_a_text_is_lost() -> None:
    text = "One, two; three... «Four»? " * 30 + "五、六。" * 50 + "x" * 500
    assert "".join("".join(texts(text)).split()) == "".join(text.split())
    assert all(before.end <= after.start for before, after in zip(pieces(text), pieces(text)[1:], strict=False))


TEXT = "a b, c. d e f"
PARTS = [Piece(0, 4, False), Piece(5, 7, True), Piece(8, 11, False), Piece(12, 13, True)]


def spans(*times: tuple[float, float] | None, confidence: float = -0.1) -> list[SegmentSpan | None]:
    return [None if one is None else SegmentSpan(*one, confidence) for one in times]


def joined(known: list[SegmentSpan | None], max_s: float = 30.0) -> list[LabelledSegment]:
    return labelled_segments(TEXT, PARTS, known, max_s, min_confidence=-1.0)


def test_neighbours_are_joined_as_long_as_they_fit() -> None:
    known = spans((1, 2), (2.1, 3), (3.2, 4), (4, 5))
    assert joined(known) == [LabelledSegment(0.8, 5.0, TEXT)]
    # Rather at the end of a sentence than where it would be fullest.
    assert [one.text for one in joined(known, max_s=3.5)] == ["a b, c.", "d e f"]


def test_without_an_end_of_a_sentence_the_longest_pause_is_taken() -> None:
    parts = [Piece(part.start, part.end, False) for part in PARTS]
    known = spans((0, 2), (2.5, 4), (4.1, 5.9), (6.1, 8))
    found = labelled_segments(TEXT, parts, known, 7.0, min_confidence=-1.0)
    assert [one.text for one in found] == ["a b, c. d e", "f"]
    found = labelled_segments(TEXT, parts, spans((0, 2), (2.1, 4), (4.5, 6), (6, 8)), 7.0, min_confidence=-1.0)
    assert [one.text for one in found] == ["a b, c.", "d e f"]


def test_what_is_unspoken_unsure_or_too_long_is_left_out_and_not_joined_over() -> None:
    for lost in (spans(None), spans((2.1, 3), confidence=-1.5), spans((2.1, 33))):
        known = [*spans((1, 2)), *lost, *spans((34, 35), (35.1, 36))]
        assert joined(known) == [LabelledSegment(0.8, 2.2, "a b,"), LabelledSegment(33.8, 36, "d e f")]
    assert joined(spans(None, None, None, None)) == []


def test_a_long_pause_may_be_speech_without_text_and_parts_segments() -> None:
    found = joined(spans((1, 2), (3.1, 4), (4, 5), (5, 6)))
    assert found == [LabelledSegment(0.8, 2.2, "a b,"), LabelledSegment(2.9, 6, "c. d e f")]


def test_margins_make_no_segment_overlap_or_too_long() -> None:
    found = joined(spans((0.1, 2), (2.1, 3.9), None, (4.0, 7.95)), max_s=4.0)
    assert found == [LabelledSegment(0.0, 3.95, "a b, c."), LabelledSegment(3.98, 7.95, "f")]
