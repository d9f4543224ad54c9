"""One recording through the endpoint and in process: the same words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openai
import pytest

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.inference.engine import Engine
from asr.inference.pipeline import DecodingOptions
from asr.inference.transcribe import transcribe, transcribe_recording
from asr.utterance import Utterance


@pytest.mark.slow
def test_a_file_gives_the_same_words_as_the_endpoint(
    engine: Engine, client: openai.OpenAI, english_clips: list[Utterance]
) -> None:
    for clip in english_clips[:2]:
        path = Path(str(clip.audio))
        heard = transcribe(engine, path, "en")
        assert heard.text == client.audio.transcriptions.create(model="tiny", file=path, language="en").text
        assert (heard.file, heard.language) == (str(path), "en")
        assert heard.duration_s == pytest.approx(clip.duration_s)
        assert heard.seconds > 0


@pytest.mark.slow
def test_so_does_a_long_one_with_times(
    engine: Engine, client: openai.OpenAI, english_clips: list[Utterance], tmp_path: Path
) -> None:
    waveform = np.concatenate([decode(str(clip.audio)) for clip in english_clips[3:10]])
    assert 30 * SAMPLE_RATE < len(waveform) < 75 * SAMPLE_RATE
    path = tmp_path / "long.flac"
    path.write_bytes(encode_flac(waveform))
    heard = transcribe_recording(engine, path, DecodingOptions("en", timestamps=True, words=True))
    answer = client.audio.transcriptions.create(
        model="tiny", file=path, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert answer.text == heard.text
    assert answer.words and [word.start for word in answer.words] == pytest.approx(
        [word.start_s for word in heard.words], abs=0.011
    )
