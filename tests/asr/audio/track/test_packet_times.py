from __future__ import annotations

from pathlib import Path

import av
import pytest

from asr.audio.formats.asf import AsfTimes
from asr.audio.formats.avi import AviTimes
from asr.audio.formats.flv import FlvTimes
from asr.audio.track.packet_times import packet_times
from tests.asr.sounds import encoded, tone


@pytest.mark.parametrize(
    ("container", "codec", "kind"),
    [
        ("avi", "pcm_s16le", AviTimes),
        ("flv", "aac", FlvTimes),
        ("asf", "wmav2", AsfTimes),
        ("matroska", "aac", type(None)),
    ],
)
def test_each_container_is_asked_in_its_own_way(tmp_path: Path, container: str, codec: str, kind: type) -> None:
    path = encoded(tmp_path / "a", tone(1.0, 44_100), codec, container, rate=44_100)
    with path.open("rb") as file, av.open(path) as media:
        stream = media.streams.audio[0]
        times = packet_times(media, stream, file)
        assert type(times) is kind
        if times:
            assert times.seekable
            assert {times.place(packet) for packet in media.demux(stream) if packet.size} == {0.0}
            assert times.cut(1.0) == "" and not times.end()[1]
