from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.decode import AudioLimits, decode_to
from asr.audio.track.decoder import MAX_FRAME_SAMPLES, CodecDecoder
from tests.asr.sounds import encoded, tone


def places(path: Path) -> list[tuple[int, int]]:
    """Where in the file each packet is, and how long it is."""
    with av.open(path) as media:
        return [(packet.pos, packet.size) for packet in media.demux(media.streams.audio[0]) if packet.size]


@pytest.mark.medium
def test_all_behind_a_damaged_packet_was_silence_in_an_mp4(tmp_path: Path) -> None:
    """Bytes that redefine the channels leave FFmpeg's AAC decoder mute, without an error for what follows."""
    path = encoded(tmp_path / "a.m4a", tone(5.0, 48_000), "aac", "mp4", layout="stereo")
    whole = path.read_bytes()
    begin, end = places(path)[100][0], sum(places(path)[130])
    for seed in (0, 6, 28, 77):  # the last three did
        data = whole[:begin] + np.random.default_rng(seed).bytes(end - begin) + whole[end:]
        blocks: list[np.ndarray] = []
        report = decode_to(blocks.append, data, limits=AudioLimits(max_damaged_share=0.5))
        assert 0.1 < report.damaged_s < 0.9
        behind = np.concatenate(blocks)[56_000:72_000].reshape(-1, 1000)
        assert np.abs(behind).max(axis=1).min() > 0.4


def test_one_frame_has_no_more_samples_than_any_real_one(tmp_path: Path) -> None:
    with av.open(encoded(tmp_path / "a.flac", tone(1.0, 48_000), "flac", "flac")) as media:
        stream = media.streams.audio[0]
        decoder = CodecDecoder(stream.codec_context)
        assert stream.codec_context.options["max_samples"] == str(MAX_FRAME_SAMPLES)
        samples = sum(frame.samples for packet in media.demux(stream) for frame in decoder.decode(packet))
    assert samples == 48_000
