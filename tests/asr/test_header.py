from __future__ import annotations

import io

import av
import numpy as np
import pytest

from asr.audio import encode_flac
from asr.errors import DataError
from asr.header import Header, header


def stereo_wav(rate: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as media:
        stream = media.add_stream("pcm_s16le", rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.int16), format="s16", layout="stereo")
        frame.sample_rate = rate
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
    return buffer.getvalue()


def test_codec_rate_and_channels() -> None:
    assert header(encode_flac(np.zeros(1600))) == Header("flac", 16_000, 1)
    assert header(stereo_wav(44_100)) == Header("pcm_s16le", 44_100, 2)


def test_no_audio() -> None:
    with pytest.raises(DataError, match="not_audio"):
        header(b"buy milk")
