from __future__ import annotations

from pathlib import Path

import av
import pytest

from asr.audio.formats.flac import position
from tests.asr.sounds import encoded, tone


@pytest.mark.parametrize("seconds", [3.0, 40.0])
def test_a_frame_says_where_it_lies(tmp_path: Path, seconds: float) -> None:
    """Numbers of one byte and of two."""
    path = encoded(tmp_path / "a.flac", tone(seconds, 48_000), "flac", "flac")
    expected, block = 0, 0
    with av.open(path) as media:
        for packet in media.demux(audio=0):
            for frame in packet.decode():
                block = block or frame.samples
                assert position(bytes(packet), block) == expected
                expected += frame.samples
    assert expected == seconds * 48_000


def test_long_numbers_and_what_is_no_frame() -> None:
    head = b"\xff\xf9\xc9\x08"  # of blocks of any size: the number is that of the first sample
    assert position(head + b"\xfe\xbf\xbf\xbf\xbf\xbf\xbf", 4096) == (1 << 36) - 1
    assert position(head + b"\xc4\x80" + bytes(5), 4096) == 0x100
    assert position(b"\xff\xf8" + head[2:] + b"\xc4\x80" + bytes(5), 4096) == 0x100 * 4096
    for wrong in (
        b"",
        b"\xff\xf8",
        b"RIFF" + bytes(20),
        head + b"\x80" * 7,
        head + b"\xff" * 7,
        head + b"\xc4\x00" * 4,
    ):
        assert position(wrong, 4096) is None
