from __future__ import annotations

from pathlib import Path

import av
import pytest

from asr.audio import SAMPLE_RATE
from asr.errors import DataError
from asr.media import audio_track, opened
from tests.asr.sounds import tone, wav16


def reason(source: Path | bytes, container: str | None = None) -> str:
    with pytest.raises(DataError) as caught, opened(source, container):
        pass
    return caught.value.reason


def test_a_recording_by_path_and_by_its_bytes(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav16(tone(1.0)))
    for source, called in ((clip, str(clip)), (clip.read_bytes(), "uploaded bytes")):
        with opened(source) as (place, file, media):
            assert place == called
            assert audio_track(media, place).stream.codec_context.sample_rate == SAMPLE_RATE
        assert file.closed


def test_more_bytes_than_allowed_are_not_read(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav16(tone(1.0)))
    with pytest.raises(DataError, match="too_large"), opened(clip, max_bytes=1000):
        pass


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\n",
    "ffconcat relative": "ffconcat version 1.0\nfile {name}\n",
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_cannot_open_another_file(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav16(tone(1.0)))
    trick = tmp_path / "upload.wav"
    trick.write_text(PLAYLISTS[kind].format(path=secret, name=secret.name))
    assert reason(trick) == "not_audio"
    assert reason(trick.read_bytes()) == "not_audio"
    for container in ("concat", "hls"):
        assert reason(trick, container=container) == "not_audio"


def test_without_our_list_ffmpeg_would_follow_the_playlist(tmp_path: Path) -> None:
    """Proof that the test above can fail: the same file, opened by path as PyAV's examples do, plays the other one."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav16(tone(1.0)))
    trick = tmp_path / "upload.wav"
    trick.write_text(PLAYLISTS["ffconcat relative"].format(path=secret, name=secret.name))
    with av.open(trick) as media:
        assert sum(frame.samples for frame in media.decode(audio=0)) == SAMPLE_RATE
