from __future__ import annotations

from collections.abc import Sequence

import pytest

from asr.audio.decode import SAMPLE_RATE
from asr.audio.sandbox import decode_utterance
from asr.errors import DataError
from asr.models.alignment import AlignmentRequest, SegmentLimits
from asr.models.family import SpeechModel
from asr.transcript import DecodingRequest
from asr.utterance import Utterance


@pytest.mark.weights
@pytest.mark.slow
def test_given_what_it_decoded_whisper_gives_the_words_the_same_times(
    tiny_en: SpeechModel, english_clips: Sequence[Utterance]
) -> None:
    features = [tiny_en.features(decode_utterance(clip)[: 4 * SAMPLE_RATE]) for clip in english_clips[:2]]
    decoded = tiny_en.transcribe([DecodingRequest(each, "en", words=True) for each in features], tiny_en.context)
    given = [AlignmentRequest(each, one.text, "en") for each, one in zip(features, decoded, strict=True)]
    found = tiny_en.family.align(tiny_en, [*given, AlignmentRequest(features[0], "<|endoftext|>")])
    for words, transcript in zip(found, decoded, strict=False):
        assert not isinstance(words, DataError)
        assert [word.text for word in words] == [word.text for word in transcript.words]
        for word, other in zip(words, transcript.words, strict=True):
            assert (word.start_s, word.end_s) == pytest.approx((other.start_s, other.end_s), abs=0.03)
            assert word.probability == pytest.approx(other.probability, abs=0.02)
    assert isinstance(found[-1], DataError) and found[-1].reason == "special_token"


@pytest.mark.weights
def test_whisper_refuses_long_recordings_by_name_before_it_reads_them(tiny_en: SpeechModel) -> None:
    with pytest.raises(DataError, match=r"tiny.* is a Whisper model, which aligns clips of at most 30 s") as refused:
        tiny_en.family.align_long(tiny_en, iter(lambda: pytest.fail("read"), None), "a text", SegmentLimits())
    assert refused.value.reason == "too_long"
