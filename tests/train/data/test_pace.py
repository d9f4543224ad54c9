from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from asr.data.sources.prompts import fetch, utterances
from asr.io.cache import cache_root
from train.data.pace import FITTING, Pace, PaceFigures, letters

G722_BYTES_PER_S = 8000
Pair = tuple[str, float]


def prompts(language: str) -> list[Pair]:
    """Text and seconds of some 500 real recordings."""
    good, _ = utterances(language, fetch(language, cache_root()))
    return [(clip.text, Path(str(clip.audio)).stat().st_size / G722_BYTES_PER_S) for clip in good]


def figures(pairs: Sequence[Pair]) -> PaceFigures:
    pace = Pace()
    for text, seconds in pairs:
        pace.add(text, seconds)
    found = pace.figures()
    assert found is not None
    return found


def with_texts(pairs: Sequence[Pair], texts: Sequence[str]) -> list[Pair]:
    return [(text, seconds) for text, (_, seconds) in zip(texts, pairs, strict=True)]


@pytest.mark.parametrize("language", ["it", "en", "fr", "es", "ru"])
def test_good_speech_gives_no_warning(language: str) -> None:
    pairs = prompts(language)
    whole = figures(pairs)
    assert whole.findings() == [] and whole.agreement is not None and whole.agreement > 0.9
    for seed in range(20):
        few = random.Random(seed).sample(pairs, 64)
        assert figures(few).findings() == []


@pytest.mark.medium
@pytest.mark.parametrize("language", ["it", "en", "fr", "es", "ru"])
@pytest.mark.parametrize("by", [1, -1, 2])
def test_transcripts_shifted_by_a_row_are_told_with_the_way_back(language: str, by: int) -> None:
    """Neighbours in a list are alike (digits, letters, long greetings): the correlation alone would still be 0.6."""
    pairs = prompts(language)
    texts = [text for text, _ in pairs]
    (finding,) = figures(with_texts(pairs, texts[-by:] + texts[:-by])).findings()
    rows = f"{abs(by)} row{'s' * (abs(by) > 1)}"
    assert f"the transcript {rows} {'after' if by > 0 else 'before'} fits" in finding


@pytest.mark.parametrize("language", ["it", "fr", "ru"])
def test_half_of_the_transcripts_shuffled_looked_like_the_text_of_whole_recordings(language: str) -> None:
    pairs = prompts(language)
    texts = [text for text, _ in pairs]
    half = random.Random(1).sample(range(len(pairs)), len(pairs) // 2)
    for to, text in zip(half, [texts[at] for at in half[1:] + half[:1]], strict=True):
        texts[to] = text
    found = figures(with_texts(pairs, texts)).findings()
    assert found and all("whole recording" not in each for each in found)
    assert any("are some those of other clips?" in each for each in found)


@pytest.mark.parametrize("seed", range(5))
def test_transcripts_of_other_clips_are_told(seed: int) -> None:
    pairs = prompts("it")
    few = random.Random(seed).sample(pairs, 64)
    texts = [text for text, _ in few]
    random.Random(seed + 100).shuffle(texts)
    shuffled = figures(with_texts(few, texts))
    assert shuffled.agreement is not None and shuffled.agreement < FITTING
    assert any("long transcripts do not go with long clips" in found for found in shuffled.findings())


@pytest.mark.medium
def test_the_transcript_of_the_whole_recording_with_each_clip_is_told() -> None:
    pairs = prompts("it")
    whole = " ".join(text for text, _ in pairs[:40])
    (finding,) = figures(with_texts(pairs, [whole] * len(pairs))).findings()
    assert "longer than anybody speaks" in finding


def test_one_word_in_half_a_minute_is_told() -> None:
    (finding,) = figures([("Buongiorno", 30.0)] * 20).findings()
    assert "20 of 20 clips last much longer than their words" in finding


def test_a_few_odd_clips_are_not_the_set() -> None:
    pairs = prompts("it")
    assert figures([*pairs, ("ciao", 29.0), ("parola " * 60, 1.0)]).findings() == []


def test_too_little_to_tell_by() -> None:
    assert Pace().figures() is None
    assert figures([("ciao", 1.0)]).findings() == []
    alike = figures([("ciao " * (i % 5), 3.0 + i / 100) for i in range(1, 60)])  # clips of one length
    assert alike.agreement is None and alike.shifted is None
    pace = Pace()
    pace.add("ciao", None)
    pace.add("", 3.0)
    assert pace.figures() is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("我们昨天看了一场很好的电影", 2.9),  # twelve syllables, 4.5 a second
        ("昨日はとても良い天気でした", 2.1),
        ("오늘은 날씨가 정말 좋습니다", 2.2),
        ("ދިވެހިރާއްޖެއަކީ ޤައުމެކެވެ", 2.3),
        ("2024 1999", 3.5),
        ("Quanto dura un saluto?", 1.7),
    ],
)
def test_every_script_is_spoken_at_a_like_pace(text: str, seconds: float) -> None:
    assert 7 < letters(text) / seconds < 20


def test_decomposed_letters_count_once() -> None:
    assert letters("perche\u0301, no!") == letters("perché no") == 8
