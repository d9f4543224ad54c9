from __future__ import annotations

from asr.scoring.repetition import MAX_COMPRESSION_RATIO, compression_ratio, is_loop
from asr.utterance import Utterance


def test_a_loop_compresses_and_speech_does_not(english_clips: list[Utterance]) -> None:
    for clip in english_clips:
        assert compression_ratio(clip.text) < MAX_COMPRESSION_RATIO / 1.5
        assert compression_ratio(" ".join([clip.text] * 5)) > MAX_COMPRESSION_RATIO


def test_a_prompt_is_no_loop_for_being_long(english_clips: list[Utterance]) -> None:
    said = ". ".join(sorted({clip.text for clip in english_clips}))
    assert not is_loop(said[:10_000]) and not is_loop("p") and not is_loop("")
    assert is_loop("p" * 300) and is_loop(said[:5000] + "no, " * 500)


def test_the_ratio_is_that_of_bytes_not_of_letters() -> None:
    assert compression_ratio("ދިވެހި") > compression_ratio("divehi")
    assert compression_ratio("") == 0.0
