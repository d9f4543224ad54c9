from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.integrity import declared_s, missing_end


def encoded(path: Path, codec: str, container: str, **options: str) -> bytes:
    """Three seconds of noise at 48 kHz."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 144_000)).astype(np.float32)
    with av.open(path, "w", format=container, options=options) as media:
        stream = media.add_stream(codec, rate=48_000, layout="mono")
        resampler = av.AudioResampler(stream.format, "mono", 48_000, frame_size=stream.codec_context.frame_size)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            media.mux(stream.encode(part))
        media.mux(stream.encode(None))
    return path.read_bytes()


def declared(content: bytes) -> float | None:
    file = io.BytesIO(content)
    with av.open(file) as media:
        before = file.tell()
        seconds = declared_s(media, media.streams.audio[0], file)
        assert file.tell() == before
    return seconds


@pytest.mark.parametrize(
    ("codec", "container"),
    [("pcm_s16le", "wav"), ("flac", "flac"), ("pcm_s16be", "aiff"), ("libmp3lame", "mp3"), ("flac", "matroska")],
)
def test_headers_that_declare_a_length_keep_to_it_when_cut(tmp_path: Path, codec: str, container: str) -> None:
    whole = encoded(tmp_path / "clip", codec, container)
    assert declared(whole) == pytest.approx(3.0, abs=0.05)
    assert declared(whole[: len(whole) // 2]) == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(("codec", "container"), [("aac", "adts"), ("libopus", "ogg")])
def test_an_estimate_is_no_declaration(tmp_path: Path, codec: str, container: str) -> None:
    assert declared(encoded(tmp_path / "clip", codec, container)) is None


def test_an_mp3_without_a_frame_count_declares_nothing(tmp_path: Path) -> None:
    assert declared(encoded(tmp_path / "clip", "libmp3lame", "mp3", write_xing="0")) is None


def test_the_frame_count_is_found_behind_an_id3_picture(tmp_path: Path) -> None:
    bare = encoded(tmp_path / "clip", "libmp3lame", "mp3", write_id3v2="0", id3v2_version="0")
    size = 70_000
    tag = b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"\0" * size
    assert declared(tag + bare) == pytest.approx(3.0, abs=0.05)


def test_a_riff_walk_ends_in_garbage(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "clip", "pcm_s16le", "wav")
    at = whole.index(b"data")
    forged = whole[:at] + struct.pack("<4sI", b"junk", 0xFFFFFFFF) + whole[at:]
    assert missing_end(io.BytesIO(forged), 3.0, 3.0) == ""


def test_the_last_ogg_page(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "clip", "libopus", "ogg")
    assert missing_end(io.BytesIO(whole), 3.0, None) == ""
    last = whole.rindex(b"OggS")
    assert missing_end(io.BytesIO(whole[:last]), 2.0, None) == ""  # a stream that just stopped: nobody can tell
    for end in (last + 10, last + 30, len(whole) - 1):
        assert "Ogg page" in missing_end(io.BytesIO(whole[:end]), 2.0, None)


def test_the_tolerance_is_for_padding() -> None:
    assert missing_end(io.BytesIO(b"any"), 2.80, 3.0) == ""
    assert missing_end(io.BytesIO(b"any"), 2.70, 3.0) == "2.70 s of 3.00 s are there"


def test_a_flac_that_was_cut_out_of_a_longer_one_is_whole(tmp_path: Path) -> None:
    """``ffmpeg -ss 1 -c copy`` keeps the header of the whole, and each frame its place in that."""
    whole = encoded(tmp_path / "clip", "flac", "flac")
    with av.open(io.BytesIO(whole)) as media:
        packets = [(packet.pos, packet.pts) for packet in media.demux(media.streams.audio[0]) if packet.size]
    (first, _), (later, at) = packets[0], packets[10]
    assert declared(whole[:first] + whole[later:]) == pytest.approx(3.0 - at / 48_000)
    assert declared(whole[:first] + bytes(later - first) + whole[later:]) == 3.0  # damaged, not cut
