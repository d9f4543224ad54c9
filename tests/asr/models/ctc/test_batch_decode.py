from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr.models.checkpoint import Checkpoint
from asr.models.ctc.batch_decode import emissions
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.torch_backend import TorchEmitter
from asr.models.family import SpeechModel, load_checkpoint
from asr.transcript import DecodingRequest

NAMES = [
    "wav2vec2-base-960h",
    "wav2vec2-large-lv60",
    "whisper-tiny",
    "w2v-bert-2.0",
    "parakeet-ctc-0.6b",
    "sew-tiny-100k",
]
SECONDS = (0.4, 1.1, 1.2, 2.9)


@pytest.fixture
def model_of(checkpoint: Callable[[str], Path]) -> Callable[[str], SpeechModel]:
    return lambda name: load_checkpoint(Checkpoint(name, checkpoint(name), "sha256:1", language="en"))


def noise(model: SpeechModel) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [model.features(random.standard_normal(round(16000 * each)).astype(np.float32)) for each in SECONDS]


def processor(model: SpeechModel) -> CtcProcessor:
    assert isinstance(model.processor, CtcProcessor)
    return model.processor


@pytest.mark.parametrize("name", NAMES)
def test_batched_or_alone_a_clip_says_the_same(name: str, model_of: Callable[[str], SpeechModel]) -> None:
    model = model_of(name)
    clips = noise(model)
    together = emissions(TorchEmitter(model.network), processor(model), clips, "short")
    for clip, logprobs_TV in zip(clips, together, strict=True):
        (alone_TV,) = emissions(TorchEmitter(model.network), processor(model), [clip], "short")
        assert logprobs_TV.shape == alone_TV.shape
        np.testing.assert_allclose(np.exp(logprobs_TV).sum(1), 1.0, rtol=1e-4)
        np.testing.assert_allclose(logprobs_TV, alone_TV, atol=2e-3)


def test_words_and_segments_have_times_where_they_are_asked_for(model_of: Callable[[str], SpeechModel]) -> None:
    model = model_of("wav2vec2-large-lv60")
    features = noise(model)[-1]
    plain, timed = model.transcribe(
        [DecodingRequest(features), DecodingRequest(features, timestamps=True, words=True)], "short"
    )
    assert plain == model.transcribe([DecodingRequest(features)], "full")[0]
    assert plain.text == timed.text == "".join(word.text for word in timed.words).strip()
    assert plain.words == ()
    assert (plain.segments[0].start_s, plain.segments[0].end_s) == (0.0, pytest.approx(2.9))
    (segment,) = timed.segments
    assert 0.0 <= segment.start_s == timed.words[0].start_s < segment.end_s == timed.words[-1].end_s <= 2.95
    ends = [time for word in timed.words for time in (word.start_s, word.end_s)]
    assert ends == sorted(ends)
    assert all(0.0 < word.probability <= 1.0 for word in timed.words)
    assert timed.language == "en"
