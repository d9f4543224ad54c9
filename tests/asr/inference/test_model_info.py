from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
from transformers import WhisperFeatureExtractor

from asr.audio.features import LogMel
from asr.inference.model_info import SHORTEST_WINDOW_S, ModelInfo
from asr.models.family import CTC
from asr.transcript import DecodingRequest
from tests.light import imported_by

PADDED = ModelInfo("m", frozenset({"en"}), "en", "full", LogMel(WhisperFeatureExtractor().mel_filters))


def test_who_learnt_from_clips_alone_gets_short_windows() -> None:
    assert PADDED.window_s == 30.0
    for heard_s in (None, 2.0):
        assert replace(PADDED, context="short", speech_s=heard_s).window_s == SHORTEST_WINDOW_S < 30.0
    assert replace(PADDED, context="short", speech_s=48.0).window_s == 30.0
    assert replace(PADDED, context="short", speech_s=20.0).window_s == 20.0, "it heard as much in training"
    assert replace(PADDED, context="short", family=CTC).window_s == 30.0, "it writes what it hears, where it hears it"


def test_a_clip_costs_what_the_encoder_sees_of_it() -> None:
    clip = DecodingRequest(np.zeros((80, 202), np.float16))
    assert PADDED.encoder_s(clip) == 30.0
    assert replace(PADDED, context="short").encoder_s(clip) == 3.0
    assert replace(PADDED, context="short").samples_s(200 * 160) == 3.0


def test_who_gets_one_can_prepare_requests_without_torch() -> None:
    sent = pickle.dumps(PADDED)
    assert len(sent) < 100_000
    code = "import numpy\nfound.features(numpy.zeros(100, numpy.float32))"
    assert not imported_by(code, sent) & {"torch", "transformers"}
