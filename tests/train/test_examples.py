from __future__ import annotations

import pickle

from asr.audio.features import WINDOW_S
from asr.models.head import InitialModel
from asr.utterance import Utterance
from train.examples import MIN_AUDIO_S, MicroBatchSpec, PackedExample, PreprocessConfig


def test_an_utterance_may_last_as_long_as_the_window() -> None:
    limits = PreprocessConfig(InitialModel("builtin:tiny.en"), "en", "transcribe", max_damaged_share=0.2).limits
    assert (limits.min_audio_s, limits.max_audio_s, limits.max_damaged_share) == (MIN_AUDIO_S, WINDOW_S, 0.2)


def test_a_micro_batch_travels_to_any_node() -> None:
    spec = MicroBatchSpec((PackedExample((Utterance("a", "a.flac", "one", 1.0),), previous="before"),), 2.0, 1.0, 3)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert MicroBatchSpec().examples == ()
