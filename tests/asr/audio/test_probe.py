from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.decode import encode_flac
from asr.audio.probe import Header, header, probe
from asr.errors import DataError
from tests.asr.sounds import CODECS, encoded, tone


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


@pytest.mark.parametrize("name", ["wav", *CODECS, "g722"])
def test_the_length_of_every_kind(tmp_path: Path, name: str) -> None:
    codec = {"wav": ("pcm_s16le", "wav"), "g722": ("g722", "g722"), **CODECS}[name]
    path = encoded(tmp_path / f"a.{name}", tone(3.0, 16_000), *codec, rate=16_000)
    for told in (probe(path), probe(path.read_bytes(), container="g722" if name == "g722" else None)):
        assert told is not None and told.seconds == pytest.approx(3.0, abs=0.1)
        assert told.certain == (name not in ("g722", "opus"))


def test_the_length_of_no_audio(tmp_path: Path) -> None:
    for data, fault in ((b"", "empty_file"), (b"text " * 100, "not_audio")):
        with pytest.raises(DataError, match=fault):
            probe(data)
    with pytest.raises(DataError, match="missing_file"):
        probe(tmp_path / "no.wav")
