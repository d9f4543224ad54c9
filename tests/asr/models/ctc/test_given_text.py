"""Given text and the sound it is spoken in: clips, and long recordings with their whole text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.errors import DataError
from asr.models.alignment import AlignmentRequest, LongAlignment, SegmentLimits, SoundWindow
from asr.models.checkpoint import Checkpoint
from asr.models.ctc import given_text
from asr.models.family import SpeechModel, load_checkpoint
from asr.transcript import FeatureArray, Word
from tests.asr.models.ctc.tiny import SYMBOLS


@pytest.fixture
def model_of(checkpoint: Callable[[str], Path]) -> Callable[[str], SpeechModel]:
    return lambda name: load_checkpoint(Checkpoint(name, checkpoint(name), "sha256:1", language="en"))


def noise(model: SpeechModel, seconds: float) -> FeatureArray:
    return model.features(np.random.default_rng(1).standard_normal(round(16000 * seconds)).astype(np.float32))


def aligned(model: SpeechModel, *requests: AlignmentRequest) -> list[tuple[Word, ...] | DataError]:
    return model.family.align(model, requests)


@pytest.mark.parametrize("name", ["wav2vec2-base-960h", "whisper-tiny", "parakeet-ctc-0.6b"])
def test_words_of_a_clip_are_those_given_in_order_and_inside_of_it(
    name: str, model_of: Callable[[str], SpeechModel]
) -> None:
    model = model_of(name)
    request = AlignmentRequest(noise(model, 2.5), "The - quick  (fox), it's")
    words, other = aligned(model, request, AlignmentRequest(noise(model, 1.1), "a"))
    assert not isinstance(words, DataError) and not isinstance(other, DataError)
    assert [word.text for word in words] == [" The -", " quick", " (fox),", " it's"]
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0.0 and times[-1] <= 2.6
    assert all(0.0 <= word.probability <= 1.0 for word in words)
    assert aligned(model, request) == [words]  # alone the same


def test_in_a_language_without_spaces_the_vocabulary_s_text_is_parted(model_of: Callable[[str], SpeechModel]) -> None:
    model = model_of("wav2vec2-base-960h")
    (words,) = aligned(model, AlignmentRequest(noise(model, 2.5), "Abc, de", "ja"))
    assert not isinstance(words, DataError)
    assert [word.text for word in words] == ["abc", " de"]


def test_a_clip_that_cannot_be_aligned_costs_no_other(model_of: Callable[[str], SpeechModel]) -> None:
    model = model_of("wav2vec2-base-960h")
    clip = noise(model, 0.5)
    texts = ["naïve 7", "...", "much more than is said in half of a second", "a"]
    *faults, words = aligned(model, *(AlignmentRequest(clip, text) for text in texts))
    assert [fault.reason if isinstance(fault, DataError) else "" for fault in faults] == [
        *("unknown_letters", "no_transcript", "label_needs_more_frames")
    ]
    assert not isinstance(words, DataError)


POSITION_S = 0.02
LIMITS = SegmentLimits()


def speech(*said: str) -> NDArray[np.float32]:
    """Emissions that say texts, a letter at every other position, a second of nothing behind each."""
    heard: list[int] = []
    for text in said:
        heard += [one for letter in text.replace(" ", "|") for one in (SYMBOLS.index(letter), 0)] + [0] * 50
    rows_TV = np.full((len(heard), len(SYMBOLS)), 0.05 / (len(SYMBOLS) - 1))
    rows_TV[np.arange(len(heard)), heard] = 0.95
    return np.log(rows_TV).astype(np.float32)


@pytest.fixture
def heard(model_of: Callable[[str], SpeechModel], monkeypatch: pytest.MonkeyPatch) -> Callable[..., LongAlignment]:
    """Aligns a text with windows of what a network hears; the silence behind each is heard as other sound."""
    model = model_of("wav2vec2-base-960h")

    def align(text: str, *windows: Sequence[str], limits: SegmentLimits = LIMITS) -> LongAlignment:
        sounds = [speech(*said) for said in windows]
        tail_TV = speech("zzzz")
        monkeypatch.setattr(
            given_text, "emissions", lambda *_: [np.concatenate([sound_TV, tail_TV]) for sound_TV in sounds]
        )
        lengths_s = [len(sound_TV) * POSITION_S for sound_TV in sounds]
        starts_s = np.cumsum([0.0, *lengths_s[:-1]])
        nothing = np.zeros((1, 1), np.float32)
        stretches = [
            SoundWindow(float(start_s), float(start_s) + length_s, nothing)
            for start_s, length_s in zip(starts_s, lengths_s, strict=True)
        ]
        return model.family.align_long(model, stretches, text, limits)

    return align


FIRST, SECOND, THIRD = "this is the first of them", "and here another one is read", "nothing comes behind it"


def test_a_recording_is_cut_into_what_is_said(heard: Callable[..., LongAlignment]) -> None:
    text = f"{FIRST.capitalize()}. {SECOND.capitalize()}.\n{THIRD.capitalize()}!"
    found = heard(text, [FIRST, SECOND], [THIRD], limits=SegmentLimits(3.0))
    assert [one.text for one in found.segments] == [
        f"{each.capitalize()}{end}" for each, end in zip((FIRST, SECOND, THIRD), "..!", strict=True)
    ]
    assert found.left_out == ()
    starts_s = np.cumsum([0.0, *(len(speech(each)) * POSITION_S for each in (FIRST, SECOND))])
    for segment, start_s in zip(found.segments, starts_s, strict=True):
        assert segment.start_s == pytest.approx(start_s, abs=0.25)  # the margin of a segment
        assert segment.confidence > -0.2
    whole = heard(text, [FIRST, SECOND], [THIRD], limits=SegmentLimits(20.0))
    (segment,) = whole.segments
    assert segment.text == text.replace("\n", " ")


def test_what_is_in_no_segment_is_named_with_its_reason(heard: Callable[..., LongAlignment]) -> None:
    unread, unknown = "Nobody has ever read this part.", "Ünwritable."
    text = f"{FIRST}. {unread} {SECOND}. {unknown} {THIRD}."
    found = heard(text, [FIRST, SECOND], [THIRD])
    assert [one.text for one in found.segments] == [f"{each}." for each in (FIRST, SECOND, THIRD)]
    assert [(one.reason, text[one.start : one.end]) for one in found.left_out] == [
        ("not_spoken", unread),
        ("unknown_letters", unknown),
    ]
    assert "'Nobody has ever" in found.left_out[0].detail
    assert "ü" in found.left_out[1].detail


def test_what_is_misheard_and_what_is_too_long_are_left_out(heard: Callable[..., LongAlignment]) -> None:
    misheard = SECOND.replace("another one", "xxqjzzzxwxx")
    text = f"{FIRST}. {SECOND}. {THIRD}."
    found = heard(text, [FIRST, misheard, THIRD], limits=SegmentLimits(20.0, -0.5))
    assert [one.text for one in found.segments] == [f"{FIRST}.", f"{THIRD}."]
    (left_out,) = found.left_out
    assert left_out.reason == "low_confidence"
    assert "under -0.5" in left_out.detail and " s" in left_out.detail
    found = heard(text, [FIRST, SECOND, THIRD], limits=SegmentLimits(1.05))
    assert [one.text for one in found.segments] == [f"{each}." for each in (FIRST, THIRD)]
    assert [one.reason for one in found.left_out] == ["too_long"]


def test_a_text_that_cannot_be_written_asks_for_no_sound(model_of: Callable[[str], SpeechModel]) -> None:
    model = model_of("wav2vec2-base-960h")

    def windows() -> None:
        raise AssertionError

    for text, reason in (("Über. Ärger.", "unknown_letters"), ("... !", "no_transcript"), ("", "no_transcript")):
        with pytest.raises(DataError, match=reason):
            model.family.align_long(model, iter(windows, None), text, SegmentLimits())
