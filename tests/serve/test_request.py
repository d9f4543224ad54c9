from __future__ import annotations

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from asr.audio import AudioLimits
from asr.decode import Transcript
from asr.errors import DataError, UserError
from asr.features import LogMel
from serve.engine import ModelInfo
from serve.request import join, prepare, spoken_language
from tests.serve.fakes import noise

LOG_MEL = LogMel(WhisperFeatureExtractor())
MANY = ModelInfo("many", frozenset({"en", "it", "zh"}), None, "full", LOG_MEL)
ITALIAN = ModelInfo("italian", frozenset({"en", "it"}), "it", "short", LOG_MEL)
ENGLISH = ModelInfo("english", frozenset({"en"}), "en", "full", LOG_MEL)


def test_the_request_names_the_language_else_the_artifact_else_nobody() -> None:
    assert spoken_language("Italian", MANY) == "it"
    assert spoken_language("it-IT", ENGLISH_AND_ITALIAN := ITALIAN) == "it"
    assert spoken_language("en", ENGLISH_AND_ITALIAN) == "en"
    assert spoken_language(None, ITALIAN) == "it"
    assert spoken_language("", MANY) is None


def test_a_language_that_is_none_is_met_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'italian'"):
        spoken_language("italan", MANY)


def test_an_english_model_says_so() -> None:
    with pytest.raises(UserError, match="knows English only, not Italian"):
        spoken_language("it", ENGLISH)


def test_a_language_without_a_token_is_refused() -> None:
    with pytest.raises(UserError, match="no token for Cantonese"):
        spoken_language("yue", MANY)


def test_short_audio_is_one_clip_of_its_own_length() -> None:
    prepared = prepare(noise(3.0), "it", MANY, AudioLimits())
    assert [clip.features.shape for clip in prepared.clips] == [(80, 302)]
    assert prepared.clips[0].features.dtype == np.float16
    assert prepared.clips[0].language == "it"
    assert prepared.duration_s == pytest.approx(3.0)


def test_long_audio_is_cut_into_windows_that_lose_nothing() -> None:
    prepared = prepare(noise(65.0), None, MANY, AudioLimits())
    frames = [clip.features.shape[1] for clip in prepared.clips]
    assert len(frames) == 3 and max(frames) <= 3000
    assert sum(frames) == pytest.approx(6500, abs=3 * 3)


def test_limits_hold() -> None:
    with pytest.raises(DataError, match="too_long"):
        prepare(noise(3.0), None, MANY, AudioLimits(max_audio_s=2.0))


def test_texts_are_joined_in_order_and_silence_adds_no_space() -> None:
    texts = [Transcript("uno", (1,), "it"), Transcript("", (), "en"), Transcript("due", (2, 3), "it")]
    assert join(texts).text == "uno due"
    assert join(texts).language == "it"


def test_chinese_gets_no_space_between_windows() -> None:
    assert join([Transcript("你好", (1,), "zh"), Transcript("世界", (2,), "zh")]).text == "你好世界"
