from __future__ import annotations

from pathlib import Path

import numpy as np

from asr.models.artifact import load_model
from asr.models.backends import FastModel, SharedBase
from asr.models.family import WHISPER, family_named
from asr.transcript import DecodingRequest


def test_a_checkpoint_says_the_same_alone_as_a_base_and_in_the_other_engine(
    random_multilingual: Path,
) -> None:
    alone = load_model(str(random_multilingual))
    waveform = np.random.default_rng(3).standard_normal(32_000).astype(np.float32)
    clips = [DecodingRequest(alone.features(waveform), "it")]
    said = alone.transcribe(clips, "short")
    fast: FastModel = family_named(WHISPER).load_fast(str(random_multilingual), quantization="float32")
    assert fast.known_languages == alone.family.languages(alone)
    (heard,) = fast.transcribe(clips, "short")
    assert said[0].tokens and heard.tokens[: len(said[0].tokens)] == said[0].tokens  # it goes on to its own limit
    base: SharedBase = alone.family.shared_base(alone)
    with base.busy() as model:
        assert model.transcribe(clips, "short") == said
    base.close()
    assert base.nbytes == 0
